"""Choosing an episode of a feed: the newest, the one that a URL names, or the one that a page is about.

The order is fixed and the first step that finds exactly one episode decides. A step that finds several breaks
the tie by date, then by duration; still tied means ambiguous, and ambiguous means none: an episode is never
answered with another one.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from stenobird.discovery import dates, urls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from stenobird.discovery.rungs import EpisodeFacts, FeedEpisode, FeedFacts

TITLE_SIMILARITY: Final = 0.9
DATE_TOLERANCE_DAYS: Final = 2
DURATION_TOLERANCE: Final = 0.02
NEAR_DAYS: Final = 0.5
"""Of several close dates the nearest decides if it is this near, and the next this much farther away."""


@dataclass(frozen=True, slots=True)
class Match:
    """The episode, or `None`, and how it was told, e.g. `guid`, `link`, `ambiguous_title`."""

    episode: FeedEpisode | None
    how: str


# --- newest -------------------------------------------------------------------------------------------------


def newest(feed: FeedFacts, *, now: datetime) -> FeedEpisode | None:
    """Return the playable episode with the latest possible date, else the first in the document.

    A date later than a day from now is impossible (a typo, a placeholder) and counts as missing.
    """
    playable = [episode for episode in feed.episodes if episode.enclosures]
    dated = []
    for episode in playable:
        moment = dates.parse_date(episode.published)
        if moment is not None and (moment - now).total_seconds() <= 24 * 3600:
            dated.append((moment, -episode.position, episode))
    if dated:
        return max(dated, key=lambda row: row[:2])[2]
    return playable[0] if playable else None


# --- named by the feed URL's own fragment or query ----------------------------------------------------------

_STRICT_KEYS: Final = frozenset(
    {"guid", "episode", "episodeid", "episode_id", "episodeguid", "ep", "item", "eid"}
)
_LENIENT_KEYS: Final = frozenset({"id", "p", "i", "e", "n", "number", "title", "slug", "track"})


def names_in(url: str) -> tuple[tuple[str, ...], bool]:
    """Return the names that a feed URL's fragment and query may give to an episode, and whether they bind.

    A fragment, or a parameter called `guid` or `episode`, can mean nothing else: if it matches no episode,
    there is none. A parameter such as `id` is usually the feed's own.
    """
    base, fragment = urls.urldefrag_safe(url)
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
    """Return the one episode that a name means: its guid, link, title, number, or an id in its addresses."""
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
            return Match(found[0], how_now)
        if len(found) > 1:
            how = f"ambiguous_{how_now}"
    return Match(None, how)


def _is_link(episode: FeedEpisode, name: str) -> bool:
    if not episode.link:
        return False
    if name.startswith(("http:", "https:")):
        return urls.page_key(episode.link) == urls.page_key(name)
    return _ends_with_token(episode.link, name)


def _ends_with_token(text: str | None, token: str) -> bool:
    """Tell whether `token` is the last path segment, query value or colon part of `text`, extension aside."""
    if not text or len(token) < 2:
        return False
    last = re.split(r"[/?=&:#]", unquote(text).rstrip("/"))[-1]
    return token.strip("/") in {last, last.rpartition(".")[0]}


# --- the episode a page is about ----------------------------------------------------------------------------


def match(feed: FeedFacts, wanted: EpisodeFacts) -> Match:
    """Return the one episode of the feed that the facts are about, by the documented order."""
    playable = [episode for episode in feed.episodes if episode.enclosures]
    show = wanted.show or feed.title
    titles = [title for title in (wanted.title, *wanted.alternate_titles) if title]
    exact = {plain(title) for title in titles} - {"", plain(show)}
    keys = {urls.audio_key(url) for url in wanted.audio_urls}
    pages = {urls.page_key(url) for url in wanted.page_urls}
    show_pages = {urls.page_key(feed.link)} if feed.link else set()
    shared = _shared_links(playable)

    steps: tuple[tuple[str, Callable[[FeedEpisode], bool]], ...] = (
        ("guid", lambda one: bool(wanted.guid) and one.guid is not None and one.guid.strip() == wanted.guid),
        ("audio", lambda one: any(urls.audio_key(found.url) in keys for found in one.enclosures)),
        (
            "link",
            lambda one: (
                bool(one.link)
                and (key := urls.page_key(one.link or "")) in pages - show_pages
                and key not in shared
            ),
        ),
        ("title", lambda one: plain(one.title) in exact),
        ("bare_title", lambda one: any(_same_bare(one.title, title, show) for title in titles)),
        ("similar_title", lambda one: _similar(one, titles, show, wanted)),
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
            return Match(found[0], name)
        if found and not how.startswith("ambiguous"):
            how = f"ambiguous_{name}"
    return Match(None, how)


def _shared_links(playable: Sequence[FeedEpisode]) -> set[str]:
    """Return links that several items share: they are the show's, not an episode's."""
    seen: set[str] = set()
    shared: set[str] = set()
    for episode in playable:
        if episode.link:
            key = urls.page_key(episode.link)
            (shared if key in seen else seen).add(key)
    return shared


def _break_tie(found: list[FeedEpisode], wanted: EpisodeFacts) -> list[FeedEpisode]:
    """Return the one that date, then duration, singles out; one audio listed twice counts once."""
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
    """Tell whether date and duration both say that an episode of this title is another one."""
    days, share = _date_gap_days(episode, wanted), _duration_gap(episode, wanted)
    return days is not None and share is not None and days > 60 and share > 0.25


def _date_gap_days(episode: FeedEpisode, wanted: EpisodeFacts) -> float | None:
    ours, theirs = dates.parse_date(wanted.published), dates.parse_date(episode.published)
    return abs((ours - theirs).total_seconds()) / 86400 if ours and theirs else None


def _duration_gap(episode: FeedEpisode, wanted: EpisodeFacts) -> float | None:
    ours, theirs = wanted.duration_seconds, episode.duration_seconds
    return abs(ours - theirs) / max(ours, theirs) if ours and theirs else None


def _similar(episode: FeedEpisode, titles: Iterable[str], show: str | None, wanted: EpisodeFacts) -> bool:
    days, share = _date_gap_days(episode, wanted), _duration_gap(episode, wanted)
    backed = (days is not None and days <= DATE_TOLERANCE_DAYS) or (
        share is not None and share <= DURATION_TOLERANCE
    )
    if not backed:
        return False
    theirs = bare_title(episode.title, show)
    return any(
        numbers(theirs) == numbers(ours) and token_set_ratio(ours, theirs) >= TITLE_SIMILARITY
        for ours in (bare_title(title, show) for title in titles)
    )


# --- titles -------------------------------------------------------------------------------------------------


def plain(title: str | None) -> str:
    """Return the title for comparison: NFKC, case-folded, accents off, letters and digits of all scripts."""
    if not title:
        return ""
    text = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", title[:1000]).casefold())
    # Marks of scripts that can't be read without them (Devanagari, Thai …) stay; Latin-like accents go.
    text = "".join(char for char in text if not "\u0300" <= char <= "\u036f")
    words = re.findall(r"[\w\u0900-\u0dff\u0e31-\u0e4e]+", unicodedata.normalize("NFC", text))
    return " ".join(" ".join(words).replace("_", " ").split())


_LEADING_NUMBER = re.compile(
    r"^(?:(?:s\d{1,3}\s?e\d{1,4}|(?:ep|eps|episode|episodio|episodi|folge|avsnitt|aflevering|jakso|odcinek|capitulo"
    r"|nr|no|number|season \d{1,3} episode|vol|выпуск|επεισοδιο)\s?\d{1,4}|\d{1,4})\b\s*"
    r"|[第제]?\s?\d{1,4}\s?[回話集期夜회화]\s*)+"
)
_TRAILING_NUMBER = re.compile(r"\s(?:ep|episode|folge|avsnitt|aflevering|episodio)\s?\d{1,4}$")


def bare_title(title: str | None, show: str | None) -> str:
    """Return the plain title without the show's name and without an episode number before or after it.

    Empty if nothing is left: a title that is only a number or only the show tells no episode.
    """
    text = _TRAILING_NUMBER.sub("", _without_show(title, show))
    return _LEADING_NUMBER.sub("", text).strip()


def _without_show(title: str | None, show: str | None) -> str:
    text = plain(title)
    name = plain(show)
    if name:
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", " ", text)
    return " ".join(text.split())


def _same_bare(first: str | None, second: str | None, show: str | None) -> bool:
    """Tell whether two titles agree but for show and number; two different numbers are two episodes."""
    ours, theirs = bare_title(first, show), bare_title(second, show)
    if not ours or ours != theirs:
        return False
    our_numbers = [number for number in numbers(_without_show(first, show)) if number not in numbers(ours)]
    their_numbers = [number for number in numbers(_without_show(second, show)) if number not in numbers(ours)]
    return not our_numbers or not their_numbers or our_numbers == their_numbers


def numbers(text: str) -> list[str]:
    """Return the numbers in a title: part 1 is not part 2, however alike the words are."""
    return re.findall(r"\d+", text)


def token_set_ratio(first: str, second: str) -> float:
    """Return how alike (0 to 1) two plain titles are, word by word, order aside.

    The Dice coefficient over the sets of words, weighted by length; a title of three words or more that is
    wholly contained in the other counts as equal ("Title" and "Title, with a guest").
    """
    ours, theirs = set(first.split()), set(second.split())
    smaller = min(ours, theirs, key=len)
    if len(smaller) >= 3 and smaller <= ours and smaller <= theirs:
        return 1.0
    total = sum(map(len, ours)) + sum(map(len, theirs))
    return 2 * sum(map(len, ours & theirs)) / total if total else 0.0
