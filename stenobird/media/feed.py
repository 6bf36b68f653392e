"""The bytes of one stretch of live audio on their way to a decoder: a bounded window, kept in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from stenobird.media.playlist import Part
    from stenobird.ports import GapReason, Title

BEHIND_BYTES = 256 * 1024
"""What stays readable behind the last read: demuxers look back at the bytes they were recognised by."""
AHEAD_BYTES = 512 * 1024
"""How much more than was requested is taken from the server."""
MAX_JUMP_BYTES = 16 * 1024 * 1024
"""A read that far ahead of what has arrived, behind a huge tag for example, gets nothing."""
MAX_TITLE_CHARACTERS = 300
"""How much of what a stream says it is playing is kept."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of live audio that has no hole in it: one connection, or segments one after the other.

    A segment of HLS comes with its entry in the playlist.
    `start` is when its first sample was on air (epoch seconds), if the server says so. Else `missing_seconds`
    is how much lies between the audio before and this, if that is known; 0 means that it goes on without a
    hole. If neither is known, the time of arrival decides. `reason` says why audio may be missing before it.
    """

    body: AsyncGenerator[bytes | tuple[bytes, Part] | Title]
    reason: GapReason
    start: float | None = None
    missing_seconds: float | None = None
    stitched: bool = False


class Feed:
    """A `decode.DecoderInput` that holds little more than the decoder needs next.

    One writer, one reader. Offsets count from the start of the stretch.
    """

    total_bytes: int | None = None

    def __init__(self, *, stitched: bool) -> None:
        self.stitched = stitched
        self._data = bytearray()
        self._start = 0
        self._wanted = 0
        self._waited_for = False
        self._ended = False
        self._changed = asyncio.Event()

    @property
    def front(self) -> int:
        """How many bytes have arrived."""
        return self._start + len(self._data)

    def complete_path(self) -> Path | None:
        """There is no file."""
        return None

    async def write(self, data: bytes) -> None:
        """Append bytes, once the decoder needs them soon."""
        while self.front - self._wanted > AHEAD_BYTES and not self._ended:
            await self._changed.wait()
        self._data += data
        self._waited_for = False
        self._notify()

    async def drain(self) -> None:
        """Return when the decoder has sent the audio of all that has arrived, and waits for more."""
        while not self._waited_for and not self._ended:
            await self._changed.wait()

    def end(self) -> None:
        """Say that nothing follows."""
        self._ended = True
        self.total_bytes = self.front
        self._notify()

    async def read(self, offset: int, size: int) -> bytes:
        """Return at least one byte, waiting for it; nothing at the end, and where bytes are forgotten."""
        self._wanted = max(self._wanted, min(offset + size, self.front + MAX_JUMP_BYTES))
        self._notify()
        while self.front <= offset and not self._ended and offset <= self.front + MAX_JUMP_BYTES:
            self._waited_for = True
            self._notify()
            await self._changed.wait()
        if offset < self._start:
            return b""
        surplus = offset - BEHIND_BYTES - self._start
        if surplus > BEHIND_BYTES // 4:
            del self._data[:surplus]
            self._start += surplus
        at = offset - self._start
        return bytes(self._data[at : at + size])

    def _notify(self) -> None:
        event, self._changed = self._changed, asyncio.Event()
        event.set()
