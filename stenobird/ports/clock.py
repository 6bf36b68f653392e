"""Time as a port."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """The clock of a service; tests control their own."""

    def time(self) -> float:
        """Return seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
