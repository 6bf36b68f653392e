"""The comparison of ledger and meter finds what differs, and says nothing where they agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.billing.worker import Comparison, compare

if TYPE_CHECKING:
    from tests.support.billing_world import BillingWorld

pytestmark = pytest.mark.anyio


async def comparisons(world: BillingWorld) -> list[Comparison]:
    now = world.clock.time()
    return [found async for found in compare(world.store, world.gateway, since=now - 86_400, until=now + 60)]


async def test_what_was_sent_agrees_for_every_customer(world: BillingWorld) -> None:
    for number in range(3):
        account = await world.bought(f"buyer{number}@example.com")
        await world.use(account, [number + 1, 10], at=world.clock.time() - 3600 * number)
    await world.metering().step()
    found = await comparisons(world)
    assert sorted(row.stripe_minutes for row in found) == [11, 12, 13]
    assert [(row.difference, row.agrees) for row in found] == [(0, True)] * 3


async def test_an_event_that_only_stripe_has_is_found(world: BillingWorld) -> None:
    account = await world.bought()
    await world.use(account, [5])
    await world.metering().step()
    world.fake.meter_events.append({**world.fake.meter_events[0], "identifier": "from somewhere else"})
    [row] = await comparisons(world)
    assert (row.difference, row.agrees) == (5, False)


async def test_an_event_that_stripe_lost_is_found(world: BillingWorld) -> None:
    account = await world.bought()
    await world.use(account, [5, 8])
    await world.metering().step()
    lost = world.fake.meter_events.pop()
    [row] = await comparisons(world)
    assert (row.difference, row.agrees) == (-int(lost["payload"]["value"]), False)


async def test_a_row_in_doubt_is_no_difference(world: BillingWorld) -> None:
    account = await world.bought()
    await world.use(account, [5])
    world.fake.fault = lambda _method, path: "broken_after" if path.endswith("/meter_events") else None
    await world.metering().step()
    [row] = await comparisons(world)
    assert (row.ledger_minutes, row.in_doubt_minutes, row.stripe_minutes, row.agrees) == (0, 5, 5, True)


async def test_what_stripe_refused_can_be_sent_again_under_a_new_identifier(world: BillingWorld) -> None:
    account = await world.bought()
    [job] = await world.use(account, [5])
    meters = [item for item in world.fake.objects.values() if item["object"] == "billing.meter"]
    meters[0]["event_name"] = "renamed"
    await world.metering().step()
    [(refused, _, minutes, reason)] = await world.store.rejected_usage()
    assert (refused, minutes, "meter event" in reason) == (job, 5, True)
    meters[0]["event_name"] = "stenobird_audio_minutes"
    await world.store.renew_usage([job], until=world.clock.time())
    await world.metering().step()
    assert (await world.states(), world.fake.minutes()) == ({job: "sent"}, 5)
    [row] = await comparisons(world)
    assert row.agrees
