"""The world of jobs on an SQLite database of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.storage.engine import open_database, sqlite_url
from stenobird.storage.job_store import SqlJobStore
from tests.support.job_world import JobWorld

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[JobWorld]:
    """A service and its worker; what they hear with can be exchanged."""
    async with open_database(sqlite_url(tmp_path)) as database:
        yield JobWorld(database, SqlJobStore(database))
