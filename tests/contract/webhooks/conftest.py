"""An empty database of each kind."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from stenobird.storage.engine import Database, open_database, sqlite_url
from stenobird.testing.databases import NOT_TESTED, empty_postgresql_database, postgresql_server_at_hand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    with postgresql_server_at_hand() as server:
        if server is None:
            pytest.skip(NOT_TESTED)
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Database]:
    async with AsyncExitStack() as stack:
        url = sqlite_url(tmp_path)
        if request.param == "postgresql":
            server = request.getfixturevalue("postgresql_server")
            url = await stack.enter_async_context(empty_postgresql_database(server))
        yield await stack.enter_async_context(open_database(url))
