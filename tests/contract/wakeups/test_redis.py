"""What holds of wake-ups over Redis only: they cross processes, and its absence costs nothing but time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from stenobird.errors import ConfigurationError
from stenobird.ports import Clock
from stenobird.wakeups import CHANNEL, MAX_OUTGOING, open_redis_wakeups
from tests.support.free_port import free_port
from tests.support.impatient_clock import ImpatientClock
from tests.support.processes import frozen
from tests.support.redis_server import redis_available, running_redis
from tests.support.until import async_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

SOON = 120.0
"""Longer than any notification takes; a test that waits this long has failed."""


async def pings(operator: Redis) -> int:
    """Return how often clients have checked their connection."""
    calls: int = (await operator.info("commandstats")).get("cmdstat_ping", {"calls": 0})["calls"]
    return calls


async def test_a_notification_reaches_the_other_process(redis_url: str) -> None:
    clock = Clock()
    async with (
        open_redis_wakeups(redis_url, clock=clock) as web,
        open_redis_wakeups(redis_url, clock=clock) as worker,
    ):
        assert web.connected
        assert worker.connected
        async with web.watch("tr_1") as watch, web.watch("tr_2") as other:
            # Both were told to look when their listener connected, before they were watched.
            await worker.notify_event("tr_1")
            assert await watch.wait(SOON) is True
            assert await other.wait(0.01) is False
        async with asyncio.timeout(SOON), asyncio.TaskGroup() as group:
            waiting = group.create_task(worker.wait_job(10 * SOON))
            await web.notify_job()
            await waiting


async def test_without_a_server_notifications_stay_inside_the_process() -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    async with asyncio.timeout(SOON), open_redis_wakeups(url, clock=ImpatientClock()) as wakeups:
        assert not wakeups.connected
        async with wakeups.watch("tr_1") as watch:
            await wakeups.notify_event("tr_1")
            assert await watch.wait(SOON) is True


@pytest.mark.skipif(not redis_available(), reason="NOT TESTED ON REDIS: install redis-server")
async def test_a_server_that_comes_back_makes_everybody_look(tmp_path: Path) -> None:
    port = free_port()
    with running_redis(tmp_path, port) as url:
        context = open_redis_wakeups(url, clock=ImpatientClock())
        wakeups = await context.__aenter__()
    try:
        async with asyncio.timeout(SOON), wakeups.watch("tr_1") as watch:
            # The first publish may be what finds the server gone; it is told to this process all the same.
            await wakeups.notify_event("tr_1")
            assert await watch.wait(SOON) is True
            await async_until(lambda: not wakeups.connected)
            with running_redis(tmp_path, port):
                assert await watch.wait(SOON) is True
                assert wakeups.connected
    finally:
        await context.__aexit__(None, None, None)


async def test_a_server_that_stops_answering_counts_as_away_until_it_does(redis_url: str) -> None:
    opened = open_redis_wakeups(redis_url, clock=ImpatientClock(), listen_seconds=1.0)
    async with (
        asyncio.timeout(SOON),
        Redis.from_url(redis_url) as operator,
        opened as wakeups,
        wakeups.watch("tr_1") as watch,
    ):
        before = await pings(operator)

        async def checked() -> bool:
            return await pings(operator) > before

        await async_until(checked)
        # Checks that are answered are no reason to look again.
        assert await watch.wait(0.01) is False
        with frozen((await operator.info("server"))["process_id"]):
            await async_until(lambda: not wakeups.connected)
        assert await watch.wait(SOON) is True
        assert wakeups.connected


async def test_nobody_who_notifies_waits_for_a_server_that_is_frozen(redis_url: str) -> None:
    opened = open_redis_wakeups(redis_url, clock=ImpatientClock())
    async with (
        asyncio.timeout(SOON),
        Redis.from_url(redis_url) as operator,
        opened as wakeups,
        wakeups.watch("tr_1") as watch,
    ):
        with frozen((await operator.info("server"))["process_id"]):
            for _ in range(2 * MAX_OUTGOING):
                with pytest.raises(StopIteration):  # it returns without having waited for anything
                    wakeups.notify_event("tr_1").send(None)
            assert await watch.wait(SOON) is True
            # What could not be sent shows that the server is away, without waiting for the next check.
            await async_until(lambda: not wakeups.connected)
        await async_until(lambda: wakeups.connected)


async def test_foreign_messages_on_the_channel_are_ignored(redis_url: str) -> None:
    async with (
        asyncio.timeout(SOON),
        Redis.from_url(redis_url) as stranger,
        open_redis_wakeups(redis_url, clock=ImpatientClock()) as wakeups,
        wakeups.watch("tr_1") as watch,
    ):
        for message in (b"", b"event", b"\xff\xfe", b"event tr_\x00", b"x" * 100_000):
            await stranger.publish(CHANNEL, message)
        await stranger.publish(CHANNEL, b"event tr_1")
        assert await watch.wait(SOON) is True


async def test_an_error_inside_the_context_leaves_as_it_is(redis_url: str) -> None:
    with pytest.raises(LookupError):
        async with open_redis_wakeups(redis_url, clock=Clock()):
            raise LookupError


async def test_a_url_that_can_not_be_one_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match="STENOBIRD_REDIS_URL"):
        async with open_redis_wakeups("http://127.0.0.1", clock=Clock()):
            pass
