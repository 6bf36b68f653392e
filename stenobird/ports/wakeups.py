"""Time, and wake-ups."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager


class Wakeups(Protocol):
    """Hints that something was committed. A lost hint costs one poll interval; the database has the truth."""

    async def notify_job(self) -> None:
        """Announce that a job can be claimed."""

    async def notify_event(self, job_id: str) -> None:
        """Announce that a job has a new event or a cancel request."""

    async def wait_job(self, timeout_seconds: float) -> None:
        """Return at the next `notify_job`, or after the timeout."""

    def watch(self, job_id: str) -> AbstractAsyncContextManager[Watch]:
        """Listen for one job's events; from now on no notification is missed."""


class Watch:
    """The flag of one listener."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Set the flag."""
        self._event.set()

    async def wait(self, timeout_seconds: float) -> bool:
        """Return `True` at the next notification (or at once if one came since the last call)."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Clock(Protocol):
    """The clock of a service; tests control their own."""

    def time(self) -> float:
        """Return seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
