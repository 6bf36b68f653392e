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

from stenobird.containers import format_of, transport_stream_start

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

_NOT_MEDIA: Final[tuple[tuple[bytes, str], ...]] = (
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"%PDF", "pdf"),
    (b"GIF8", "gif"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG", "png"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x7fELF", "executable"),
    (b"MZ\x90", "executable"),
    (b"wOFF", "font"),
    (b"wOF2", "font"),
)
_FTYP_IMAGES: Final = (b"ftypavif", b"ftypheic", b"ftypheix", b"ftypmif1")

_BIT_RATES: Final[dict[tuple[int, int], tuple[int, ...]]] = {
    (1, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES: Final = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
_ADTS_RATES: Final = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)


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
        _by_magic(head, headers, complete=complete)
        or _by_magic(body, headers, complete=complete)
        or _by_text(head, body, content_type)
    )
    if found is not None:
        return found
    frames = find_mpeg_frames(body)
    if frames is not None:
        return Sniffed("media", frames)
    if _MEDIA_TYPE.match(content_type) and not _PLAYLIST_TYPE.match(content_type):
        return Sniffed("media", "unknown", sure=False)
    return Sniffed("other", "unknown", sure=complete)


def _by_magic(  # noqa: PLR0911  # a table of formats: one line each reads best
    body: bytes, headers: Mapping[str, str], *, complete: bool
) -> Sniffed | None:
    for magic, name in _NOT_MEDIA:
        if body.startswith(magic):
            return Sniffed("other", name)
    if (known := format_of(body)) is not None:
        image = known.name == "mp4" and body[4:12] in _FTYP_IMAGES
        return Sniffed("other", "image") if image else Sniffed("media", known.name)
    if body[:4] == b"RIFF":
        return Sniffed("other", "riff")
    if body[:3] == b"ID3" and len(body) >= 10:
        return _after_id3(body)
    if transport_stream_start(body) is not None:
        return Sniffed("media", "mpegts")
    if body[:2] in {
        b"\xff\xfb",
        b"\xff\xf3",
        b"\xff\xfa",
        b"\xff\xf2",
        b"\xff\xe3",
        b"\xff\xf1",
        b"\xff\xf9",
    }:
        container = _frame_chain(body, 0, wanted=2)
        if container is not None:
            return Sniffed("media", container)
    if "icy-name" in headers or "icy-metaint" in headers:
        return Sniffed("media", "stream", sure=complete)
    return None


def _after_id3(body: bytes) -> Sniffed | None:
    """Judge bytes that start with an ID3v2 tag, whose cover art may be larger than the probe."""
    size = body[6:10]
    if body[3] == 0xFF or body[4] == 0xFF or any(byte & 0x80 for byte in size):
        return None
    length = 10 + ((size[0] << 21) | (size[1] << 14) | (size[2] << 7) | size[3])
    rest = body[length : length + 4]
    if rest == b"fLaC":
        return Sniffed("media", "flac")
    if len(rest) > 1 and rest[0] == 0xFF and rest[1] & 0xF6 == 0xF0:
        return Sniffed("media", "aac")
    return Sniffed("media", "mp3")


# --- MPEG audio ---------------------------------------------------------------------------------------------


def find_mpeg_frames(body: bytes) -> str | None:
    """Return `mp3` or `aac` if three frames in a row start in the first 8 KiB of `body`, else `None`.

    Files cut out of a stream start in the middle of a frame, so the first sync word may come late. Three
    frames in a row don't happen by chance.
    """
    position = body.find(b"\xff", 0, 8192)
    while position >= 0:
        container = _frame_chain(body, position, wanted=3)
        if container is not None:
            return container
        position = body.find(b"\xff", position + 1, 8192)
    return None


def _frame_chain(body: bytes, position: int, *, wanted: int) -> str | None:
    container: str | None = None
    for _ in range(wanted):
        frame = mpeg_frame(body[position : position + 7])
        if frame is None or (container is not None and frame.container != container):
            return None
        container = frame.container
        position += frame.length
    return container


@dataclass(frozen=True, slots=True)
class MPEGFrame:
    """A parsed frame header: `length` is in bytes, including the header; `samples` are per channel."""

    container: Literal["mp3", "aac"]
    length: int
    samples: int
    sample_rate: int


def mpeg_frame(header: bytes) -> MPEGFrame | None:
    """Parse the seven bytes of an MPEG audio or ADTS frame header; `None` if they are none."""
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    if header[1] & 0xF6 == 0xF0:
        return _adts_frame(header)
    version, layer = (header[1] >> 3) & 0x03, 4 - ((header[1] >> 1) & 0x03)
    rate_index, sampling = header[2] >> 4, (header[2] >> 2) & 0x03
    if version == 1 or layer == 4 or rate_index in {0, 15} or sampling == 3:
        return None
    bit_rate = _BIT_RATES[1 if version == 3 else 2, layer][rate_index] * 1000
    sample_rate = _SAMPLE_RATES[version][sampling]
    padding = (header[2] >> 1) & 0x01
    if layer == 1:
        return MPEGFrame("mp3", (12 * bit_rate // sample_rate + padding) * 4, 384, sample_rate)
    samples = 576 if layer == 3 and version != 3 else 1152
    return MPEGFrame("mp3", samples // 8 * bit_rate // sample_rate + padding, samples, sample_rate)


def _adts_frame(header: bytes) -> MPEGFrame | None:
    length = ((header[3] & 0x03) << 11) | (header[4] << 3) | (header[5] >> 5)
    sampling = (header[2] >> 2) & 0x0F
    if sampling >= len(_ADTS_RATES) or length <= 7:
        return None
    return MPEGFrame("aac", length, 1024, _ADTS_RATES[sampling])


# --- text ---------------------------------------------------------------------------------------------------

_PROLOG = re.compile(
    r"\s+|<\?[^>]{0,1000}?\?>|<!--.{0,20000}?-->|<!doctype(?P<doctype>[^>\[]{0,500})(?:\[.{0,4000}?\]\s*)?>",
    re.IGNORECASE | re.DOTALL,
)
_ELEMENT = re.compile(r"<(?:[a-z_][\w.-]{0,40}:)?([a-z_][\w.-]{0,40})[\s/>]", re.IGNORECASE)
_FEED_ROOTS: Final = {"rss": "rss", "feed": "atom", "rdf": "rdf", "channel": "rss"}
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


def _playlist(text: str, content_type: str) -> Sniffed | None:
    if text.startswith("#EXTM3U"):
        return Sniffed("playlist", "hls" if "#EXT-X-" in text else "m3u", sure="#EXT-X-" in text)
    if text[:10].lower() == "[playlist]":
        return Sniffed("playlist", "pls")
    first_line = text.split("\n", 1)[0].strip()
    if _PLAYLIST_TYPE.match(content_type) and re.match(r"(?:https?://|#|[\w./-]+\.\w{2,4}$)", first_line):
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
    start = 0
    if head[:3] == b"ID3":
        start = 10 + ((head[6] & 127) << 21 | (head[7] & 127) << 14 | (head[8] & 127) << 7 | head[9] & 127)
    while start < len(head) - 7:
        frame = mpeg_frame(head[start : start + 7])
        if frame is not None and mpeg_frame(head[start + frame.length : start + frame.length + 7]):
            break
        start += 1
    else:
        return None
    for tag in (b"Xing", b"Info"):
        position = head.find(tag, start, start + 64)
        if position > 0 and struct.unpack(">I", head[position + 4 : position + 8])[0] & 1:
            frames: int = struct.unpack(">I", head[position + 8 : position + 12])[0]
            return frames * frame.samples / frame.sample_rate
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
