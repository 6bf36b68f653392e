"""What all wake-ups promise."""

from __future__ import annotations

import asyncio

import pytest

from stenobird.ports import Wakeups
from tests.support.until import async_until

pytestmark = pytest.mark.anyio

SOON = 120.0
"""Longer than any notification takes; a test that waits this long has failed."""


async def test_a_notification_since_watching_began_is_not_missed(wakeups: Wakeups) -> None:
    async with wakeups.watch("tr_1") as watch:
        await wakeups.notify_event("tr_1")
        assert await watch.wait(SOON) is True
        assert await watch.wait(0.01) is False


async def test_a_burst_wakes_at_least_once_and_comes_to_rest(wakeups: Wakeups) -> None:
    async with wakeups.watch("tr_1") as watch:
        for _ in range(5):
            await wakeups.notify_event("tr_1")
        assert await watch.wait(SOON) is True
        more = 0
        while await watch.wait(0.2):
            more += 1
        assert more <= 4


async def test_an_event_wakes_every_watcher_of_its_job_and_no_other(wakeups: Wakeups) -> None:
    async with wakeups.watch("tr_1") as one, wakeups.watch("tr_1") as two, wakeups.watch("tr_2") as other:
        async with asyncio.TaskGroup() as group:
            waits = [group.create_task(watch.wait(SOON)) for watch in (one, two)]
            await wakeups.notify_event("tr_1")
        assert [wait.result() for wait in waits] == [True, True]
        assert await other.wait(0.01) is False


async def test_a_watch_that_ended_hears_nothing(wakeups: Wakeups) -> None:
    async with wakeups.watch("tr_1") as ended:
        pass
    await wakeups.notify_event("tr_1")
    assert await ended.wait(0.01) is False


async def test_a_waiting_worker_is_woken(wakeups: Wakeups) -> None:
    async with asyncio.timeout(SOON), asyncio.TaskGroup() as group:
        waiting = group.create_task(wakeups.wait_job(10 * SOON))

        # A notification may be lost before the waiter listens, so it is repeated, as jobs keep coming.
        async def notified() -> bool:
            await wakeups.notify_job()
            return waiting.done()

        await async_until(notified)


async def test_a_job_notified_before_the_wait_ends_the_wait_at_once() -> None:
    wakeups = Wakeups()
    await wakeups.notify_job()
    async with asyncio.timeout(SOON):
        await wakeups.wait_job(10 * SOON)


async def test_waiting_for_a_job_ends_with_its_timeout(wakeups: Wakeups) -> None:
    async with asyncio.timeout(SOON):
        await wakeups.wait_job(0.01)


async def test_jobs_without_watchers_use_no_memory() -> None:
    wakeups = Wakeups()
    async with wakeups.watch("tr_1"), wakeups.watch("tr_1"):
        pass
    await wakeups.notify_event("tr_1")
    assert wakeups._watches == {}
