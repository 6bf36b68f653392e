"""The world of jobs on an SQLite database of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.storage.job_store import JobStore
from tests.support.databases import sqlite_database
from tests.support.job_world import JobWorld

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[JobWorld]:
    """A service and its worker; their fakes can be replaced."""
    async with sqlite_database(tmp_path) as database:
        yield JobWorld(database, JobStore(database))
