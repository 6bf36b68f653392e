"""The only writer of a job while its lease lasts: all commits of a run go through here, one at a time."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from stenobird.errors import JobError, LeaseLost, StorageUnavailable
from stenobird.jobs.events import JobEvents
from stenobird.ports import SAMPLE_RATE, JobChange, UsageRow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from stenobird.jobs.pipeline import RunContext
    from stenobird.ports import Claim, JobRecord, JobStatus, NewEvent, NewJob, StopRequest

_log = structlog.get_logger(__name__)


class LeasedJob:
    """A claimed job as its worker writes it, and logs it.

    After a write that failed because the lease or the database is lost, `broken` is that error and every
    later write raises it: nothing more is written, whatever other code made of the error.
    """

    def __init__(self, context: RunContext, claim: Claim) -> None:
        self.claim = claim
        self.job = claim.job
        self.events = JobEvents(claim.job.id, claim.job.base_url)
        self.next_chunk_index = claim.job.next_chunk_index
        self.ended = False
        self.progressed = False
        self.broken: LeaseLost | StorageUnavailable | None = None
        self.between_commits = asyncio.Lock()
        """Its holder holds off the next commit, so that cancelling the run's task never interrupts one."""
        self._store = context.store
        self._wakeups = context.wakeups
        self._clock = context.clock
        self._observer = context.observer
        self.live = claim.source is not None and claim.source.live
        self._next_sample = claim.checkpoint.next_sample if claim.checkpoint is not None else 0
        self._gap_seconds = claim.job.extra.gap_seconds
        self._claimed_at = self._clock.monotonic()

    async def append(self, change: JobChange, events: Sequence[NewEvent]) -> None:
        """Commit a change with its events. Raises `LeaseLost` or `StorageUnavailable`."""
        async with self._writing():
            await self._store.append(self.claim.lease, change, events)
            self._count(change, events)
        await self._wakeups.notify_event(self.job.id)

    async def complete(
        self, change: JobChange, events: Sequence[NewEvent], *, usage: UsageRow | None = None
    ) -> None:
        """Commit a successful end, with its usage and its webhook."""
        await self._finish(change, events, usage=usage)
        _log.info(
            "job_completed",
            status=change.status,
            audio_seconds=change.duration_seconds,
            billable_minutes=change.billable_minutes,
            warning=change.warning,
            seconds=self._seconds(),
        )

    async def fail(self, error: JobError) -> None:
        """Commit a failure: the error, then `done`."""
        body = error.body()
        events = [self.events.error(body), self.events.done("failed", error=error.code)]
        await self._finish(JobChange(status="failed", error=body), events)
        _log.info("job_failed", error=error.code, reason=error.message, seconds=self._seconds())

    @property
    def transcribed_samples(self) -> int:
        """How much audio the commits so far account for, without gaps."""
        return self._next_sample - round(self._gap_seconds * SAMPLE_RATE)

    async def cancel(self) -> None:
        """Commit the end that the client asked for. What was transcribed of live audio is billed."""
        samples = self.transcribed_samples
        billed = self.live and self.job.mode == "full" and samples > 0
        minutes = billable_minutes(samples) if billed else None
        usage = usage_of(self.job, samples) if billed else None
        change = JobChange(status="cancelled", billable_minutes=minutes)
        await self._finish(change, [self.events.done("cancelled", billable_minutes=minutes)], usage=usage)
        _log.info("job_cancelled", seconds=self._seconds())

    async def release(self, *, trouble: str | None = None) -> None:
        """Give the job back to the queue, and say what troubles this worker."""
        async with self._writing():
            await self._store.release(self.claim.lease, trouble=trouble)
        _log.info("job_released", seconds=self._seconds(), trouble=trouble)
        await self._wakeups.notify_job()

    async def stop_request(self) -> StopRequest | None:
        """Return how a client has asked to end the job, from a read that costs no write.

        Raises `LeaseLost` if the job was deleted.
        """
        job = await self._store.get(self.job.id)
        if job is None:
            raise LeaseLost
        return job.stop_request

    async def _finish(
        self, change: JobChange, events: Sequence[NewEvent], *, usage: UsageRow | None = None
    ) -> None:
        assert change.status is not None
        webhook = end_webhook(self.job, change.status)
        async with self._writing():
            await self._store.finish(self.claim.lease, change, events, usage=usage, webhook=webhook)
            self._count(change, events)
            self.ended = True
        await self._wakeups.notify_event(self.job.id)

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        async with self.between_commits:
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
            since_created = max(0.0, self._clock.time() - self.job.created_at)
            self._observer.first_transcript(since_created)
            _log.info("first_words", seconds=self._seconds(), seconds_since_created=round(since_created, 3))
        self.next_chunk_index += chunks
        if change.checkpoint is not None:
            self.progressed = True
            before = self.transcribed_samples
            self._next_sample = max(self._next_sample, change.checkpoint.next_sample)
            self._gap_seconds = change.extra.gap_seconds if change.extra is not None else self._gap_seconds
            self._observer.audio_transcribed((self.transcribed_samples - before) / SAMPLE_RATE)
        if change.source is not None:
            self.live = change.source.live

    def _seconds(self) -> float:
        """Return the time since the job was claimed."""
        return round(self._clock.monotonic() - self._claimed_at, 3)


def billable_minutes(samples: int) -> int:
    """Return the whole minutes of audio, rounded down, at least 1."""
    return max(1, samples // (60 * SAMPLE_RATE))


def usage_of(job: JobRecord, samples: int) -> UsageRow | None:
    """Return what so much audio of the job costs, `None` if it is nobody's."""
    if job.account_id is None:
        return None
    return UsageRow(job.id, job.account_id, job.units(billable_minutes(samples)), samples / SAMPLE_RATE)


def end_webhook(job: JobRecord | NewJob, status: JobStatus) -> dict[str, str] | None:
    """Return the outbox's payload for the end of a job with this status; `None` if it has no webhook."""
    if job.webhook_url is None:
        return None
    outcome = "completed" if status == "preview_complete" else status
    return {
        "url": job.webhook_url,
        "event_type": f"transcription.{outcome}",
        "status": status,
        # How to sign the message must be known without the job, which may be deleted before it is sent.
        "origin": job.origin,
        "mode": "test" if job.mode == "test" else "live",
    }
