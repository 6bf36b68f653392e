"""Runs one claimed job under its lease: renews the lease, watches for a cancel, ends in exactly one way.

    the job completes           its last commit wrote `done`
    the job fails               `error` and `done(failed)` in one commit
    the client cancels          the pipeline is stopped, then `done(cancelled)`
    the client stops live audio the pipeline completes the job with what has arrived
    the worker drains           the pipeline is stopped, then the lease released; another worker continues
    its lane is full            the lease is released, and the job waits for a place among live jobs
    this machine is in trouble  the lease is released, and the worker pauses
    the lease is lost           the pipeline is stopped, nothing is written, and the spool is deleted
    the database is down        the pipeline is stopped, nothing can be written: the lease expires
    the process dies            nothing is written: the lease expires, or the next holder of the lock ends it

A stop waits for the commit under way, so no commit is ever interrupted.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING, Literal, TypeAlias

import structlog

from stenobird.errors import LeaseLost, StorageUnavailable, TranscriptionFailed, WorkerTrouble
from stenobird.jobs.leased import LeasedJob
from stenobird.jobs.pipeline import LiveLaneFull, RunContext, TranscriptionPipeline
from stenobird.jobs.sandbox import canned_transcript

if TYPE_CHECKING:
    from collections.abc import Callable

    from stenobird.ports import Claim, Lane, StopRequest, Watch

StopReason: TypeAlias = Literal["cancelled", "drained", "trouble", "lost"]

_log = structlog.get_logger(__name__)


class JobRun:
    """One run of a claimed job."""

    def __init__(
        self, context: RunContext, claim: Claim, live_room: Callable[[], bool] = lambda: True
    ) -> None:
        self.job = claim.job
        self._context = context
        self._leased = LeasedJob(context, claim)
        self._work = TranscriptionPipeline(self._leased, context, live_room)
        self._pipeline: asyncio.Task[None] | None = None
        self._keeping = asyncio.Lock()
        self._stop_reason: StopReason | None = None
        self.trouble: WorkerTrouble | None = None
        """Why this machine could not work on the job."""

    @property
    def lane(self) -> Lane:
        """The lane that the job takes a place in."""
        return self._work.lane

    @property
    def progressed(self) -> bool:
        """Whether this run has shown that its worker works: it has transcribed audio, or ended the job."""
        return self._leased.progressed or self._leased.ended

    async def carry_out(self) -> None:
        """Return when the job has ended in one of the ways above. Cancelling it is as if the process died."""
        job, context = self.job, self._context
        with self._job_id_in_logs():
            _log.info("job_claimed", mode=job.mode, origin=job.origin, attempt=self._leased.claim.attempts)
            async with context.wakeups.watch(job.id) as watch, asyncio.TaskGroup() as group:
                if self._obey(job.stop_request):
                    self._stop_reason = self._stop_reason or "cancelled"
                if self._stop_reason is None:
                    self._pipeline = group.create_task(self._run_pipeline())
                    keeper = group.create_task(self._keep_lease(watch))
                    await asyncio.wait({self._pipeline})
                    async with self._keeping:
                        keeper.cancel()
            await self._settle()

    async def drain(self) -> None:
        """Stop after the commit under way and release the job. `carry_out` returns soon after."""
        await self._stop("drained")

    async def abandon(self) -> None:
        """Stop without writing, since another run holds the lease. `carry_out` returns soon after."""
        await self._stop("lost")

    async def release(self) -> None:
        """Release the job at once, before its pipeline has stopped: without the lease it can't write."""
        with self._job_id_in_logs(), suppress(LeaseLost, StorageUnavailable):
            # Otherwise the job has ended, or its lease will expire.
            await self._leased.release()

    @property
    def cut_off(self) -> bool:
        """Whether the database was away when this run had to write, so that it could not release its job."""
        return isinstance(self._leased.broken, StorageUnavailable)

    async def release_after_outage(self) -> None:
        """Release the job of a run that was `cut_off`. Raises `StorageUnavailable` while that goes on."""
        with self._job_id_in_logs(), suppress(LeaseLost):
            await self._context.store.release(self._leased.claim.lease)

    def _job_id_in_logs(self) -> AbstractContextManager[object]:
        """Add the job's id to every log line of the current task and of those that it starts."""
        return structlog.contextvars.bound_contextvars(job_id=self.job.id)

    async def _stop(self, reason: StopReason) -> None:
        async with self._leased.between_commits:
            if self._leased.ended or self._stop_reason is not None:
                return
            self._stop_reason = reason
            if self._pipeline is not None:
                self._pipeline.cancel()

    async def _run_pipeline(self) -> None:
        leased, most = self._leased, self._context.options.max_attempts
        try:
            if leased.claim.attempts > most:
                await leased.fail(
                    TranscriptionFailed(
                        f"Transcription was given up after {most} attempts without progress. Nothing was "
                        "billed. Try again, or send another file."
                    )
                )
            elif leased.job.mode == "test":
                job = leased.job
                await leased.complete(*canned_transcript(leased.events, job.options, job.extra))
            else:
                await self._work.run()
        except LiveLaneFull:
            self._stop_reason = self._stop_reason or "drained"
        except asyncio.CancelledError as exc:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Not this task but something that it awaited was cancelled, which is a failure.
            await self._fail(RuntimeError(f"an awaited task was cancelled: {exc!r}"))
        except Exception as exc:  # noqa: BLE001  # no failure of a job may stop its worker
            if leased.ended:
                # The client has its transcript; only the cleanup went wrong.
                _log.warning("job_cleanup_failed", exc_info=exc)
            elif leased.broken is None:
                await self._fail(exc)
        if leased.broken is not None:
            self._stop_reason = "lost"

    def _obey(self, request: StopRequest | None) -> bool:
        """Let live audio end here if that was requested; return whether to cancel instead."""
        if request == "stop":
            self._work.stop()
        return request == "cancel"

    async def _fail(self, exc: Exception) -> None:
        """Fail the job, unless this machine is to blame: then it is released."""
        self.trouble = self._work.trouble_behind(exc)
        if self.trouble is not None:
            self._stop_reason = self._stop_reason or "trouble"
            _log.warning("job_troubled", reason=self.trouble.message, exc_info=exc)
            return
        with suppress(LeaseLost, StorageUnavailable):
            # `broken` says so then.
            await self._leased.fail(self._work.error_for(exc))

    async def _keep_lease(self, watch: Watch) -> None:
        clock, every = self._context.clock, self._context.options.renew_seconds
        renewed_at = clock.monotonic()
        while True:
            await watch.wait(max(0.0, renewed_at + every - clock.monotonic()))
            async with self._keeping:
                try:
                    if clock.monotonic() - renewed_at >= every:
                        renewed_at = clock.monotonic()
                        request = await self._context.store.renew(self._leased.claim.lease)
                    else:
                        # Most notifications are for commits of this run: the check costs a read, not a write.
                        request = await self._leased.stop_request()
                except StorageUnavailable:
                    continue
                except LeaseLost:
                    await self._stop("lost")
                    return
            if self._obey(request):
                await self._stop("cancelled")
                return

    async def _settle(self) -> None:
        leased = self._leased
        with suppress(LeaseLost, StorageUnavailable):
            # `broken` says so then.
            if self._stop_reason == "cancelled":
                await leased.cancel()
            elif self._stop_reason == "drained":
                await leased.release()
            elif self._stop_reason == "trouble" and self.trouble is not None:
                await leased.release(trouble=self.trouble.message)
        if leased.broken is not None or self._stop_reason == "lost":
            _log.warning("job_abandoned", reason=(leased.broken or LeaseLost()).message)
        if (
            leased.ended
            or self._stop_reason == "trouble"
            or (self._stop_reason == "lost" and not self.cut_off)
        ):
            # Only this machine would use the spool again: when it resumes a job that it drained, or whose
            # lease it lost together with the database.
            await self._context.opener.discard(self.job.id)
