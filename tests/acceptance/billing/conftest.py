"""The web layer with billing behind it, and the fake Stripe behind that."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import httpx
import pytest

from stenobird.accounts.key_service import KeyService
from stenobird.billing.service import BillingService
from stenobird.egress.policy import EgressPolicy
from stenobird.jobs.checks import RequestChecks
from stenobird.jobs.service import JobService
from stenobird.storage.job_store import SqlJobStore
from stenobird.storage.key_store import SqlKeyStore
from stenobird.wakeups.local import LocalWakeups
from stenobird.web.app import create_app
from stenobird.web.server import WebServer, running
from tests.support.billing_world import BillingWorld, billing_world
from tests.support.databases import migrated_sqlite
from tests.support.web_world import web_services, web_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


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
    """Open a server on billing, or on one without Stripe."""
    async with billing_world(migrated_sqlite(folder)) as world:
        settings = web_settings()
        keys = KeyService(SqlKeyStore(world.database))
        policy = EgressPolicy()
        jobs = JobService(
            SqlJobStore(world.database),
            LocalWakeups(),
            RequestChecks(url=lambda url: str(policy.check_url(url)), account=world.gate),
            clock=world.clock,
        )
        billing = world.service if selling else BillingService(world.store, world.clock)
        services = replace(web_services(settings, jobs, keys), billing=billing)
        async with running(WebServer(create_app(services), settings, services.shutting_down)) as url:
            yield Shop(url, world, keys, folder)


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path) as shop:
        yield shop


@pytest.fixture
async def closed_shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_shop(tmp_path, selling=False) as shop:
        yield shop
