"""The newest events of each streamed job, read from the log once for all readers of its stream.

Readers that have every event wait together. One of them leads: it alone waits for the next wake-up, poll or
ping, reads the log, and passes the page to all. Their tasks stay asleep as long as their connections take it
at once. When the leader leaves or its connection is full, another reader leads. So an event costs one timer
and one read however many readers there are, and a slow reader delays nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

import structlog

from stenobird.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from stenobird.ports import Clock, EventRow, Wakeups, Watch
    from stenobird.storage.job_store import JobStore

EVENT_PAGE: Final = 100
"""The most events that a read of the log returns, and that one reader of a stream holds in memory."""
KEPT_EVENTS: Final = 200
"""The most events that the readers of a job share; a reader further behind reads the log itself."""

Page: TypeAlias = "tuple[EventRow, ...]"
"""Events in order. Readers at the same place get the same object, which can be encoded once for all."""

Take: TypeAlias = "Callable[[Page], bool]"
"""Sends a page at once and returns whether it could. Then the reader waits for the next one."""

READERS_A_TURN: Final = 500
"""How many readers get a page before other tasks may run."""

_log = structlog.get_logger(__name__)


def take_nothing(_page: Page) -> bool:
    """Leave every page to the iteration."""
    return False


class JobTails:
    """The tails of the jobs that have readers. A tail is dropped with its last reader.

    The log of a silent job is read again after `poll_seconds`, since a wake-up may be lost, and its readers
    are pinged after `ping_seconds`.
    """

    def __init__(
        self, store: JobStore, wakeups: Wakeups, clock: Clock, *, poll_seconds: float, ping_seconds: float
    ) -> None:
        self.store = store
        self.wakeups = wakeups
        self.clock = clock
        self.poll_seconds = poll_seconds
        self.ping_seconds = ping_seconds
        self._tails: dict[str, JobTail] = {}

    def __len__(self) -> int:
        return len(self._tails)

    @asynccontextmanager
    async def of(self, job_id: str, last_seq: int) -> AsyncIterator[JobTail]:
        """Join the readers of a job, whose log has reached `last_seq`, for as long as the context lasts."""
        tail = self._tails.get(job_id)
        if tail is None:
            tail = self._tails[job_id] = JobTail(self, job_id, max(0, last_seq - EVENT_PAGE))
        tail.readers += 1
        try:
            yield tail
        finally:
            tail.readers -= 1
            if not tail.readers:
                del self._tails[job_id]
                await tail.aclose()


class JobTail:
    """The newest events of one job with a `seq` above `start`, as of the last read of its log."""

    def __init__(self, tails: JobTails, job_id: str, start: int) -> None:
        self.readers = 0
        self._tails = tails
        self._clock = tails.clock
        self._job_id = job_id
        self._resources = AsyncExitStack()
        self._watch: Watch | None = None
        self._kept: list[EventRow] = []
        self._end = start
        """The `seq` up to which the log was read; that of the last kept event, if any."""
        self._pages: dict[int, Page] = {}
        """What has been cut from the kept events since the last read."""
        self._ended = False
        self._pings = 0
        self._item_at = self._clock.monotonic()
        """When the readers were last sent something."""
        self._leading = False
        self._behind = True
        """Whether the log may have more already, so that the leader must not wait first."""
        self._waiting: deque[_Reader] = deque()

    async def aclose(self) -> None:
        """Stop watching the job."""
        await self._resources.aclose()

    async def after(self, seq: int, take: Take = take_nothing) -> Page | None:
        """Return the events with a higher `seq`, in order, at most a page; wait until there are some.

        While it waits, `take` may take the pages instead. An empty page is a ping. `None` means that there
        will be no more events. While the database is unavailable it waits; raises `StorageUnavailable` only
        for a reader that reads the log itself.
        """
        reader = _Reader(seq, take, self._pings)
        while True:
            if reader.seq < self._end - len(self._kept):
                rows = await self._tails.store.events_after(self._job_id, reader.seq, limit=EVENT_PAGE)
                return tuple(rows) or None
            if reader.seq < self._end:
                return self._page(reader.seq)
            if self._ended:
                return None
            if self._pings != reader.pings:
                return ()
            if self._leading:
                await self._follow(reader)
            else:
                await self._lead(reader)

    def _page(self, seq: int) -> Page:
        page = self._pages.get(seq)
        if page is None:
            first = seq - self._end + len(self._kept)
            page = self._pages[seq] = tuple(self._kept[first : first + EVENT_PAGE])
        return page

    async def _follow(self, reader: _Reader) -> None:
        reader.woken = asyncio.get_running_loop().create_future()
        self._waiting.append(reader)
        try:
            await reader.woken
        except asyncio.CancelledError:
            # This reader may be the one that was woken to lead.
            if not self._leading:
                self._wake_next()
            raise

    async def _lead(self, leader: _Reader) -> None:
        """Wait, read, and pass on what there is, until the leader can't take it."""
        self._leading = True
        try:
            if self._watch is None:
                # It starts before the first read, so that no commit is missed between the two.
                self._watch = await self._resources.enter_async_context(
                    self._tails.wakeups.watch(self._job_id)
                )
            while True:
                if not self._behind:
                    silence = self._clock.monotonic() - self._item_at
                    await self._watch.wait(min(self._tails.poll_seconds, self._tails.ping_seconds - silence))
                start = self._end
                if await self._read() or self._ended or self._ping():
                    self._item_at = self._clock.monotonic()
                    await self._pass_on(start)
                    if not self._gives(leader, start):
                        return
        finally:
            self._leading = False
            self._wake_next()

    async def _pass_on(self, start: int) -> None:
        """Pass what came after `start` to all who wait, and wake those who don't take it."""
        waiting, self._waiting = self._waiting, deque()
        try:
            while waiting:
                for _ in range(min(len(waiting), READERS_A_TURN)):
                    reader = waiting.popleft()
                    if not reader.woken.done():
                        if self._gives(reader, start):
                            self._waiting.append(reader)
                        else:
                            reader.woken.set_result(None)
                if waiting:
                    await asyncio.sleep(0)
        finally:
            # After a cancellation; they help themselves.
            for reader in waiting:
                if not reader.woken.done():
                    reader.woken.set_result(None)

    def _gives(self, reader: _Reader, start: int) -> bool:
        """Whether a waiting reader took what came after `start`, and goes on waiting."""
        page = self._page(start) if self._end > start else ()
        if (self._ended and not page) or reader.seq != start or not reader.take(page):
            return False
        reader.seq, reader.pings = self._end, self._pings
        return not self._ended

    async def _read(self) -> bool:
        """Read a page of the log; return whether it has new events."""
        try:
            page = await self._tails.store.events_after(self._job_id, self._end, limit=EVENT_PAGE)
            # The job may have ended before its first reader came, or have been deleted since.
            job = None if page else await self._tails.store.get(self._job_id)
        except StorageUnavailable:
            # Nobody is disconnected, since all would come back.
            self._behind = False
            return False
        if not page:
            self._behind = job is not None and job.last_seq > self._end
            self._ended = job is None or (job.terminal and not self._behind)
            return False
        self._behind = len(page) == EVENT_PAGE
        self._ended = page[-1].event == "done"
        self._end = page[-1].seq
        self._kept = [*self._kept, *page][-KEPT_EVENTS:]
        self._pages.clear()
        return True

    def _ping(self) -> bool:
        due = self._clock.monotonic() - self._item_at >= self._tails.ping_seconds
        self._pings += due
        return due

    def _wake_next(self) -> None:
        """Wake one of those who wait, to lead."""
        while self._waiting:
            reader = self._waiting.popleft()
            if not reader.woken.done():
                reader.woken.set_result(None)
                return


@dataclass(slots=True, eq=False)
class _Reader:
    """A reader that has everything up to `seq`."""

    seq: int
    take: Take
    pings: int
    woken: asyncio.Future[None] = field(init=False)
