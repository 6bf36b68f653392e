"""A whole service inside a command, for as long as the command runs."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from stenobird.bootstrap import open_services
from stenobird.client import AsyncStenobirdClient
from stenobird.serving import SERVER_FILE, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stenobird.config import Settings


@dataclass(frozen=True, slots=True)
class LocalService:
    """Where the service listens, and a key that is valid while it runs."""

    url: str
    api_key: str


@asynccontextmanager
async def local_service(settings: Settings, *, key_name: str) -> AsyncIterator[LocalService]:
    """Run the service on a free loopback port, with a key that is revoked on the way out."""
    # Commands ask for no translation, so its model need not be loaded.
    ours = {"host": "127.0.0.1", "port": 0, "public_url": None, "translation_model": ""}
    settings = settings.model_copy(update=ours)
    async with open_services(settings) as services, serving(services) as url:
        secret, record = await services.keys.create(name=key_name)
        try:
            yield LocalService(url, secret)
        finally:
            await services.keys.revoke(record.id)


def local_client(url: str, *, api_key: str | None) -> AsyncStenobirdClient:
    """Return a client of a service on this machine, which no proxy of the environment is asked for."""
    return AsyncStenobirdClient(url, api_key=api_key, transport=httpx.AsyncHTTPTransport())


def running_service(settings: Settings) -> str | None:
    """Return where the service that owns this data folder listens, if one answers there."""
    try:
        url: str = json.loads((settings.data_dir / SERVER_FILE).read_text())["url"]
        httpx.get(f"{url}/healthz", timeout=2.0, trust_env=False).raise_for_status()
    except (OSError, ValueError, KeyError, httpx.HTTPError):
        return None
    return url
