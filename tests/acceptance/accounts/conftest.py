"""A running server of its own for each test, with rate limits on the test's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from stenobird.bootstrap import Overrides
from tests.support.web_world import FrozenMinutes, WebWorld, web_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
def clock() -> FrozenMinutes:
    """The clock of the service, at the first second of a minute."""
    return FrozenMinutes()


@pytest.fixture
async def world(tmp_path: Path, clock: FrozenMinutes) -> AsyncIterator[WebWorld]:
    """The web layer over the real services, with a worker that the test drives."""
    async with web_world(tmp_path, overrides=Overrides(clock=clock)) as world:
        yield world


@pytest.fixture
async def http(world: WebWorld) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    limits = httpx.Limits(max_connections=200)
    async with httpx.AsyncClient(base_url=world.url, trust_env=False, limits=limits, timeout=180) as client:
        yield client


@pytest.fixture
async def secret(world: WebWorld) -> str:
    """A live key of the operator's account."""
    key, _ = await world.keys.create()
    return key


@pytest.fixture
def bearer(secret: str) -> dict[str, str]:
    """Headers with that key."""
    return {"Authorization": f"Bearer {secret}"}
