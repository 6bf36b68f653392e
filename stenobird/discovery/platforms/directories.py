"""Podcast directories: Apple Podcasts, and Podcast Index if the operator has a key.

Apple's directory knows a show's feed, and its 200 newest episodes with their files.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from stenobird.discovery.parsing.facts import EpisodeFacts
from stenobird.discovery.parsing.lenient import text_of
from stenobird.discovery.platforms.platform import Platform, Route
from stenobird.discovery.platforms.visit import Fields, dig, seconds_of, walk
from stenobird.discovery.platforms.ways import JSONLookup
from stenobird.errors import DirectoryLookupFailed, EgressError

if TYPE_CHECKING:
    from collections.abc import Callable

    from stenobird.discovery.parsing.facts import PageFacts
    from stenobird.discovery.platforms.visit import Visit
    from stenobird.ports import Clock

_PATH = r"(?:/(?P<country>[a-z]{2}))?/podcast(?:/[^/]+)?/id(?P<show>\d+)"
_SERVER_DATA = "serialized-server-data"


async def apple_episode(visit: Visit) -> None:
    """Add the directory's entry for the episode's id; for one too old to be listed, feed and title.

    The page is read only if the episode is not listed.
    """
    show_id, episode_id = visit.values["show"], visit.values["i"]
    failure: DirectoryLookupFailed | None = None
    try:
        show = await visit.directory.lookup(
            visit.search, show_id, country=visit.values.get("country"), episode_id=episode_id
        )
    except DirectoryLookupFailed as error:
        show, failure = None, error
    listed = show.episode(episode_id) if show else None
    if show is not None:
        visit.learn(EpisodeFacts(show=show.name or None))
        visit.add_feed(show.feed_url)
    if listed is not None:
        visit.learn(listed.facts)
        visit.add_media(listed.url, "Apple's directory lists this file under the episode's id")
        return
    try:
        page = await visit.search.page(visit.url, with_state=True)
    except EgressError:
        page = None
    if page is not None:
        _read_page(visit, page, episode_id)
    if failure is not None and not (visit.media or visit.feeds):
        raise failure


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


def _read_page(visit: Visit, page: PageFacts, episode_id: str) -> None:
    offer = _offer(page.state.get(_SERVER_DATA), episode_id)
    if offer is not None:
        model, episode = offer
        visit.learn(
            EpisodeFacts(
                title=text_of(model.get("title")) or text_of(episode.get("title")),
                show=text_of(model.get("showTitle")) or text_of(dig(episode, "showOffer.title")),
                guid=text_of(episode.get("guid")),
                published=text_of(model.get("releaseDate")) or text_of(episode.get("releaseDate")),
                duration_seconds=seconds_of(model.get("duration")) or seconds_of(episode.get("duration")),
            )
        )
        visit.add_media(text_of(episode.get("streamUrl")), "the page's own data name it for this episode")
        visit.add_feed(text_of(dig(episode, "showOffer.feedUrl")))
        return
    # `apple:title` is the title alone; `og:title` may include the show's name.
    title = page.first_meta("apple:title", "og:title")
    visit.learn(EpisodeFacts(title=title))
    visit.learn(page.episode)


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
    Route(_PATH, apple_episode, needs=("i",)),
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
