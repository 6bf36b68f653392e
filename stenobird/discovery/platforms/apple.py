"""Apple Podcasts: the directory knows the show's feed, and the 200 newest episodes with their files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from stenobird.discovery.parsing.facts import EpisodeFacts
from stenobird.discovery.platforms.fields import dig, seconds_of, text_of, walk
from stenobird.discovery.platforms.platform import Platform, Route
from stenobird.errors import DirectoryLookupFailed, EgressError

if TYPE_CHECKING:
    from stenobird.discovery.parsing.facts import PageFacts
    from stenobird.discovery.platforms.visit import Visit

_PATH = r"(?:/(?P<country>[a-z]{2}))?/podcast(?:/[^/]+)?/id(?P<show>\d+)"
_SERVER_DATA = "serialized-server-data"


@dataclass(frozen=True, slots=True)
class AppleEpisode:
    """The directory's listing by the episode's id; where it is too old to be listed, feed and title."""

    offline: ClassVar[bool] = False

    async def follow(self, visit: Visit) -> None:
        """Add the listed file and the feed; read the page only when the listing lacks the episode."""
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
            visit.learn(
                EpisodeFacts(
                    title=listed.title,
                    guid=listed.guid,
                    published=listed.published,
                    duration_seconds=listed.duration_seconds,
                )
            )
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


@dataclass(frozen=True, slots=True)
class ApplePodcast:
    """The show's page: its feed's newest episode, or the directory's newest where the feed is kept back."""

    offline: ClassVar[bool] = False

    async def follow(self, visit: Visit) -> None:
        """Look the show up."""
        show = await visit.directory.lookup(
            visit.search, visit.values["show"], country=visit.values.get("country")
        )
        if show is None:
            return
        if show.feed_url:
            visit.add_feed(show.feed_url, newest=True)
            return
        dated = [one for one in show.episodes if one.url and one.published]
        if dated:
            newest = max(dated, key=lambda one: one.published or "")
            visit.learn(EpisodeFacts(title=newest.title, show=show.name, published=newest.published))
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
    # `apple:title` is the bare title; `og:title` may carry the show's name.
    title = page.first_meta("apple:title", "og:title")
    visit.learn(EpisodeFacts(title=title))
    visit.learn(page.episode)


def _offer(state: Any, episode_id: str) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Return the lockup of this very episode and its offer; the page lists other episodes likewise."""
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
    hosts=("podcasts.apple.com", "embed.podcasts.apple.com", "itunes.apple.com", "geo.itunes.apple.com"),
    routes=(
        Route(_PATH, (AppleEpisode(),), needs=("i",)),
        Route(_PATH, (ApplePodcast(),)),
    ),
    examples=(
        "https://podcasts.apple.com/de/podcast/the-show/id1234567890?i=1000512345678",
        "https://podcasts.apple.com/us/podcast/id1234567890",
        "https://itunes.apple.com/podcast/the-show/id1234567890?mt=2",
    ),
    stage="resolving_directory",
)
