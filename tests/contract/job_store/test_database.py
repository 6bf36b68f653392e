"""What holds of the database itself, whichever it is."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import insert, select, text

from stenobird.jobs.events import JobEvents
from stenobird.ports import JobChange, NewJob, RecognitionOptions, UsageRow
from stenobird.storage import migrations, rows
from stenobird.storage.account_store import AccountStore
from stenobird.storage.engine import NEWEST_REVISION, Database, migrate, open_database
from stenobird.storage.job_store import JobStore
from stenobird.storage.schema import db_now, jobs, metadata, open_jobs, usage

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

pytestmark = pytest.mark.anyio

LINKS = JobEvents("tr_1", "https://stenobird.test")
FIRST = LINKS.status("queued", "validating_url")
JOB = NewJob("tr_1", "full", "https://example.com/a.mp3", LINKS.base_url, RecognitionOptions(), "acct_1")


async def test_the_migrations_make_the_schema_that_the_code_uses(database: Database) -> None:
    def differences(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), metadata)

    async with database.write() as connection:
        assert await connection.run_sync(differences) == []


async def test_processes_that_start_together_migrate_once(empty_database_url: str) -> None:
    async with (
        open_database(empty_database_url, migrate_first=False) as one,
        open_database(empty_database_url, migrate_first=False) as other,
    ):
        await asyncio.gather(migrate(one), migrate(other), migrate(one))
        async with one.read() as connection:
            versions = await connection.execute(text("SELECT version_num FROM alembic_version"))
            assert versions.scalars().all() == [NEWEST_REVISION]


def upgrade_to_the_first(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", "stenobird.storage:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")


async def test_a_migration_adds_up_the_rows_of_earlier_versions(empty_database_url: str) -> None:
    day = 86_400.0
    ledger = [
        # Time, seconds of audio, units, credits, metered minutes.
        (20_000 * day, 30.0, 1, 1, 0),
        (20_001 * day - 0.1, 179.9, 4, 1, None),
        (20_001 * day, 120.0, 2, 0, 2),
    ]
    ended = ["completed", "completed", "failed"]
    async with open_database(empty_database_url, migrate_first=False) as database:
        async with database.write() as connection:
            await connection.run_sync(upgrade_to_the_first)
            for number, (at, seconds, units, credit, metered) in enumerate(ledger):
                await connection.execute(
                    text(
                        "INSERT INTO usage (id, job_id, account_id, minutes, audio_seconds, created_at, "
                        "credit_units, metered_minutes) VALUES (:id, :id, 'acct_1', :units, :seconds, :at, "
                        ":credit, :metered)"
                    ),
                    {
                        "id": f"tr_{number}",
                        "units": units,
                        "seconds": seconds,
                        "at": at,
                        "credit": credit,
                        "metered": metered,
                    },
                )
            for number, status in enumerate([*ended, "queued"]):
                values = rows.new_job_values(replace(JOB, id=f"tr_{number}")) | {"status": status}
                old = {**values, "created_at": 1.0, "updated_at": 1.0}
                old["completed_at"] = None if status == "queued" else 2.0
                await connection.execute(insert(jobs).values(**old))
        await migrate(database)

        assert await JobStore(database).counts() == {**Counter(ended), "queued": 1}
        async with database.read() as connection:
            assert await connection.scalar(select(open_jobs.c.jobs)) == 1
        days = await AccountStore(database).usage_by_day("acct_1", since=0.0, until=1e10)
        assert [
            (one.jobs, one.minutes, one.units, one.credit_units, one.metered_minutes) for one in days
        ] == [
            (2, 1 + 2, 1 + 4, 2, 0 + 3),
            (1, 2, 2, 0, 2),
        ]
        assert days[0].audio_seconds == pytest.approx(209.9)
        claim = await JobStore(database).claim("worker", lanes=["full"])
        assert claim is not None


def test_the_newest_revision_is_the_last_migration() -> None:
    versions = Path(migrations.__file__).parent
    assert ScriptDirectory(str(versions)).get_current_head() == NEWEST_REVISION


async def test_its_clock_is_in_epoch_seconds(database: Database) -> None:
    seconds = text(
        "SELECT CAST(strftime('%s', 'now') AS INTEGER)"
        if database.dialect == "sqlite"
        else "SELECT CAST(floor(extract(epoch FROM clock_timestamp())) AS INTEGER)"
    )
    async with database.read() as connection:
        before = await connection.scalar(seconds)
        now = await connection.scalar(select(db_now()))
        after = await connection.scalar(seconds)
    assert isinstance(now, float)
    assert before <= now < after + 1


class CutDatabase(Database):
    """Ends the session's backend on the server as its next COMMIT goes out, before or after it."""

    moment: str | None = None

    async def commit(self, connection: AsyncConnection) -> None:
        moment, self.moment = self.moment, None
        if moment is None:
            await super().commit(connection)
            return
        if moment == "after":
            await super().commit(connection)
        backend = await connection.scalar(text("SELECT pg_backend_pid()"))
        async with self.reader.connect() as other:
            await other.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": backend})
        await super().commit(connection)
        await connection.scalar(text("SELECT 1"))


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_server_that_cuts_the_connection_at_commit_leaves_each_row_once(
    database: Database, moment: str
) -> None:
    cut = CutDatabase(database.writer, database.reader)
    store = JobStore(cut)
    cut.moment = moment
    await store.create(JOB, FIRST, max_queued=5)
    cut.moment = moment
    claim = await store.claim("worker", lanes=["full"]) or await store.claim("worker", lanes=["full"])
    assert claim is not None
    cut.moment = moment
    assert await store.append(claim.lease, JobChange(status="transcribing"), [FIRST]) == 2
    cut.moment = moment
    done = LINKS.done("completed", billable_minutes=1)
    bill = UsageRow("tr_1", "acct_1", 1, 1.0)
    await store.finish(claim.lease, JobChange(status="completed"), [done], usage=bill)
    assert [event.seq for event in await store.events_after("tr_1", 0)] == [1, 2, 3]
    async with database.read() as connection:
        assert len((await connection.execute(select(usage))).all()) == 1
