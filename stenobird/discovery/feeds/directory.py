"""Apple's podcast directory: from a show's id or name to its feed.

The directory is public and needs no key. It allows about twenty requests a minute from one address, its cache
may be days old, and it lists only the 200 newest episodes of a show.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeAlias
from urllib.parse import urlencode

from stenobird.discovery.feeds import episodes
from stenobird.discovery.parsing import lenient
from stenobird.discovery.parsing.facts import EpisodeFacts, FeedLead, FoundSource, MediaLead
from stenobird.errors import DirectoryLookupFailed, EgressError

if TYPE_CHECKING:
    from stenobird.discovery.parsing.facts import PageFacts, SearchContext
    from stenobird.ports import Clock
    from stenobird.sources import Stage

BASE_URL: Final = "https://itunes.apple.com"
ANSWER_BYTES: Final = 4 * 1024 * 1024
SHOWS: Final = 3
"""Shows with a matching name whose feeds are worth a request each."""

CACHED: Final = 64
"""Responses that are cached; the least recently used is evicted first."""

KEEP_SECONDS: Final = 600.0

_SEPARATORS: Final = (":", "|", " - ", " \u2013 ", " \u2014 ", "(")
_APPLE_SHOW = re.compile(
    r"https?://(?:podcasts|itunes|geo\.itunes)\.apple\.com/[^?#]{0,500}/id(\d{5,12})(?!\d)"
)


@dataclass(frozen=True, slots=True)
class ListedEpisode:
    """An episode as the directory lists it."""

    id: str
    facts: EpisodeFacts
    url: str | None
    feed_url: str | None


@dataclass(frozen=True, slots=True)
class ListedShow:
    """A show as the directory lists it; `episodes` only in the answer to a lookup, newest first."""

    name: str
    feed_url: str | None
    episodes: tuple[ListedEpisode, ...] = ()

    def episode(self, episode_id: str) -> ListedEpisode | None:
        """Return the episode with this id, if it is among the newest 200."""
        return next((one for one in self.episodes if one.id == episode_id), None)


_Listing: TypeAlias = tuple[list[ListedShow], list[ListedEpisode]]


class PodcastDirectory:
    """Queries the directory, and caches at most `CACHED` responses for `KEEP_SECONDS` each.

    As a rung, it looks the episode up by what the page says about it, but only if the page gives a reason: a
    link to its show in the directory, or a show and a title on a page about a podcast. An article is not
    looked up, because its title may be that of an unrelated episode.

    Every method raises `DirectoryLookupFailed` if the directory can't be reached, refuses the request, or
    sends something other than a listing. A show that is not listed is no failure: the result is `None` or
    empty.
    """

    stage: ClassVar[Stage] = "resolving_directory"

    def __init__(self, clock: Clock, *, base_url: str = BASE_URL) -> None:
        self._clock = clock
        self._base_url = base_url.rstrip("/")
        self._answers: OrderedDict[str, tuple[float, _Listing]] = OrderedDict()

    async def lookup(
        self,
        search: SearchContext,
        show_id: str,
        *,
        country: str | None = None,
        episode_id: str | None = None,
    ) -> ListedShow | None:
        """Return the show with its newest episodes.

        If the storefront of `country` lacks the show or the episode, another one is queried: their listings
        differ, and one may be older than the other.
        """
        shows = []
        for storefront in (country, None if country == "us" else "us"):
            show = await self._show(search, show_id, storefront)
            if show is not None and (episode_id is None or show.episode(episode_id)):
                return show
            shows.append(show)
        return next(filter(None, shows), None)

    async def find_shows(
        self, search: SearchContext, name: str, *, exactly: bool = False
    ) -> tuple[ListedShow, ...]:
        """Return the shows of this name that have a feed, the best match first, at most `SHOWS`.

        Without `exactly`, a subtitle that only one of the names has is ignored (`Show: the best of it`). A
        show with another name never counts, even if it is the first search result.
        """
        query = {"media": "podcast", "entity": "podcast", "limit": "25", "term": name[:200]}
        wanted = episodes.plain(name)
        same, near = [], []
        shows, _ = await self._ask(search, "search", query)
        for show in shows:
            if not show.feed_url or not wanted:
                continue
            if episodes.plain(show.name) == wanted:
                same.append(show)
            elif not exactly and (_short(show.name) == wanted or episodes.plain(show.name) == _short(name)):
                near.append(show)
        unique = {show.feed_url: show for show in reversed([*same, *near])}
        return tuple(reversed(unique.values()))[:SHOWS]

    async def find_episodes(
        self, search: SearchContext, title: str, show: str | None
    ) -> tuple[ListedEpisode, ...]:
        """Return the episodes with exactly this title, of exactly this show if one is given."""
        term = f"{show} {title}" if show else title
        query = {"media": "podcast", "entity": "podcastEpisode", "limit": "25", "term": term[:200]}
        wanted, by = episodes.plain(title), episodes.plain(show)
        _, listed = await self._ask(search, "search", query)
        return tuple(
            one
            for one in listed
            if episodes.plain(one.facts.title) == wanted != ""
            and (not by or by == episodes.plain(one.facts.show))
        )

    async def _show(self, search: SearchContext, show_id: str, country: str | None) -> ListedShow | None:
        query = {"id": show_id, "media": "podcast", "entity": "podcastEpisode", "limit": "200"}
        shows, listed = await self._ask(search, "lookup", query | ({"country": country} if country else {}))
        if not shows and not listed:
            return None
        # Some storefronts list the episodes without the show.
        show = shows[0] if shows else ListedShow(listed[0].facts.show or "", None)
        feed = show.feed_url or next((one.feed_url for one in listed if one.feed_url), None)
        return ListedShow(show.name, feed, tuple(listed))

    async def _ask(self, search: SearchContext, path: str, query: dict[str, str]) -> _Listing:
        url = f"{self._base_url}/{path}?{urlencode(query)}"
        now = self._clock.monotonic()
        if (kept := self._answers.get(url)) is not None and kept[0] > now:
            self._answers.move_to_end(url)
            return kept[1]
        try:
            document = await search.fetch(url, max_bytes=ANSWER_BYTES)
        except EgressError as error:
            raise DirectoryLookupFailed(
                f"The podcast directory could not be reached ({error}) Try again later, or send the feed or"
                " the audio URL."
            ) from error
        if document.status in {403, 429, 503}:
            raise DirectoryLookupFailed(
                "The podcast directory is busy and refuses more requests for now. Try again in a minute, or"
                " send the feed or the audio URL.",
                retry_after_seconds=60,
            )
        if document.status != 200:
            raise DirectoryLookupFailed(
                f"The podcast directory answered with status {document.status}. Try again later, or send the"
                " feed or the audio URL."
            )
        listing = _read_listing(document.body)
        self._answers[url] = (now + KEEP_SECONDS, listing)
        self._answers.move_to_end(url)
        while len(self._answers) > CACHED:
            self._answers.popitem(last=False)
        return listing

    async def try_(self, search: SearchContext, url: str) -> FoundSource:
        """Return feeds to search for the episode, and the episode itself if the directory lists it."""
        try:
            page = await search.page(url)
        except EgressError:
            page = None
        if page is not None and (linked := apple_shows(page)):
            return await self._of_linked_show(search, page, linked)
        wanted = search.wanted
        if not (wanted.title and wanted.show and (page is None or _about_podcast(page))):
            return FoundSource()
        technique = "directory.search"
        reason = "the podcast directory lists an episode of this show and title"
        listed = await self.find_episodes(search, wanted.title, wanted.show)
        shows = await self.find_shows(search, wanted.show)
        named = [*(one.feed_url for one in listed), *(show.feed_url for show in shows)]
        feeds = dict.fromkeys(feed for feed in named if feed)
        media = [MediaLead(one.url, technique, reason, episode=one.facts) for one in listed if one.url]
        return FoundSource(
            # Two listings with one title may be two episodes; the feeds tell them apart by date and length.
            media=tuple(media) if len(media) == 1 else (),
            feeds=tuple(FeedLead(feed, technique, wanted) for feed in feeds),
        )

    async def _of_linked_show(
        self, search: SearchContext, page: PageFacts, linked: tuple[str, ...]
    ) -> FoundSource:
        feeds = []
        for show_id in linked:
            show = await self.lookup(search, show_id)
            if show is None or not show.feed_url:
                continue
            is_show_page = not page.is_episode
            if is_show_page and not _names(page, show):
                continue  # a badge in the footer of a page about something else
            feeds.append(FeedLead(show.feed_url, "directory.linked_show", search.wanted, newest=is_show_page))
        return FoundSource(feeds=tuple(feeds))


def apple_shows(page: PageFacts) -> tuple[str, ...]:
    """Return the ids of the shows in Apple's directory that the page links to, if they are one or two.

    A page with more is a list of podcasts and not about one of them.
    """
    found = dict.fromkeys(match[1] for link in page.links if (match := _APPLE_SHOW.match(link)))
    return tuple(found) if len(found) <= 2 else ()


def _about_podcast(page: PageFacts) -> bool:
    said = (page.final_url, page.title, page.first_meta("og:type"), page.first_meta("og:title"))
    return page.is_podcast or any("podcast" in (text or "").casefold() for text in said)


def _names(page: PageFacts, show: ListedShow) -> bool:
    name = episodes.plain(show.name)
    said = (page.title, page.first_meta("og:title"), page.first_meta("og:site_name"), page.episode.show)
    return bool(name) and any(f" {name} " in f" {episodes.plain(text)} " for text in said)


def _read_listing(body: bytes) -> _Listing:
    answer = lenient.strict_json(body)
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list):
        raise DirectoryLookupFailed
    shows, listed = [], []
    for row in results[:500]:
        if not isinstance(row, dict):
            continue
        kind = row.get("wrapperType") or row.get("kind")
        if kind == "podcastEpisode" or row.get("kind") == "podcast-episode":
            listed.append(_listed_episode(row))
        elif row.get("kind") == "podcast":
            name = _text(row, "collectionName", "trackName") or ""
            shows.append(ListedShow(name, _link(row, "feedUrl")))
    return shows, listed


def _listed_episode(row: dict[str, Any]) -> ListedEpisode:
    millis = row.get("trackTimeMillis")
    facts = EpisodeFacts(
        title=_text(row, "trackName"),
        show=_text(row, "collectionName"),
        guid=_text(row, "episodeGuid"),
        published=_text(row, "releaseDate"),
        duration_seconds=lenient.parse_duration(millis / 1000) if isinstance(millis, int) else None,
    )
    return ListedEpisode(_text(row, "trackId") or "", facts, _link(row, "episodeUrl"), _link(row, "feedUrl"))


def _text(row: dict[str, Any], *names: str) -> str | None:
    return next((text for name in names if (text := lenient.text_of(row.get(name)))), None)


def _link(row: dict[str, Any], name: str) -> str | None:
    url = _text(row, name) or ""
    return url if url.startswith(("http:", "https:")) else None


def _short(name: str) -> str:
    """Return the plain name without its subtitle."""
    for separator in _SEPARATORS:
        head, found, _ = name.partition(separator)
        if found and episodes.plain(head):
            name = head
    return episodes.plain(name)
