"""The SHA-256 of the bytes that were heard, so that a later download can prove that it is the same file."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

from stenobird.media.intake import SourceChanged

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stenobird.media.intake import Intake
    from stenobird.media.spool import Spool

HASH_BLOCK_BYTES = 256 * 1024


class DecodedPrefix:
    """Hashes the file from its start, as far as it was heard, in a thread behind the decoder."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._heard_bytes = 0
        self._moved = asyncio.Event()

    def advance(self, position: int) -> None:
        """Note that the decoder has used bytes up to `position`."""
        if position > self._heard_bytes:
            self._heard_bytes = position
            self._moved.set()

    def facts(self) -> dict[str, Any]:
        """Return how many bytes were hashed, and to what."""
        return {"prefix_bytes": self._bytes, "prefix_sha256": self._hash.hexdigest()}

    async def follow(self) -> None:
        """Hash what is heard for as long as the task lives."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            while self._bytes < self._heard_bytes:
                size = min(HASH_BLOCK_BYTES, self._heard_bytes - self._bytes)
                data = await self._spool.read(self._bytes, size)
                if not data:
                    break
                # Bound at once: the digest may be asked for while the thread is at work on its copy.
                digest = self._hash.copy()
                await asyncio.to_thread(digest.update, data)
                self._hash, self._bytes = digest, self._bytes + len(data)


async def verify_prefix(intake: Intake, heard: Mapping[str, Any]) -> None:
    """Download what an earlier run heard, and raise `SourceChanged` if it is not the same.

    `heard` is what `AudioStream.heard` returned then. Nothing is checked where nothing was recorded.
    """
    prefix_bytes, expected = heard.get("prefix_bytes"), heard.get("prefix_sha256")
    if not isinstance(prefix_bytes, int) or not isinstance(expected, str) or prefix_bytes <= 0:
        return
    digest, position = hashlib.sha256(), 0
    while position < prefix_bytes:
        data = await intake.read(position, min(HASH_BLOCK_BYTES, prefix_bytes - position))
        if not data:
            if intake.failure is not None:
                raise intake.failure
            raise SourceChanged
        await asyncio.to_thread(digest.update, data)
        position += len(data)
    if digest.hexdigest() != expected:
        raise SourceChanged
