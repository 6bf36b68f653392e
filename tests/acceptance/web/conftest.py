"""A running server of its own for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.web_world import WebWorld, web_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[WebWorld]:
    """The web layer over the real job service, with a worker that the test drives."""
    async with web_world(tmp_path) as world:
        yield world


@pytest.fixture
async def http(world: WebWorld) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    async with httpx.AsyncClient(base_url=world.url, trust_env=False) as client:
        yield client


@pytest.fixture
async def bearer(world: WebWorld) -> dict[str, str]:
    """Headers with a key of a paying account."""
    secret, _ = await world.keys.create()
    return {"Authorization": f"Bearer {secret}"}
