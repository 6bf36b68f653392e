"""The databases that the stores of jobs, keys and uploads run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.storage.account_store import AccountStore
from stenobird.storage.job_store import JobStore

if TYPE_CHECKING:
    from stenobird.storage.engine import Database


@pytest.fixture
def store(database: Database) -> JobStore:
    """The job store under test."""
    return JobStore(database)


@pytest.fixture
def key_store(database: Database) -> AccountStore:
    """The store of keys under test."""
    return AccountStore(database)
