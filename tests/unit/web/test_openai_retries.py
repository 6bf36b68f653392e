"""Equal requests share a job, and the last one to leave it early cancels it after the grace period."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from stenobird.web.openai.requests import Retries, SharedJob

if TYPE_CHECKING:
    from stenobird.ports import JobRecord

pytestmark = pytest.mark.anyio


class World:
    """Numbers the jobs, and records which ones are cancelled."""

    def __init__(self) -> None:
        self.retries = Retries()
        self.stopping = asyncio.Event()
        self.made = 0
        self.cancelled: list[str] = []
        self.useless: set[str] = set()

    async def join(
        self, request: bytes = b"one", *, grace_seconds: float = 60
    ) -> tuple[SharedJob, AsyncExitStack]:
        leave = AsyncExitStack()
        held = await leave.enter_async_context(
            self.retries.joined(
                request,
                usable=self._usable,
                create=self._create,
                cancel=self._cancel,
                stopping=self.stopping,
                grace_seconds=grace_seconds,
            )
        )
        return held, leave

    async def _create(self) -> JobRecord:
        await asyncio.sleep(0)
        self.made += 1
        return cast("JobRecord", SimpleNamespace(id=f"tr_{self.made}"))

    async def _usable(self, job: JobRecord) -> bool:
        return job.id not in self.useless

    async def _cancel(self, job: JobRecord) -> None:
        self.cancelled.append(job.id)


async def test_a_job_that_nobody_joins_is_cancelled() -> None:
    world = World()
    _, leave = await world.join(grace_seconds=0)
    await leave.aclose()
    assert world.cancelled == ["tr_1"]
    held, _ = await world.join()
    assert held.job.id == "tr_2"


async def test_a_retry_within_the_grace_period_joins_the_job() -> None:
    world = World()
    _, leave = await world.join()
    leaving = asyncio.create_task(leave.aclose())
    await asyncio.sleep(0)
    held, leave_again = await world.join()
    await leaving
    assert (held.job.id, world.made, world.cancelled) == ("tr_1", 1, [])
    held.ended = True
    await leave_again.aclose()
    assert world.cancelled == []
    assert (await world.join())[0].job.id == "tr_2"


async def test_a_retry_that_leaves_again_starts_a_grace_period_of_its_own() -> None:
    world = World()
    _, leave = await world.join()
    leaving = asyncio.create_task(leave.aclose())
    await asyncio.sleep(0)
    _, leave_again = await world.join()
    leaving_again = asyncio.create_task(leave_again.aclose())
    await leaving
    assert world.cancelled == []
    world.stopping.set()
    await leaving_again
    assert world.cancelled == ["tr_1"]


async def test_a_job_goes_on_while_another_request_reads_it() -> None:
    world = World()
    (first, leave), (second, leave_second) = await asyncio.gather(world.join(), world.join())
    assert first is second
    assert world.made == 1
    await leave.aclose()
    assert world.cancelled == []
    second.ended = True
    await leave_second.aclose()
    assert world.cancelled == []


async def test_other_requests_and_useless_jobs_are_not_shared() -> None:
    world = World()
    await world.join(b"one")
    assert (await world.join(b"two"))[0].job.id == "tr_2"
    world.useless.add("tr_1")
    assert (await world.join(b"one"))[0].job.id == "tr_3"


async def test_a_shutdown_cancels_at_once() -> None:
    world = World()
    _, leave = await world.join()
    world.stopping.set()
    await leave.aclose()
    assert world.cancelled == ["tr_1"]


async def test_a_cancelled_request_still_cancels_its_job() -> None:
    world = World()
    _, leave = await world.join()
    leaving = asyncio.create_task(leave.aclose())
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert world.cancelled == ["tr_1"]
