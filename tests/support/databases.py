"""Databases for tests, migrated once and then copied: SQLite in a folder, PostgreSQL on a server at hand."""

from __future__ import annotations

import asyncio
import functools
import os
import secrets
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from stenobird.storage.engine import open_database, sqlite_url
from stenobird.storage.schema import metadata, open_jobs
from tests.support.postgresql import postgresql_available, running_postgresql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from stenobird.storage.engine import Database

T = TypeVar("T")

NOT_TESTED = "NOT TESTED ON POSTGRESQL: install it, or set STENOBIRD_TEST_POSTGRESQL"


def run_apart(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of its own, in a thread: another loop may be running in this one."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


async def _migrate(url: str) -> None:
    async with open_database(url):
        pass


@functools.cache
def _sqlite_template() -> tempfile.TemporaryDirectory[str]:
    """Return a folder with a migrated database. It is made once a process, and removed at its end."""
    folder = tempfile.TemporaryDirectory(prefix="stenobird-template-")
    run_apart(_migrate(sqlite_url(Path(folder.name))))
    return folder


def migrated_sqlite(folder: Path) -> str:
    """Put a migrated database without rows into a folder that has none; return its URL."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in Path(_sqlite_template().name).iterdir():
        if not (folder / file.name).exists():
            shutil.copyfile(file, folder / file.name)
    return sqlite_url(folder)


@asynccontextmanager
async def sqlite_database(folder: Path) -> AsyncIterator[Database]:
    """Open the database in a folder, a new one if there is none."""
    async with open_database(migrated_sqlite(folder), migrate_first=False) as database:
        yield database


@contextmanager
def postgresql_server_at_hand() -> Iterator[str | None]:
    """Yield the URL of a server: the one STENOBIRD_TEST_POSTGRESQL names, one of our own, or none."""
    named = os.environ.get("STENOBIRD_TEST_POSTGRESQL")
    if named:
        yield named
    elif postgresql_available():
        with running_postgresql() as url:
            yield url
    else:
        yield None


async def _execute(url: str, statement: str) -> None:
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    try:
        async with engine.connect() as connection:
            await connection.execute(text(statement))
    finally:
        await engine.dispose()


@contextmanager
def postgresql_database(server: str, *, migrated: bool) -> Iterator[str]:
    """Make a database on the server, yield its URL, and drop it."""
    name = f"test_{secrets.token_hex(6)}"
    url = f"{server}/{name}"
    run_apart(_execute(f"{server}/postgres", f"CREATE DATABASE {name}"))
    if migrated:
        run_apart(_migrate(url))
    yield url
    run_apart(_execute(f"{server}/postgres", f"DROP DATABASE {name} WITH (FORCE)"))


async def delete_all_rows(url: str) -> None:
    """Empty every table: ten times faster than making another database."""
    tables = [table.name for table in reversed(metadata.sorted_tables) if table is not open_jobs]
    deletions = "; ".join(f"DELETE FROM {name}" for name in tables)
    await _execute(url, f"DO $$ BEGIN {deletions}; UPDATE open_jobs SET jobs = 0; END $$")
