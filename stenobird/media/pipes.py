"""What FFmpeg reads from: the file, without the tags inside it, and one part of a joined file at a time.

Run in the decoder child. Standard library only.
"""

from __future__ import annotations

import os
import struct
import sys
from typing import TYPE_CHECKING

from stenobird.containers import audio_frame, tag_bytes
from stenobird.media.recognition import read_fully

if TYPE_CHECKING:
    from collections.abc import Callable

    from stenobird.media.recognition import Source

READ_BYTES = 32 * 1024
MAX_TAG_MARKS = 16
ID3_VERSIONS = frozenset({b"\x02\x00", b"\x03\x00", b"\x04\x00"})
OGG_HEADER = struct.Struct("<4sBBqIIIB")
OGG_FIRST_PAGE = 2
ATOM_HEADER_BYTES = 16
WAV_SAMPLES = frozenset({1, 3, 6, 7, 0xFFFE})
"""Formats in which each sample stands for itself: PCM, float, A-law, mu-law, extensible."""
WAV_MARKS = frozenset({b"RIFF", b"RF64", b"BW64"})
UNKNOWN_WAV_BYTES = 0x7FFF_0000
"""Programs that don't know the length yet write one of about 2 or 4 GB."""
CUT_OFF_SECONDS = 2.0
CUT_OFF_SHARE = 0.02
MAX_CHUNKS = 64
MIN_REST_BYTES = 4096
"""Fewer bytes behind the samples are padding."""


def is_cut_off(stated: float, ends: float, *, second: float = 1.0) -> bool:
    """Whether a file that ends there, earlier than its header states, is cut off. `second` is their unit."""
    return stated - ends > max(CUT_OFF_SECONDS * second, CUT_OFF_SHARE * stated)


class Pipe:
    """The source from `base` on, forward only."""

    def __init__(self, source: Source, base: int) -> None:
        self._source = source
        self._base = base
        self._offset = 0
        self.highest = base
        self.note: str | None = None
        """What is known to be missing once this part is read."""
        self.cut_off = False
        """Whether the file ends before this part does, by its header."""

    def read(self, size: int) -> bytes:
        """Return the next bytes, nothing at the end."""
        data = self._source.read_at(self._base + self._offset, min(size, READ_BYTES))
        self._offset += len(data)
        self.highest = max(self.highest, self._base + self._offset)
        return data

    def next_part(self) -> tuple[int, bytes] | None:
        """Once this part is read: where the next one starts, and a header to put before it."""
        return None


class SeekablePipe(Pipe):
    """The same with seeking, for containers whose index may stand at the end."""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move, as files do. Raises `OSError` for places that don't exist."""
        if whence == os.SEEK_CUR:
            offset += self._offset
        elif whence == os.SEEK_END:
            size = self._source.size(wait=True)
            if size is None:
                raise OSError("the length is not known")
            offset += size - self._base
        if offset < 0:
            raise OSError("before the start")
        self._offset = offset
        return offset

    def tell(self) -> int:
        """Return the offset of the next read."""
        return self._offset


class UntaggedPipe(Pipe):
    """MPEG frames without the tags between them: advertisements are stitched in with their covers.

    A tag is skipped only where another tag, a frame or the end follows: chance finds don't pass that.
    """

    def read(self, size: int) -> bytes:
        """Return the next bytes, without tags."""
        while True:
            data = self._source.read_at(self._base + self._offset, min(size, READ_BYTES))
            start = self._base + self._offset
            at, skipped = self._first_tag(start, data)
            if at > 0 or not skipped:
                self._offset += at
                self.highest = max(self.highest, self._base + self._offset)
                return data[:at]
            self._offset += skipped

    def _first_tag(self, start: int, data: bytes) -> tuple[int, int]:
        """Return how many bytes precede the first tag in `data`, and the length of that tag."""
        marks = sorted(at for mark in (b"ID3", b"APETAGEX", b"TAG") for at in _places(data, mark))
        for at in marks:
            head = read_fully(self._source, start + at, 32)
            length = tag_bytes(head)
            if head[:3] == b"ID3" and head[3:5] not in ID3_VERSIONS:
                continue
            if length and self._audio_follows(start + at + length):
                return at, length
        # A mark may lie across the end of what was read.
        kept = next((n for n in range(min(7, len(data) - 1), 0, -1) if _begins_mark(data[-n:])), 0)
        return len(data) - kept, 0

    def _audio_follows(self, offset: int) -> bool:
        # One byte earlier, because a tag that ends behind the end of the file is a chance find.
        head = read_fully(self._source, offset - 1, 33)
        return 0 < len(head) < 5 or audio_frame(head[1:]) is not None or tag_bytes(head[1:]) > 0


def _places(data: bytes, mark: bytes) -> list[int]:
    places: list[int] = []
    at = data.find(mark)
    while at >= 0 and len(places) < MAX_TAG_MARKS:
        places.append(at)
        at = data.find(mark, at + 1)
    return places


def _begins_mark(end: bytes) -> bool:
    return any(mark.startswith(end) for mark in (b"ID3", b"APETAGEX", b"TAG"))


class ChainedPipe(Pipe):
    """One of several files that follow each other, read element by element of its container.

    `element` returns where the element at an offset ends, whether a file may start with it, and whether it
    holds media.
    """

    def __init__(
        self, source: Source, base: int, element: Callable[[Source, int], tuple[int, bool, bool]]
    ) -> None:
        super().__init__(source, base)
        self._element = element
        self._element_end = base
        self._in_data = False
        self._next: int | None = None

    def read(self, size: int) -> bytes:
        """Return the next bytes, nothing where the next file starts."""
        at = self._base + self._offset
        if self._next is None and at >= self._element_end:
            end, starts_file, has_media = self._element(self._source, at)
            if starts_file and self._in_data:
                self._next = at
                return b""
            self._element_end, self._in_data = end, self._in_data or has_media
        if self._next == at:
            return b""
        return super().read(min(size, self._element_end - at) if at < self._element_end else size)

    def next_part(self) -> tuple[int, bytes] | None:
        """Return the next file."""
        return None if self._next is None else (self._next, b"")


def ogg_page(source: Source, at: int) -> tuple[int, bool, bool]:
    """Read a page of Ogg. In a chained file, the next link may have other tracks, rates and channels."""
    head = read_fully(source, at, OGG_HEADER.size)
    if len(head) < OGG_HEADER.size or head[:4] != b"OggS":
        # Damaged: the demuxer looks for the next page, and so does the next read.
        data = source.read_at(at, READ_BYTES)
        found = data.find(b"OggS", 1)
        return at + (found if found > 0 else max(1, len(data) - 3)), False, False
    first = bool(head[5] & OGG_FIRST_PAGE)
    lengths = read_fully(source, at + OGG_HEADER.size, head[-1])
    return at + OGG_HEADER.size + len(lengths) + sum(lengths), first, not first


def mp4_atom(source: Source, at: int) -> tuple[int, bool, bool]:
    """Read an atom of an mp4 whose index comes first. Streams have another one behind advertisements."""
    head = read_fully(source, at, ATOM_HEADER_BYTES)
    name, length = head[4:8], int.from_bytes(head[:4], "big")
    length = int.from_bytes(head[8:16], "big") if length == 1 else length
    end = at + length if length >= 8 else sys.maxsize  # it has no end, or is damaged
    return end, name == b"ftyp", name in {b"mdat", b"moof"}


class AiffPipe(Pipe):
    """An AIFF file, in which nothing but chunks may follow the samples, or another file."""

    def next_part(self) -> tuple[int, bytes] | None:
        """Return the next file, or note samples behind a stated length that is too small."""
        at, size = self._base + 12, self._source.size(wait=True)
        for _ in range(MAX_CHUNKS):
            head = read_fully(self._source, at, 8)
            if head[:4] == b"FORM":
                return at, b""
            if len(head) < 8 or not head[:4].strip().isalnum():
                break
            length = int.from_bytes(head[4:8], "big")
            at += 8 + length + length % 2
        rest = read_fully(self._source, at, READ_BYTES)
        if size is not None and len(rest) >= MIN_REST_BYTES and rest.strip(b"\0"):
            self.note = f"{size - at} bytes follow the end that its header states"
        return None


class WavPipe(Pipe):
    """The samples that a WAV header states. Recorders that lose power leave a length that is too small."""

    def __init__(self, source: Source, base: int, header: bytes = b"") -> None:
        super().__init__(source, base)
        self._header = header
        self._format = b""
        self._end: int | None = None
        if header:
            return
        at = base + 12
        for _ in range(MAX_CHUNKS):
            head = read_fully(source, at, 8)
            length = int.from_bytes(head[4:8], "little")
            if len(head) < 8 or head[:4] == b"data":
                # FFmpeg reads to the end of the file for these, and finds the length of RF64 elsewhere.
                if length not in {0, 0xFFFFFFFF}:
                    self._end = at + 8 + length
                    self._start = at + 8
                return
            if head[:4] == b"fmt ":
                self._format = read_fully(source, at + 8, min(length, 64))
            at += 8 + length + length % 2

    def read(self, size: int) -> bytes:
        """Return the next bytes of the header and the samples."""
        if self._header:
            data, self._header = self._header[:size], self._header[size:]
            return data
        if self._end is not None:
            size = min(size, self._end - self._base - self._offset)
        return super().read(size) if size > 0 else b""

    def next_part(self) -> tuple[int, bytes] | None:
        """Return where samples go on behind the stated end; chunks of other kinds may follow there too."""
        if self._end is None or len(self._format) < 16:
            return None
        at = self._behind_chunks(self._end + (self._end - self._start) % 2)
        size = self._source.size(wait=True)
        if size is None or read_fully(self._source, at, 4) in WAV_MARKS:
            return None if size is None else (at, b"")
        kind, _channels, _rate, bytes_per_second, align = struct.unpack("<HHIIH", self._format[:14])
        stated = self._end - self._start
        self.cut_off = stated < UNKNOWN_WAV_BYTES and is_cut_off(
            stated, size - self._start, second=bytes_per_second
        )
        if size - at < max(1, bytes_per_second // 10):
            return None
        if at > self._end + 1 or kind not in WAV_SAMPLES or not align:
            # Behind other chunks, or in blocks that start anywhere, it may be noise as well as sound.
            if read_fully(self._source, at, READ_BYTES).strip(b"\0"):
                self.note = f"{size - at} bytes follow the end that its header states"
            return None
        at = self._start + (self._end - self._start) // align * align
        form = struct.pack("<4sI", b"fmt ", len(self._format)) + self._format
        return at, b"RIFF\xff\xff\xff\xffWAVE" + form + b"data\xff\xff\xff\xff"

    def _behind_chunks(self, at: int) -> int:
        """Return where the chunks that start at `at` end: they have names, and lie within the file."""
        for _ in range(MAX_CHUNKS):
            head = read_fully(self._source, at, 8)
            end = at + 8 + int.from_bytes(head[4:8], "little")
            size = self._source.size(wait=True)
            named = len(head) == 8 and head[:4].strip().isalnum() and head[:4] not in WAV_MARKS
            if not named or size is None or end > size:
                break
            at = end + end % 2
        return at
