"""Stripe as the gateway meets it: the fake, and Stripe's own test mode where a key of it is at hand."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.billing_world import StripeSandbox, open_till

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TEST_KEY = os.environ.get("STRIPE_TEST_SECRET_KEY", "")
# Without a key the second half isn't generated, so that nothing is reported as skipped that nobody can run.
SERVICES = ["fake", *(["stripe"] if TEST_KEY.startswith(("sk_test_", "rk_test_")) else [])]


@pytest.fixture(params=SERVICES)
async def sandbox(request: pytest.FixtureRequest) -> AsyncIterator[StripeSandbox]:
    async with open_till(live_test_key=TEST_KEY if request.param == "stripe" else None) as sandbox:
        yield sandbox
