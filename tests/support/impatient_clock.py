"""A clock for tests of code that waits: its time passes as fast as a test wants."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from stenobird.ports import Clock


@dataclass
class ImpatientClock(Clock):
    """The system's clock, which a test can put forward, and which sleeps a hundredth of the time."""

    ahead_seconds: float = 0.0
    sleeps: int = 0
    """How many have ended."""

    def time(self) -> float:
        """Return the system's time, put forward."""
        return super().time() + self.ahead_seconds

    def monotonic(self) -> float:
        """Return the system's time, put forward."""
        return super().monotonic() + self.ahead_seconds

    async def sleep(self, seconds: float) -> None:
        """Return after a hundredth of `seconds`."""
        await asyncio.sleep(seconds / 100)
        self.sleeps += 1
