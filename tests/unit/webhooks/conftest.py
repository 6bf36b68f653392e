"""A deliverer over SQLite, and a receiver that it may reach."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.databases import sqlite_database
from tests.support.raw_server import RawServer, open_server
from tests.support.webhook_world import Receiver, WebhookWorld, webhook_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from stenobird.storage.engine import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with sqlite_database(tmp_path) as database:
        yield database


@pytest.fixture
async def world(database: Database) -> AsyncIterator[WebhookWorld]:
    async with webhook_world(database) as world:
        yield world


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def server(receiver: Receiver) -> AsyncIterator[RawServer]:
    async with open_server(receiver) as server:
        yield server
