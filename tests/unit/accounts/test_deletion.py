"""The jobs of a deleted account: removed in the background, in batches, by any process that runs."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, insert, select

from stenobird.accounts.service import AccountService
from stenobird.jobs.service import remove_account_jobs
from stenobird.ports import JobChange, NewJob, RecognitionOptions
from stenobird.storage import rows
from stenobird.storage.account_store import AccountStore
from stenobird.storage.job_store import PURGE_BATCH, JobStore
from stenobird.storage.queue import count_ended
from stenobird.storage.schema import db_now, jobs
from stenobird.testing import FakeClock
from tests.support.databases import sqlite_database
from tests.support.job_world import PAYER, JobWorld
from tests.support.until import async_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

ENDED = 2 * PURGE_BATCH + 1


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[JobWorld]:
    async with sqlite_database(tmp_path) as database:
        world = JobWorld(database, JobStore(database))
        await AccountStore(database).create_account(
            PAYER.account_id, "Ann", "premium", "operator", by="operator"
        )
        yield world


def service_over(world: JobWorld) -> AccountService:
    remove = partial(remove_account_jobs, world.store, discard=world.opener.discard)
    return AccountService(AccountStore(world.database), remove_jobs=remove)


async def add_ended_jobs(world: JobWorld) -> None:
    new = [
        NewJob(f"tr_{number}", "full", "https://x.test/", "", RecognitionOptions(), PAYER.account_id)
        for number in range(ENDED)
    ]
    async with world.database.write() as connection:
        at = {"created_at": db_now(), "updated_at": db_now(), "completed_at": db_now()}
        values = [rows.new_job_values(job) | {"status": "completed"} for job in new]
        await connection.execute(insert(jobs).values(**at), values)
        await count_ended(world.database, connection, {"completed": ENDED})


async def left(world: JobWorld) -> int:
    async with world.database.read() as connection:
        return await connection.scalar(select(func.count()).select_from(jobs)) or 0


async def test_deleting_returns_at_once_and_the_jobs_go_in_the_background(world: JobWorld) -> None:
    service = service_over(world)
    await add_ended_jobs(world)
    world.opener.spools.add("tr_0")
    await world.post(PAYER)
    await world.post(PAYER)
    claim = await world.claim()

    assert await service.delete(PAYER.account_id) == 2
    assert await left(world) == ENDED + 2

    clock = FakeClock()
    started_at = clock.now
    async with asyncio.TaskGroup() as tasks:
        removing = tasks.create_task(service.remove_deleted(clock))
        await async_until(lambda: clock.now > started_at)

        async def only_the_running_one_is_left() -> bool:
            return await left(world) == 1

        await async_until(only_the_running_one_is_left)
        cancelled = await world.store.get(claim.job.id)
        assert cancelled is not None
        assert cancelled.cancel_requested
        await world.store.finish(claim.lease, JobChange(status="cancelled"), [])

        async def none_is_left() -> bool:
            return await left(world) == 0

        await async_until(none_is_left)
        removing.cancel()
    assert world.opener.spools == set()
    assert await world.store.counts() == {}


async def test_a_process_that_starts_removes_what_a_dead_one_has_left(world: JobWorld) -> None:
    await add_ended_jobs(world)
    await service_over(world).delete(PAYER.account_id)
    await world.store.delete_of_account(PAYER.account_id)
    assert await left(world) == ENDED - PURGE_BATCH

    async def none_is_left() -> bool:
        return await left(world) == 0

    async with asyncio.TaskGroup() as tasks:
        removing = tasks.create_task(service_over(world).remove_deleted(FakeClock()))
        await async_until(none_is_left)
        removing.cancel()


async def test_a_job_that_ends_after_the_last_batch_is_counted_as_left(
    world: JobWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.post(PAYER)
    claim = await world.claim()
    delete_batch = world.store.delete_of_account

    async def end_the_job_after_the_batch(account_id: str) -> list[str]:
        deleted = await delete_batch(account_id)
        await world.store.finish(claim.lease, JobChange(status="cancelled"), [])
        return deleted

    monkeypatch.setattr(world.store, "delete_of_account", end_the_job_after_the_batch)
    assert await remove_account_jobs(world.store, PAYER.account_id, discard=world.opener.discard) == 1
    monkeypatch.undo()
    assert await remove_account_jobs(world.store, PAYER.account_id, discard=world.opener.discard) == 0
    assert await left(world) == 0
