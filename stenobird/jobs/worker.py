"""Claims jobs and runs them, a bounded number at once, until it is stopped."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog

from stenobird.errors import StorageUnavailable, WorkerTrouble
from stenobird.jobs.run import JobRun

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stenobird.jobs.pipeline import RunContext
    from stenobird.ports import Lane

FIRST_PAUSE_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 60.0
"""How long a worker in trouble claims nothing; each further trouble doubles the pause."""
SWEEP_SECONDS: Final = 30.0
"""How often spools are deleted whose jobs have ended elsewhere."""
RELEASE_SECONDS: Final = 2.0
"""How long releasing the leases of jobs that did not stop in time may take."""

_log = structlog.get_logger(__name__)


class Worker:
    """Owns the jobs it runs.

    One of the `max_running` slots (at least two) is reserved for previews, so that long jobs never block
    them; previews may use the others too. Jobs with live audio have `live_max_running` slots of their own,
    so that hours of it block no recording. That audio is live is known only once it is found: then its job
    moves to their lane, and waits there if it is full. No failure of a job stops the worker. Polling finds
    jobs whose wake-up was lost or whose lease has expired.

    Trouble of this machine (`WorkerTrouble`) makes it pause, so that it does not take jobs that others could
    do. Then it tries one job at a time until one has made progress.
    """

    def __init__(
        self,
        context: RunContext,
        *,
        worker_id: str = "worker",
        max_running: int = 4,
        live_max_running: int = 5,
        poll_seconds: float = 5.0,
        grace_seconds: float = 20.0,
    ) -> None:
        self._context = context
        self._worker_id = worker_id
        self._slots = max(2, max_running)
        self._live_slots = live_max_running
        self._poll_seconds = poll_seconds
        self._grace_seconds = grace_seconds
        self._running: dict[asyncio.Task[None], JobRun] = {}
        self._changed = asyncio.Event()
        self._stopping = False
        self.trouble: str | None = None
        """Why this machine can't work on jobs, `None` while it can."""
        self._cut_off: list[JobRun] = []
        """Runs that have ended without the database; their jobs need not wait for the end of their leases."""
        self._trial: JobRun | None = None
        """The only job claimed since the last pause. What earlier ones still do proves nothing."""
        self._pauses = 0
        self._paused_until = 0.0
        self._swept_at = context.clock.monotonic()

    @property
    def running(self) -> int:
        """How many jobs are running."""
        return len(self._running)

    def stop(self) -> None:
        """Make `run` drain and return. May be called before `run`, and twice."""
        self._stopping = True
        self._changed.set()

    async def run(self) -> None:
        """Run jobs until `stop`; then claim no more, let commits under way finish, release the rest.

        Returns at most `grace_seconds` after `stop`, plus `RELEASE_SECONDS` and what cancelled tasks need to
        clean up. Cancelling it is as if the process died: its leases expire.
        """
        async with asyncio.TaskGroup() as group:
            listener = group.create_task(self._listen())
            try:
                while not self._stopping:
                    self._changed.clear()
                    if not await self._start_one(group):
                        await self._changed.wait()
                await self._drain()
            finally:
                listener.cancel()

    async def _listen(self) -> None:
        while True:
            try:
                await self._context.wakeups.wait_job(self._poll_seconds)
            except Exception as exc:  # noqa: BLE001  # without wake-ups the worker polls
                _log.warning("wakeups_failed", exc_info=exc)
                await self._context.clock.sleep(self._poll_seconds)
            if self._context.clock.monotonic() - self._swept_at >= SWEEP_SECONDS:
                await self._sweep()
            self._changed.set()

    async def _sweep(self) -> None:
        """Delete the spools of jobs that have ended without this worker."""
        self._swept_at = self._context.clock.monotonic()
        opener = self._context.opener

        def running() -> set[str]:
            return {run.job.id for run in self._running.values()}

        try:
            idle = set(await opener.held()) - running()
            # Most often there is none, and an idle service reads nothing.
            for job_id in idle - set(await self._context.store.open_job_ids()) if idle else ():
                if job_id not in running():
                    await opener.discard(job_id)
                    _log.info("spool_swept", job_id=job_id)
        except StorageUnavailable:
            pass
        except Exception as exc:  # noqa: BLE001  # the next sweep tries again
            _log.warning("spools_not_swept", exc_info=exc)

    async def _start_one(self, group: asyncio.TaskGroup) -> bool:
        lanes = self._open_lanes()
        if not lanes:
            return False
        try:
            while self._cut_off:
                await self._cut_off[-1].release_after_outage()
                self._cut_off.pop()
            claim = await self._context.store.claim(self._worker_id, lanes=lanes)
        except StorageUnavailable:
            return False  # the next poll tries again
        except Exception as exc:  # noqa: BLE001  # no error may end the worker
            _log.error("claim_failed", exc_info=exc)
            return False
        if claim is None:
            return False
        run = JobRun(self._context, claim, self._live_room)
        earlier = {task: other for task, other in self._running.items() if other.job.id == run.job.id}
        task = group.create_task(self._carry_out(run, earlier))
        self._running[task] = run
        if self.trouble is not None:
            self._trial = run
        task.add_done_callback(self._ended)
        return True

    def _open_lanes(self) -> Sequence[Lane]:
        if self.trouble is not None:
            if self._trial is not None and self._trial.progressed:
                self._recover()
            elif self._trial is not None or self._context.clock.monotonic() < self._paused_until:
                return ()
        running = [run.lane for run in self._running.values()]
        lanes: list[Lane] = []
        if running.count("live") < self._live_slots:
            lanes.append("live")
        if len(running) - running.count("live") < self._slots:
            lanes.append("preview")
            if running.count("full") < self._slots - 1:
                lanes.append("full")
        return lanes

    def _live_room(self) -> bool:
        """Return whether the live jobs that are running, the newest included, may go on."""
        self._changed.set()  # it has left a place in the other lanes
        return sum(run.lane == "live" for run in self._running.values()) <= self._live_slots

    async def _carry_out(self, run: JobRun, earlier: Mapping[asyncio.Task[None], JobRun]) -> None:
        try:
            # After a minute of sleep a machine finds its own leases expired and claims those jobs again. The
            # spool of a job has one writer, so the earlier run has to be gone before the next one begins.
            for task, other in earlier.items():
                await other.abandon()
                await asyncio.wait({task})
            await run.carry_out()
            if run.cut_off:
                self._cut_off.append(run)
            if run.trouble is not None:
                self._pause(run.trouble)
            elif run is self._trial and run.progressed:
                self._recover()
        except Exception as exc:  # noqa: BLE001  # no failure of a job may stop its worker
            _log.error("job_run_failed", job_id=run.job.id, exc_info=exc)
        finally:
            if run is self._trial:
                self._trial = None

    def _pause(self, trouble: WorkerTrouble) -> None:
        self.trouble = trouble.message
        self._context.observer.worker_troubled(troubled=True)
        now = self._context.clock.monotonic()
        if now < self._paused_until:
            # Another job that ran at the same time; the pause has begun.
            return
        seconds = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(self._pauses, 10))
        self._pauses += 1
        self._paused_until = now + seconds
        _log.error("worker_paused", reason=trouble.message, seconds=seconds)

    def _recover(self) -> None:
        if self.trouble is None:
            return
        _log.info("worker_recovered", earlier_trouble=self.trouble)
        self.trouble, self._trial, self._pauses = None, None, 0
        self._context.observer.worker_troubled(troubled=False)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._changed.set()

    async def _drain(self) -> None:
        runs = dict(self._running)
        if not runs:
            return
        try:
            async with asyncio.timeout(self._grace_seconds):
                for run in runs.values():
                    await run.drain()
                await asyncio.wait(runs)
        except TimeoutError:
            left = {task: run for task, run in runs.items() if not task.done()}
            with suppress(TimeoutError):
                # A job whose commit the database never answers can't be released: its lease expires.
                async with asyncio.timeout(RELEASE_SECONDS), asyncio.TaskGroup() as releases:
                    for run in left.values():
                        releases.create_task(run.release())
            for task in left:
                task.cancel()
