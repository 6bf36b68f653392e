"""The real clock; tests pass one of their own."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """The machine's wall clock, monotonic clock and event-loop sleep."""

    def time(self) -> float:
        """Return seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; cancellable."""
        await asyncio.sleep(seconds)
