"""Every implementation of `ports.Wakeups` that the contract runs against."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.clock import SystemClock
from stenobird.wakeups import LocalWakeups, open_redis_wakeups
from tests.support.free_port import free_port
from tests.support.redis_server import redis_available, running_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from stenobird.ports import Wakeups


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
        yield LocalWakeups()
        return
    async with open_redis_wakeups(request.getfixturevalue("redis_url"), clock=SystemClock()) as wakeups:
        yield wakeups
