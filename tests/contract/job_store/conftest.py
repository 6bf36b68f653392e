"""The implementations of `ports.JobStore` and `ports.KeyStore` that the contract runs against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.storage.job_store import SqlJobStore
from stenobird.storage.key_store import SqlKeyStore

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
