"""The newest events of each streamed job, read from the log once for all readers of its stream.

Otherwise each reader would read each commit from the database, which costs forty times as much as sending it
(`docs/decisions/0004-own-sse-responder.md` has the figures).
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stenobird.ports import Clock, EventRow
    from stenobird.storage.job_store import JobStore

EVENT_PAGE: Final = 100
"""The most events that a read of the log returns, and that one reader of a stream holds in memory."""
KEPT_EVENTS: Final = 200
"""The most events that the readers of a job share; a reader further behind reads the log itself."""


class JobTails:
    """The tails of the jobs that have readers. A tail is dropped with its last reader."""

    def __init__(self, store: JobStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._tails: dict[str, JobTail] = {}

    def __len__(self) -> int:
        return len(self._tails)

    @contextmanager
    def of(self, job_id: str) -> Iterator[JobTail]:
        """Join the readers of a job for as long as the context lasts."""
        tail = self._tails.get(job_id)
        if tail is None:
            tail = self._tails[job_id] = JobTail(self._store, self._clock, job_id)
        tail.readers += 1
        try:
            yield tail
        finally:
            tail.readers -= 1
            if not tail.readers:
                del self._tails[job_id]


class JobTail:
    """The newest events of one job, as of the last read of its log."""

    def __init__(self, store: JobStore, clock: Clock, job_id: str) -> None:
        self.readers = 0
        self._store = store
        self._clock = clock
        self._job_id = job_id
        self._kept: deque[EventRow] = deque(maxlen=KEPT_EVENTS)
        self._reading = asyncio.Lock()
        self._current_at = float("-inf")
        """When the last read that reached the end of the log began."""
        self._end = 0
        """The highest `seq` that was read here or that a reader already had."""
        self._ended_at: int | None = None
        """The last `seq` of a job that has ended; -1 for a deleted job."""

    async def after(self, seq: int, *, current_since: float) -> Sequence[EventRow] | None:
        """Return events with a higher `seq`, in order, at most a page.

        An empty page is as current as a read of the log that began at `current_since` (monotonic time) or
        later; readers that wait for such a read share it. `None` means that there will be no more events.
        """
        if page := self._kept_after(seq):
            return page
        if self._kept and seq < self._kept[0].seq:
            return await self._store.events_after(self._job_id, seq, limit=EVENT_PAGE)
        async with self._reading:
            if page := self._kept_after(seq):
                return page
            if self._current_at < current_since or self._end > seq:
                page = await self._read(seq)
            if page:
                return page
            return None if self._ended_at is not None and self._ended_at <= seq else ()

    async def _read(self, seq: int) -> list[EventRow]:
        began = self._clock.monotonic()
        self._end = max(self._end, seq)
        page = await self._store.events_after(self._job_id, seq, limit=EVENT_PAGE)
        if page:
            self._keep(page)
        else:
            # The job may have ended before this reader came, or have been deleted since.
            job = await self._store.get(self._job_id)
            if job is None:
                self._ended_at = -1
            elif job.terminal:
                self._ended_at = job.last_seq
        if len(page) < EVENT_PAGE:
            self._current_at = began
        return page

    def _kept_after(self, seq: int) -> list[EventRow]:
        if not self._kept or not self._kept[0].seq <= seq + 1 <= self._kept[-1].seq:
            return []
        first = seq + 1 - self._kept[0].seq
        return [self._kept[index] for index in range(first, min(first + EVENT_PAGE, len(self._kept)))]

    def _keep(self, page: Sequence[EventRow]) -> None:
        """Keep the new events. Kept events have no gap in `seq`: a page after a gap replaces them.

        The gap is measured from the last kept event, not from `_end`, which also counts what readers had.
        """
        if self._kept and page[0].seq > self._kept[-1].seq + 1:
            self._kept.clear()
        newest = self._kept[-1].seq if self._kept else 0
        self._kept.extend(row for row in page if row.seq > newest)
        self._end = max(self._end, page[-1].seq)
