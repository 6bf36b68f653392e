"""`BillingStore` on each kind of database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from stenobird.accounts import keys
from stenobird.ports import NewKey
from stenobird.ports.billing import Checkout, PaidCheckout, StoredEvent
from tests.support.billing_world import BillingWorld, billing_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[BillingWorld]:
    async with billing_world(database_url) as world:
        yield world


def a_key(number: int = 0) -> NewKey:
    key = keys.mint("live")
    return NewKey(f"key_{number}", "", "checkout", key.key_hash, "live", "full_access", key.last_four_chars)


async def test_of_many_completions_at_once_one_makes_the_account(world: BillingWorld) -> None:
    store = world.store
    await store.begin_checkout(Checkout("cs_1", None, "a@example.com", False, None, 1.0, None, None))  # noqa: FBT003
    paid = PaidCheckout("cus_1", "sub_1", None, 5.0)
    seen = await asyncio.gather(
        *(store.complete_checkout("cs_1", paid, f"acct_{n}", "premium", now=2.0) for n in range(8))
    )
    assert len({checkout.account_id for checkout in seen if checkout is not None}) == 1
    [account] = await store.accounts_by_email("A@Example.com")
    assert (account.customer_id, account.subscription_id, account.anchor_at) == ("cus_1", "sub_1", 5.0)
    assert await store.complete_checkout("cs_2", paid, "acct_x", "premium", now=2.0) is None


async def test_of_many_redemptions_at_once_one_stores_its_key(world: BillingWorld) -> None:
    account = await world.bought()
    [session] = [item["id"] for item in world.fake.objects.values() if item["object"] == "checkout.session"]
    assert await world.store.grant_claim(session, "hash", expires_at=world.clock.time() + 10)
    now = world.clock.time()
    seen = await asyncio.gather(
        *(world.store.redeem_claim("hash", a_key(number), now=now) for number in range(8))
    )
    assert len([checkout for checkout in seen if checkout is not None]) == 1
    assert not await world.store.grant_claim(session, "other", expires_at=now + 10)
    assert account.id


async def test_of_many_deliveries_at_once_one_is_new_and_each_event_is_claimed_by_one(
    world: BillingWorld,
) -> None:
    events = [StoredEvent(f"evt_{n % 4}", "invoice.paid", None, "cus_1") for n in range(16)]
    news = await asyncio.gather(*(world.store.add_event(event, now=1.0) for event in events))
    assert sum(news) == 4
    claims = await asyncio.gather(*(world.store.claim_event(now=2.0, lease_seconds=10) for _ in range(8)))
    taken = [event.id for event in claims if event is not None]
    assert sorted(taken) == sorted(set(taken))
    while (event := await world.store.claim_event(now=2.0, lease_seconds=10)) is not None:
        taken.append(event.id)
    assert sorted(taken) == ["evt_0", "evt_1", "evt_2", "evt_3"]
    assert await world.store.claim_event(now=13.0, lease_seconds=10) is not None


async def test_rows_are_claimed_by_one_worker_at_a_time_and_come_back(world: BillingWorld) -> None:
    account = await world.bought()
    jobs = await world.use(account, [1] * 20)
    now = world.clock.time() + 1
    batches = await asyncio.gather(
        *(world.store.claim_usage(now=now, lease_seconds=60, limit=5) for _ in range(6))
    )
    claimed = [row.job_id for batch in batches for row in batch]
    while batch := await world.store.claim_usage(now=now, lease_seconds=60, limit=5):
        claimed += [row.job_id for row in batch]
    assert sorted(claimed) == sorted(jobs)
    [again, *_] = await world.store.claim_usage(now=now + 61, lease_seconds=60, limit=50)
    assert (again.identifier, again.attempts, again.fresh, again.attempted_at) == (
        again.job_id,
        2,
        False,
        now,
    )


async def test_an_identifier_is_never_used_twice(world: BillingWorld) -> None:
    account = await world.bought()
    [job] = await world.use(account, [3])
    now = world.clock.time()
    seen = []
    for round_number in range(4):
        now += 100
        [row] = await world.store.claim_usage(now=now, lease_seconds=10, limit=5)
        seen.append(row.identifier)
        assert row.attempts == round_number + 1
        await world.store.renew_usage([job], until=now)
    assert seen == [job, f"{job}.1", f"{job}.2", f"{job}.3"]


async def test_the_ledger_of_a_minute_tells_what_is_sent_and_what_is_in_doubt(world: BillingWorld) -> None:
    account = await world.bought()
    assert account.customer_id is not None
    minute = int(world.clock.time()) // 60 * 60
    first, second = sorted(await world.use(account, [3, 4], at=minute + 59.9))
    await world.use(account, [100], at=minute + 60)
    await world.use(account, [100], at=minute - 0.1)
    now = minute + 200.0
    await world.store.claim_usage(now=now, lease_seconds=10, limit=50)
    await world.store.settle_usage([first], "sent", now=now + 1)
    sent, last_sent_at, unknown = await world.store.ledger_minutes(
        account.customer_id, since=minute, until=minute + 60
    )
    assert last_sent_at == now + 1
    assert [row.job_id for row in unknown] == [second]
    assert sent + unknown[0].minutes == 7


async def test_the_minutes_of_a_week_and_the_jobs_under_way_are_read_together(world: BillingWorld) -> None:
    account = await world.bought()
    assert await world.store.week_minutes(account.id, since=0.0) == (0, 0)
    await world.use(account, [2, 3])
    assert await world.store.week_minutes(account.id, since=0.0) == (5, 0)


async def test_a_deleted_account_queues_the_end_of_its_subscription_once(world: BillingWorld) -> None:
    account = await world.bought()
    await world.store.queue_account_deleted(account.id)
    await world.store.queue_account_deleted(account.id)
    # The event is due at once on the database's clock, which no test sets.
    much_later = 1e12
    events = [await world.store.claim_event(now=much_later, lease_seconds=600) for _ in range(2)]
    assert [event and event.object_id for event in events] == [account.subscription_id, None]
