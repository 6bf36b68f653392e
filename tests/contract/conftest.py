"""Databases of each kind, for every contract that has an implementation on SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.storage.engine import Database, open_database, sqlite_url
from tests.support.databases import (
    NOT_TESTED,
    migrated_sqlite,
    migrated_template,
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
def postgresql_template(postgresql_server: str) -> Iterator[str]:
    """The name of a migrated database on the server: copying it is faster than migrating one."""
    with migrated_template(postgresql_server) as name:
        yield name


@pytest.fixture
async def postgresql_url(postgresql_server: str, postgresql_template: str) -> AsyncIterator[str]:
    """The URL of a migrated database on the server, without rows."""
    async with postgresql_database(postgresql_server, template=postgresql_template) as url:
        yield url


@pytest.fixture
async def empty_postgresql_url(postgresql_server: str) -> AsyncIterator[str]:
    """The URL of an empty database on the server."""
    async with postgresql_database(postgresql_server) as url:
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
