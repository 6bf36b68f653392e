"""Detects what a response is, and roughly how long its audio is, by its first bytes and its headers.

Servers send media as `text/html` and error pages as `audio/mpeg`. Recognised bytes therefore take precedence,
and the header decides only if they are not recognised.
"""

from __future__ import annotations

import codecs
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from stenobird.containers import (
    NOT_MEDIA,
    PADDING,
    audio_frame,
    format_of,
    frames_start,
    mpeg_stated_seconds,
    tag_bytes,
    transport_stream_start,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["media", "playlist", "feed", "html", "json", "empty", "other"]

PROBE_BYTES: Final = 64 * 1024
"""The most that sniffing looks at."""
FIRST_PROBE_BYTES: Final = 4 * 1024
"""Enough for every magic number and the second MPEG header; more is read only if that is not enough."""


@dataclass(frozen=True, slots=True)
class Sniffed:
    """The verdict; `container` names the format, e.g. `mp3`, `hls`, `rss`.

    `sure` is false if only the header says media, or if more bytes might change the verdict.
    """

    kind: Kind
    container: str
    sure: bool = True


_MEDIA_TYPE = re.compile(r"(?:audio|video|x-audio)/|application/(?:ogg|x-ogg|mp4|x-mp3)\b", re.IGNORECASE)
_PLAYLIST_TYPE = re.compile(
    r"(?:audio|application|video)/(?:x-|vnd\.apple\.)?(?:mpegurl|scpls|ms-asf)|application/(?:xspf|dash)\+xml",
    re.IGNORECASE,
)
_TEXT_TYPE = re.compile(rf"text/|application/(?:json|xml|xhtml|rss)|{_PLAYLIST_TYPE.pattern}", re.IGNORECASE)

_FTYP_IMAGES: Final = (b"ftypavif", b"ftypheic", b"ftypheix", b"ftypmif1")


def sniff(head: bytes, headers: Mapping[str, str], *, complete: bool = False) -> Sniffed:
    """Judge a response by its first bytes and its lower-case `headers`.

    `complete` means that `head` is the whole body, or that no more bytes will be read. Never raises.
    """
    content_type = headers.get("content-type", "").split(";")[0].strip()
    if not head:
        return Sniffed("empty", "empty", sure=complete)
    # Some servers send NULs or a byte order mark before media; an mp4 may itself start with NULs.
    body = head.lstrip(b"\x00").removeprefix(codecs.BOM_UTF8)
    if not body:
        return Sniffed("other", "zeros", sure=complete)
    found = (
        _by_magic(head, headers)
        or _by_magic(body, headers)
        or _by_magic(head.lstrip(PADDING), headers)
        or _by_text(head, body, content_type)
    )
    if found is not None:
        return found
    if (frames := frames_start(body, within=8192)) is not None:
        return Sniffed("media", frames[0])
    if _MEDIA_TYPE.match(content_type) and not _PLAYLIST_TYPE.match(content_type):
        return Sniffed("media", "unknown", sure=False)
    return Sniffed("other", "unknown", sure=complete)


def _by_magic(  # noqa: PLR0911  # a table of formats: one line each reads best
    body: bytes, headers: Mapping[str, str]
) -> Sniffed | None:
    for name, magic in NOT_MEDIA:
        if body.startswith(magic):
            return Sniffed("other", name)
    if (known := format_of(body)) is not None:
        image = known.name == "mp4" and body[4:12] in _FTYP_IMAGES
        return Sniffed("other", "image") if image else Sniffed("media", known.name)
    if body[:4] == b"RIFF":
        return Sniffed("other", "riff")
    if body[:3] == b"ID3" and (length := tag_bytes(body[:32])):
        return _after_id3(body[length : length + 6])
    if transport_stream_start(body) is not None:
        return Sniffed("media", "mpegts")
    frame = audio_frame(body[:6])
    if frame is not None and audio_frame(body[frame.length : frame.length + 6]) is not None:
        return Sniffed("media", frame.demuxer)
    # A station's stream may start in mid-frame, and more bytes take seconds to arrive.
    if any(name.startswith("icy-") for name in headers) and not _TEXT_TYPE.match(
        headers.get("content-type", "")
    ):
        return Sniffed("media", "stream")
    return None


def _after_id3(rest: bytes) -> Sniffed:
    """Judge what follows an ID3v2 tag, whose cover art may be larger than the probe."""
    if rest[:4] == b"fLaC":
        return Sniffed("media", "flac")
    is_aac = len(rest) > 1 and rest[0] == 0xFF and rest[1] & 0xF6 == 0xF0
    return Sniffed("media", "aac" if is_aac else "mp3")


# --- text ---------------------------------------------------------------------------------------------------

_PROLOG = re.compile(
    r"\s+|<\?[^>]{0,1000}?\?>|<!--.{0,20000}?-->|<!doctype(?P<doctype>[^>\[]{0,500})(?:\[.{0,4000}?\]\s*)?>",
    re.IGNORECASE | re.DOTALL,
)
_ELEMENT = re.compile(r"<(?:[a-z_][\w.-]{0,40}:)?([a-z_][\w.-]{0,40})[\s/>]", re.IGNORECASE)
_FEED_ROOTS: Final = {"rss": "rss", "feed": "atom", "rdf": "rdf", "channel": "rss", "redirect": "rss"}
_POINTER_ROOTS: Final = {"playlist": "xspf", "asx": "asx", "mpd": "dash", "smil": "smil"}
_FEED_SOMEWHERE = re.compile(r"<(rss[\s>]|feed\s[^>]{0,300}atom|rdf:rdf[\s>])", re.IGNORECASE)


def _by_text(  # noqa: PLR0911  # a table of formats
    head: bytes, body: bytes, content_type: str
) -> Sniffed | None:
    """Detect playlists, feeds, pages and JSON. Return `None` if the bytes are not text."""
    if head[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}:
        text = head.decode("utf-16", "replace")
    else:
        if 0 in body[:512] and not body.lstrip().startswith(b"<"):
            return None
        text = body.decode("latin-1")
    text = text.lstrip()
    playlist = _playlist(text, content_type)
    if playlist is not None:
        return playlist
    if text[:1] in {"{", "["} and _looks_like_text(text):
        return Sniffed("json", "json")
    if text.startswith("<"):
        return _markup(text, content_type)
    if not _looks_like_text(text):
        return None
    if re.match(r"[^<]{0,200}<(?:\?xml|rss)\b", text, re.IGNORECASE):
        # A broken plugin may print warnings before a feed; a recovering parser skips them.
        return _markup(text[text.index("<") :], content_type)
    if "<html" in text[:4096].lower() or (content_type.lower().endswith("html") and "<" in text):
        return Sniffed("html", "html")
    return Sniffed("other", "text")


_ENTRY = re.compile(r"https?://\S+$|[\w.~%()/\\ -]{1,200}\.(?:mp3|m4a|aac|ogg|opus|flac|wav)$", re.IGNORECASE)
"""A line of an m3u playlist: an address, or the name of a file next to it."""


def _playlist(text: str, content_type: str) -> Sniffed | None:
    if text.startswith("#EXTM3U"):
        return Sniffed("playlist", "hls" if "#EXT-X-" in text else "m3u", sure="#EXT-X-" in text)
    if text[:11].lower().startswith(("[playlist]", "[reference]")):
        return Sniffed("playlist", "pls")
    lines = [line.strip() for line in text[:2048].splitlines() if line.strip()]
    is_typed = _PLAYLIST_TYPE.match(content_type) and re.match(r"https?://|#|[^<>]+\.\w{2,4}$", lines[0])
    others = [line for line in lines if not _ENTRY.match(line)]
    if is_typed or (len(others) < len(lines) and all(line.startswith("#") for line in others)):
        return Sniffed("playlist", "m3u")
    return None


def _markup(text: str, content_type: str) -> Sniffed:  # noqa: PLR0911  # a table of roots
    position, html_doctype = 0, False
    while match := _PROLOG.match(text, position):
        doctype = (match["doctype"] or "").lower()
        html_doctype = html_doctype or "html" in doctype
        position = match.end()
    element = _ELEMENT.match(text, position)
    name = element[1].lower() if element else ""
    if name in _FEED_ROOTS and not html_doctype:
        return Sniffed("feed", _FEED_ROOTS[name])
    if name in _POINTER_ROOTS and not html_doctype:
        return Sniffed("playlist", _POINTER_ROOTS[name])
    if name in {"opml", "svg"} and not html_doctype:
        return Sniffed("other", name)
    if html_doctype or name in {"html", "head", "body", "!doctype"}:
        return Sniffed("html", "html")
    if _FEED_SOMEWHERE.search(text[:4096]):
        return Sniffed("feed", "rss")
    if "xml" in content_type.lower() and "html" not in content_type.lower():
        return Sniffed("other", "xml")
    return Sniffed("html", "html")


def _looks_like_text(text: str) -> bool:
    """Return whether the first 512 characters have hardly any control characters and mostly ASCII."""
    sample = text[:512]
    if sum(1 for char in sample if ord(char) > 127) * 2 > len(sample):
        return False
    controls = sum(1 for char in sample if ord(char) < 32 and char not in "\t\n\r\f\x1b")
    return controls * 50 < len(sample) + 49


# --- length -------------------------------------------------------------------------------------------------


def estimate_seconds(head: bytes, container: str, total_bytes: int | None) -> float | None:
    """Return the estimated length in seconds, `None` if these bytes don't give it.

    For an mp3 with a variable bit rate and no Xing header, the estimate may be far off.
    """
    try:
        if container == "mp3":
            return _mp3(head, total_bytes)
        if container == "wav":
            return _wav(head, total_bytes)
        if container == "mp4":
            return _mp4(head)
        if container == "flac":
            return _flac(head)
    except (struct.error, IndexError, ValueError, ZeroDivisionError):
        return None
    return None


def _mp3(head: bytes, total_bytes: int | None) -> float | None:
    start = tag_bytes(head[:32])
    while start < len(head) - 6:
        frame = audio_frame(head[start : start + 6])
        if frame is not None and audio_frame(head[start + frame.length : start + frame.length + 6]):
            break
        start += 1
    else:
        return None
    if (stated := mpeg_stated_seconds(head[start : start + 128])) is not None:
        return stated
    if total_bytes is None:
        return None
    return (total_bytes - start) / (frame.length / (frame.samples / frame.sample_rate))


def _wav(head: bytes, total_bytes: int | None) -> float | None:
    rate: int = struct.unpack("<I", head[28:32])[0]
    return (total_bytes - 44) / rate if total_bytes and rate else None


def _mp4(head: bytes) -> float | None:
    position = head.find(b"mvhd")
    if position < 0:
        return None
    version = head[position + 4]
    layout, offset = (">IQ", 24) if version == 1 else (">II", 16)
    scale, duration = struct.unpack_from(layout, head, position + offset)
    return duration / scale if scale and 0 < duration < 1 << 62 else None


def _flac(head: bytes) -> float | None:
    position = head.find(b"fLaC")
    if position < 0:
        return None
    packed = int.from_bytes(head[position + 18 : position + 26], "big")
    sample_rate, samples = packed >> 44, packed & ((1 << 36) - 1)
    return samples / sample_rate if sample_rate and samples else None
