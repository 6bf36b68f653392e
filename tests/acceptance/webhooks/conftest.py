"""A running server, a deliverer on its database, and a receiver that the deliverer may reach."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx
import pytest

from stenobird.bootstrap import Overrides
from stenobird.storage.delivery_store import DeliveryStore
from stenobird.storage.stores import open_stores
from tests.support.raw_server import RawServer, open_server
from tests.support.web_world import WebWorld, served_from, web_settings, web_world
from tests.support.webhook_world import (
    LOOPBACK,
    OWNER,
    Receiver,
    WebhookWorld,
    delivery_clock,
    webhook_world,
)

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
    clock = delivery_clock()
    settings = served_from(tmp_path, web_settings(egress_allow=(LOOPBACK,), egress_ports=None))
    async with open_stores(settings) as opened, open_server(receiver) as server:
        stores = replace(opened, deliveries=DeliveryStore(opened.database, now=clock.time))
        async with (
            web_world(tmp_path, settings, Overrides(clock=clock, stores=stores)) as web,
            webhook_world(stores.database, clock=clock, served=web.services.webhook_deliverer) as world,
            httpx.AsyncClient(base_url=web.url, trust_env=False, timeout=180) as http,
        ):
            yield Hooks(web, world, receiver, server, http)
