"""Time, and wake-ups within one process. `testing.FakeClock` and `wakeups.RedisWakeups` replace them."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


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


class Wakeups:
    """Hints that something was committed, within one event loop.

    A notification sets a flag, so none is lost or queues up. Where one is lost between processes, that costs
    one poll interval; the database has the truth.
    """

    def __init__(self) -> None:
        self._job = Watch()
        self._watches: dict[str, set[Watch]] = {}

    async def notify_job(self) -> None:
        """Announce that a job can be claimed."""
        self._job.notify()

    async def notify_event(self, job_id: str) -> None:
        """Announce that a job has a new event or a cancel request."""
        for watch in self._watches.get(job_id, ()):
            watch.notify()

    async def wait_job(self, timeout_seconds: float) -> None:
        """Return at the next `notify_job`, or after the timeout."""
        await self._job.wait(timeout_seconds)

    @asynccontextmanager
    async def watch(self, job_id: str) -> AsyncIterator[Watch]:
        """Listen for one job's events; from now on no notification is missed."""
        watch = Watch()
        watches = self._watches.setdefault(job_id, set())
        watches.add(watch)
        try:
            yield watch
        finally:
            watches.discard(watch)
            if not watches:
                self._watches.pop(job_id, None)


class Clock:
    """The clock of a service: the machine's. Tests control their own."""

    def time(self) -> float:
        """Return seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)
