"""Each completed job is reported once, whatever Stripe, the network and the worker do."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stenobird.billing.worker import Metering, counted_rows
from stenobird.errors import StorageUnavailable
from stenobird.ports.billing import DEDUPE_SECONDS, DoubtfulRow
from stenobird.storage.billing_store import BillingStore
from tests.support.faults import FaultyDatabase

if TYPE_CHECKING:
    from tests.support.billing_world import BillingWorld
    from tests.support.fake_stripe import Fault

pytestmark = pytest.mark.anyio

HANG_SECONDS = 2.0
"""Stripe counts as hanging then; no other request of these tests takes so long."""

hanging = pytest.mark.parametrize("stripe_timeout_seconds", [HANG_SECONDS])

HOUR = 3600.0


def once(world: BillingWorld, *faults: Fault) -> None:
    """Let these go wrong, one a meter event, and nothing after them."""
    coming = list(faults)

    def fault(_method: str, path: str) -> Fault | None:
        return coming.pop(0) if coming and path.endswith("/meter_events") else None

    world.fake.fault = fault


async def settle(world: BillingWorld, *, hours: float = 1.0) -> None:
    """Work until nothing is due within so many hours."""
    end = world.clock.time() + hours * HOUR
    while world.clock.time() < end:
        while await world.metering().step():
            pass
        world.clock.advance(600)


async def test_a_job_is_one_meter_event_with_its_id_its_time_and_text_values(world: BillingWorld) -> None:
    account = await world.bought()
    at = world.clock.time() - 90
    [job] = await world.use(account, [7], at=at)
    await world.metering().step()
    [event] = world.fake.meter_events
    assert (event["identifier"], event["timestamp"]) == (job, int(at))
    assert event["payload"] == {"stripe_customer_id": account.customer_id, "value": "7"}
    assert await world.states() == {job: "sent"}
    assert await world.metering().step() == 0


@pytest.mark.parametrize(
    ("fault", "stripe_timeout_seconds"),
    [
        *((fault, 60.0) for fault in ("500", "500_after", "broken_after", "429")),
        *((fault, HANG_SECONDS) for fault in ("hang_after", "hang")),
    ],
)
async def test_whatever_goes_wrong_once_the_job_is_counted_once(world: BillingWorld, fault: Fault) -> None:
    account = await world.bought()
    [job] = await world.use(account, [5])
    once(world, fault)
    await settle(world)
    assert (await world.states(), world.fake.minutes()) == ({job: "sent"}, 5)


async def test_a_500_is_retried_with_a_new_idempotency_key(
    world: BillingWorld,
) -> None:
    account = await world.bought()
    [job] = await world.use(account, [5])
    once(world, "500", "500")
    await settle(world)
    keys = [key for _, path, key in world.fake.calls if path.endswith("/meter_events")]
    assert keys == [f"{job}.a1", f"{job}.a2", f"{job}.a3"]


async def test_a_worker_that_dies_between_request_and_record_is_not_paid_twice(world: BillingWorld) -> None:
    account = await world.bought()
    [job] = await world.use(account, [5])
    once(world, "hang_after")
    dying = asyncio.create_task(world.metering().step())
    while not world.fake.meter_events:  # noqa: ASYNC110  # the fake runs in this loop
        await asyncio.sleep(0)
    dying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await dying
    assert await world.states() == {job: "unknown"}
    await settle(world)
    assert (await world.states(), world.fake.minutes()) == ({job: "sent"}, 5)


async def test_two_workers_at_once_send_each_row_once(world: BillingWorld) -> None:
    account = await world.bought()
    await world.use(account, [1] * 40)
    await asyncio.gather(*(world.metering(batch=7).step() for _ in range(8)))
    sent = [path for _, path, _ in world.fake.calls if path.endswith("/meter_events")]
    assert (len(sent), world.fake.minutes()) == (40, 40)


async def test_after_a_refusal_of_all_the_rest_of_the_batch_waits(world: BillingWorld) -> None:
    account = await world.bought()
    await world.use(account, [1] * 20)
    world.fake.fault = lambda _method, _path: "429"
    await world.metering(at_once=1).step()
    sent = [path for _, path, _ in world.fake.calls if path.endswith("/meter_events")]
    assert len(sent) == 1
    # None of them can have been counted, so none is in doubt.
    assert set((await world.states()).values()) == {"pending"}


async def test_what_the_wallet_paid_for_and_accounts_without_a_customer_are_not_reported(
    world: BillingWorld,
) -> None:
    account = await world.bought()
    [paid] = await world.use(account, [0])
    [given] = await world.use(replace(account, id="acct_of_the_operator"), [4])
    await world.metering().step()
    assert (await world.states(), world.fake.minutes()) == ({paid: "free", given: "free"}, 0)


async def test_what_could_not_be_reported_for_weeks_is_charged_in_the_week_that_is_open(
    world: BillingWorld,
) -> None:
    account = await world.bought()
    jobs = await world.use(account, [5, 6], at=world.clock.time() - 36 * 86_400)
    await world.metering().step()
    assert await world.states() == dict.fromkeys(jobs, "sent")
    minutes = {event["timestamp"] // 60 for event in world.fake.meter_events}
    assert len(minutes) == 2
    assert all(int(world.clock.time()) // 60 - minute < 30 for minute in minutes)


async def test_a_deleted_customer_is_reported_later_and_reaches_the_ledger(
    world: BillingWorld,
) -> None:
    account = await world.bought()
    told = len(world.fake.events)
    jobs = await world.use(account, [5, 6])
    assert account.customer_id is not None
    del world.fake.objects[account.customer_id]
    await world.metering().step()
    assert set((await world.states()).values()) == {"sent"}
    world.fake.report_meter_errors()
    await world.hear(since=told)
    assert await world.states() == dict.fromkeys(jobs, "rejected")
    assert {row[3] for row in await world.store.rejected_usage()} == {"meter_event_customer_not_found"}


# --- beyond the time for which Stripe remembers identifiers ---


async def in_doubt(world: BillingWorld, minutes: list[int], faults: list[Fault]) -> list[str]:
    """Leave rows of one minute in doubt until Stripe has forgotten their identifiers."""
    account = await world.bought()
    at = world.clock.time() // 60 * 60
    jobs = sorted(await world.use(account, minutes, at=at))
    once(world, *faults)
    await world.metering(at_once=1).step()
    assert set((await world.states()).values()) == {"unknown"}
    world.clock.advance(DEDUPE_SECONDS + HOUR * 2)
    return jobs


async def test_a_doubtful_row_that_was_counted_is_not_sent_again(world: BillingWorld) -> None:
    [job] = await in_doubt(world, [5], ["broken_after"])
    await settle(world, hours=4)
    assert (await world.states(), world.fake.minutes()) == ({job: "sent"}, 5)
    assert len(world.fake.meter_events) == 1


@hanging
async def test_a_doubtful_row_that_was_not_counted_is_sent_anew(
    world: BillingWorld,
) -> None:
    [job] = await in_doubt(world, [5], ["hang"])
    await settle(world, hours=4)
    [event] = world.fake.meter_events
    assert (await world.states(), world.fake.minutes()) == ({job: "sent"}, 5)
    assert event["identifier"].startswith(f"{job}.")


@hanging
async def test_rows_of_one_minute_of_which_some_were_counted_add_up(world: BillingWorld) -> None:
    await in_doubt(world, [5, 3, 9], ["broken_after", "hang", "hang"])
    await settle(world, hours=6)
    assert set((await world.states()).values()) == {"sent"}
    assert world.fake.minutes() == 17


@hanging
async def test_rows_that_were_sent_in_the_same_minute_are_not_taken_for_the_doubtful_one(
    world: BillingWorld,
) -> None:
    account = await world.bought()
    at = world.clock.time() // 60 * 60
    await world.use(account, [5], at=at)
    await world.metering().step()
    await world.use(account, [5], at=at + 1)
    once(world, "hang")
    await world.metering().step()
    world.clock.advance(DEDUPE_SECONDS + HOUR * 2)
    await settle(world, hours=4)
    assert set((await world.states()).values()) == {"sent"}
    assert world.fake.minutes() == 10


@hanging
async def test_while_the_summaries_can_not_be_read_a_doubt_stays_a_doubt(world: BillingWorld) -> None:
    [job] = await in_doubt(world, [5], ["hang"])
    world.fake.fault = lambda _method, path: "429" if path.endswith("summaries") else None
    await world.metering().step()
    assert await world.states() == {job: "unknown"}


@given(st.lists(st.integers(1, 200), max_size=8), st.data())
def test_rows_that_explain_a_total_are_found(minutes: list[int], data: st.DataObject) -> None:
    rows = [DoubtfulRow(f"tr_{index}", count, 0.0) for index, count in enumerate(minutes)]
    counted = data.draw(st.lists(st.sampled_from(rows), unique=True)) if rows else []
    total = sum(row.minutes for row in counted)
    found = counted_rows(rows, total)
    assert sum(row.minutes for row in found) == total
    assert len({row.job_id for row in found}) == len(found)


@given(st.lists(st.integers(1, 50), max_size=6), st.integers(-100, 400))
def test_rows_never_explain_more_than_the_total(minutes: list[int], total: int) -> None:
    rows = [DoubtfulRow(f"tr_{index}", count, 0.0) for index, count in enumerate(minutes)]
    assert sum(row.minutes for row in counted_rows(rows, total)) <= max(0, total)


async def test_a_database_that_goes_away_while_stripe_is_away_is_waited_for(world: BillingWorld) -> None:
    account = await world.bought()
    [job] = await world.use(account, [5])
    once(world, "500")
    faulty = BillingStore(FaultyDatabase.over(world.database, ["ok", "lost before"]))
    with pytest.raises(StorageUnavailable):
        await Metering(faulty, world.gateway, world.clock).step()
    await settle(world)
    assert [event["identifier"] for event in world.fake.meter_events] == [job]
    assert await world.states() == {job: "sent"}
