"""Wake-ups within one process, on asyncio events. None is lost."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from typing_extensions import override

from stenobird.ports import Wakeups, Watch

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class LocalWakeups(Wakeups):
    """`ports.Wakeups` within one event loop. A notification sets a flag, so nothing queues up."""

    def __init__(self) -> None:
        self._job = asyncio.Event()
        self._watches: dict[str, set[LocalWatch]] = {}

    @override
    async def notify_job(self) -> None:
        self._job.set()

    @override
    async def notify_event(self, job_id: str) -> None:
        for watch in self._watches.get(job_id, ()):
            watch.notify()

    async def notify_all(self) -> None:
        """Wake all waiters, because a notification may have been missed."""
        self._job.set()
        for watches in self._watches.values():
            for watch in watches:
                watch.notify()

    @override
    async def wait_job(self, timeout_seconds: float) -> None:
        if await _wait(self._job, timeout_seconds):
            self._job.clear()

    @override
    @asynccontextmanager
    async def watch(self, job_id: str) -> AsyncIterator[LocalWatch]:
        watch = LocalWatch()
        watches = self._watches.setdefault(job_id, set())
        watches.add(watch)
        try:
            yield watch
        finally:
            watches.discard(watch)
            if not watches:
                self._watches.pop(job_id, None)


class LocalWatch(Watch):
    """The flag of one listener."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Set the flag."""
        self._event.set()

    @override
    async def wait(self, timeout_seconds: float) -> bool:
        notified = await _wait(self._event, timeout_seconds)
        self._event.clear()
        return notified


async def _wait(event: asyncio.Event, timeout_seconds: float) -> bool:
    try:
        async with asyncio.timeout(timeout_seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
