"""A PostgreSQL that does not answer: how long callers wait, what they get, and what is there afterwards."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from sqlalchemy import select, text

from stenobird.errors import StorageUnavailable
from stenobird.jobs.events import JobEvents
from stenobird.ports import NewJob, RecognitionOptions
from stenobird.storage.engine import (
    ANSWER_SECONDS,
    HURRIED_SECONDS,
    CommitUnknown,
    Database,
    open_database,
)
from stenobird.storage.job_store import JobStore
from stenobird.storage.schema import jobs
from tests.support.free_port import free_port
from tests.support.processes import frozen
from tests.support.server_process import ServerProcess
from tests.support.until import async_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncConnection

pytestmark = pytest.mark.anyio

BOUND_SECONDS = 60.0
"""Far less than a connection would wait for an answer; the service's own constants say how long it waits."""

LINKS = JobEvents("tr_1", "https://stenobird.test")
FIRST = LINKS.status("queued", "validating_url")
JOB = NewJob("tr_1", "full", "https://example.com/a.mp3", LINKS.base_url, RecognitionOptions(), "acct_1")


@pytest.fixture
async def database(postgresql_url: str) -> AsyncIterator[Database]:
    async with open_database(postgresql_url, migrate_first=False) as database:
        yield database


async def server_process(database: Database) -> int:
    """Return the process id of the server, which must run on this machine."""
    async with database.read() as connection:
        backend = await connection.scalar(text("SELECT pg_backend_pid()"))
    return parent_of(backend)


def parent_of(backend: int) -> int:
    """Return the process id of this process's parent."""
    try:
        return int(Path(f"/proc/{backend}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        pytest.skip("the server of STENOBIRD_TEST_POSTGRESQL runs elsewhere")


async def until_answered(database: Database) -> None:
    """Return when the server answers in time, which is short soon after it did not: see `HURRIED_SECONDS`."""

    async def answers() -> bool:
        with suppress(StorageUnavailable):
            async with database.read() as connection:
                return await connection.scalar(text("SELECT true")) is True
        return False

    await async_until(answers)


def test_a_request_is_refused_within_five_seconds() -> None:
    assert ANSWER_SECONDS + 2 * HURRIED_SECONDS < 5.0  # three attempts at one write


async def test_readers_and_writers_are_refused_in_time_and_served_again_afterwards(
    database: Database,
) -> None:
    store = JobStore(database)
    await store.counts()
    with frozen(await server_process(database)):
        async with asyncio.timeout(BOUND_SECONDS):
            # More than the pool has connections, and all but one of them have to be opened.
            outcomes = await asyncio.gather(
                *(store.counts() for _ in range(40)),
                store.create(JOB, FIRST, max_queued=10),
                return_exceptions=True,
            )
        assert {type(one) for one in outcomes} <= set(StorageUnavailable.__subclasses__()) | {
            StorageUnavailable
        }, outcomes
        # From then on nobody waits long, so that readiness, which gives up after 2 s, has a reason.
        async with asyncio.timeout(BOUND_SECONDS):
            with pytest.raises(StorageUnavailable, match="database"):
                await store.counts()
    async with asyncio.timeout(BOUND_SECONDS):
        await until_answered(database)
        record = await store.create(JOB, FIRST, max_queued=10)
        assert record.id == JOB.id
        assert await store.counts() == {"queued": 1}


async def test_a_server_that_freezes_between_two_statements_ends_the_transaction(database: Database) -> None:
    server = await server_process(database)
    with ExitStack() as freezing:
        async with asyncio.timeout(BOUND_SECONDS):
            with pytest.raises(StorageUnavailable):  # noqa: PT012  # it freezes inside
                async with database.write() as connection:
                    await connection.execute(select(jobs.c.id))
                    freezing.enter_context(frozen(server))
                    await connection.execute(select(jobs.c.id))
    await until_answered(database)
    async with database.write() as connection:
        await connection.execute(select(jobs.c.id))


async def test_a_process_that_stands_still_in_a_transaction_keeps_no_job_locked(
    database: Database, postgresql_url: str
) -> None:
    store = JobStore(database)
    await store.create(JOB, FIRST, max_queued=10)
    async with (
        open_database(postgresql_url, migrate_first=False) as other,
        other.writer.connect() as still,
    ):
        await still.execute(select(jobs.c.id).with_for_update())
        driver = (await still.get_raw_connection()).driver_connection
        assert driver is not None
        await driver.prepare("SELECT 1")  # and it never runs
        assert await store.claim("worker", lanes=["full"]) is None
        database.stuck_seconds = 0.0
        # The server ends a transaction some time after it was told to.
        await async_until(lambda: store.claim("worker", lanes=["full"]))
        await still.invalidate()


async def test_a_commit_that_is_not_answered_is_reported_as_unknown(database: Database) -> None:
    server = await server_process(database)

    class FreezingDatabase(Database):
        async def commit(self, connection: AsyncConnection) -> None:
            with frozen(server):
                await super().commit(connection)

    freezing = FreezingDatabase(database.writer, database.reader)
    async with asyncio.timeout(BOUND_SECONDS):
        with pytest.raises(CommitUnknown) as unknown:
            async with freezing.write() as connection:
                await connection.execute(select(jobs.c.id))
    assert "may have been made" in unknown.value.message
    assert "COMMIT" not in unknown.value.message


async def test_a_served_process_says_that_it_is_not_ready_and_recovers_by_itself(
    database: Database, postgresql_url: str, tmp_path: Path
) -> None:
    audio = {"audio_url": f"http://127.0.0.1:{free_port()}/unreachable.mp3"}
    with ServerProcess(tmp_path, {"DATABASE_URL": postgresql_url}) as server:
        async with httpx.AsyncClient(base_url=server.url, timeout=BOUND_SECONDS) as http:

            async def probe() -> bool:
                return (await http.get("/readyz")).status_code == 200

            with frozen(await server_process(database)):
                ready, created = await asyncio.gather(
                    http.get("/readyz"), http.post("/v1/transcripts", json=audio)
                )
                # A poll of each loop meets it as well.
                again = [await http.get("/readyz") for _ in range(3)]
            assert [answer.status_code for answer in (ready, created, *again)] == [503] * 5
            assert created.json()["error"] == "storage_unavailable"
            await async_until(probe)
            job = (await http.post("/v1/transcripts", json=audio)).json()

            async def ended() -> bool:
                return bool((await http.get(job["status_url"])).json()["terminal"])

            await async_until(ended)
        log = server.log()
    assert log.count('"event": "database_unavailable"') == 1
    assert "Traceback" not in log


async def test_a_process_that_starts_during_an_outage_waits_for_the_database(
    database: Database, postgresql_url: str, tmp_path: Path
) -> None:
    server = ServerProcess(tmp_path, {"DATABASE_URL": postgresql_url}, ("serve", "--no-worker"))
    with frozen(await server_process(database)):
        server.start(wait=False)
        await async_until(lambda: "waiting_for_database" in server.log())
    server.wait_ready()
    server.kill()


async def test_a_database_that_is_missing_is_named_as_the_cause(postgresql_url: str) -> None:
    with pytest.raises(StorageUnavailable, match="does not exist"):
        async with open_database(f"{postgresql_url}_missing"):
            pass
