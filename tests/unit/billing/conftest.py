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
async def world(tmp_path: Path) -> AsyncIterator[BillingWorld]:
    async with billing_world(migrated_sqlite(tmp_path), timeout_seconds=0.3) as world:
        yield world
