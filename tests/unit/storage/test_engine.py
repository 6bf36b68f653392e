"""Opening, migrating and refusing databases; the lock on the data folder."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, text
from sqlalchemy.exc import IntegrityError

from stenobird.errors import ConfigurationError, StorageUnavailable
from stenobird.storage.engine import locked_data_folder, open_database, sqlite_url
from stenobird.storage.schema import webhook_secrets
from stenobird.storage.sqlite import DirectConnection
from tests.support.databases import sqlite_database

if TYPE_CHECKING:
    from pathlib import Path

    from stenobird.storage.engine import Database


pytestmark = pytest.mark.anyio


async def test_sqlite_is_durable_and_lets_readers_read_beside_a_writer(tmp_path: Path) -> None:
    async with open_database(sqlite_url(tmp_path)) as database, database.write() as writer:
        assert await writer.scalar(text("PRAGMA journal_mode")) == "wal"
        assert await writer.scalar(text("PRAGMA synchronous")) == 2
        assert await writer.scalar(text("PRAGMA foreign_keys")) == 1
        async with database.read() as reader:
            assert await reader.scalar(text("SELECT count(*) FROM jobs")) == 0
            with pytest.raises(Exception, match="readonly"):
                await reader.execute(text("DELETE FROM jobs"))


async def test_processes_that_open_a_new_database_together_all_get_it(tmp_path: Path) -> None:
    # A race by nature: before, one round in thirty failed.
    for number in range(30):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with AsyncExitStack() as stack:
            databases = [
                await stack.enter_async_context(open_database(sqlite_url(folder), migrate_first=False))
                for _ in range(4)
            ]
            await asyncio.gather(*(_touch(database) for database in databases))


async def _touch(database: Database) -> None:
    async with database.write(), database.read():
        pass


async def test_a_database_that_can_not_be_opened_is_reported_as_ours(tmp_path: Path) -> None:
    (tmp_path / "stenobird.db").write_bytes(b"This is no database, however it is named. " * 100)
    with pytest.raises(StorageUnavailable, match="no database, or damaged"):
        async with open_database(sqlite_url(tmp_path)):
            pass


async def test_a_full_disk_is_named_as_the_cause(tmp_path: Path) -> None:
    async with sqlite_database(tmp_path) as database:
        with pytest.raises(StorageUnavailable, match="disk of the database is full"):  # noqa: PT012
            async with database.write() as connection:
                await connection.execute(text("PRAGMA max_page_count = 1"))  # it stays at what is there
                await connection.execute(text("CREATE TABLE more AS SELECT zeroblob(100000)"))
        async with database.read() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM jobs")) == 0


async def test_a_database_that_can_not_be_written_is_named_as_the_cause(tmp_path: Path) -> None:
    async with sqlite_database(tmp_path) as database:
        with pytest.raises(StorageUnavailable, match="read-only"):
            async with database.read() as connection:
                await connection.execute(text("DELETE FROM jobs"))


async def test_a_file_that_is_deleted_under_the_service_is_noticed(tmp_path: Path) -> None:
    """SQLite itself goes on, and what it writes is lost when the last descriptor is closed."""
    file, aside = tmp_path / "stenobird.db", tmp_path / "aside.db"
    async with sqlite_database(tmp_path) as database:
        async with database.write() as connection:
            await connection.execute(text("DELETE FROM jobs"))
        file.rename(aside)
        for transaction in (database.read, database.write):
            with pytest.raises(StorageUnavailable, match="deleted or replaced"):
                async with transaction():
                    pass
        shutil.copyfile(aside, file)
        with pytest.raises(StorageUnavailable, match="deleted or replaced"):
            async with database.read():
                pass
        aside.rename(file)
        async with database.read() as connection:
            assert await connection.scalar(text("SELECT count(*) FROM jobs")) == 0


async def test_a_database_in_a_folder_that_is_missing_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="missing"):
        async with open_database(sqlite_url(tmp_path / "missing")):
            pass


@pytest.mark.parametrize(
    "url",
    [
        "nonsense",
        "mysql://u:secret@host/db",
        "sqlite+aiosqlite://",
        "sqlite+aiosqlite:///:memory:",
        "postgresql://h/d",
    ],
)
async def test_a_url_that_can_not_be_used_says_what_to_set_and_no_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        async with open_database(url):
            pass
    assert "secret" not in str(refusal.value)


def test_the_data_folder_has_one_holder_and_the_refusal_names_it(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "data"
    refused = pytest.raises(ConfigurationError, match=f"process {os.getpid()}")
    with locked_data_folder(folder), refused, locked_data_folder(folder):
        pass
    with locked_data_folder(folder):
        pass
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_lock_ends_with_a_killed_process(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from stenobird.storage.engine import locked_data_folder\n"
        "with locked_data_folder(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stdin=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(ConfigurationError, match=f"process {holder.pid}"), locked_data_folder(tmp_path):
            pass
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
        holder.stdin.close()
    with locked_data_folder(tmp_path):
        pass


def test_a_data_folder_that_can_not_be_written_says_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="STENOBIRD_DATA_DIR"), locked_data_folder(tmp_path / "file"):
        pass


async def test_a_database_of_a_newer_version_is_refused_with_a_remedy(tmp_path: Path) -> None:
    async with open_database(sqlite_url(tmp_path)) as database, database.write() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="newer version"):
        async with open_database(sqlite_url(tmp_path)):
            pass


async def test_an_error_of_the_database_does_not_tell_what_was_written(tmp_path: Path) -> None:
    async with open_database(sqlite_url(tmp_path)) as database:
        row = {"account_id": "acct_1", "mode": "live", "secret": "whsec_secret", "created_at": 1.0}
        with pytest.raises(IntegrityError) as refused:
            async with database.write() as connection:
                await connection.execute(insert(webhook_secrets), [row, row])
    assert "whsec_secret" not in str(refused.value)


async def test_a_read_of_one_statement_runs_no_other(tmp_path: Path) -> None:
    async with open_database(sqlite_url(tmp_path)) as database:
        ran: list[str] = []
        async with database.read() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver, DirectConnection)
            await driver.call(lambda raw: raw.set_trace_callback(ran.append))
        for _ in range(2):
            async with database.read(once=True) as connection:
                await connection.execute(text("SELECT 1"))
        async with database.read() as connection:
            await connection.execute(text("SELECT 2"))
            await connection.execute(text("SELECT 3"))
        async with database.read(once=True) as connection:
            await connection.execute(text("SELECT 4"))
        assert ran == ["SELECT 1", "SELECT 1", "BEGIN", "SELECT 2", "SELECT 3", "ROLLBACK", "SELECT 4"]
