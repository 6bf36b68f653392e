"""The one writer of a job while its lease lasts: a worker's commits go through here, one at a time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal, Protocol

from stenobird.errors import LeaseLost, StorageUnavailable
from stenobird.jobs.events import JobEvents
from stenobird.ports import SAMPLE_RATE, JobChange, OutboxRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from stenobird.errors import JobError
    from stenobird.ports import Claim, Clock, JobRecord, JobStore, NewEvent, NewJob, UsageRow, Wakeups


class Observer(Protocol):
    """Is told what was committed, for metrics. It must not fail."""

    def audio_transcribed(self, seconds: float) -> None:
        """Take note of audio that has just been accounted for."""

    def first_transcript(self, seconds: float) -> None:
        """Take note of the time from a job's creation to its first `transcript` event."""


class NullObserver:
    """An observer that takes no notes."""

    def audio_transcribed(self, seconds: float) -> None:
        """Take no note."""

    def first_transcript(self, seconds: float) -> None:
        """Take no note."""


class LeasedJob:
    """A claimed job as its worker writes it.

    After a write that failed because the lease is gone or the database away, `broken` says so and every
    later write fails alike: whatever the layers in between made of the error, nothing more is written.
    """

    def __init__(
        self, store: JobStore, wakeups: Wakeups, claim: Claim, *, clock: Clock, observer: Observer
    ) -> None:
        self.claim = claim
        self.job = claim.job
        self.events = JobEvents(claim.job.id, claim.job.base_url)
        self.next_chunk_index = claim.job.next_chunk_index
        self.ended = False
        self.broken: LeaseLost | StorageUnavailable | None = None
        self._store = store
        self._wakeups = wakeups
        self._clock = clock
        self._observer = observer
        self._next_sample = claim.checkpoint.next_sample if claim.checkpoint is not None else 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def between_commits(self) -> AsyncIterator[None]:
        """Hold off the next commit: whoever cancels the worker's task in here never cuts a commit in two."""
        async with self._turn:
            yield

    async def append(self, change: JobChange, events: Sequence[NewEvent]) -> None:
        """Commit a change with its events. Raises `LeaseLost` or `StorageUnavailable`."""
        async with self._writing():
            await self._store.append(self.claim.lease, change, events)
            self._count(change, events)
        await self._wakeups.notify_event(self.job.id)

    async def complete(
        self, change: JobChange, events: Sequence[NewEvent], *, usage: UsageRow | None = None
    ) -> None:
        """Commit a good end, with its usage and its webhook."""
        outbox = end_messages(
            self.job, "preview_complete" if change.status == "preview_complete" else "completed"
        )
        async with self._writing():
            await self._store.finish(self.claim.lease, change, events, usage=usage, outbox=outbox)
            self._count(change, events)
            self.ended = True
        await self._wakeups.notify_event(self.job.id)

    async def fail(self, error: JobError) -> None:
        """Commit a failure: the error, then `done`."""
        body = error.body()
        async with self._writing():
            await self._store.finish(
                self.claim.lease,
                JobChange(status="failed", error=body),
                [self.events.error(body), self.events.done("failed", error=error.code)],
                outbox=end_messages(self.job, "failed"),
            )
            self.ended = True
        await self._wakeups.notify_event(self.job.id)

    async def cancel(self) -> None:
        """Commit the end that the client asked for."""
        async with self._writing():
            await self._store.finish(
                self.claim.lease,
                JobChange(status="cancelled"),
                [self.events.done("cancelled")],
                outbox=end_messages(self.job, "cancelled"),
            )
            self.ended = True
        await self._wakeups.notify_event(self.job.id)

    async def release(self) -> None:
        """Give the job back to the queue."""
        async with self._writing():
            await self._store.release(self.claim.lease)
        await self._wakeups.notify_job()

    async def renew(self) -> bool:
        """Extend the lease; return whether a cancel was requested. Raises `LeaseLost`."""
        return await self._store.renew(self.claim.lease)

    async def cancel_requested(self) -> bool:
        """Return whether a cancel was requested, from a read that costs no write."""
        job = await self._store.get(self.job.id)
        return job is not None and job.cancel_requested

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        async with self._turn:
            if self.broken is not None:
                raise self.broken
            try:
                yield
            except (LeaseLost, StorageUnavailable) as exc:
                self.broken = exc
                raise

    def _count(self, change: JobChange, events: Sequence[NewEvent]) -> None:
        chunks = sum(event.chunk_index is not None for event in events)
        if chunks and self.next_chunk_index == 0:
            self._observer.first_transcript(max(0.0, self._clock.time() - self.job.created_at))
        self.next_chunk_index += chunks
        if change.checkpoint is not None:
            samples = max(0, change.checkpoint.next_sample - self._next_sample)
            self._observer.audio_transcribed(samples / SAMPLE_RATE)
            self._next_sample += samples


def end_messages(
    job: JobRecord | NewJob, status: Literal["completed", "preview_complete", "failed", "cancelled"]
) -> list[OutboxRow]:
    """Return what has to leave the service when a job ends with this status: its webhook, if it has one."""
    if job.webhook_url is None:
        return []
    outcome = "completed" if status == "preview_complete" else status
    payload = {
        "url": job.webhook_url,
        "event_type": f"transcription.{outcome}",
        "status": status,
        # How to sign the message must be known without the job, which may be deleted before it is sent.
        "origin": job.origin,
        "mode": "test" if job.mode == "test" else "live",
    }
    return [OutboxRow("webhook", job.id, job.account_id, payload)]
