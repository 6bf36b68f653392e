"""A running server, a deliverer on its database, and a receiver that the deliverer may reach."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.raw_server import RawServer, open_server
from tests.support.web_world import WebWorld, web_world
from tests.support.webhook_world import OWNER, Receiver, WebhookWorld, webhook_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from stenobird.ports import KeyMode, KeyScope


@dataclass
class Hooks:
    """Everything at once."""

    web: WebWorld
    world: WebhookWorld
    receiver: Receiver
    server: RawServer
    http: httpx.AsyncClient

    async def key(
        self, account_id: str = OWNER, *, mode: KeyMode = "live", scope: KeyScope = "full_access"
    ) -> dict[str, str]:
        """Return the headers of a new key."""
        secret, _ = await self.web.keys.create(account_id=account_id, mode=mode, scope=scope)
        return {"Authorization": f"Bearer {secret}"}


@pytest.fixture
async def hooks(tmp_path: Path) -> AsyncIterator[Hooks]:
    receiver = Receiver()
    async with AsyncExitStack() as stack:
        web = await stack.enter_async_context(web_world(tmp_path))
        world = await stack.enter_async_context(webhook_world(web.database))
        server = await stack.enter_async_context(open_server(receiver))
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=web.url, trust_env=False, timeout=30)
        )
        yield Hooks(web, world, receiver, server, http)
