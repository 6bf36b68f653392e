"""Time as a port."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Time as the service sees it, so that tests decide how it passes."""

    def time(self) -> float:
        """Return seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; cancellable."""
