"""Carries out one claimed job under its lease: renews it, listens for a cancel, and ends it one way only.

    the job ends by itself      its last commit wrote `done`
    the job fails               `error` and `done(failed)` in one commit
    the client cancels          the hearing is stopped, then `done(cancelled)`
    the worker drains           the hearing is stopped, then the lease is released; another worker goes on
    the lease is lost           the hearing is stopped, nothing is written: another worker owns the job
    the database stays away     the hearing is stopped, nothing can be written: the lease expires
    the process dies            nothing is written: the lease expires, or the next holder of the lock ends it

A stop waits for the commit under way, so none is ever cut in two.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import structlog

from stenobird.errors import LeaseLost, StorageUnavailable, TranscriptionFailed
from stenobird.jobs import sandbox
from stenobird.jobs.leased import LeasedJob, NullObserver
from stenobird.jobs.pipeline import Engines, RunOptions, TranscriptionPipeline

if TYPE_CHECKING:
    from stenobird.jobs.leased import Observer
    from stenobird.ports import Claim, Clock, JobStore, Wakeups, Watch

StopReason: TypeAlias = Literal["cancelled", "drained", "lost"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What all runs of a worker share."""

    store: JobStore
    wakeups: Wakeups
    engines: Engines
    clock: Clock
    options: RunOptions = field(default_factory=RunOptions)
    observer: Observer = field(default_factory=NullObserver)


class JobRun:
    """One claimed job being carried out."""

    def __init__(self, context: RunContext, claim: Claim) -> None:
        self._context = context
        self._leased = LeasedJob(
            context.store, context.wakeups, claim, clock=context.clock, observer=context.observer
        )
        self._hearing: asyncio.Task[None] | None = None
        self._keeping = asyncio.Lock()
        self._stop_reason: StopReason | None = None

    async def carry_out(self) -> None:
        """Return when the job has ended in one of the ways above; cancelled, it is as if the process died."""
        async with self._context.wakeups.watch(self._leased.job.id) as watch, asyncio.TaskGroup() as group:
            if self._stop_reason is None:
                self._hearing = group.create_task(self._hear())
                keeper = group.create_task(self._keep_lease(watch))
                await asyncio.wait({self._hearing})
                async with self._keeping:
                    keeper.cancel()
        await self._settle()

    async def drain(self) -> None:
        """Stop after the commit under way and give the job back. `carry_out` returns soon after."""
        await self._stop("drained")

    async def abandon(self) -> None:
        """Stop without writing: another run holds the lease now. `carry_out` returns soon after."""
        await self._stop("lost")

    async def release(self) -> None:
        """Give the job back at once, though its hearing has not ended yet: it can no longer write."""
        try:
            await self._leased.release()
        except (LeaseLost, StorageUnavailable):
            # It has ended, or its lease will.
            return

    async def _stop(self, reason: StopReason) -> None:
        async with self._leased.between_commits():
            if self._leased.ended or self._stop_reason is not None:
                return
            self._stop_reason = reason
            if self._hearing is not None:
                self._hearing.cancel()

    async def _hear(self) -> None:
        context, leased = self._context, self._leased
        claim = leased.claim
        if claim.job.cancel_requested:
            self._stop_reason = "cancelled"
            return
        hearing = TranscriptionPipeline(leased, context.store, context.engines, context.options)
        try:
            if claim.attempts > context.options.max_attempts:
                await leased.fail(_gave_up(context.options.max_attempts))
            elif claim.job.mode == "test":
                await sandbox.complete_with_canned_transcript(leased)
            else:
                await hearing.run()
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled this task: what it waited for was cancelled under it, which is a failure.
            await self._fail(hearing, RuntimeError(f"cancelled from below: {exc!r}"))
        except Exception as exc:  # noqa: BLE001  # whatever a job does, its worker goes on
            if leased.ended:
                # The client has its transcript; only the cleaning up went wrong.
                _log.warning("job_cleanup_failed", job_id=claim.job.id, exc_info=exc)
            elif leased.broken is None:
                await self._fail(hearing, exc)
        if leased.broken is not None:
            self._stop_reason = "lost"
            _log.warning("job_abandoned", job_id=claim.job.id, reason=leased.broken.code)

    async def _fail(self, hearing: TranscriptionPipeline, exc: Exception) -> None:
        try:
            await self._leased.fail(hearing.error_for(exc))
        except (LeaseLost, StorageUnavailable):
            # `broken` says so.
            return

    async def _keep_lease(self, watch: Watch) -> None:
        clock, every = self._context.clock, self._context.options.renew_seconds
        renewed_at = clock.monotonic()
        while True:
            await watch.wait(max(0.0, renewed_at + every - clock.monotonic()))
            async with self._keeping:
                try:
                    if clock.monotonic() - renewed_at >= every:
                        renewed_at = clock.monotonic()
                        cancelled = await self._leased.renew()
                    else:
                        # Most notifications are this run's own commits: looking costs a read, not a write.
                        cancelled = await self._leased.cancel_requested()
                except StorageUnavailable:
                    _log.warning("lease_not_renewed", job_id=self._leased.job.id)
                    continue
                except LeaseLost:
                    await self._stop("lost")
                    return
            if cancelled:
                await self._stop("cancelled")
                return

    async def _settle(self) -> None:
        leased = self._leased
        try:
            if self._stop_reason == "cancelled":
                await leased.cancel()
            elif self._stop_reason == "drained":
                await leased.release()
        except (LeaseLost, StorageUnavailable) as exc:
            _log.warning("job_abandoned", job_id=leased.job.id, reason=exc.code)
        if leased.ended:
            await self._context.engines.opener.discard(leased.job.id)


def _gave_up(attempts: int) -> TranscriptionFailed:
    return TranscriptionFailed(
        f"Transcription was given up after {attempts} attempts that got nowhere. Nothing was billed. "
        "Try again, or send another file."
    )
