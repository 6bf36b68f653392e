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
    Format("wav", "wav", 8, b"WAVE"),  # after RIFF, RF64 or BW64
    Format("aiff", "aiff", 8, b"AIFF"),
    Format("aiff", "aiff", 8, b"AIFC"),
    Format("avi", "avi", 8, b"AVI "),
    Format("flv", "flv", 0, b"FLV\x01"),
    Format("tta", "tta", 0, b"TTA1"),
    Format("voc", "voc", 0, b"Creative Voice File"),
    Format("realmedia", "rm", 0, b".RMF"),
    Format("realaudio", "rm", 0, b".ra\xfd"),
    Format("nut", "nut", 0, b"nut/multimedia"),
    Format("mxf", "mxf", 0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01"),
    Format("mpeg", "mpeg", 0, b"\x00\x00\x01\xba"),
    Format("dts", "dts", 0, b"\x7f\xfe\x80\x01"),
    Format("dts", "dts", 0, b"\xfe\x7f\x01\x80"),
    Format("dts", "dts", 0, b"\x1f\xff\xe8\x00"),
    Format("dts", "dts", 0, b"\xff\x1f\x00\xe8"),
    Format("dts", "dtshd", 0, b"DTSHDHDR"),
    Format("truehd", "truehd", 4, b"\xf8\x72\x6f\xba"),
    Format("mlp", "mlp", 4, b"\xf8\x72\x6f\xbb"),
    Format("dv", "dv", 0, b"\x1f\x07\x00"),
    *(Format("mp4", "mov", 4, atom) for atom in (b"ftyp", b"moov", b"mdat", b"styp")),
)
NOT_MEDIA = (
    ("rifx", b"RIFX"),  # a big-endian WAV, which FFmpeg decodes as noise
    ("zip", b"PK\x03\x04"),
    ("zip", b"PK\x05\x06"),
    ("pdf", b"%PDF"),
    ("gif", b"GIF8"),
    ("jpeg", b"\xff\xd8\xff"),
    ("png", b"\x89PNG"),
    ("gzip", b"\x1f\x8b"),
    ("bzip2", b"BZh"),
    ("7z", b"7z\xbc\xaf\x27\x1c"),
    ("rar", b"Rar!\x1a\x07"),
    ("xz", b"\xfd7zXZ\x00"),
    ("executable", b"\x7fELF"),
    ("executable", b"MZ\x90"),
    ("font", b"wOFF"),
    ("font", b"wOF2"),
)
"""What starts like this is not audio, whatever a resynchronising demuxer might find further in."""
PADDING = b"\t\r\n \xef\xbb\xbf"
"""What scripts send before a file: line breaks, a byte order mark."""
SMALL_ATOMS = frozenset({b"free", b"skip", b"wide", b"pnot", b"uuid"})
"""What else a QuickTime file may start with; these are words of plain text as well."""

TRANSPORT_STRIDES = (188, 192, 204)
"""Packets of broadcasts, of camcorders and Blu-ray (m2ts), and with error correction."""
TRANSPORT_PACKETS = 5
TRANSPORT_SEARCH_BYTES = 4096
FRAME_SEARCH_BYTES = 8192


def format_of(head: bytes) -> Format | None:
    """Return the format of a file that starts with these bytes."""
    for entry in FORMATS:
        if head[entry.at : entry.at + len(entry.magic)] == entry.magic:
            return entry
    if head[4:8] in SMALL_ATOMS and head[:1] == b"\x00":
        return Format("mp4", "mov", 4, head[4:8])
    if (demuxer := _framed(head)) is not None:
        return Format(demuxer, demuxer, 0, head[:2])
    return None


def _framed(head: bytes) -> str | None:
    """Return the demuxer of frames with a short mark. Two in a row are enough, behind a damaged one too."""
    mark = head[:2]
    if mark != b"\x0b\x77" and not (mark[:1] == b"\x56" and mark[1:] >= b"\xe0"):
        return None
    at = 0
    while at >= 0:
        if (demuxer := _dolby(head[at:]) or _latm(head[at:])) is not None:
            return demuxer
        at = head.find(mark[:1], at + 1, FRAME_SEARCH_BYTES)
    return None


def transport_stream_start(head: bytes) -> int | None:
    """Return where an MPEG transport stream starts, 0 if its start is damaged and its packets follow."""
    at = head.find(b"\x47", 0, TRANSPORT_SEARCH_BYTES)
    while at >= 0:
        for stride in TRANSPORT_STRIDES:
            marks = head[at : at + TRANSPORT_PACKETS * stride : stride]
            enough = TRANSPORT_PACKETS if at >= stride else 3
            if len(marks) >= enough and not marks.strip(b"\x47"):
                return at if at < stride else 0
        at = head.find(b"\x47", at + 1, TRANSPORT_SEARCH_BYTES)
    return None


def syncsafe(size: bytes) -> int:
    """Return a number of ID3, which has seven bits in each of its four bytes."""
    return sum((byte & 0x7F) << shift for byte, shift in zip(size, (21, 14, 7, 0), strict=False))


def tag_bytes(head: bytes) -> int:
    """Return the length of the ID3, APE or ID3v1 tag that starts with these 32 bytes, 0 if none does."""
    if head[:3] == b"ID3" and len(head) >= 10 and max(head[6:10]) <= 0x7F:
        return 10 + syncsafe(head[6:10]) + (10 if head[5] & 0x10 else 0)
    if head[:8] == b"APETAGEX" and len(head) >= 24:
        is_header = bool(head[23] & 0x20)
        return 32 + (int.from_bytes(head[12:16], "little") if is_header else 0)
    return 128 if head[:3] == b"TAG" else 0


class Frame(NamedTuple):
    """A frame of MPEG audio (`mp3`) or ADTS (`aac`). `length` is in bytes, header included."""

    demuxer: str
    length: int
    samples: int
    sample_rate: int


_MPEG_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_MPEG1_KBITS = {
    3: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    1: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_LOW_KBITS = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG2_KBITS = {
    3: (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    2: _LOW_KBITS,
    1: _LOW_KBITS,
}
_ADTS_RATES = (
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
)  # fmt: skip


def audio_frame(head: bytes) -> Frame | None:
    """Return the frame that starts with these six bytes (four are enough for MPEG), `None` if none does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0xF6 == 0xF0:
        length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5 if len(head) >= 6 else 0
        rate = head[2] >> 2 & 15
        return Frame("aac", length, 1024, _ADTS_RATES[rate]) if length > 7 and rate <= 12 else None
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    bitrate, rate = head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or layer == 0 or bitrate in {0, 15} or rate == 3:
        return None
    bits = (_MPEG1_KBITS if version == 3 else _MPEG2_KBITS)[layer][bitrate - 1] * 1000
    hertz, padding = _MPEG_RATES[version][rate], head[2] >> 1 & 1
    if layer == 3:
        return Frame("mp3", (12 * bits // hertz + padding) * 4, 384, hertz)
    samples = 576 if layer == 1 and version != 3 else 1152
    return Frame("mp3", samples // 8 * bits // hertz + padding, samples, hertz)


def mpeg_stated_seconds(head: bytes) -> float | None:
    """Return the length that a Xing or Info header in the MPEG frame at the start of `head` states."""
    frame = audio_frame(head[:6])
    at = next((at for name in (b"Xing", b"Info") if (at := head.find(name, 4, 64)) > 0), -1)
    if frame is None or at < 0 or len(head) < at + 12 or not head[at + 7] & 1:
        return None
    return int.from_bytes(head[at + 8 : at + 12], "big") * frame.samples / frame.sample_rate


def frames_start(head: bytes, *, within: int, whole: bool = False) -> tuple[str, int] | None:
    """Find three frames in a row (fewer at the end of a `whole` file); return the demuxer and the offset.

    Streams cut out of a broadcast start in mid-frame, so the first `within` bytes are searched; three
    in a row keep chance matches in other data below one in a hundred thousand.
    """
    at = head.find(b"\xff", 0, within)
    while 0 <= at < len(head) - 4:
        position, frames, first = at, 0, ""
        while frames < 3:
            frame = audio_frame(head[position : position + 6])
            if frame is None or frame.demuxer != (first or frame.demuxer):
                break
            frames, first = frames + 1, frame.demuxer
            position += frame.length
        if frames == 3 or (frames and whole and position >= len(head)):
            return first, at
        at = head.find(b"\xff", at + 1, within)
    return None


_DOLBY_KBITS = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)


def _latm(head: bytes) -> str | None:
    """Return `loas` where two frames of AAC with LATM headers in a row start, as broadcasts have them."""
    if len(head) < 3 or head[0] != 0x56 or head[1] & 0xE0 != 0xE0:
        return None
    length = ((head[1] & 0x1F) << 8 | head[2]) + 3
    following = head[length : length + 2]
    return "loas" if following[:1] == b"\x56" and following[1:] >= b"\xe0" else None


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
