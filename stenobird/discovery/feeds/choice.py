"""Chooses the episode of a feed that was meant, and opens its enclosure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from stenobird.discovery import urls
from stenobird.discovery.feeds import episodes
from stenobird.discovery.feeds.episodes import Match
from stenobird.discovery.parsing.facts import MediaLead

if TYPE_CHECKING:
    from datetime import datetime

    from stenobird.discovery.parsing.facts import FeedFacts, FeedLead, PageFacts
    from stenobird.discovery.search import Clip, Search
    from stenobird.ports import FoundAudio

MAX_ENCLOSURES: Final = 3
_PODCAST_SHARE: Final = 0.8
_LOOKED_AT: Final = 10

_HOW: Final = {
    "guid": "its guid is the one asked for",
    "guid_ending": "its guid ends with the id asked for",
    "audio": "its audio file is the one on the page",
    "link": "its link is the page",
    "title": "its title is the page's",
    "bare_title": "its title is the page's, without show name and number",
    "similar_title": "its title is nearly the page's, and its date or length agrees",
    "number": "its number is the one asked for",
    "newest": "it is the newest episode",
}


def choose(feed: FeedFacts, *, lead: FeedLead, page: PageFacts | None, now: datetime) -> Match:
    """Return the episode that a lead means; the newest if `page`, which links to the feed, is the show's."""
    found = None if lead.newest else episodes.match(feed, lead.wanted)
    is_shows = found is not None and found.episode is None and page is not None and is_show_page(page, feed)
    return found if found is not None and not is_shows else _newest(feed, now)


def _newest(feed: FeedFacts, now: datetime) -> Match:
    newest = episodes.newest(feed, now=now)
    return Match(newest, "newest" if newest else "empty")


def choose_named(feed: FeedFacts, *, url: str, now: datetime) -> Match:
    """Return the episode that a feed's own URL means: the one that it names, else the newest."""
    names, binding = episodes.names_in(url)
    if names:
        found = episodes.named(feed, names)
        if found.episode is not None or binding:
            return found
    return _newest(feed, now)


async def open_episode(
    search: Search, feed: FeedFacts, match: Match, technique: str | None, page_url: str | None
) -> FoundAudio | Clip | None:
    """Report which episode was chosen, and open its enclosures in order until one is audio."""
    episode = match.episode
    name = f"“{feed.title}”" if feed.title else urls.host_of(feed.url)
    if episode is None:
        await search.report("resolving_feed", "passed", f"The feed {name} {_why_not(feed, match.how)}.")
        return None
    why = _HOW.get(match.how, match.how)
    title = f"“{episode.title}”" if episode.title else "an untitled episode"
    enclosures = [replace(one, title=episode.title) for one in episode.enclosures[:MAX_ENCLOSURES]]
    message = f"The feed {name} has {title}: {why}."
    await search.report("resolving_feed", "found", message, tuple(enclosures))
    for enclosure in enclosures:
        lead = MediaLead(
            enclosure.url,
            technique or enclosure.technique,
            f"the feed {name} lists it, and {why}",
            title=episode.title,
            podcast=feed.title,
            published=episode.published,
            # An outdated or rounded duration in the feed must not turn its own enclosure into a clip.
            duration_seconds=None,
        )
        found = await search.try_media(lead, page_url=page_url)
        if found is not None:
            return found
    return None


def _why_not(feed: FeedFacts, how: str) -> str:
    playable = sum(1 for episode in feed.episodes if episode.enclosures)
    if not playable:
        return f"lists {len(feed.episodes)} items, none of them with audio"
    if how.startswith("ambiguous"):
        return "has several episodes that fit equally well"
    return f"has {playable} episodes, none of which is the one asked for"


def is_show_page(page: PageFacts, feed: FeedFacts) -> bool:
    """Return whether a page stands for the whole show, so that its newest episode is meant.

    It must be the feed's own home page (or the front page of a site with its show's feed) and no episode's
    page, and the feed must be a podcast, not a news feed with a few audio files.
    """
    latest = feed.episodes[:_LOOKED_AT]
    playable = sum(1 for episode in latest if episode.enclosures)
    if not latest or playable < _PODCAST_SHARE * len(latest):
        return False
    pages = {urls.page_key(url) for url in (page.url, page.final_url, page.canonical or page.url)}
    if feed.link and urls.page_key(feed.link) in pages:
        return True
    titled = episodes.plain(page.title) == episodes.plain(feed.title) != ""
    return not page.is_episode and (titled or (urls.is_home(page.final_url) and _same_site(page, feed)))


def _same_site(page: PageFacts, feed: FeedFacts) -> bool:
    host = urls.host_of(page.final_url)
    return host in {urls.host_of(feed.url), urls.host_of(feed.link or "")}
