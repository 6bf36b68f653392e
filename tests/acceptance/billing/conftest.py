"""A service that sells keys, and the fake Stripe behind it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import httpx
import pytest

from stenobird.bootstrap import Overrides
from tests.support.billing_world import BillingWorld, billing_world, stripe_settings
from tests.support.databases import migrated_sqlite
from tests.support.free_port import free_port
from tests.support.web_world import web_settings, web_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from stenobird.accounts.keys import KeyService


@dataclass
class Shop:
    """A running server that sells keys."""

    url: str
    world: BillingWorld
    keys: KeyService
    folder: Path

    def browser(self) -> httpx.AsyncClient:
        """Return a browser without cookies, which follows no redirect by itself."""
        return httpx.AsyncClient(base_url=self.url, trust_env=False)


@asynccontextmanager
async def open_shop(folder: Path, *, selling: bool = True) -> AsyncIterator[Shop]:
    """Open a service with billing, or one without Stripe."""
    port = free_port()
    settings_of = partial(stripe_settings, port=port, public_url=f"http://127.0.0.1:{port}")
    async with billing_world(migrated_sqlite(folder), settings_of=settings_of) as world:
        settings = world.settings if selling else web_settings()
        overrides = Overrides(clock=world.clock, stores=world.stores, mailer=world.mailbox)
        async with web_world(folder, settings, overrides) as web:
            served = replace(world, service=web.services.billing)
            if web.services.billing_worker is not None:
                served = replace(served, worker=web.services.billing_worker)
            yield Shop(web.url, served, web.keys, folder)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as shop:
        yield shop


@pytest.fixture
async def closed_shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, selling=False) as shop:
        yield shop
