"""What a file is, by its first bytes: which demuxer reads it, and from where. Run in the decoder child.

The answer is final: the demuxer is forced, FFmpeg's own probing (which would open playlists, session
descriptions and pictures too) never runs. Standard library only.
"""

from __future__ import annotations

from typing import Protocol

from stenobird.containers import (
    NOT_MEDIA,
    PADDING,
    SMALL_ATOMS,
    format_of,
    frames_start,
    tag_bytes,
    transport_stream_start,
)

FIRST_BYTES = 8 * 1024
"""Enough for transport streams and frames that are not damaged. Live audio of 64 kbit/s takes a second."""
HEAD_BYTES = 64 * 1024
MAX_ID3_TAGS = 8
MAX_ATOMS = 64
BEFORE_MEDIA = SMALL_ATOMS | {
    b"ftyp",
    b"styp",
    b"sidx",
    b"ssix",
    b"pdin",
    b"emsg",
    b"prft",
    b"meta",
    b"udta",
    b"PICT",
}
"""Atoms that hold no media; another name is that of damaged media data."""

_NOT_MEDIA = (
    b"#EXTM3U", b"[playlist]", b"[Reference]", b"<", b"{", b"v=0", b"ffconcat", b"WEBVTT",
    *(magic for _, magic in NOT_MEDIA),
)  # fmt: skip


class Refusal(Exception):
    """Nothing can be decoded: `kind` is `not_media`, `no_audio`, `broken`, `too_long` or `environment`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Source(Protocol):
    """Random access to the bytes of the file."""

    def read_at(self, offset: int, size: int) -> bytes:
        """Return at least one byte and at most `size`; nothing at the end."""

    def size(self, *, wait: bool) -> int | None:
        """Return the length of the file, if it is known or, with `wait`, will be."""


def read_fully(source: Source, offset: int, size: int) -> bytes:
    """Return `size` bytes, fewer only at the end of the file."""
    parts = []
    while size > 0:
        part = source.read_at(offset, size)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return b"".join(parts)


def past_id3(source: Source) -> int:
    """Return where the audio starts. Tags are skipped unread: cover art is megabytes of hostile input."""
    offset = 0
    for _ in range(MAX_ID3_TAGS):
        head = read_fully(source, offset, 10)
        if head[:3] != b"ID3" or not (length := tag_bytes(head)):
            break
        offset += length
    return offset


def recognise(source: Source) -> tuple[str, int]:
    """Return the demuxer for the bytes and the offset it starts at; raise `Refusal` if they are not media."""
    tagged = past_id3(source)
    start = _first_bytes(source, tagged)
    text = start.lstrip(b"\x00" + PADDING)
    if text.startswith(_NOT_MEDIA) or start[257:262] == b"ustar":
        raise Refusal("not_media", "it is a page, a picture, a playlist or an archive")
    padding = len(start) - len(start.lstrip(b"\x00"))
    # An mp4 and an MPEG program stream start with NULs of their own.
    for base in (tagged, tagged + padding, tagged + len(start) - len(start.lstrip(PADDING))):
        if (known := format_of(start[base - tagged :])) is not None:
            return known.demuxer, base
    base = tagged + padding
    for size in (FIRST_BYTES, HEAD_BYTES):
        head = read_fully(source, base, size)
        if size == HEAD_BYTES and (known := format_of(head)) is not None:
            return known.demuxer, base  # behind a damaged first frame
        # Before the frames, because a transport stream holds such frames too.
        if (at_packet := transport_stream_start(head)) is not None:
            return "mpegts", base + at_packet
        if (found := frames_start(head, within=size, whole=len(head) < size)) is not None:
            return found[0], base + found[1]
    raise Refusal("not_media", "its bytes are not those of any known audio format")


def _first_bytes(source: Source, offset: int) -> bytes:
    start = read_fully(source, offset, 512)
    if not start.strip(b"\x00"):
        start = read_fully(source, offset, HEAD_BYTES)
    if not start.strip(b"\x00"):
        raise Refusal("broken" if offset else "not_media", "it ends before any audio starts")
    return start


def index_comes_late(source: Source, base: int) -> bool:
    """Whether an mp4's media data stands, or may stand, before its `moov`, so that its reader must jump."""
    offset, late = base, False
    for _ in range(MAX_ATOMS):
        head = read_fully(source, offset, 16)
        if len(head) < 8:
            break
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:16], "big")
        if name in {b"moov", b"moof"}:
            return late
        late = late or name not in BEFORE_MEDIA
        if name == b"mdat":
            return length != 0
        if length < 8:
            break
        offset += length
    return True
