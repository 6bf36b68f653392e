"""The title in the tags at the start of a media file: ID3v2, Vorbis comments, MP4 and RIFF."""

from __future__ import annotations

import re
from typing import Final

from stenobird.containers import syncsafe

MAX_TITLE_CHARS: Final = 300

_ENCODINGS: Final = {0: "latin-1", 1: "utf-16", 2: "utf-16-be", 3: "utf-8"}
_NO_TITLE: Final = re.compile(
    r"(audio ?|titel ?)?(track|title)? ?\d*|unknown( title)?|untitled", re.IGNORECASE
)
"""What recorders and rippers write: it says less than the file's name."""


def title_of(head: bytes) -> str | None:
    """Return the title in the first bytes of a file, `None` if they have none that is of use.

    Tags may be cut off, wrong or hostile; whatever they are, this reads no further than `head`.
    """
    if head[:3] == b"ID3" and len(head) > 10:
        found = _id3(head)
    elif head[:4] in {b"OggS", b"fLaC"}:
        found = _vorbis(head)
    elif head[4:8] == b"ftyp":
        found = _mp4(head)
    elif head[:4] in {b"RIFF", b"RF64", b"BW64"}:
        found = _riff(head)
    else:
        found = None
    text = " ".join("".join(char if char.isprintable() else " " for char in found or "").split())
    return None if not text or _NO_TITLE.fullmatch(text) else text[:MAX_TITLE_CHARS]


def _id3(head: bytes) -> str | None:
    version, flags = head[3], head[5]
    body = head[10 : 10 + syncsafe(head[6:10])]
    unsynchronised = bool(flags & 0x80)
    if unsynchronised and version < 4:
        body = body.replace(b"\xff\x00", b"\xff")
    at = 0
    if flags & 0x40 and version == 3:
        at = 4 + int.from_bytes(body[:4])
    elif flags & 0x40 and version == 4:
        at = syncsafe(body[:4])
    name_bytes, header_bytes = (3, 6) if version == 2 else (4, 10)
    while (name := body[at : at + name_bytes]) and name[0]:
        size_bytes = body[at + name_bytes : at + 2 * name_bytes]
        size = syncsafe(size_bytes) if version == 4 else int.from_bytes(size_bytes)
        content = body[at + header_bytes : at + header_bytes + size]
        if name in {b"TT2", b"TIT2"}:
            form = int.from_bytes(body[at + 9 : at + 10]) if version > 2 else 0
            # A frame that is compressed, encrypted, grouped or cut off is not read.
            if len(content) < size or form & (0x4C if version == 4 else 0xE0):
                return None
            if version == 4 and form & 0x01:
                content = content[4:]  # behind the length of the data
            if version == 4 and (unsynchronised or form & 0x02):
                content = content.replace(b"\xff\x00", b"\xff")
            return _id3_text(content)
        at += header_bytes + size
    return None


def _id3_text(content: bytes) -> str | None:
    if not content or content[0] not in _ENCODINGS:
        return None
    text = content[1:]
    if content[0] == 0:
        return _text(text.partition(b"\0")[0])
    # Several values are separated by NUL.
    return text.decode(_ENCODINGS[content[0]], "replace").partition("\0")[0].removeprefix("\ufeff")


def _text(text: bytes) -> str:
    """Decode text whose encoding nobody states: UTF-8 if it is valid, else that of Western Windows."""
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("cp1252", "replace")


def _vorbis(head: bytes) -> str | None:
    # Each comment is a little-endian length and NAME=value; the length keeps "SUBTITLE=" from matching.
    for match in re.finditer(rb"(?i)title=", head):
        size = int.from_bytes(head[match.start() - 4 : match.start()], "little") - len(b"title=")
        value = head[match.end() : match.end() + size]
        if 0 < size == len(value):
            return value.decode("utf-8", "replace")
    return None


def _mp4(head: bytes) -> str | None:
    at = head.find(b"\xa9nam")
    size, kind = int.from_bytes(head[at + 4 : at + 8]) - 16, head[at + 8 : at + 12]
    value = head[at + 20 : at + 20 + size]
    if at < 0 or kind != b"data" or not 0 < size == len(value):
        return None
    return value.decode("utf-8", "replace")


def _riff(head: bytes) -> str | None:
    info = head.find(b"INFO")
    at = head.find(b"INAM", info) if info >= 0 else -1
    size = int.from_bytes(head[at + 4 : at + 8], "little")
    value = head[at + 8 : at + 8 + size]
    if at < 0 or not 0 < size == len(value):
        return None
    return _text(value.partition(b"\0")[0])
