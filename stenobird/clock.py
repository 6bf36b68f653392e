"""The system's clock."""

from __future__ import annotations

import asyncio
import time

from typing_extensions import override

from stenobird.ports import Clock


class SystemClock(Clock):
    """The machine's wall clock, monotonic clock and event-loop sleep."""

    @override
    def time(self) -> float:
        return time.time()

    @override
    def monotonic(self) -> float:
        return time.monotonic()

    @override
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
