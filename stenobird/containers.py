"""The one table of media formats: how each is recognised by its first bytes, and which demuxer reads it.

Discovery and the decoder child share it, so that what is found can be decoded. Standard library only.
"""

from __future__ import annotations

from typing import NamedTuple


class Format(NamedTuple):
    """A format, `demuxer` as FFmpeg calls it; `magic` stands `at` this offset."""

    name: str
    demuxer: str
    at: int
    magic: bytes


FORMATS = (
    Format("flac", "flac", 0, b"fLaC"),
    Format("ogg", "ogg", 0, b"OggS"),
    Format("webm", "matroska", 0, b"\x1a\x45\xdf\xa3"),
    Format("amr", "amr", 0, b"#!AMR"),
    Format("caf", "caf", 0, b"caff"),
    Format("asf", "asf", 0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    Format("au", "au", 0, b".snd"),
    Format("wavpack", "wv", 0, b"wvpk"),
    Format("w64", "w64", 0, b"riff\x2e\x91\xcf\x11"),
    Format("wav", "wav", 8, b"WAVE"),  # after RIFF, RIFX, RF64 or BW64
    Format("aiff", "aiff", 8, b"AIFF"),
    Format("aiff", "aiff", 8, b"AIFC"),
    Format("avi", "avi", 8, b"AVI "),
    Format("flv", "flv", 0, b"FLV\x01"),
    Format("mpeg", "mpeg", 0, b"\x00\x00\x01\xba"),
    Format("dts", "dts", 0, b"\x7f\xfe\x80\x01"),
    Format("dts", "dts", 0, b"\xfe\x7f\x01\x80"),
    Format("dts", "dts", 0, b"\x1f\xff\xe8\x00"),
    Format("dts", "dts", 0, b"\xff\x1f\x00\xe8"),
    Format("dts", "dtshd", 0, b"DTSHDHDR"),
    *(Format("mp4", "mov", 4, atom) for atom in (b"ftyp", b"moov", b"mdat", b"styp")),
)
SMALL_ATOMS = frozenset({b"free", b"skip", b"wide", b"pnot", b"uuid"})
"""What else a QuickTime file may start with; these are words of plain text as well."""

TRANSPORT_STRIDES = (188, 192, 204)
"""Packets of broadcasts, of camcorders and Blu-ray (m2ts), and with error correction."""
TRANSPORT_PACKETS = 5


def format_of(head: bytes) -> Format | None:
    """Return the format of a file that starts with these bytes."""
    for entry in FORMATS:
        if head[entry.at : entry.at + len(entry.magic)] == entry.magic:
            return entry
    if head[4:8] in SMALL_ATOMS and head[:1] == b"\x00":
        return Format("mp4", "mov", 4, head[4:8])
    if (demuxer := _dolby(head)) is not None:
        return Format(demuxer, demuxer, 0, head[:2])
    return None


def transport_stream_start(head: bytes) -> int | None:
    """Return the offset of the first packet of an MPEG transport stream."""
    for stride in TRANSPORT_STRIDES:
        for at in range(stride):
            marks = head[at : at + TRANSPORT_PACKETS * stride : stride]
            if len(marks) >= 3 and not marks.strip(b"\x47"):
                return at
    return None


_DOLBY_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


def _dolby(head: bytes) -> str | None:
    """Return `ac3` or `eac3` where two frames in a row start; their marks alone are too short to go by."""
    if head[:2] != b"\x0b\x77" or len(head) < 6:
        return None
    version = head[5] >> 3
    if version > 10:
        length = 2 * (((head[2] & 7) << 8 | head[3]) + 1)
    else:
        rate, size = head[4] >> 6, head[4] & 63
        if rate == 3 or size >= 2 * len(_DOLBY_KBITS):
            return None
        kbits = _DOLBY_KBITS[size // 2]
        length = 2 * (2 * kbits, 320 * kbits // 147 + size % 2, 3 * kbits)[rate]
    if version > 16 or head[length : length + 2] not in {b"\x0b\x77", b""}:
        return None
    return "eac3" if version > 10 else "ac3"
