"""Podcast directories: Apple Podcasts, and Podcast Index if the operator has a key.

Apple's directory knows a show's feed, and its 200 newest episodes with their files.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from stenobird.discovery.parsing.facts import EpisodeFacts
from stenobird.discovery.parsing.lenient import text_of
from stenobird.discovery.platforms.platform import Platform, Route
from stenobird.discovery.platforms.visit import Fields, dig, json_after, walk
from stenobird.discovery.platforms.ways import JSONLookup

if TYPE_CHECKING:
    from collections.abc import Callable

    from stenobird.discovery.platforms.visit import Visit
    from stenobird.ports import Clock

_PATH = r"(?:/(?P<country>[a-z]{2}))?/podcast(?:/[^/]+)?/id(?P<show>\d+)"
_SERVER_DATA = r"<script\b[^<>]*\sid\s*=\s*[\"']?serialized-server-data[^<>]*>\s*"
_MODEL = Fields(title="title", show="showTitle", published="releaseDate", duration="duration")
_OFFER = Fields(
    title="title", show="showOffer.title", guid="guid", published="releaseDate", duration="duration"
)


async def apple_episode(visit: Visit) -> None:
    """Add the directory's entry for the episode's id; for one too old to be listed, its show's feed."""
    show_id, episode_id = visit.values["show"], visit.values["i"]
    show = await visit.directory.lookup(
        visit.search, show_id, country=visit.values.get("country"), episode_id=episode_id
    )
    if show is None:
        return
    visit.learn(EpisodeFacts(show=show.name or None))
    visit.add_feed(show.feed_url)
    if (listed := show.episode(episode_id)) is not None:
        visit.learn(listed.facts)
        visit.add_media(listed.url, "Apple's directory lists this file under the episode's id")


async def apple_page(visit: Visit) -> None:
    """Add what the page's own data say about the episode, else learn its title."""
    page = await visit.search.page(visit.url)
    if page is None:
        return
    state = json_after(_SERVER_DATA, await visit.search.source(visit.url))
    offer = _offer(state, visit.values["i"])
    if offer is None:
        # `apple:title` is the title alone; `og:title` may include the show's name.
        visit.learn(EpisodeFacts(title=page.first_meta("apple:title", "og:title")))
        visit.learn(page.episode)
        return
    model, episode = offer
    visit.learn(_MODEL.facts(model))
    visit.learn(_OFFER.facts(episode))
    visit.add_media(text_of(episode.get("streamUrl")), "the page's own data name it for this episode")
    visit.add_feed(text_of(dig(episode, "showOffer.feedUrl")))


async def apple_podcast(visit: Visit) -> None:
    """Add the newest episode of the show's feed, or of the directory if the feed is not public."""
    show = await visit.directory.lookup(
        visit.search, visit.values["show"], country=visit.values.get("country")
    )
    if show is None:
        return
    if show.feed_url:
        visit.add_feed(show.feed_url, newest=True)
        return
    dated = [one for one in show.episodes if one.url and one.facts.published]
    if dated:
        newest = max(dated, key=lambda one: one.facts.published or "")
        visit.learn(EpisodeFacts(title=newest.facts.title, show=show.name, published=newest.facts.published))
        visit.add_media(newest.url, "the newest episode that Apple's directory lists for this show")


def _offer(state: Any, episode_id: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return this episode's model and its offer; the page lists other episodes in the same way."""
    for model in walk(state):
        episode = dig(model, "playAction.episodeOffer")
        if not isinstance(episode, dict):
            continue
        ids = {
            text_of(source.get(name)) for source in (model, episode) for name in ("contentId", "adamId", "id")
        }
        if episode_id in ids:
            return model, episode
    return None


APPLE_PODCASTS = Platform(
    "Apple Podcasts",
    ("podcasts.apple.com", "embed.podcasts.apple.com", "itunes.apple.com", "geo.itunes.apple.com"),
    Route(_PATH, apple_episode, apple_page, needs=("i",)),
    Route(_PATH, apple_podcast),
    stage="resolving_directory",
)


# --- Podcast Index ------------------------------------------------------------------------------------------

_FIELDS = Fields(
    media=("enclosureUrl",), title="title", show="feedTitle", guid="guid", duration="duration", feed="feedUrl"
)


def index_headers(key: str, secret: str, clock: Clock) -> Callable[[], dict[str, str]]:
    """Return what makes the headers of a request, valid for about three minutes, with the operator's key.

    Requests are signed with the secret, which is never sent.
    """

    def headers() -> dict[str, str]:
        now = str(int(clock.time()))
        signature = hashlib.sha1(f"{key}{secret}{now}".encode(), usedforsecurity=False)
        return {"x-auth-key": key, "x-auth-date": now, "authorization": signature.hexdigest()}

    return headers


def podcast_index(headers: Callable[[], dict[str, str]]) -> Platform:
    """Return the entry for an operator's key."""
    api = "https://api.podcastindex.org/api/1.0"
    episode = JSONLookup(
        f"{api}/episodes/byid?id={{episode}}",
        _FIELDS,
        root="episode",
        same={"id": "episode"},
        headers=headers,
    )
    show = JSONLookup(
        f"{api}/podcasts/byfeedid?id={{show}}",
        Fields(feed="url"),
        root="feed",
        same={"id": "show"},
        newest=True,
        headers=headers,
    )
    return Platform(
        "Podcast Index",
        ("podcastindex.org", "fountain.fm", "curiocaster.com"),
        Route(r"/podcast/(?:pi)?(?P<show>\d+)", episode, needs=("episode",)),
        Route(r"/episode/(?P<episode>\d+)", episode),
        Route(r"/(?:podcast|show)/(?:pi)?(?P<show>\d+)", show),
    )
