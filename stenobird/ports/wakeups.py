"""Time, and wake-ups."""

from __future__ import annotations

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


class Watch(Protocol):
    """One listener of a job's notifications."""

    async def wait(self, timeout_seconds: float) -> bool:
        """Return `True` at the next notification (or at once if one came since the last call)."""


class Clock(Protocol):
    """The clock of a service; tests control their own."""

    def time(self) -> float:
        """Return seconds since the epoch, UTC."""

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
