"""What a file is, by its first bytes: which demuxer reads it, and from where. Run in the decoder child.

The answer is final: the demuxer is forced, FFmpeg's own probing (which would open playlists, session
descriptions and pictures too) never runs. Standard library only.
"""

from __future__ import annotations

from typing import Protocol

from stenobird.containers import format_of, transport_stream_start

HEAD_BYTES = 64 * 1024
MAX_ID3_TAGS = 8
MAX_ATOMS = 64

# What starts like this is not audio, whatever a resynchronising demuxer might find further in.
NOT_MEDIA = (
    b"#EXTM3U", b"[playlist]", b"[Reference]", b"<", b"{", b"PK\x03\x04", b"%PDF", b"GIF8", b"\xff\xd8\xff",
    b"\x89PNG", b"7z\xbc\xaf", b"v=0", b"Rar!", b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"ffconcat", b"WEBVTT",
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


def tag_bytes(head: bytes) -> int:
    """Return the length of the ID3, APE or ID3v1 tag that starts with these 32 bytes, 0 if none does."""
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) <= 0x7F:
        length = head[6] << 21 | head[7] << 14 | head[8] << 7 | head[9]
        return 10 + length + (10 if head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) >= 24:
        is_header = bool(head[23] & 0x20)
        return 32 + (int.from_bytes(head[12:16], "little") if is_header else 0)
    return 128 if head[:3] == b"TAG" else 0


def past_id3(source: Source) -> int:
    """Return where the audio starts. Tags are skipped unread: cover art is megabytes of hostile input."""
    offset = 0
    for _ in range(MAX_ID3_TAGS):
        head = read_fully(source, offset, 10)
        if head[:3] != b"ID3" or not (length := tag_bytes(head)):
            break
        offset += length
    return offset


MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
MPEG1_KBITS = {
    3: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    1: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
MPEG2_KBITS = {
    3: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    1: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def mpeg_frame_bytes(head: bytes) -> int:
    """Return the length of the MPEG audio frame that starts with these four bytes, 0 if none does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 0 or bitrate in {0, 15} or rate == 3:
        return 0
    bits = (MPEG1_KBITS if version == 3 else MPEG2_KBITS)[layer][bitrate - 1] * 1000
    hertz, padding = MPEG_RATES[version][rate], head[2] >> 1 & 1
    if layer == 3:
        return (12 * bits // hertz + padding) * 4
    return (72 if layer == 1 and version != 3 else 144) * bits // hertz + padding


def mpeg_stated_seconds(head: bytes) -> float | None:
    """Return the length that a Xing or Info header in the first MPEG frame states."""
    version, rate = head[1] >> 3 & 3, head[2] >> 2 & 3
    at = next((at for name in (b"Xing", b"Info") if (at := head.find(name, 4, 64)) > 0), -1)
    if at < 0 or len(head) < at + 12 or not head[at + 7] & 1 or not mpeg_frame_bytes(head[:4]):
        return None
    frames = int.from_bytes(head[at + 8 : at + 12], "big")
    return frames * (1152 if version == 3 else 576) / MPEG_RATES[version][rate]


def adts_frame_bytes(head: bytes) -> int:
    """Return the length of the ADTS frame that starts with these six bytes, 0 if none does."""
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length > 7 else 0


def frames_start(head: bytes, *, whole: bool) -> tuple[str, int] | None:
    """Find three MPEG or ADTS frames in a row (fewer at the end of a `whole` file); the demuxer and offset.

    Streams cut out of a broadcast start in mid-frame, so the whole head is searched; three in a row keep
    chance matches in other data below one in a hundred thousand.
    """
    at = head.find(b"\xff")
    while 0 <= at < len(head) - 4:
        for name, measure in (("mp3", mpeg_frame_bytes), ("aac", adts_frame_bytes)):
            position, frames = at, 0
            while frames < 3:
                length = measure(head[position : position + 6])
                if not length:
                    break
                frames += 1
                position += length
            if frames == 3 or (frames and whole and position >= len(head)):
                return name, at
        at = head.find(b"\xff", at + 1)
    return None


def recognise(source: Source) -> tuple[str, int]:
    """Return the demuxer for the bytes and the offset it starts at; raise `Refusal` if they are not media."""
    tagged = past_id3(source)
    start = _first_bytes(source, tagged)
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip(b"\x00 \t\r\n")
    if text.startswith(NOT_MEDIA) or start[257:262] == b"ustar":
        raise Refusal("not_media", "it is a page, a picture, a playlist or an archive")
    padding = len(start) - len(start.lstrip(b"\x00"))
    # An mp4 and an MPEG program stream start with NULs of their own.
    for base in (tagged, tagged + padding):
        if (known := format_of(start[base - tagged :])) is not None:
            return known.demuxer, base
    base = tagged + padding
    head = read_fully(source, base, HEAD_BYTES)
    # Before the frames, because a transport stream holds such frames too.
    if (at_packet := transport_stream_start(head)) is not None:
        return "mpegts", base + at_packet
    if (found := frames_start(head, whole=len(head) < HEAD_BYTES)) is not None:
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
    """Whether an mp4's media data stands before its `moov`, so that its reader must jump."""
    offset = base
    for _ in range(MAX_ATOMS):
        head = read_fully(source, offset, 16)
        if len(head) < 8:
            return False
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:16], "big")
        if name in {b"moov", b"moof"}:
            return False
        if name == b"mdat":
            return length != 0
        if length < 8:
            return False
        offset += length
    return False
