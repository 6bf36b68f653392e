"""Chooses an episode of a feed (the newest, the one that a URL names, the one of a page), and opens it.

The steps have a fixed order, and the first one that finds exactly one episode decides. If a step finds
several, the date breaks the tie, then the duration. If they are still tied, the result is ambiguous and no
episode is returned: a wrong episode is worse than none.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import unquote

from stenobird.discovery import urls
from stenobird.discovery.parsing import lenient
from stenobird.discovery.parsing.facts import EpisodeFacts, MediaLead

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from stenobird.discovery.parsing.facts import FeedEpisode, FeedFacts, FeedLead, PageFacts
    from stenobird.discovery.search import Search
    from stenobird.ports import FoundAudio

    Match: TypeAlias = tuple[FeedEpisode | None, str]
    """The episode or `None`, and what decided: `guid`, `link` …, or `ambiguous_title` where several fit."""

TITLE_SIMILARITY: Final = 0.9
DATE_TOLERANCE_DAYS: Final = 2
DURATION_TOLERANCE: Final = 0.02
NEAR_DAYS: Final = 0.5
"""Of several close dates the nearest wins if it is within this many days and the next this much farther."""


# --- newest -------------------------------------------------------------------------------------------------


def newest(feed: FeedFacts, *, now: datetime) -> FeedEpisode | None:
    """Return the playable episode with the latest possible date, else the first in the document.

    An episode without a readable date has that of its older neighbour in the document. A date later than a
    day from now is impossible (a typo, a placeholder), and its episode is never the newest.
    """
    playable = [episode for episode in feed.episodes if episode.enclosures]
    moments = [lenient.parse_date(episode.published) for episode in playable]
    possible = [moment for moment in moments if moment and (moment - now).total_seconds() <= 24 * 3600]
    if not possible:
        return playable[0] if playable else None
    newest_first = possible[0] >= possible[-1]
    rows = list(zip(playable, moments, strict=True))
    ranked: list[tuple[datetime, int, FeedEpisode]] = []
    older: datetime | None = None
    for episode, moment in reversed(rows) if newest_first else rows:
        if moment is None and older is not None:
            ranked.append((older, -episode.position if newest_first else episode.position, episode))
        elif moment is not None and (moment - now).total_seconds() <= 24 * 3600:
            ranked.append((moment, -episode.position, episode))
            older = moment
    return max(ranked, key=lambda row: row[:2])[2]


# --- named by the feed URL's own fragment or query ----------------------------------------------------------

_STRICT_KEYS: Final = frozenset(
    {"guid", "episode", "episodeid", "episode_id", "episodeguid", "ep", "item", "eid"}
)
_LENIENT_KEYS: Final = frozenset({"id", "p", "i", "e", "n", "number", "title", "slug", "track"})


def names_in(url: str) -> tuple[tuple[str, ...], bool]:
    """Return the names that a feed URL's fragment and query may give an episode, and whether they bind.

    A fragment, or a parameter called `guid` or `episode`, can only name an episode: if it matches none, there
    is no result. A parameter such as `id` usually belongs to the feed itself.
    """
    base, _, fragment = url.partition("#")
    binding: list[str] = []
    loose: list[str] = []
    if fragment and not fragment.startswith(":~:"):
        key, equals, value = unquote(fragment).partition("=")
        binding.append(value if equals and key.lower() in _STRICT_KEYS | _LENIENT_KEYS else unquote(fragment))
    for key, value in urls.query_of(base):
        if not value:
            continue
        if key.lower() in _STRICT_KEYS:
            binding.append(value)
        elif key.lower() in _LENIENT_KEYS:
            loose.append(value)
    return (tuple(binding), True) if binding else (tuple(loose), False)


def named(feed: FeedFacts, names: Sequence[str]) -> Match:
    """Return the one episode with such a guid, link, title, number, or id in its addresses."""
    playable = [episode for episode in feed.episodes if episode.enclosures]
    tests: tuple[tuple[str, Callable[[FeedEpisode, str], bool]], ...] = (
        ("guid", lambda episode, name: episode.guid is not None and episode.guid.strip() == name),
        ("guid_ending", lambda episode, name: _ends_with_token(episode.guid, name)),
        ("link", _is_link),
        ("title", lambda episode, name: bool(name) and plain(episode.title) == plain(name) != ""),
        ("number", lambda episode, name: episode.number is not None and episode.number == name.lstrip("0")),
        (
            "audio",
            lambda episode, name: any(_ends_with_token(found.url, name) for found in episode.enclosures),
        ),
    )
    how = "name"
    for how_now, test in tests:
        found = [episode for episode in playable if any(test(episode, name.strip()) for name in names)]
        if len(found) == 1:
            return found[0], how_now
        if len(found) > 1:
            how = f"ambiguous_{how_now}"
    return None, how


def _is_link(episode: FeedEpisode, name: str) -> bool:
    if not episode.link:
        return False
    if name.startswith(("http:", "https:")):
        return urls.page_key(episode.link) == urls.page_key(name)
    return _ends_with_token(episode.link, name)


def _ends_with_token(text: str | None, token: str) -> bool:
    """Return whether `token` is the last part of a path, query or colon-separated id, extension aside."""
    if not text or len(token) < 2:
        return False
    last = re.split(r"[/?=&:#]", unquote(text).rstrip("/"))[-1]
    return token.strip("/") in {last, last.rpartition(".")[0]}


# --- the episode a page is about ----------------------------------------------------------------------------


def match(feed: FeedFacts, wanted: EpisodeFacts) -> Match:
    """Return the one episode of the feed that the facts describe, by the order of steps in the module.

    It takes about 0.1 s of CPU for 5,000 items with ordinary titles, 1 s with the longest possible titles.
    """
    playable = [episode for episode in feed.episodes if episode.enclosures]
    show = plain(wanted.show or feed.title)
    ours = tuple(dict.fromkeys(Title.of(title, show) for title in (wanted.title, *wanted.alternate_titles)))
    exact = {title.plain for title in ours} - {"", show}
    keys = {urls.audio_key(url) for url in wanted.audio_urls}
    pages = {urls.page_key(url) for url in wanted.page_urls}
    links = {episode.position: urls.page_key(episode.link) for episode in playable if episode.link}
    # A link that several items share belongs to the show.
    uses = Counter(links.values())
    telling = {key for key in pages if uses[key] == 1} - {urls.page_key(feed.link) if feed.link else ""}

    @cache
    def title_of(title: str | None) -> Title:
        return Title.of(title, show)

    steps: tuple[tuple[str, Callable[[FeedEpisode], bool]], ...] = (
        ("guid", lambda one: bool(wanted.guid) and one.guid is not None and one.guid.strip() == wanted.guid),
        (
            "audio",
            lambda one: bool(keys) and any(urls.audio_key(found.url) in keys for found in one.enclosures),
        ),
        ("link", lambda one: links.get(one.position) in telling),
        ("title", lambda one: title_of(one.title).plain in exact),
        ("bare_title", lambda one: any(title_of(one.title).is_bare(title) for title in ours)),
        (
            "similar_title",
            lambda one: _is_near(one, wanted) and any(title_of(one.title).is_like(title) for title in ours),
        ),
    )
    how = "no_match"
    for name, test in steps:
        found = [episode for episode in playable if test(episode)]
        if len(found) > 1:
            found = _break_tie(found, wanted)
        if len(found) == 1:
            if name.endswith("title") and _contradicts(found[0], wanted):
                how = f"contradicted_{name}"
                continue
            return found[0], name
        if found and not how.startswith("ambiguous"):
            how = f"ambiguous_{name}"
    return None, how


def _break_tie(found: list[FeedEpisode], wanted: EpisodeFacts) -> list[FeedEpisode]:
    """Return the one that its date, else its duration, singles out; a file listed twice counts once."""
    if len({urls.audio_key(episode.enclosures[0].url) for episode in found}) == 1:
        return found[:1]
    dated = sorted(
        ((gap, episode) for episode in found if (gap := _date_gap_days(episode, wanted)) is not None),
        key=lambda row: row[0],
    )
    close = [episode for gap, episode in dated if gap <= DATE_TOLERANCE_DAYS]
    if close and (len(close) == 1 or (dated[0][0] <= NEAR_DAYS and dated[1][0] >= dated[0][0] + NEAR_DAYS)):
        return close[:1]
    close = close or ([] if dated else found)
    lasting = [
        episode
        for episode in close
        if (gap := _duration_gap(episode, wanted)) is not None and gap <= DURATION_TOLERANCE
    ]
    return lasting or close or found


def _contradicts(episode: FeedEpisode, wanted: EpisodeFacts) -> bool:
    """Return whether both date and duration show that an episode with this title is a different one."""
    days, share = _date_gap_days(episode, wanted), _duration_gap(episode, wanted)
    return days is not None and share is not None and days > 60 and share > 0.25


def _date_gap_days(episode: FeedEpisode, wanted: EpisodeFacts) -> float | None:
    ours, theirs = lenient.parse_date(wanted.published), lenient.parse_date(episode.published)
    return abs((ours - theirs).total_seconds()) / 86400 if ours and theirs else None


def _duration_gap(episode: FeedEpisode, wanted: EpisodeFacts) -> float | None:
    ours, theirs = wanted.duration_seconds, episode.duration_seconds
    return abs(ours - theirs) / max(ours, theirs) if ours and theirs else None


def _is_near(episode: FeedEpisode, wanted: EpisodeFacts) -> bool:
    """Return whether the date or the length supports this episode."""
    days, share = _date_gap_days(episode, wanted), _duration_gap(episode, wanted)
    return (days is not None and days <= DATE_TOLERANCE_DAYS) or (
        share is not None and share <= DURATION_TOLERANCE
    )


# --- titles -------------------------------------------------------------------------------------------------


_ACCENTS = re.compile("[\u0300-\u036f]+")
_WORD = re.compile(r"[\w\u0900-\u0dff\u0e31-\u0e4e]+")


def plain(title: str | None) -> str:
    """Return a title for comparison: NFKC, case-folded, without accents and punctuation."""
    if not title:
        return ""
    text = title[:1000]
    if text.isascii():
        text = text.lower()
    else:
        text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", text).casefold())
        # Combining marks of scripts that depend on them (Devanagari, Thai …) stay; Latin accents are dropped.
        text = unicodedata.normalize("NFC", _ACCENTS.sub("", text))
    return " ".join(" ".join(_WORD.findall(text)).replace("_", " ").split())


_LEADING_NUMBER = re.compile(
    r"^(?:(?:s\d{1,3}\s?e\d{1,4}|(?:ep|eps|episode|episodio|episodi|folge|avsnitt|aflevering|jakso|odcinek|capitulo"
    r"|nr|no|number|season \d{1,3} episode|vol|выпуск|επεισοδιο)\s?\d{1,4}|\d{1,4})\b\s*"
    r"|[第제]?\s?\d{1,4}\s?[回話集期夜회화]\s*)+"
)
_TRAILING_NUMBER = re.compile(r"\s(?:ep|episode|folge|avsnitt|aflevering|episodio)\s?\d{1,4}$")


@dataclass(frozen=True, slots=True)
class Title:
    """A title prepared for comparison.

    `plain` is the whole title, `without_show` lacks the show's name, and `bare` also lacks an episode number
    at either end. `bare` may be empty, because a number or the show's name alone identifies no episode.
    `words` and `numbers` are those of `bare`.
    """

    plain: str
    without_show: str
    bare: str
    words: frozenset[str]
    numbers: tuple[str, ...]

    @classmethod
    def of(cls, title: str | None, show: str) -> Title:
        """Read a title, given the plain name of the show."""
        whole = plain(title)
        rest = _without(whole, show) if show and show in whole else whole
        bare = _LEADING_NUMBER.sub("", _TRAILING_NUMBER.sub("", rest)).strip()
        return cls(whole, rest, bare, frozenset(bare.split()), numbers(bare))

    def is_bare(self, other: Title) -> bool:
        """Return whether two titles differ only in show and number, and the numbers don't conflict."""
        if not self.bare or self.bare != other.bare:
            return False
        first = [number for number in numbers(self.without_show) if number not in self.numbers]
        second = [number for number in numbers(other.without_show) if number not in self.numbers]
        return not first or not second or first == second

    def is_like(self, other: Title) -> bool:
        """Return whether titles have the same numbers (part 1 is not part 2) and nearly the same words."""
        return self.numbers == other.numbers and likeness(self.words, other.words) >= TITLE_SIMILARITY


def _without(text: str, name: str) -> str:
    return " ".join(re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", text).split())


def numbers(text: str) -> tuple[str, ...]:
    """Return the numbers in a title."""
    return tuple(re.findall(r"\d+", text))


def likeness(first: frozenset[str], second: frozenset[str]) -> float:
    """Return the similarity (0 to 1) of the words of two titles.

    It is the Dice coefficient weighted by word length. A title of three words or more that the other contains
    entirely counts as equal ("Title" and "Title, with a guest").
    """
    common = first & second
    if not common:
        return 0.0
    if len(common) >= 3 and len(common) == min(len(first), len(second)):
        return 1.0
    return 2 * sum(map(len, common)) / (sum(map(len, first)) + sum(map(len, second)))


# --- the choice, and its enclosure --------------------------------------------------------------------------

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
    if not lead.newest:
        episode, how = match(feed, lead.wanted)
        if episode is not None or page is None or not is_show_page(page, feed):
            return episode, how
    return _newest(feed, now)


def _newest(feed: FeedFacts, now: datetime) -> Match:
    episode = newest(feed, now=now)
    return episode, "newest" if episode else "empty"


def choose_named(feed: FeedFacts, *, url: str, now: datetime) -> Match:
    """Return the episode that a feed's own URL means: the one that it names, else the newest."""
    names, binding = names_in(url)
    if names:
        episode, how = named(feed, names)
        if episode is not None or binding:
            return episode, how
    return _newest(feed, now)


async def open_episode(
    search: Search, feed: FeedFacts, found: Match, technique: str | None, page_url: str | None
) -> FoundAudio | None:
    """Report which episode was chosen, and open its enclosures in order until one is audio."""
    episode, how = found
    name = f"“{feed.title}”" if feed.title else urls.host_of(feed.url)
    if episode is None:
        await search.report("resolving_feed", "passed", f"The feed {name} {_why_not(feed, how)}.")
        return None
    why = _HOW.get(how, how)
    title = f"“{episode.title}”" if episode.title else "an untitled episode"
    enclosures = [replace(one, title=episode.title) for one in episode.enclosures[:MAX_ENCLOSURES]]
    message = f"The feed {name} has {title}: {why}."
    await search.report("resolving_feed", "found", message, tuple(enclosures))
    for enclosure in enclosures:
        lead = MediaLead(
            enclosure.url,
            technique or enclosure.technique,
            f"the feed {name} lists it, and {why}",
            # An outdated or rounded duration in the feed must not turn its own enclosure into a clip.
            episode=EpisodeFacts(title=episode.title, show=feed.title, published=episode.published),
        )
        opened = await search.try_media(lead, page_url=page_url)
        if opened is not None:
            return opened
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
    titled = plain(page.title) == plain(feed.title) != ""
    return not page.is_episode and (titled or (urls.is_home(page.final_url) and _same_site(page, feed)))


def _same_site(page: PageFacts, feed: FeedFacts) -> bool:
    host = urls.host_of(page.final_url)
    return host in {urls.host_of(feed.url), urls.host_of(feed.link or "")}
