"""Claims jobs and carries them out, a bounded number at once, until it is told to stop."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from stenobird.jobs.run import JobRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.jobs.run import RunContext
    from stenobird.ports import Lane

RELEASE_SECONDS: Final = 2.0
"""How long the leases of jobs that did not stop may take to be given back."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Bounds of a worker. `poll_seconds` covers for wake-ups that get lost and leases that expire."""

    worker_id: str = "worker"
    max_running: int = 4
    poll_seconds: float = 5.0
    grace_seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class _Place:
    lane: Lane
    job_id: str
    run: JobRun


class Worker:
    """Owns the jobs it runs.

    One place of `max_running` is kept for previews (one is added where there is only one), so that long jobs
    never block them; previews may take the others too. A job that breaks never takes the worker with it.
    """

    def __init__(self, context: RunContext, options: WorkerOptions) -> None:
        self._context = context
        self._options = options
        self._places = max(2, options.max_running)
        self._running: dict[asyncio.Task[None], _Place] = {}
        self._changed = asyncio.Event()
        self._stopping = False

    @property
    def running(self) -> int:
        """How many jobs are being carried out."""
        return len(self._running)

    def stop(self) -> None:
        """Ask `run` to drain and return. May come before `run`; may come twice."""
        self._stopping = True
        self._changed.set()

    async def run(self) -> None:
        """Carry out jobs until `stop`; then claim no more, let commits under way finish, release the rest.

        Returns at most `grace_seconds` after `stop`, plus `RELEASE_SECONDS` and what cancelled tasks need to
        clean up. Cancelling it is as if the process died: leases expire.
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
                await self._context.wakeups.wait_job(self._options.poll_seconds)
            except Exception as exc:  # noqa: BLE001  # without hints the worker polls
                _log.warning("wakeups_failed", exc_info=exc)
                await self._context.clock.sleep(self._options.poll_seconds)
            self._changed.set()

    async def _start_one(self, group: asyncio.TaskGroup) -> bool:
        lanes = self._open_lanes()
        if not lanes:
            return False
        try:
            claim = await self._context.store.claim(self._options.worker_id, lanes=lanes)
        except Exception as exc:  # noqa: BLE001  # a database that is away must not end the worker
            # The next poll tries again.
            _log.error("claim_failed", exc_info=exc)
            return False
        if claim is None:
            return False
        place = _Place(
            lane="full" if claim.job.mode == "full" else "preview",
            job_id=claim.job.id,
            run=JobRun(self._context, claim),
        )
        earlier = [(task, held) for task, held in self._running.items() if held.job_id == place.job_id]
        task = group.create_task(self._carry_out(place, earlier))
        self._running[task] = place
        task.add_done_callback(self._ended)
        return True

    def _open_lanes(self) -> Sequence[Lane]:
        if len(self._running) >= self._places:
            return ()
        full = sum(place.lane == "full" for place in self._running.values())
        return ("preview", "full") if full < self._places - 1 else ("preview",)

    async def _carry_out(self, place: _Place, earlier: Sequence[tuple[asyncio.Task[None], _Place]]) -> None:
        try:
            # A machine that slept for a minute finds its own leases expired. The spool of a job has one
            # writer, so its earlier run has to be gone before the next one begins.
            for task, held in earlier:
                await held.run.abandon()
                await asyncio.wait({task})
            await place.run.carry_out()
        except Exception as exc:  # noqa: BLE001  # a poisoned job must not end the worker
            _log.error("run_broke", job_id=place.job_id, exc_info=exc)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.pop(task, None)
        self._changed.set()

    async def _drain(self) -> None:
        runs = dict(self._running)
        if not runs:
            return
        try:
            async with asyncio.timeout(self._options.grace_seconds):
                for place in runs.values():
                    await place.run.drain()
                await asyncio.wait(runs)
        except TimeoutError:
            left = {task: place for task, place in runs.items() if not task.done()}
            with suppress(TimeoutError):
                # A commit that the database never answers keeps its job's turn: that lease expires.
                async with asyncio.timeout(RELEASE_SECONDS), asyncio.TaskGroup() as releases:
                    for place in left.values():
                        releases.create_task(place.run.release())
            for task in left:
                task.cancel()
