"""Every implementation of `ports.JobStore` and `ports.KeyStore` that the contract runs against."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from stenobird.storage.engine import Database, open_database, sqlite_url
from stenobird.storage.job_store import SqlJobStore
from stenobird.storage.key_store import SqlKeyStore
from stenobird.testing.postgresql import postgresql_available, running_postgresql

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a server: the one that STENOBIRD_TEST_POSTGRESQL names, else one of our own."""
    named = os.environ.get("STENOBIRD_TEST_POSTGRESQL")
    if named:
        yield named
        return
    if not postgresql_available():
        pytest.skip("NOT TESTED ON POSTGRESQL: install it, or set STENOBIRD_TEST_POSTGRESQL")
    with running_postgresql() as url:
        yield url


@pytest.fixture
async def postgresql_url(postgresql_server: str) -> AsyncIterator[str]:
    """The URL of an empty database on the server."""
    name = f"test_{secrets.token_hex(6)}"
    admin = create_async_engine(f"{postgresql_server}/postgres", isolation_level="AUTOCOMMIT")
    try:
        async with admin.connect() as connection:
            await connection.execute(text(f"CREATE DATABASE {name}"))
            yield f"{postgresql_server}/{name}"
            await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        await admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An empty, migrated database of each kind."""
    async with open_database(database_url) as database:
        yield database


@pytest.fixture
def store(database: Database) -> SqlJobStore:
    """The job store under test."""
    return SqlJobStore(database)


@pytest.fixture
def key_store(database: Database) -> SqlKeyStore:
    """The key store under test."""
    return SqlKeyStore(database)
