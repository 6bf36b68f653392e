"""The implementations of `ports.JobStore` and `ports.KeyStore` that the contract runs against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.storage.account_store import SqlKeyStore
from stenobird.storage.job_store import SqlJobStore

if TYPE_CHECKING:
    from stenobird.storage.engine import Database


@pytest.fixture
def store(database: Database) -> SqlJobStore:
    """The job store under test."""
    return SqlJobStore(database)


@pytest.fixture
def key_store(database: Database) -> SqlKeyStore:
    """The key store under test."""
    return SqlKeyStore(database)
