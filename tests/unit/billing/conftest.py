"""Billing over SQLite and the fake Stripe, for each test anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.billing_world import BillingWorld, billing_world
from tests.support.databases import migrated_sqlite

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def stripe_timeout_seconds() -> float:
    """How long Stripe may take to answer; tests in which it hangs have less."""
    return 60.0


@pytest.fixture
async def world(tmp_path: Path, stripe_timeout_seconds: float) -> AsyncIterator[BillingWorld]:
    database_url = migrated_sqlite(tmp_path)
    async with billing_world(database_url, timeout_seconds=stripe_timeout_seconds) as world:
        yield world
