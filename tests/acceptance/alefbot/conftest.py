"""A running server of its own for each test, an account, and its keys."""

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
    """The AlefBot dialect over real services, with a worker that the test drives."""
    async with web_world(tmp_path) as world:
        yield world


@pytest.fixture
async def api(world: WebWorld) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key; paths are relative to /api/v1."""
    async with httpx.AsyncClient(base_url=world.root, trust_env=False, timeout=180) as client:
        yield client


@pytest.fixture
async def live(world: WebWorld) -> dict[str, str]:
    """Headers with a live key of a premium account."""
    return await world.key(await world.account())
