"""The facts that discovery collects, and the interface between the ladder and its rungs.

A rung returns a `FoundSource`: addresses of media, feeds in which to look the episode up, or more facts about
the wanted episode. It never opens media itself. The ladder opens each lead, sniffs its first bytes, and goes
on to the next lead if they are not audio.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003  # the parser reads the annotations
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from stenobird.sources import NO_HEADERS, Candidate

if TYPE_CHECKING:
    from stenobird.errors import EgressError, JobError
    from stenobird.sources import Stage


@dataclass(frozen=True, slots=True)
class EpisodeFacts:
    """What is known about the wanted episode; every field may be missing.

    `page_urls` are the addresses of its page (submitted, final, canonical). `audio_urls` are addresses of its
    audio seen so far (a preview, a dead link). `published` is ISO 8601, or a date.
    """

    title: str | None = None
    show: str | None = None
    guid: str | None = None
    published: str | None = None
    duration_seconds: float | None = None
    page_urls: tuple[str, ...] = ()
    audio_urls: tuple[str, ...] = ()
    alternate_titles: tuple[str, ...] = ()

    def merged(self, more: EpisodeFacts) -> EpisodeFacts:
        """Return these facts, with missing ones taken from `more`; addresses and titles of both."""
        return EpisodeFacts(
            title=self.title or more.title,
            show=self.show or more.show,
            guid=self.guid or more.guid,
            published=self.published or more.published,
            duration_seconds=self.duration_seconds or more.duration_seconds,
            page_urls=_unique(self.page_urls, more.page_urls),
            audio_urls=_unique(self.audio_urls, more.audio_urls),
            alternate_titles=_unique(self.alternate_titles, more.alternate_titles),
        )


def _unique(first: tuple[str, ...], second: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(first + second))


@dataclass(frozen=True, slots=True)
class PageFacts:
    """A parsed page as plain data.

    `meta` maps the lower-case `property`/`name`/`itemprop` of each `<meta>` to its contents, in document
    order. `candidates` are scored, best first.
    """

    url: str
    final_url: str
    episode: EpisodeFacts = field(default_factory=EpisodeFacts)
    title: str | None = None
    canonical: str | None = None
    meta: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    links: tuple[str, ...] = ()
    iframes: tuple[str, ...] = ()
    configurations: tuple[str, ...] = ()
    """Addresses of JSON with which players on the page are configured."""
    feeds: tuple[str, ...] = ()
    oembed: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    """The first `accepted` of them may be opened, in order; the rest have a reason for their rejection."""
    accepted: int = 0
    outcome: Literal["found", "ambiguous", "none"] = "none"
    videos: tuple[Candidate, ...] = ()
    """Video files whose sound may be used if there is no audio file."""
    is_episode: bool = True
    """False for the page of a show or list and for a home page; it may mean the feed's newest episode."""
    is_podcast: bool = False
    """Whether its JSON-LD has an episode or a show of a podcast or radio, in a list too."""
    login: bool = False
    refresh: str | None = None

    def first_meta(self, *names: str) -> str | None:
        """Return the first content of the first of `names` that the page has."""
        return next((self.meta[name][0] for name in names if self.meta.get(name)), None)


@dataclass(frozen=True, slots=True)
class MediaLead:
    """An address that should be the media of `episode`; opening and sniffing it decides."""

    url: str
    technique: str
    reason: str
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)
    score: float | None = None
    episode: EpisodeFacts = field(default_factory=EpisodeFacts)


@dataclass(frozen=True, slots=True)
class FeedLead:
    """A feed to look up `wanted` in. With `newest`, the submitted URL is the show, not one episode."""

    url: str
    technique: str
    wanted: EpisodeFacts = field(default_factory=EpisodeFacts)
    newest: bool = False


@dataclass(frozen=True, slots=True)
class FoundSource:
    """A rung's result. `media` is tried in order, then `feeds`; `wanted` adds facts for later rungs.

    With `final`, the page itself is useless (an application shell, whose `og:audio` is a clip): if the leads
    fail, only its feed links, the directory and the extractor follow. `failure` is the reason why a rung has
    no leads.
    """

    media: tuple[MediaLead, ...] = ()
    feeds: tuple[FeedLead, ...] = ()
    wanted: EpisodeFacts = field(default_factory=EpisodeFacts)
    final: bool = False
    failure: EgressError | JobError | None = None


@dataclass(frozen=True, slots=True)
class FeedEpisode:
    """One item of a feed. `enclosures` are its audio (then video) addresses, the preferred first."""

    title: str | None
    guid: str | None
    link: str | None
    published: str | None
    duration_seconds: float | None
    enclosures: tuple[Candidate, ...]
    position: int
    number: str | None = None


@dataclass(frozen=True, slots=True)
class FeedFacts:
    """A parsed feed as plain data; `episodes` in document order, at most the feed cap."""

    url: str
    title: str | None
    link: str | None
    episodes: tuple[FeedEpisode, ...]
    moved_to: str | None = None
    next_page: str | None = None
    """The page with older episodes (RFC 5005): `rel=next` or `rel=prev-archive`."""


@dataclass(frozen=True, slots=True)
class Document:
    """A fetched document other than media: lower-case headers, body cut at the requested cap."""

    url: str
    final_url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class SearchContext(Protocol):
    """The part of a search that rungs use. Everything fetched is cached by URL and counted."""

    wanted: EpisodeFacts
    """What the rungs so far know about the wanted episode."""

    async def page(self, url: str) -> PageFacts | None:
        """Return the page at `url`, parsed once; `None` if it is no page. Raises `EgressError`."""

    async def source(self, url: str) -> str:
        """Return the text of the page at `url`, empty if it is no page. Raises `EgressError`."""

    async def fetch(
        self,
        url: str,
        *,
        method: Literal["GET", "POST"] = "GET",
        headers: Mapping[str, str] = NO_HEADERS,
        content: bytes | None = None,
        max_bytes: int = 4 * 1024 * 1024,
    ) -> Document:
        """Fetch a document, whatever its status. Raises `EgressError`."""


class Rung(Protocol):
    """One step of the ladder."""

    @property
    def stage(self) -> Stage:
        """The stage under which its verdicts are reported."""

    async def try_(self, search: SearchContext, url: str) -> FoundSource:
        """Return what this rung knows about `url`, which may be nothing.

        `url` is the submitted URL, normalised, or that of a player embedded in the submitted page. A rung may
        raise `EgressError`: the ladder reports it and goes on. A `JobError` that it raises, or returns as
        `failure`, is kept as well, and is what the client sees if nothing else is found.
        """
