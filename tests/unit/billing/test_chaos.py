"""A thousand jobs, a Stripe that fails in every way it can, and workers that die: the totals agree."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from stenobird.billing.standing import BillingStanding, job_of
from stenobird.billing.worker import BillingWorker, Metering
from stenobird.errors import StorageUnavailable
from stenobird.storage.billing_store import BillingStore
from stenobird.storage.schema import accounts, usage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stenobird.ports.billing import BillingAccount, MeterRow
    from tests.support.billing_world import BillingWorld
    from tests.support.fake_stripe import Fault

pytestmark = pytest.mark.anyio

JOBS = 1000
ACCOUNTS = 12
BATCH = 50
APART_SECONDS = 60
SEED = 20_270_115
FAULTS: dict[Fault, float] = {
    "500": 0.05,
    "500_after": 0.05,
    "broken_after": 0.03,
    "hang": 0.001,
    "hang_after": 0.001,
    "429": 0.01,
}


def random_faults(seed: int, rates: Mapping[Fault, float]) -> Callable[[str, str], Fault | None]:
    """Return a source of faults for meter events, with these probabilities."""
    dice = random.Random(seed)

    def fault(_method: str, path: str) -> Fault | None:
        if not path.endswith("/meter_events"):
            return None
        number = dice.random()
        for kind, rate in rates.items():
            if number < rate:
                return kind
            number -= rate
        return None

    return fault


class MortalStore(BillingStore):
    """The store of one process: when that is dead, what it wanted to write is lost."""

    dead = False

    async def settle_usage(self, job_ids: Sequence[str], state: Any, **more: Any) -> None:
        """Write, or have died before."""
        if self.dead:
            raise StorageUnavailable
        await super().settle_usage(job_ids, state, **more)

    async def delay_usage(self, row: MeterRow, **more: Any) -> None:
        """Write, or have died before."""
        if self.dead:
            raise StorageUnavailable
        await super().delay_usage(row, **more)


class Process:
    """One worker process, killed at a random request to Stripe."""

    def __init__(self, world: BillingWorld, dice: random.Random) -> None:
        self.store = MortalStore(world.database)
        metering = Metering(self.store, world.gateway, world.clock, batch=BATCH, at_once=4, lease_seconds=60)
        standing = BillingStanding(self.store, world.gateway, world.clock)
        self.worker = BillingWorker(self.store, standing, metering, world.clock)
        self.requests_left = dice.randint(1, 3 * BATCH)
        self.life: asyncio.Task[bool] | None = None

    def request_seen(self) -> None:
        """Count a request to Stripe, and die at the last one, whether or not it was worked on."""
        self.requests_left -= 1
        if self.requests_left == 0 and self.life is not None:
            self.store.dead = True
            self.life.cancel()

    async def step(self) -> bool:
        """Do one step; a death in it counts as work done."""
        self.life = asyncio.create_task(self.worker.step())
        await asyncio.wait((self.life,))
        if self.life.cancelled() or self.store.dead:
            if not self.life.cancelled():
                self.life.exception()
            return True
        return self.life.result()


async def rows_of(world: BillingWorld) -> list[Any]:
    ledger = select(usage.c.job_id, usage.c.minutes, usage.c.meter_state, accounts.c.stripe_customer_id).join(
        accounts, accounts.c.id == usage.c.account_id
    )
    async with world.database.read() as connection:
        return list(await connection.execute(ledger))


async def open_rows(world: BillingWorld) -> int:
    async with world.database.read() as connection:
        query = select(func.count()).where(usage.c.meter_state.in_(("pending", "unknown")))
        return await connection.scalar(query) or 0


async def deliver_some(world: BillingWorld, dice: random.Random) -> None:
    """Deliver webhook events late, twice and in any order."""
    for event in dice.choices(world.fake.events, k=3):
        await world.service.accept_event(*world.fake.signed(event))


def change_something(world: BillingWorld, accounts: Sequence[BillingAccount], dice: random.Random) -> None:
    """Let a subscription fail or recover."""
    subscription = dice.choice(accounts).subscription_id
    assert subscription is not None
    world.fake.set_subscription(subscription, dice.choice(["active", "past_due", "canceled", "unpaid"]))


@pytest.mark.slow
@pytest.mark.parametrize("stripe_timeout_seconds", [0.5])
async def test_after_all_failures_stripe_has_what_the_ledger_says(world: BillingWorld) -> None:
    dice = random.Random(SEED)
    buyers = [await world.bought(f"buyer{number}@example.com") for number in range(ACCOUNTS)]
    faults = random_faults(
        SEED,
        {
            "500": 0.05,
            "500_after": 0.05,
            "broken_after": 0.03,
            "hang": 0.001,
            "hang_after": 0.001,
            "429": 0.01,
        },
    )
    process = Process(world, dice)

    def fault(method: str, path: str) -> Any:
        process.request_seen()
        return faults(method, path)

    world.fake.fault = fault
    made = 0
    deaths = 0
    while made < JOBS or await open_rows(world):
        if made < JOBS:
            minutes = [dice.randint(1, 180) for _ in range(BATCH)]
            # One a minute: in a summary, rows of one minute are a sum and no longer jobs.
            world.clock.advance(APART_SECONDS * BATCH)
            await world.use(dice.choice(buyers), minutes, apart_seconds=APART_SECONDS)
            made += BATCH
            change_something(world, buyers, dice)
            await deliver_some(world, dice)
        busy = await process.step()
        if process.store.dead:
            deaths += 1
        if process.store.dead or dice.random() < 0.1:
            process = Process(world, dice)
        if not busy or made < JOBS:
            world.clock.advance(dice.choice([1, 5, 30, 120]))
        if made == JOBS // 2:
            # A night without workers: what is in doubt now, Stripe will have forgotten.
            world.clock.advance(26 * 3600)
        if made >= JOBS and not busy:
            world.clock.advance(1800)

    assert deaths > 5
    assert any(path.endswith("/event_summaries") for _, path, _ in world.fake.calls)
    await check_totals(world, buyers)
    world.fake.fault = lambda _method, _path: None
    dice.shuffle(world.fake.events)
    await world.hear()
    await check_states(world, buyers)


async def check_totals(world: BillingWorld, buyers: Sequence[BillingAccount]) -> None:
    rows = await rows_of(world)
    assert len(rows) == JOBS
    assert {row.meter_state for row in rows} == {"sent"}
    for buyer in buyers:
        owed = sum(row.minutes for row in rows if row.stripe_customer_id == buyer.customer_id)
        assert world.fake.minutes(buyer.customer_id) == owed
    counted = [job_of(event["identifier"]) for event in world.fake.meter_events]
    assert sorted(counted) == sorted(row.job_id for row in rows)


async def check_states(world: BillingWorld, buyers: Sequence[BillingAccount]) -> None:
    expected = {"active": "active", "past_due": "past_due", "unpaid": "past_due", "canceled": "cancelled"}
    for buyer in buyers:
        assert buyer.subscription_id is not None
        subscription = world.fake.objects[buyer.subscription_id]
        assert (await world.reload(buyer)).state == expected[subscription["status"]]
