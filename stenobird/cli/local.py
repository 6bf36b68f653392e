"""What commands share: this machine's storage, and a service inside the command."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import httpx

from stenobird.bootstrap import open_services, open_storage
from stenobird.client import AsyncStenobirdClient
from stenobird.config import Settings
from stenobird.serving import SERVER_FILE, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from stenobird.accounts.keys import KeyService
    from stenobird.bootstrap import Storage

T = TypeVar("T")


def with_storage(work: Callable[[Storage], Awaitable[T]]) -> T:
    """Return the result of `work`, run with the storage that the settings select."""

    async def run() -> T:
        async with open_storage(Settings()) as storage:
            return await work(storage)

    return asyncio.run(run())


@asynccontextmanager
async def local_service(settings: Settings, *, key_name: str) -> AsyncIterator[tuple[str, str]]:
    """Run a service on a free loopback port; yield its URL, and a key that is revoked at the end."""
    # Commands never translate, so the translation model is not loaded.
    ours = {"host": "127.0.0.1", "port": 0, "public_url": None, "translation_model": ""}
    settings = settings.model_copy(update=ours)
    async with (
        open_services(settings) as services,
        serving(services, stops_at_signals=False) as url,
        borrowed_key(services.keys, key_name) as secret,
    ):
        yield url, secret


@asynccontextmanager
async def borrowed_key(keys: KeyService, name: str) -> AsyncIterator[str]:
    """Create a key, and revoke it at the end."""
    secret, record = await keys.create(name=name)
    try:
        yield secret
    finally:
        await keys.revoke(record.id)


def local_client(url: str, *, api_key: str | None) -> AsyncStenobirdClient:
    """Return a client of a service on this machine that ignores the proxies of the environment."""
    return AsyncStenobirdClient(url, api_key=api_key, transport=httpx.AsyncHTTPTransport())


def running_service(settings: Settings) -> str | None:
    """Return the URL of the running service that owns this data folder, if there is one."""
    try:
        url: str = json.loads((settings.data_dir / SERVER_FILE).read_text())["url"]
        httpx.get(f"{url}/healthz", timeout=2.0, trust_env=False).raise_for_status()
    except (OSError, ValueError, KeyError, httpx.HTTPError):
        return None
    return url
