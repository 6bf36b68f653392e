"""Whole jobs on each database: several workers, kills, a cancel, and the same log for every reader."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from stenobird.storage.job_store import JobStore
from stenobird.testing import spoken
from tests.support.faults import DyingStore
from tests.support.job_world import JobWorld

if TYPE_CHECKING:
    from stenobird.storage.engine import Database

pytestmark = pytest.mark.anyio

WORDS = "1 2 3 4 5 6 7 8 9 10 11 12"


@pytest.fixture
def world(database: Database) -> JobWorld:
    """A service on the database, with twelve seconds of audio."""
    world = JobWorld(database, JobStore(database))
    world.opener.audio = spoken(range(1, 13))
    return world


@pytest.mark.parametrize("after_commit", [False, True], ids=["before-commit", "after-commit"])
async def test_a_worker_killed_at_any_commit_loses_and_repeats_nothing(
    world: JobWorld, *, after_commit: bool
) -> None:
    for dies_at in range(9):
        job = await world.post(world.payer)
        try:
            await world.run_next(DyingStore(world.store, dies_at=dies_at, after_commit=after_commit))
        except BaseExceptionGroup:
            await world.lose_leases()
            if not (await world.job(job.id)).terminal:
                await world.run_next()
        _, transcript = await world.service.result(job.id, world.payer)
        assert transcript.text == WORDS
        events = await world.events(job.id)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert [event.event for event in events].count("done") == 1
    assert len(await world.rows()) == 9


async def test_three_workers_share_a_queue_and_each_job_is_done_once(world: JobWorld) -> None:
    jobs = [await world.post(world.payer if number % 2 else None) for number in range(12)]
    workers = [world.worker(worker_id=f"worker {number}", max_running=2) for number in range(3)]

    async def read(job_id: str) -> list[str]:
        pages = [page async for page in world.service.stream(job_id, world.payer)]
        return [event.data for page in pages for event in page]

    async with asyncio.timeout(180), asyncio.TaskGroup() as group:
        for worker in workers:
            group.create_task(worker.run())
        readers = [group.create_task(read(job.id)) for job in jobs for _ in range(2)]
        await asyncio.wait(readers)
        for worker in workers:
            worker.stop()

    for index, job in enumerate(jobs):
        seen = readers[2 * index].result()
        assert seen == readers[2 * index + 1].result()
        texts = [row["text"] for row in map(json.loads, seen) if "chunk_index" in row]
        assert "".join(texts) == WORDS
        assert json.loads(seen[-1])["id"] == job.id
    assert world.recognizer.windows_decoded == 12 * 3
    assert len(await world.rows()) == 6
    assert await world.store.counts() == {"completed": 6, "preview_complete": 6}
