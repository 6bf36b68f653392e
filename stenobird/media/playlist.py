"""HLS playlists as text: masters and media playlists (RFC 8216).

Nothing here opens anything: every URL that is returned is meant for the guarded client, which checks it anew.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from stenobird.egress.references import absolute
from stenobird.errors import AudioContentTypeNotSupported, AudioTooLarge, UnsupportedURL

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SEGMENTS = 20_000
MAX_VARIANTS = 200

PROTECTED = "This stream is protected by DRM, which Stenobird does not open. Send a link to audio without it."

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"]*"|[^",]*)')
_AUDIO_CODECS = ("mp4a", "opus", "ac-3", "ec-3", "flac", "alac", "mp3")


@dataclass(frozen=True, slots=True)
class Part:
    """Something to fetch and append: a segment, or the initialisation section that some segments need."""

    url: str
    sequence: int
    byte_range: range | None = None
    key: tuple[str, bytes | None] | None = None
    """The address of its key (AES-128 in CBC mode) and the vector; without one, its sequence number is it."""
    seconds: float = field(default=0.0, compare=False)
    title: str = field(default="", compare=False)
    starts_at: float | None = field(default=None, compare=False)
    """When it was on air (epoch seconds), if the playlist says so."""
    follows: bool = field(default=True, compare=False)
    """Whether it goes on where the segment before it ended, encoded alike."""
    init: Part | None = field(default=None, compare=False)
    """The initialisation section that it needs."""


@dataclass(frozen=True, slots=True)
class MediaPlaylist:
    """What to fetch, in order, and how long the playlist says that it is."""

    parts: tuple[Part, ...]
    seconds: float
    ended: bool = True
    """Whether nothing will be added."""
    target_seconds: float = 0.0

    @property
    def segments(self) -> tuple[Part, ...]:
        """The parts that are audio."""
        return tuple(part for part in self.parts if part.seconds)


_Variant: TypeAlias = tuple[tuple[int, int], str]
"""Rank and URL of one choice of a master playlist; the lowest rank downloads least for the same words."""


def kind_of(text: str) -> Literal["master", "media", "other"]:
    """Return what a document is."""
    head = text.removeprefix("\ufeff").lstrip()
    if not (head.startswith("#EXTM3U") and "#EXT-X-" in head):
        return "other"
    return "master" if "#EXT-X-STREAM-INF" in head else "media"


def ranked_variants(text: str, base_url: str) -> list[str]:
    """Return the URLs of the media playlists, audio renditions and the least to download first.

    Raises `AudioContentTypeNotSupported` if nothing in it has audio.
    """
    renditions: dict[str, tuple[int, str]] = {}
    variants: list[_Variant] = []
    pending: dict[str, str] | None = None
    for line in _lines(text):
        if line.startswith("#EXT-X-MEDIA:"):
            media = _attributes(line)
            if media.get("TYPE") == "AUDIO":
                # What describes the picture to the blind talks over the film.
                described = "describes-video" in media.get("CHARACTERISTICS", "")
                rank = 2 * described + (media.get("DEFAULT") != "YES")
                known = renditions.get(media.get("GROUP-ID", ""))
                if known is None or rank < known[0]:
                    # Without an address, it is the audio in the variants themselves.
                    address = _resolved(base_url, media["URI"]) if media.get("URI") else ""
                    renditions[media.get("GROUP-ID", "")] = (rank, address)
        elif line.startswith("#EXT-X-STREAM-INF:"):
            pending = _attributes(line)
        elif not line.startswith("#") and pending is not None:
            variants += _rank(pending, _resolved(base_url, line), renditions)
            pending = None
        if len(variants) > MAX_VARIANTS:
            break
    if not variants:
        raise AudioContentTypeNotSupported(
            "The playlist lists no stream with audio. Send the audio's own URL."
        )
    return list(dict.fromkeys(url for _, url in sorted(variants, key=lambda variant: variant[0])))


def _rank(variant: dict[str, str], url: str, renditions: dict[str, tuple[int, str]]) -> list[_Variant]:
    codecs = variant.get("CODECS", "").lower()
    bandwidth = _number(variant.get("BANDWIDTH", ""))
    rendition = renditions.get(variant.get("AUDIO", "\0"))
    if rendition is not None and rendition[1]:
        return [((0, bandwidth), rendition[1])]
    if codecs and not any(codec in codecs for codec in _AUDIO_CODECS):
        return []
    has_picture = "RESOLUTION" in variant or "avc" in codecs or "hvc" in codecs or "hev" in codecs
    return [((2 if has_picture else 1, bandwidth), url)]


def parse_media_playlist(text: str, base_url: str) -> MediaPlaylist:
    """Return what a media playlist lists.

    Raises `UnsupportedURL` for protected streams, `AudioTooLarge` past `MAX_SEGMENTS`,
    `AudioContentTypeNotSupported` if it lists nothing and never will.
    """
    reader = _Reader(base_url)
    for line in _lines(text):
        reader.take(line)
        if len(reader.parts) > 2 * MAX_SEGMENTS:
            raise AudioTooLarge(
                f"The playlist has more than the {MAX_SEGMENTS} segments that this service accepts. "
                "Send a shorter recording."
            )
    if not reader.parts and reader.ended:
        raise AudioContentTypeNotSupported(
            "The playlist is empty. Send a link to a playlist with audio in it."
        )
    return MediaPlaylist(tuple(reader.parts), reader.seconds, reader.ended, reader.target_seconds)


class _Reader:
    """What the tags so far say about the segments after them."""

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._next = Part("", 0)
        self._map_sent = True
        self._range: tuple[int, int | None] | None = None
        self._range_ends: dict[str, int] = {}
        self._gap = False
        self.parts: list[Part] = []
        self.seconds = 0.0
        self.ended = False
        self.target_seconds = 0.0

    def take(self, line: str) -> None:
        name, _, value = line.partition(":")
        if not line.startswith("#"):
            self._segment(_resolved(self._base_url, line))
        elif name == "#EXT-X-BYTERANGE":
            self._range = _byte_range(value)
        elif name == "#EXT-X-KEY":
            self._next = replace(self._next, key=self._key_of(_attributes(line)))
        elif name == "#EXT-X-MAP":
            self._take_map(_attributes(line))
        elif name == "#EXT-X-GAP":
            self._gap = True
        elif name == "#EXT-X-ENDLIST" or (name == "#EXT-X-PLAYLIST-TYPE" and value.strip() == "VOD"):
            self.ended = True
        else:
            self._take_time(name, value)

    def _take_time(self, name: str, value: str) -> None:
        if name == "#EXTINF":
            seconds, _, title = value.partition(",")
            self._next = replace(self._next, seconds=_seconds(seconds), title=title.strip())
        elif name == "#EXT-X-MEDIA-SEQUENCE":
            self._next = replace(self._next, sequence=_number(value))
        elif name == "#EXT-X-TARGETDURATION":
            self.target_seconds = _seconds(value)
        elif name == "#EXT-X-PROGRAM-DATE-TIME":
            self._next = replace(self._next, starts_at=_epoch_seconds(value))
        elif name == "#EXT-X-DISCONTINUITY":
            self._next = replace(self._next, follows=False)

    def _segment(self, url: str) -> None:
        part = self._next
        if not self._gap:
            # Behind a splice it is sent again, because the times of the segments start anew.
            if part.init is not None and not (self._map_sent and part.follows):
                self.parts.append(part.init)
                self._map_sent = True
            self.parts.append(replace(part, url=url, byte_range=self._resolve(url)))
            self.seconds += part.seconds
        starts_at = None if part.starts_at is None else part.starts_at + part.seconds
        self._next = Part("", part.sequence + 1, key=part.key, starts_at=starts_at, init=part.init)
        self._gap, self._range = False, None

    def _resolve(self, url: str) -> range | None:
        if self._range is None:
            return None
        length, start = self._range
        if start is None:
            start = self._range_ends.get(url, 0)
        self._range_ends[url] = start + length
        return range(start, start + length)

    def _take_map(self, attributes: dict[str, str]) -> None:
        if not attributes.get("URI"):
            return
        known, key = self._next.init, self._next.key
        part = Part(_resolved(self._base_url, attributes["URI"]), self._next.sequence)
        if attributes.get("BYTERANGE"):
            length, start = _byte_range(attributes["BYTERANGE"])
            part = replace(part, byte_range=range(start or 0, (start or 0) + length))
        if key is not None and key[1] is not None:
            part = replace(part, key=key)
        if known is None or (part.url, part.byte_range) != (known.url, known.byte_range):
            self._next, self._map_sent = replace(self._next, init=part), False

    def _key_of(self, attributes: dict[str, str]) -> tuple[str, bytes | None] | None:
        method = attributes.get("METHOD", "NONE")
        if method == "NONE":
            return None
        if method != "AES-128" or attributes.get("KEYFORMAT", "identity") != "identity":
            raise UnsupportedURL(PROTECTED)
        iv = attributes.get("IV")
        try:
            vector = None if iv is None else int(iv, 16).to_bytes(16, "big")
        except (ValueError, OverflowError) as exc:
            raise UnsupportedURL("The playlist's encryption is malformed. Send another link.") from exc
        return _resolved(self._base_url, attributes.get("URI", "")), vector


def _lines(text: str) -> Iterator[str]:
    for line in text.removeprefix("\ufeff").splitlines():
        if stripped := line.strip():
            yield stripped


def _attributes(line: str) -> dict[str, str]:
    return {name: value.strip('"') for name, value in _ATTRIBUTE.findall(line.partition(":")[2])}


def _resolved(base_url: str, reference: str) -> str:
    """Return the address, as it stands if it is none: the client refuses it and says why."""
    return absolute(base_url, reference) or reference


def _number(text: str) -> int:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds < 86_400 else 0.0


def _epoch_seconds(text: str) -> float | None:
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _byte_range(text: str) -> tuple[int, int | None]:
    length, _, start = text.strip().partition("@")
    return _number(length), _number(start) if start else None
