"""A loopback world: 127.0.0.1 stands for the public internet, 127.0.0.2 for what nobody may reach."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import pytest

from stenobird.egress.client import EgressClient
from stenobird.egress.policy import EgressPolicy
from tests.support.canary import Canary, open_canary
from tests.support.dns import FakeResolver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def policy() -> EgressPolicy:
    return EgressPolicy([ipaddress.ip_network("127.0.0.1/32")], None)


@pytest.fixture
def resolver() -> FakeResolver:
    return FakeResolver(
        {
            "public.test": [["127.0.0.1"]],
            "other.test": [["127.0.0.1"]],
            "private.test": [["127.0.0.2"]],
        }
    )


@pytest.fixture
async def client(policy: EgressPolicy, resolver: FakeResolver) -> AsyncIterator[EgressClient]:
    async with EgressClient(policy, resolver=resolver) as client:
        yield client


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    """Whatever a test does, nothing may have reached this when it ends."""
    async with open_canary("127.0.0.2") as canary:
        yield canary
        assert await canary.settle() == 0
