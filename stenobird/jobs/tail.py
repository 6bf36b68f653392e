"""What the readers of one job's stream share: the newest events, read from the log once for all of them.

Without it, each commit would be read from the database once a reader, which costs forty times as much as
sending it (`docs/decisions/0004-own-sse-responder.md` has the figures).
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from stenobird.ports import Clock, EventRow, JobStore

EVENT_PAGE: Final = 100
"""Events that a read of the log returns, and that one reader of a stream holds in memory, at most."""
KEPT_EVENTS: Final = 200
"""Events of a job that its readers share, at most; one that is further behind reads the log for itself."""


class JobTails:
    """The tails of the jobs that have readers now. A tail is forgotten with its last reader."""

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
        """When the last read began that saw the end of the log."""
        self._end = 0
        """The highest `seq` that was read here or that a reader had seen before."""
        self._ended_at: int | None = None
        """The last `seq` of a job that has ended; -1 for one that is gone."""

    async def after(self, seq: int, *, current_since: float) -> Sequence[EventRow] | None:
        """Return events with a higher `seq`, in order, at most a page.

        An empty answer is as true as a read of the log that began at `current_since` (monotonic time) or
        later; whoever waited for such a read shares it. `None` says that nothing more will come.
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
            # It may have ended before the reader came, or have been deleted since.
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
        """Keep what is new. What is kept has no gap: after one, it starts anew.

        A gap is one to what is kept, not to `_end`: that counts what a reader brought along, too.
        """
        if self._kept and page[0].seq > self._kept[-1].seq + 1:
            self._kept.clear()
        newest = self._kept[-1].seq if self._kept else 0
        self._kept.extend(row for row in page if row.seq > newest)
        self._end = max(self._end, page[-1].seq)
