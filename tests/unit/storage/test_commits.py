"""What becomes of a write when the answer to its COMMIT is lost, or its task is cancelled."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count
from types import NoneType
from typing import TYPE_CHECKING, TypeVar

import pytest
from sqlalchemy import bindparam, func, insert, select, text
from sqlalchemy.exc import IntegrityError

from stenobird.errors import QueueBusy, StorageUnavailable
from stenobird.jobs.events import JobEvents
from stenobird.ports import (
    Claim,
    JobChange,
    NewJob,
    RecognitionOptions,
    SpeechCheckpoint,
    UsageRow,
)
from stenobird.storage.engine import Steps
from stenobird.storage.job_store import JobStore
from stenobird.storage.rows import new_job_values
from stenobird.storage.schema import events, jobs, outbox, usage
from stenobird.transcript import Segment
from tests.support.databases import sqlite_database
from tests.support.faults import FaultyDatabase

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

    from stenobird.ports import JobRecord
    from stenobird.storage.engine import Database

pytestmark = pytest.mark.anyio

_T = TypeVar("_T")

LINKS = JobEvents("tr_1", "https://stenobird.test")
FIRST = LINKS.status("queued", "validating_url")
JOB = NewJob("tr_1", "full", "https://example.com/a.mp3", LINKS.base_url, RecognitionOptions(), "acct_1")
STAGE = select(jobs.c.stage).where(jobs.c.id == bindparam("job"))
INSERT_JOB = insert(jobs)
LOSSES = pytest.mark.parametrize("loss", ["lost before", "lost after"])


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with sqlite_database(tmp_path) as database:
        yield database


async def a_claim(database: Database) -> Claim:
    store = JobStore(database)
    await store.create(JOB, FIRST, max_queued=10)
    claim = await store.claim("worker", lanes=["full"])
    assert claim is not None
    return claim


@LOSSES
async def test_an_append_whose_answer_is_lost_happens_once(database: Database, loss: str) -> None:
    claim = await a_claim(database)
    store = JobStore(FaultyDatabase.over(database, [loss]))
    chunk = LINKS.transcript(Segment(0, 1, "one"), 0, language="en")
    change = JobChange(status="transcribing", checkpoint=SpeechCheckpoint(1, 16_000))
    assert await store.append(claim.lease, change, [chunk]) == 2
    assert [event.seq for event in await store.events_after("tr_1", 0)] == [1, 2]
    point = await store.resume_point("tr_1")
    assert point is not None
    assert point.checkpoint == SpeechCheckpoint(1, 16_000)


@LOSSES
async def test_an_end_whose_answer_is_lost_bills_once(database: Database, loss: str) -> None:
    claim = await a_claim(database)
    store = JobStore(FaultyDatabase.over(database, [loss]))
    await store.finish(
        claim.lease,
        JobChange(status="completed"),
        [LINKS.done("completed", billable_minutes=1)],
        usage=UsageRow("tr_1", "acct_1", 1, 3.0),
        webhook={},
    )
    async with database.read() as connection:
        for table, expected in ((usage, 1), (outbox, 1), (events, 2)):
            assert await connection.scalar(select(func.count()).select_from(table)) == expected


@LOSSES
async def test_a_job_whose_answer_is_lost_is_created_once(database: Database, loss: str) -> None:
    store = JobStore(FaultyDatabase.over(database, [loss]))
    record = await store.create(JOB, FIRST, max_queued=1)
    assert record == await store.get("tr_1")
    assert len(await store.events_after("tr_1", 0)) == 1


@LOSSES
async def test_a_cancel_whose_answer_is_lost_ends_the_job_once(database: Database, loss: str) -> None:
    await JobStore(database).create(JOB, FIRST, max_queued=1)
    store = JobStore(FaultyDatabase.over(database, [loss]))
    record = await store.request_cancel("tr_1", [LINKS.done("cancelled")])
    assert (record.status, record.last_seq) == ("cancelled", 2)
    assert len(await store.events_after("tr_1", 0)) == 2


async def test_a_claim_whose_answer_is_lost_is_still_the_workers(database: Database) -> None:
    await JobStore(database).create(JOB, FIRST, max_queued=1)
    store = JobStore(FaultyDatabase.over(database, ["lost after"]))
    claim = await store.claim("worker", lanes=["full"])
    assert claim is not None
    assert await store.append(claim.lease, JobChange(), [FIRST]) == 2


async def test_a_claim_that_was_lost_leaves_the_job_to_the_next(database: Database) -> None:
    await JobStore(database).create(JOB, FIRST, max_queued=1)
    store = JobStore(FaultyDatabase.over(database, ["lost before"]))
    assert await store.claim("worker", lanes=["full"]) is None
    assert await store.claim("worker", lanes=["full"]) is not None


async def test_a_renewal_between_a_lost_answer_and_its_settling_does_not_hide_the_commit(
    database: Database,
) -> None:
    claim = await a_claim(database)
    plain = JobStore(database)

    class RenewingDatabase(FaultyDatabase):
        async def commit(self, connection: object) -> None:
            lost = bool(self.commits)
            try:
                await super().commit(connection)  # type: ignore[arg-type]
            finally:
                if lost:
                    await connection.close()  # type: ignore[attr-defined]
                    await plain.renew(claim.lease)

    store = JobStore(RenewingDatabase.over(database, ["lost after"]))
    assert await store.append(claim.lease, JobChange(), [FIRST]) == 2
    assert len(await store.events_after("tr_1", 0)) == 2


async def test_a_database_that_stays_down_is_reported_after_three_attempts(database: Database) -> None:
    claim = await a_claim(database)
    # Each try loses its COMMIT; the reading between two tries gets through.
    faulty = FaultyDatabase.over(database, ["lost before", "ok"] * 10)
    store = JobStore(faulty)
    with pytest.raises(StorageUnavailable):
        await store.append(claim.lease, JobChange(), [FIRST])
    assert len(faulty.commits) == 20 - 6
    assert len(await store.events_after("tr_1", 0)) == 1


async def test_a_write_cancelled_at_any_moment_is_whole_or_absent_and_harms_no_other(
    database: Database,
) -> None:
    claim = await a_claim(database)
    store = JobStore(database)
    for turns in range(40):
        task = asyncio.ensure_future(
            store.append(claim.lease, JobChange(stage=f"turn {turns}"), [FIRST, FIRST])
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        record = await store.get("tr_1")
        rows = await store.events_after("tr_1", 0)
        assert record is not None
        assert [row.seq for row in rows] == list(range(1, record.last_seq + 1))
        assert record.last_seq % 2 == 1
    assert await store.append(claim.lease, JobChange(), [FIRST]) > 1


async def test_many_writers_and_readers_at_once_all_get_their_turn(database: Database) -> None:
    store = JobStore(database)

    async def one(number: int) -> str:
        links = JobEvents(f"tr_{number}", LINKS.base_url)
        job = NewJob(links.job_id, "full", "https://e.com/a", links.base_url, RecognitionOptions(), "acct_1")
        await store.create(job, links.status("queued", "validating_url"), max_queued=100)
        found = await store.get(job.id)
        assert found is not None
        return found.id

    assert len(set(await asyncio.gather(*(one(number) for number in range(40))))) == 40


async def test_a_failing_body_leaves_nothing(database: Database) -> None:
    store = JobStore(database)
    bill = {
        "id": "u",
        "job_id": "j",
        "account_id": "a",
        "minutes": 1,
        "audio_seconds": 1.0,
        "created_at": 0.0,
    }

    async def break_off() -> None:
        async with database.write() as connection:
            await connection.execute(usage.insert().values(**bill))
            raise LookupError

    with pytest.raises(LookupError):
        await break_off()
    async with database.read() as connection:
        assert await connection.scalar(select(func.count()).select_from(usage)) == 0
    assert await store.counts() == {}


# --- writes that share a COMMIT -----------------------------------------------------------------------------


class Counting(FaultyDatabase):
    """A faulty database that counts its commits, and holds the first until it is told to go on."""

    def __init__(self, database: Database, commits: Sequence[str] = ()) -> None:
        super().__init__(database.writer, database.reader)
        self.commits = list(commits)
        self.count = 0
        self.held = asyncio.Event()
        self.go_on = asyncio.Event()

    async def commit(self, connection: AsyncConnection) -> None:
        await self._hold()
        await super().commit(connection)

    async def transact(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        await self._hold()
        return await super().transact(work)

    async def _hold(self) -> None:
        self.count += 1
        self.held.set()
        await self.go_on.wait()

    async def create(self, number: int, *, max_queued: int = 100) -> JobRecord:
        """Create the job of this number."""
        job = replace(JOB, id=f"tr_{number}")
        return await JobStore(self).create(job, FIRST, max_queued=max_queued)

    async def ids(self) -> set[str]:
        """Return the ids of the jobs that exist."""
        return set(await JobStore(self).open_job_ids())


async def test_writes_that_wait_for_a_commit_share_the_next_one(database: Database) -> None:
    counting = Counting(database)
    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(counting.create(number)) for number in range(40)]
        await counting.held.wait()
        counting.go_on.set()
    assert await counting.ids() == {task.result().id for task in made} == {f"tr_{n}" for n in range(40)}
    assert counting.count <= 3


async def test_the_next_commit_begins_before_the_callers_of_the_last_one_go_on(database: Database) -> None:
    counting = Counting(database)

    async def commits_begun() -> int:
        await counting.create(0)
        return counting.count

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(commits_begun())
        await counting.held.wait()
        tasks.create_task(counting.create(1))
        counting.go_on.set()
    assert first.result() == 2


async def test_a_refused_write_takes_only_itself_back(database: Database) -> None:
    counting = Counting(database)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(counting.create(0))
        await counting.held.wait()
        bounds = (0, 100, 1, 100, 0)
        made = [
            tasks.create_task(raised(counting.create(number, max_queued=bound)))
            for number, bound in enumerate(bounds, 1)
        ]
        counting.go_on.set()
    refused = [task.result() for task in made]
    assert [type(error) for error in refused] == [QueueBusy, NoneType, QueueBusy, NoneType, QueueBusy]
    assert await counting.ids() == {"tr_0", "tr_2", "tr_4"}
    assert counting.count == 2


async def test_a_write_that_breaks_the_transaction_fails_alone(database: Database) -> None:
    counting = Counting(database)

    async def breaks(connection: AsyncConnection) -> None:
        await connection.execute(text("SELECT no_such_function()"))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(counting.create(0))
        await counting.held.wait()
        made = [tasks.create_task(counting.create(number)) for number in (1, 2)]
        await asyncio.sleep(0)
        broken = tasks.create_task(raised(counting.write_together(breaks)))
        await asyncio.sleep(0)
        made += [tasks.create_task(counting.create(number)) for number in (3, 4)]
        counting.go_on.set()
    assert type(broken.result()) is StorageUnavailable
    assert await counting.ids() == {f"tr_{number}" for number in range(5)}


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_a_cancelled_write_does_not_take_others_with_it(database: Database, cancelled: int) -> None:
    counting = Counting(database)
    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(counting.create(number)) for number in range(4)]
        await counting.held.wait()
        # The first commits at this moment, so that it is unknown whether it has; the others wait.
        made[cancelled].cancel()
        counting.go_on.set()
    left = {f"tr_{number}" for number in range(4) if number != cancelled}
    assert left <= await counting.ids()
    assert {task.result().id for task in made if not task.cancelled()} == left


@LOSSES
async def test_after_a_lost_answer_each_write_of_the_group_happens_once(
    database: Database, loss: str
) -> None:
    counting = Counting(database, ["ok", loss])
    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(counting.create(number)) for number in range(8)]
        await counting.held.wait()
        counting.go_on.set()
    assert await counting.ids() == {task.result().id for task in made} == {f"tr_{n}" for n in range(8)}
    async with database.read() as connection:
        assert await connection.scalar(select(func.count()).select_from(events)) == 8


async def test_a_conflict_fails_alone_in_a_shared_transaction(database: Database) -> None:
    counting = Counting(database)

    def insert_job(number: int) -> Awaitable[object]:
        values = new_job_values(replace(JOB, id=f"tr_{number}"))
        times = {"created_at": 0.0, "updated_at": 0.0}
        return counting.write_steps(Steps(0, [], lambda _: None, [(INSERT_JOB, values | times)]))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(counting.create(0))
        await counting.held.wait()
        made = [tasks.create_task(raised(insert_job(number))) for number in (1, 0, 2, 1)]
        counting.go_on.set()
    errors = [type(task.result()) for task in made]
    assert errors == [NoneType, IntegrityError, NoneType, IntegrityError]
    assert await counting.ids() == {"tr_0", "tr_1", "tr_2"}


async def test_a_read_on_the_loop_sees_the_last_commit_and_a_thread_reads_where_it_fails(
    database: Database,
) -> None:
    store = JobStore(database)
    await store.create(JOB, FIRST, max_queued=9)
    assert await database.find(STAGE, {"job": JOB.id}) == ("validating_url",)
    claim = await store.claim("worker", lanes=["full"])
    assert claim is not None
    await store.append(claim.lease, JobChange(stage="submitted"), [])
    assert await database.find(STAGE, {"job": JOB.id}) == ("submitted",)
    assert await database.find(STAGE, {"job": "tr_none"}) is None
    assert database._near is not None
    database._near.close()
    assert await database.find(STAGE, {"job": JOB.id}) == ("submitted",)


@pytest.mark.parametrize("from_disk", [True, False])
async def test_after_a_slow_read_of_the_disk_on_the_loop_a_thread_reads(
    database: Database, *, from_disk: bool
) -> None:
    await JobStore(database).create(JOB, FIRST, max_queued=9)
    database.slow_read_seconds = -1.0  # any read takes longer
    database.blocks_read = count(step=from_disk).__next__
    assert await database.find(STAGE, {"job": JOB.id}) == ("validating_url",)
    assert database._near is not None
    database._near.close()
    database._near = None
    assert await database.find(STAGE, {"job": JOB.id}) == ("validating_url",)
    assert (database._near is None) is from_disk


async def raised(write: Awaitable[object]) -> Exception | None:
    """Return what a write raises."""
    try:
        await write
    except Exception as exc:  # noqa: BLE001  # the test looks at it
        return exc
    return None
