"""Many jobs under random deaths, stolen leases, lost answers and cancels: the log stays whole."""

from __future__ import annotations

import asyncio
import json
import random
from typing import TYPE_CHECKING

import pytest

from stenobird.errors import TranscriptNotFound
from stenobird.jobs.run import JobRun
from stenobird.storage.job_store import JobStore
from stenobird.testing import spoken
from tests.support.faults import DyingStore, FaultyDatabase, Killed

if TYPE_CHECKING:
    from stenobird.ports import Claim
    from tests.support.job_world import JobWorld

pytestmark = pytest.mark.anyio

JOBS = 12
FATES = ["ok"] * 12 + ["lost before", "lost after"]


class Chaos:
    """Runs whatever can be claimed, and lets something go wrong most of the time."""

    def __init__(self, world: JobWorld, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.database = FaultyDatabase.over(world.database, [])
        self.ids: list[str] = []

    async def run(self) -> None:
        for _ in range(JOBS):
            caller = self.random.choice([self.world.payer, None])
            self.ids.append((await self.world.post(caller)).id)
        while (claim := await self.world.store.claim("worker", lanes=["preview", "full"])) is not None:
            await self.attempt(claim)
            # Of those that were not ended, some run out and some are found by the next process.
            if self.random.random() < 0.5:
                await self.world.lose_leases()
            else:
                await self.world.store.expire_leases()

    async def attempt(self, claim: Claim) -> None:
        self.database.commits = [self.random.choice(FATES) for _ in range(30)]
        store = DyingStore(
            JobStore(self.database),
            dies_at=self.random.randrange(16),
            after_commit=self.random.random() < 0.5,
        )
        self.world.recognizer.before_window = self.mischief
        run = JobRun(self.world.context(store), claim)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(run.carry_out())
                if self.random.random() < 0.2:
                    for _ in range(self.random.randrange(60)):
                        await asyncio.sleep(0)
                    await run.drain()
        except BaseExceptionGroup as died:
            _, others = died.split(Killed)
            assert others is None  # anything else is a bug, and is raised with the group
        finally:
            self.world.recognizer.before_window = None

    async def mischief(self, _window: int) -> None:
        dice = self.random.random()
        if dice < 0.04:
            await self.world.lose_leases()
            await self.world.store.claim("thief", lanes=["preview", "full"])
        elif dice < 0.06:
            await self.world.service.cancel_or_delete(self.random.choice(self.ids), self.world.payer)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_each_log_is_whole_and_each_bill_is_right(world: JobWorld, seed: int) -> None:
    world.opener.audio = spoken([*range(1, 9), 0, 0, 0, 0, 0, 0, *range(9, 40)])
    words = [str(number) for number in range(1, 40)]
    chaos = Chaos(world, seed)
    async with asyncio.timeout(180):
        await chaos.run()
    billed = [row["job_id"] for row in await world.rows()]
    ends: dict[str, int] = {}
    for job_id in chaos.ids:
        try:
            job = await world.service.get(job_id, world.payer)
        except TranscriptNotFound:
            # Cancelled by the mischief after it had ended, which deletes it; its bill stays.
            continue
        events = await world.events(job_id)
        ends[job.status] = ends.get(job.status, 0) + 1
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert job.last_seq == len(events)
        assert [event.event for event in events].count("done") == 1
        assert events[-1].event == "done"
        assert json.loads(events[-1].data)["status"] == job.status
        chunks = [json.loads(event.data) for event in events if event.event == "transcript"]
        assert [chunk["chunk_index"] for chunk in chunks] == list(range(len(chunks)))
        text = "".join(chunk["text"] for chunk in chunks).split()
        assert text == words[: len(text)]
        if job.status == "completed":
            assert text == words
        assert billed.count(job_id) == (job.status == "completed")
    assert len(set(billed)) == len(billed)
    assert ends.get("completed", 0) > 0
    assert ends.get("preview_complete", 0) > 0
