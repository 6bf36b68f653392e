"""The worker: how many jobs it runs, which, and how it stops."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

from stenobird.errors import StorageUnavailable, WorkerTrouble
from stenobird.jobs.worker import RELEASE_SECONDS, SWEEP_SECONDS
from stenobird.ports import Wakeups
from stenobird.testing import FakeClock
from tests.support.faults import DyingStore
from tests.support.until import async_until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from stenobird.jobs.worker import Worker
    from stenobird.ports import JobChange, JobRecord, Lease, NewEvent
    from stenobird.storage.job_store import JobStore
    from tests.support.job_world import JobWorld

pytestmark = pytest.mark.anyio


async def ended(world: JobWorld, job_id: str) -> JobRecord:
    """Return the job once its `done` has come, as a client would wait for it."""
    async for _ in world.service.stream(job_id, world.payer):
        pass
    return await world.job(job_id)


class Held:
    """Holds every job at its first window; says how many are held."""

    def __init__(self) -> None:
        self.held = 0
        self.go_on = asyncio.Event()
        self._changed = asyncio.Condition()

    async def __call__(self, _window: int) -> None:
        async with self._changed:
            self.held += 1
            self._changed.notify_all()
        await self.go_on.wait()

    async def until(self, number: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self.held >= number)


async def serving(worker: Worker, body: Callable[[], Awaitable[None]]) -> None:
    """Run the body beside the worker, then stop it and wait for its end."""
    async with asyncio.TaskGroup() as group:
        running = group.create_task(worker.run())
        try:
            await body()
        finally:
            worker.stop()
        await running


async def test_jobs_posted_before_and_after_the_start_are_carried_out(world: JobWorld) -> None:
    before = await world.post(world.payer)

    async def body() -> None:
        assert (await ended(world, before.id)).status == "completed"
        after = await world.post(world.payer)
        assert (await ended(world, after.id)).status == "completed"

    await serving(world.worker(poll_seconds=60), body)


async def test_long_jobs_never_take_the_place_kept_for_previews(world: JobWorld) -> None:
    held = Held()
    world.recognizer.before_window = held
    for _ in range(5):
        await world.post(world.payer)
    worker = world.worker(max_running=3)

    async def body() -> None:
        await held.until(2)
        preview = await world.post()
        await held.until(3)
        assert worker.running == 3
        assert (await world.store.counts()) == {"transcribing": 3, "queued": 3}
        assert (await world.job(preview.id)).status == "transcribing"
        held.go_on.set()

    await serving(worker, body)


async def test_one_place_still_leaves_one_beside_it_for_previews(world: JobWorld) -> None:
    held = Held()
    world.recognizer.before_window = held
    await world.post(world.payer)
    await world.post(world.payer)

    async def body() -> None:
        await held.until(1)
        preview = await world.post()
        await held.until(2)
        assert (await world.job(preview.id)).status == "transcribing"
        held.go_on.set()

    await serving(world.worker(max_running=1), body)


async def test_stop_requested_before_run_loop_starts_is_not_lost(world: JobWorld) -> None:
    job = await world.post(world.payer)
    worker = world.worker(poll_seconds=60)
    worker.stop()
    await worker.run()
    assert (await world.job(job.id)).status == "queued"


async def test_stop_drains_and_another_worker_continues(world: JobWorld) -> None:
    held = Held()

    async def hold_third(window: int) -> None:
        if window == 2:
            await held(window)

    world.recognizer.before_window = hold_third
    job = await world.post(world.payer)
    waiting = await world.post(world.payer)
    await serving(world.worker(max_running=2), lambda: held.until(1))
    record = await world.job(job.id)
    assert (record.status, record.next_chunk_index) == ("transcribing", 10)
    assert (await world.job(waiting.id)).status == "queued"
    world.recognizer.before_window = None

    async def body() -> None:
        assert (await ended(world, job.id)).status == "completed"
        assert (await ended(world, waiting.id)).status == "completed"

    await serving(world.worker(), body)
    _, transcript = await world.service.result(job.id, world.payer)
    assert transcript.text == " ".join(str(n) for n in range(1, 41))


async def test_a_job_that_will_not_stop_is_released_when_the_grace_is_over(world: JobWorld) -> None:
    stuck, let_go = asyncio.Event(), asyncio.Event()

    async def ignore_cancel(_window: int) -> None:
        stuck.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await let_go.wait()
            raise

    world.recognizer.before_window = ignore_cancel
    job = await world.post(world.payer)
    worker = world.worker(grace_seconds=0.05)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(worker.run())
        await stuck.wait()
        worker.stop()
        # The job can be claimed again while the old run still cleans up.
        while (claim := await world.store.claim("next", lanes=["full"])) is None:
            await world.wakeups.wait_job(0.05)
        let_go.set()
        await running
    assert claim.job.id == job.id
    assert claim.attempts == 1


class HangingStore(DyingStore):
    """A store whose database takes a write and never answers."""

    def __init__(self, store: JobStore) -> None:
        super().__init__(store, dies_at=-1, after_commit=False)
        self.hangs = asyncio.Event()

    async def append(self, lease: Lease, change: JobChange, events: Sequence[NewEvent]) -> int:
        self.hangs.set()
        await asyncio.Event().wait()
        raise AssertionError


async def test_a_database_that_never_answers_does_not_hold_up_the_end(world: JobWorld) -> None:
    await world.post(world.payer)
    store = HangingStore(world.store)
    worker = world.worker(cast("JobStore", store), grace_seconds=0.05)
    async with asyncio.timeout(10 * RELEASE_SECONDS), asyncio.TaskGroup() as group:
        running = group.create_task(worker.run())
        await store.hangs.wait()
        worker.stop()
        await running
    assert worker.running == 0


async def test_a_worker_that_finds_its_own_lease_expired_ends_the_old_run_before_the_new(
    world: JobWorld,
) -> None:
    held = Held()

    async def hold_the_first_time(window: int) -> None:
        if window == 2 and held.held == 0:
            await held(window)

    world.recognizer.before_window = hold_the_first_time
    job = await world.post(world.payer)

    async def body() -> None:
        await held.until(1)
        await world.lose_leases()
        await world.wakeups.notify_job()
        assert (await ended(world, job.id)).status == "completed"

    await serving(world.worker(poll_seconds=60), body)
    assert len(world.opener.requests) == 2
    _, transcript = await world.service.result(job.id, world.payer)
    assert transcript.text == " ".join(str(n) for n in range(1, 41))


async def test_a_poisoned_job_does_not_take_the_worker_with_it(world: JobWorld) -> None:
    class PoisonedStore(DyingStore):
        async def _or_die(self, write: Any) -> Any:
            self.writes += 1
            if self.writes == 1:
                raise ValueError("not even an error of ours")
            return await write()

        async def finish(self, *args: Any, **kwargs: Any) -> None:
            if self.writes == 1:
                self.writes += 1
                raise ValueError("nor can it be failed")
            await super().finish(*args, **kwargs)

    poisoned = await world.post(world.payer)
    store = PoisonedStore(world.store, dies_at=-1, after_commit=False)

    async def body() -> None:
        healthy = await world.post(world.payer)
        assert (await ended(world, healthy.id)).status == "completed"

    await serving(world.worker(store, max_running=2, poll_seconds=0.05), body)
    assert not (await world.job(poisoned.id)).terminal


async def test_a_job_that_lost_the_database_goes_on_when_it_is_back(world: JobWorld) -> None:
    class AwayStore(DyingStore):
        away = 2

        async def append(self, *args: Any, **kwargs: Any) -> Any:
            if self.away:
                self.away -= 1
                raise StorageUnavailable
            return await self._store.append(*args, **kwargs)

        async def release(self, *args: Any, **kwargs: Any) -> None:
            if self.away:
                self.away -= 1
                raise StorageUnavailable
            await self._store.release(*args, **kwargs)

    job = await world.post(world.payer)

    async def body() -> None:
        # Its lease would last a minute.
        assert (await ended(world, job.id)).status == "completed"

    store = AwayStore(world.store, dies_at=-1, after_commit=False)
    await serving(world.worker(store, poll_seconds=0.05), body)
    assert store.away == 0


async def test_a_database_that_is_away_for_a_while_does_not_end_the_worker(world: JobWorld) -> None:
    class AwayStore(DyingStore):
        away = 2

        async def claim(self, *args: Any, **kwargs: Any) -> Any:
            if self.away:
                self.away -= 1
                raise StorageUnavailable
            return await self._store.claim(*args, **kwargs)

    job = await world.post(world.payer)

    async def body() -> None:
        assert (await ended(world, job.id)).status == "completed"

    store = AwayStore(world.store, dies_at=-1, after_commit=False)
    await serving(world.worker(store, poll_seconds=0.1), body)


async def test_a_worker_whose_wakeups_fail_polls(world: JobWorld) -> None:
    class BrokenWakeups(type(world.wakeups)):  # type: ignore[misc]
        async def wait_job(self, timeout_seconds: float) -> None:
            raise ConnectionError("no bus")

    world.wakeups = BrokenWakeups()

    async def body() -> None:
        job = await world.post(world.payer)
        assert (await ended(world, job.id)).status == "completed"

    await serving(world.worker(poll_seconds=0.1), body)


class Polls(Wakeups):
    """Counts how often a worker has looked for work."""

    polls = 0

    async def wait_job(self, timeout_seconds: float) -> None:
        await super().wait_job(timeout_seconds)
        self.polls += 1


async def test_a_worker_in_trouble_pauses_says_why_and_recovers_by_itself(world: JobWorld) -> None:
    trouble: WorkerTrouble | None = WorkerTrouble("The disk is full.")
    polls = Polls()
    world.clock, world.wakeups = FakeClock(), polls
    world.opener.open_error = lambda _: trouble
    posted = [await world.post(world.payer) for _ in range(6)]
    worker = world.worker(max_running=3, poll_seconds=0.005)

    async def all_ended() -> bool:
        return not await world.store.open_job_ids()

    def tried_again(times: int) -> bool:
        return len(world.opener.requests) == times and worker.running == 0

    async def polled(times: int) -> None:
        seen = polls.polls
        await async_until(lambda: polls.polls >= seen + times)

    async def body() -> None:
        nonlocal trouble
        await async_until(lambda: worker.trouble)
        assert worker.trouble == "The disk is full."
        await async_until(lambda: worker.running == 0)
        tried = len(world.opener.requests)
        assert tried <= 2
        await polled(10)
        assert len(world.opener.requests) == tried

        for number, pause in enumerate((1, 2, 4), start=tried + 1):
            await world.end_waiting()
            world.clock.advance(pause)
            await async_until(partial(tried_again, number))
            await polled(10)
            assert len(world.opener.requests) == number

        trouble = None
        await world.end_waiting()
        world.clock.advance(60)
        await async_until(all_ended)
        assert worker.trouble is None

    await serving(worker, body)
    assert {(await world.job(job.id)).status for job in posted} == {"completed"}


async def test_a_job_that_goes_on_during_trouble_does_not_end_the_pause(world: JobWorld) -> None:
    polls, go_on, under_way = Polls(), asyncio.Event(), asyncio.Event()
    world.clock, world.wakeups = FakeClock(), polls

    async def hold(window: int) -> None:
        if window == 2:
            under_way.set()
            await go_on.wait()

    world.recognizer.before_window = hold
    going_on = await world.post(world.payer)
    worker = world.worker(max_running=4, poll_seconds=0.005)

    async def body() -> None:
        await under_way.wait()
        world.opener.open_error = lambda _: WorkerTrouble("The disk is full.")
        for _ in range(3):
            await world.post(world.payer)
        await async_until(lambda: worker.trouble and worker.running == 1)
        tried, seen = len(world.opener.requests), polls.polls
        await world.end_waiting()
        await async_until(lambda: polls.polls >= seen + 10)
        assert len(world.opener.requests) == tried
        go_on.set()
        await async_until(lambda: worker.running == 0)
        assert worker.trouble == "The disk is full."

    await serving(worker, body)
    assert (await world.job(going_on.id)).status == "completed"


async def test_spools_of_jobs_that_ended_elsewhere_are_swept(world: JobWorld) -> None:
    world.clock, held = FakeClock(), Held()
    world.recognizer.before_window = held
    running = await world.post(world.payer)
    world.opener.spools.add("tr_ended_elsewhere")

    async def body() -> None:
        await held.until(1)
        world.clock.advance(SWEEP_SECONDS)
        await async_until(lambda: world.opener.spools == {running.id})
        held.go_on.set()

    await serving(world.worker(poll_seconds=0.005), body)
