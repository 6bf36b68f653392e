"""Databases of each kind, for every contract that has an implementation on SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.storage.engine import Database, open_database, sqlite_url
from tests.support.databases import (
    NOT_TESTED,
    delete_all_rows,
    migrated_sqlite,
    postgresql_database,
    postgresql_server_at_hand,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

KINDS = ["sqlite", "postgresql"]


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a server: the one that STENOBIRD_TEST_POSTGRESQL names, else one of our own."""
    with postgresql_server_at_hand() as server:
        if server is None:
            pytest.skip(NOT_TESTED)
        yield server


@pytest.fixture(scope="session")
def shared_postgresql_url(postgresql_server: str) -> Iterator[str]:
    """The URL of a migrated database on the server, with the rows of the last test."""
    with postgresql_database(postgresql_server, migrated=True) as url:
        yield url


@pytest.fixture
async def postgresql_url(shared_postgresql_url: str) -> str:
    """The URL of a migrated database on the server, without rows."""
    await delete_all_rows(shared_postgresql_url)
    return shared_postgresql_url


@pytest.fixture
def empty_postgresql_url(postgresql_server: str) -> Iterator[str]:
    """The URL of an empty database on the server."""
    with postgresql_database(postgresql_server, migrated=False) as url:
        yield url


@pytest.fixture(params=KINDS)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a migrated database of each kind, without rows."""
    if request.param == "sqlite":
        return migrated_sqlite(tmp_path)
    url: str = request.getfixturevalue("postgresql_url")
    return url


@pytest.fixture(params=KINDS)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return sqlite_url(tmp_path)
    url: str = request.getfixturevalue("empty_postgresql_url")
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A migrated database of each kind, without rows."""
    async with open_database(database_url, migrate_first=False) as database:
        yield database
