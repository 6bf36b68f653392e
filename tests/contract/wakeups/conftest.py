"""All wake-ups that the contract runs against: within a process, and over Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.ports import Clock, Wakeups
from stenobird.wakeups import open_redis_wakeups
from tests.support.free_port import free_port
from tests.support.redis_server import redis_available, running_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis server of our own."""
    if not redis_available():
        pytest.skip("NOT TESTED ON REDIS: install redis-server")
    with running_redis(tmp_path_factory.mktemp("redis"), free_port()) as url:
        yield url


@pytest.fixture(params=["local", "redis"])
async def wakeups(request: pytest.FixtureRequest) -> AsyncIterator[Wakeups]:
    """The wake-ups under test."""
    if request.param == "local":
        yield Wakeups()
        return
    async with open_redis_wakeups(request.getfixturevalue("redis_url"), clock=Clock()) as wakeups:
        yield wakeups
