"""The web layer with a worker that the test drives, and the OpenAI SDK with its base URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import openai
import pytest

from tests.support.web_world import WebWorld, web_settings, web_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[WebWorld]:
    """The real services, with a worker that the test drives. Jobs are cancelled when their client leaves."""
    async with web_world(tmp_path, web_settings(openai_retry_seconds=0, speaker_model="auto")) as world:
        yield world


@pytest.fixture
async def api_key(world: WebWorld) -> str:
    """A key of a paying account."""
    secret, _ = await world.keys.create()
    return secret


@pytest.fixture
async def sdk(world: WebWorld, api_key: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """The SDK, unchanged except for its base URL."""
    async with openai.AsyncOpenAI(api_key=api_key, base_url=f"{world.url}/v1", max_retries=0) as client:
        yield client


@pytest.fixture
async def http(world: WebWorld, api_key: str) -> AsyncIterator[httpx.AsyncClient]:
    """A plain client with the key."""
    headers = {"Authorization": f"Bearer {api_key}"}
    async with httpx.AsyncClient(base_url=world.url, headers=headers, trust_env=False) as client:
        yield client
