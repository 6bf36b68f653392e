"""How long a media file probably is, from its first bytes and its size. Pure."""

from __future__ import annotations

import struct

from stenobird.discovery import sniff


def estimate_seconds(head: bytes, container: str, total_bytes: int | None) -> float | None:
    """Return the probable length in seconds, `None` where these bytes don't tell.

    A variable bit rate without a Xing header makes mp3 estimates wrong by a factor; callers compare coarsely.
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
        frame = sniff.mpeg_frame(head[start : start + 7])
        if frame is not None and sniff.mpeg_frame(head[start + frame.length : start + frame.length + 7]):
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
