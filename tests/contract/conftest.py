"""Empty databases of each kind, for every contract that has an implementation on SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.storage.engine import Database, open_database, sqlite_url
from tests.support.databases import NOT_TESTED, empty_postgresql_database, postgresql_server_at_hand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a server: the one that STENOBIRD_TEST_POSTGRESQL names, else one of our own."""
    with postgresql_server_at_hand() as server:
        if server is None:
            pytest.skip(NOT_TESTED)
        yield server


@pytest.fixture
async def postgresql_url(postgresql_server: str) -> AsyncIterator[str]:
    """The URL of an empty database on the server."""
    async with empty_postgresql_database(postgresql_server) as url:
        yield url


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
