"""Results of discovery: candidates, the verdict of each rung, and the chosen audio source."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from stenobird.bodies import utc_text

if TYPE_CHECKING:
    from collections.abc import Mapping

Stage = Literal[
    "validating_url",
    "resolving_direct",
    "resolving_feed",
    "resolving_page",
    "resolving_directory",
    "resolving_extractor",
    "source_resolved",
]

NO_HEADERS: Mapping[str, str] = MappingProxyType({})

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
"""NUL and lone surrogates: JSON can escape them, but UTF-8 and PostgreSQL cannot carry them."""

_LONG_WORD = re.compile(r"[^\W\d_]{4,}")
_MAX_NAMES = 50


class _Storable:
    """Replaces characters that can't be stored or sent with U+FFFD, in texts from pages and feeds."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for one in fields(self):  # type: ignore[arg-type]  # only dataclasses are derived from this
            value = getattr(self, one.name)
            if isinstance(value, str) and _UNSTORABLE.search(value):
                object.__setattr__(self, one.name, _UNSTORABLE.sub("\ufffd", value))


@dataclass(frozen=True, slots=True)
class Candidate(_Storable):
    """A URL that might be the audio, how it was found, and why it was rejected.

    `score` is on the scale of the page rung (threshold 40); rungs that do not score leave it `None`.
    `rejected` is the reason, worded for the person who posted the link.
    """

    url: str
    technique: str
    score: float | None = None
    title: str | None = None
    rejected: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict(_Storable):
    """The outcome of one rung of the ladder, with a sentence that explains it."""

    stage: Stage
    outcome: Literal["found", "passed", "failed"]
    message: str
    candidates: tuple[Candidate, ...] = ()


_PRIVATE = frozenset({"etag", "request_headers", "candidates"})


@dataclass(frozen=True, slots=True)
class AudioSource(_Storable):
    """The chosen audio, how it was found, and why it was chosen.

    `media_url` is the address as discovered, `final_url` the one after redirects; `submitted_url` is what the
    client posted. `technique` names the rung and the pattern, e.g. `direct`, `feed.enclosure`,
    `page.json_ld`. `duration_seconds` and `size_bytes` are claims of the page or server, not measurements.
    `request_headers` are what the media server needs to see (an extractor's Referer, for instance). `live`
    audio has no end; `at` is the time of its first sample, once that has arrived (epoch seconds).
    """

    submitted_url: str
    media_url: str
    final_url: str
    technique: str
    reason: str
    kind: Literal["file", "hls"] = "file"
    title: str | None = None
    podcast: str | None = None
    page_url: str | None = None
    published: str | None = None
    duration_seconds: float | None = None
    content_type: str | None = None
    size_bytes: int | None = None
    live: bool = False
    at: float | None = None
    etag: str | None = None
    request_headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)
    candidates: tuple[Candidate, ...] = field(default=())

    def names(self) -> tuple[str, ...]:
        """Return the words of the title and the show that may be names: those that are capitalised."""
        texts = " ".join(filter(None, (self.title, self.podcast)))
        names = (word for word in _LONG_WORD.findall(texts) if word != word.lower())
        return tuple(dict.fromkeys(names))[:_MAX_NAMES]

    def public(self) -> dict[str, Any]:
        """Return the public fields, without those that are `None`, and `live` only if it is true."""
        names = (one.name for one in fields(self) if one.name not in _PRIVATE)
        public = {name: value for name in names if (value := getattr(self, name)) is not None}
        if not self.live:
            del public["live"]
        if self.at is not None:
            public["at"] = utc_text(self.at)
        return public
