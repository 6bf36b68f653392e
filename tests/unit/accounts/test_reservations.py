"""Credits while a job runs: set aside when its length is known, and given back when it ends."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from stenobird.jobs.pipeline import RunOptions
from stenobird.jobs.run import JobRun
from stenobird.storage.account_store import AccountStore
from stenobird.storage.job_store import JobStore
from stenobird.storage.schema import reservations, usage, wallet_entries
from stenobird.testing import FakeOpener, a_source, spoken
from tests.support.databases import sqlite_database
from tests.support.faults import DyingStore, Killed
from tests.support.job_world import PAYER, JobWorld

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from stenobird.ports import AccountBilling

pytestmark = pytest.mark.anyio

THREE_MINUTES = 190
"""Seconds."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[JobWorld]:
    async with sqlite_database(tmp_path) as database:
        yield JobWorld(database, JobStore(database), opener=FakeOpener(spoken(range(1, THREE_MINUTES + 1))))


async def give(world: JobWorld, billing: AccountBilling, units: int) -> AccountStore:
    accounts = AccountStore(world.database)
    await accounts.create_account(PAYER.account_id, "Ann", "premium", billing, by="operator")
    await accounts.add_units(PAYER.account_id, units, reason="gift", by="operator")
    return accounts


async def test_a_prepaid_job_pays_with_its_credits_and_nothing_is_metered(world: JobWorld) -> None:
    accounts = await give(world, "prepaid", 3)
    job = await world.post(PAYER)
    await world.run_next()
    assert (await world.job(job.id)).billable_minutes == 3
    (row,) = await world.rows(usage)
    assert (row["minutes"], row["credit_units"], row["metered_minutes"]) == (3, 3, 0)
    assert (await accounts.wallet(PAYER.account_id)).units == 0
    assert await world.rows(reservations) == []


@pytest.mark.parametrize("told_by", ["source", "container"])
async def test_a_prepaid_job_that_costs_too_much_fails_unbilled_as_soon_as_that_is_known(
    world: JobWorld, told_by: str
) -> None:
    accounts = await give(world, "prepaid", 2)
    if told_by == "source":
        world.finder.source = a_source(duration_seconds=float(THREE_MINUTES))
    job = await world.post(PAYER)
    await world.run_next()
    ended = await world.job(job.id)
    assert ended.status == "failed"
    assert ended.error is not None
    assert ended.error["error"] == "insufficient_credits"
    assert (ended.error["required_units"], ended.error["available_units"]) == (3, 2)
    events = await world.events(job.id)
    assert [event.event for event in events[-2:]] == ["error", "done"]
    assert json.loads(events[-1].data)["error"] == "insufficient_credits"
    assert not any(event.event == "transcript" for event in events)
    if told_by == "source":
        # Nothing was even opened.
        assert world.opener.requests == []
    assert await world.rows(usage) == []
    wallet = await accounts.wallet(PAYER.account_id)
    assert (wallet.units, wallet.reserved_units) == (2, 0)


async def test_two_prepaid_jobs_do_not_count_the_same_credits(world: JobWorld) -> None:
    await give(world, "prepaid", 5)
    world.finder.source = a_source(duration_seconds=float(THREE_MINUTES))
    first = await world.post(PAYER)
    claim = await world.claim()
    second = await world.post(PAYER)
    with pytest.raises(BaseExceptionGroup) as died:
        # The first worker dies with its reservation in the database: three credits are spoken for.
        await JobRun(world.context(DyingStore(world.store, dies_at=2, after_commit=True)), claim).carry_out()
    assert died.group_contains(Killed)
    await world.run_next()
    assert (await world.job(second.id)).status == "failed"
    await world.lose_leases()
    await world.run_next()
    assert (await world.job(first.id)).status == "completed"
    assert [entry["units"] for entry in await world.rows(wallet_entries)] == [5, -3]


async def test_a_metered_job_uses_what_credits_there_are_and_meters_the_rest(world: JobWorld) -> None:
    await give(world, "metered", 2)
    await world.post(PAYER)
    await world.run_next()
    (row,) = await world.rows(usage)
    assert (row["credit_units"], row["metered_minutes"], row["meter_state"]) == (2, 1, "pending")


async def test_a_preview_costs_nothing(world: JobWorld) -> None:
    accounts = await give(world, "prepaid", 1)
    await world.post()
    await world.run_next()
    assert await world.rows(usage) == []
    assert (await accounts.wallet(PAYER.account_id)).units == 1


async def test_a_length_that_is_no_number_reserves_nothing(world: JobWorld) -> None:
    world.run_options = RunOptions()
    await give(world, "prepaid", 3)
    world.finder.source = a_source(duration_seconds=float("inf"))
    job = await world.post(PAYER)
    await world.run_next()
    assert (await world.job(job.id)).status == "completed"
