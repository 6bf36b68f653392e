"""Webhooks: signed or nothing, once, in any order; and what an account may do afterwards."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
import stripe
from sqlalchemy import func, select

from stenobird.errors import BillingFailed, InvalidSignature
from stenobird.ports.billing import WEEK_SECONDS
from stenobird.storage.schema import accounts, stripe_events
from tests.support.billing_world import BASE, caller_of

if TYPE_CHECKING:
    from stenobird.ports.billing import BillingAccount
    from tests.support.billing_world import BillingWorld

pytestmark = pytest.mark.anyio


def subscription_of(account: BillingAccount) -> str:
    assert account.subscription_id is not None
    return account.subscription_id


def customer_of(account: BillingAccount) -> str:
    assert account.customer_id is not None
    return account.customer_id


async def stored_events(world: BillingWorld) -> int:
    async with world.database.read() as connection:
        return await connection.scalar(select(func.count()).select_from(stripe_events)) or 0


async def snapshot(world: BillingWorld) -> list[Any]:
    async with world.database.read() as connection:
        return [tuple(row) for row in await connection.execute(select(accounts).order_by(accounts.c.id))]


# --- what is let in ---


async def test_a_forged_webhook_changes_nothing(world: BillingWorld) -> None:
    account = await world.bought()
    world.fake.set_subscription(subscription_of(account), "canceled")
    event = world.fake.events[-1]
    body, header = world.fake.signed(event)
    before = await snapshot(world)
    forgeries: list[tuple[bytes, str | None]] = [
        (body, None),
        (body, ""),
        (body, "t=1,v1=00"),
        (body, "nonsense"),
        (body.replace(b"canceled", b"unpaid"), header),
        (body + b" ", header),
        world.fake.signed(event, secret="whsec_of_somebody_else"),
        # Signed rightly, but so long ago that somebody may have kept it.
        world.fake.signed(event, at=1_000_000_000),
        (b"\xff\xfe", header),
    ]
    for forged, signature in forgeries:
        with pytest.raises(InvalidSignature):
            await world.service.accept_event(forged, signature)
    assert await stored_events(world) == 0
    assert not await world.worker.step()
    assert await snapshot(world) == before


@pytest.mark.parametrize("body", ["{}", "[]", "7", '{"object": "event", "id": 7}', "not json"])
async def test_a_signed_body_that_is_no_event_is_refused(world: BillingWorld, body: str) -> None:
    header = stripe.WebhookSignature.generate_signature_header(body, world.fake.webhook_secret)
    with pytest.raises(InvalidSignature):
        await world.service.accept_event(body.encode(), header)
    assert await stored_events(world) == 0


async def test_either_of_two_secrets_lets_an_event_in(world: BillingWorld) -> None:
    await world.bought()
    for event, secret in zip(world.fake.events, ["whsec_older", "whsec_fake"], strict=True):
        assert await world.service.accept_event(*world.fake.signed(event, secret=secret))


async def test_an_event_that_comes_many_times_at_once_is_stored_once(world: BillingWorld) -> None:
    await world.bought()
    signed = world.fake.signed(world.fake.events[0])
    news = await asyncio.gather(*(world.service.accept_event(*signed) for _ in range(10)))
    assert sorted(news) == [False] * 9 + [True]
    assert await stored_events(world) == 1


# --- what it leads to ---


async def test_a_completed_checkout_makes_its_account_though_the_buyer_never_returns(
    world: BillingWorld,
) -> None:
    session_id, _ = await world.service.start_checkout("buyer@example.com", base_url=BASE)
    world.fake.complete_checkout(session_id, email="Buyer@Example.com")
    await world.hear()
    [account] = await world.store.accounts_by_email("buyer@example.com")
    assert (account.email, account.tier, account.state) == ("Buyer@Example.com", "premium", "active")
    assert account.anchor_at == int(world.clock.time())


async def test_webhooks_and_the_page_at_once_make_one_account(world: BillingWorld) -> None:
    session_id, _ = await world.service.start_checkout("buyer@example.com", base_url=BASE)
    world.fake.complete_checkout(session_id)
    await asyncio.gather(*(world.standing.complete(session_id) for _ in range(10)))
    await world.hear()
    assert len(await world.store.accounts_by_email("buyer@example.com")) == 1


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("active", "active"),
        ("past_due", "past_due"),
        ("unpaid", "past_due"),
        ("canceled", "cancelled"),
        ("paused", "cancelled"),
        ("a_status_of_the_future", "past_due"),
    ],
)
async def test_the_account_follows_its_subscription(world: BillingWorld, status: str, state: str) -> None:
    account = await world.bought()
    world.fake.set_subscription(subscription_of(account), status)
    await world.hear()
    assert (await world.reload(account)).state == state
    if state == "active":
        await world.gate(caller_of(account), "full")
        return
    with pytest.raises(BillingFailed) as caught:
        await world.gate(caller_of(account), "full")
    assert caught.value.body()["account_state"] == state
    await world.gate(caller_of(account), "preview")
    await world.gate(caller_of(account), "test")


async def test_events_in_the_wrong_order_leave_what_stripe_says_now(world: BillingWorld) -> None:
    account = await world.bought()
    for status in ("past_due", "canceled", "active"):
        world.fake.set_subscription(subscription_of(account), status)
    world.fake.events.reverse()
    await world.hear()
    assert (await world.reload(account)).state == "active"


async def test_an_older_answer_does_not_replace_a_newer_one(world: BillingWorld) -> None:
    account = await world.bought()
    stale = await world.reload(account)
    world.fake.set_subscription(subscription_of(account), "past_due")
    await world.hear()
    assert not await world.store.apply_state(stale, state="active", disputes=(), anchor_at=None)
    assert (await world.reload(account)).state == "past_due"


async def test_a_dispute_keeps_the_account_from_new_jobs_until_it_is_won(world: BillingWorld) -> None:
    account = await world.bought()
    first = world.fake.open_dispute(customer_of(account))
    second = world.fake.open_dispute(customer_of(account))
    await world.hear()
    with pytest.raises(BillingFailed):
        await world.gate(caller_of(account), "full")
    world.fake.close_dispute(first, "won")
    await world.hear(since=len(world.fake.events) - 1)
    assert (await world.reload(account)).state == "disputed"
    world.fake.close_dispute(second, "won")
    await world.hear(since=len(world.fake.events) - 1)
    assert (await world.reload(account)).state == "active"


async def test_a_lost_dispute_stays_and_hides_no_later_payment(world: BillingWorld) -> None:
    account = await world.bought()
    dispute = world.fake.open_dispute(customer_of(account))
    world.fake.close_dispute(dispute, "lost")
    world.fake.set_subscription(subscription_of(account), "active")
    await world.hear()
    assert (await world.reload(account)).state == "disputed"


async def test_an_event_is_tried_again_while_stripe_is_away_and_given_up_in_the_end(
    world: BillingWorld,
) -> None:
    account = await world.bought()
    world.fake.set_subscription(subscription_of(account), "past_due")
    event = world.fake.events[-1]
    world.fake.fault = lambda _method, _path: "429"
    await world.service.accept_event(*world.fake.signed(event))
    for _ in range(3):
        assert await world.worker.step()
        assert not await world.worker.step()
        world.clock.advance(100)
    world.fake.fault = lambda _method, _path: None
    world.clock.advance(3600)
    assert await world.worker.step()
    assert (await world.reload(account)).state == "past_due"
    assert await world.store.failed_events() == []


async def test_an_event_that_never_works_is_kept_with_its_error(world: BillingWorld) -> None:
    account = await world.bought()
    world.fake.set_subscription(subscription_of(account), "past_due")
    await world.service.accept_event(*world.fake.signed(world.fake.events[-1]))
    world.fake.fault = lambda _method, _path: "429"
    steps = 0
    while await world.worker.step():
        steps += 1
        world.clock.advance(86_400)
    assert steps == 12
    [(event_id, _, error)] = await world.store.failed_events()
    assert (event_id, bool(error)) == (world.fake.events[-1]["id"], True)


async def test_events_of_strangers_and_of_other_kinds_change_nothing(world: BillingWorld) -> None:
    account = await world.bought()
    stranger = world.fake._add("subscription", "sub", customer="cus_stranger", status="past_due")
    world.fake.set_subscription(stranger["id"], "past_due")
    world.fake._tell("price.updated", world.fake.objects[subscription_of(account)])
    await world.hear()
    assert (await world.reload(account)).state == "active"


async def test_a_deleted_account_ends_its_subscription_with_the_week_though_stripe_is_away(
    world: BillingWorld,
) -> None:
    account = await world.bought()
    world.fake.fault = lambda _method, _path: "429"
    await world.store.queue_account_deleted(account.id)
    await world.store.queue_account_deleted(account.id)
    # Its time is the database's.
    world.clock.now = max(world.clock.now, time.time() + 60)
    assert await world.worker.step()
    assert "cancel_at_period_end" not in world.fake.objects[subscription_of(account)]
    world.fake.fault = lambda _method, _path: None
    world.clock.advance(3600)
    while await world.worker.step():
        pass
    assert world.fake.objects[subscription_of(account)]["cancel_at_period_end"]


async def test_an_account_without_a_subscription_has_nothing_to_end(world: BillingWorld) -> None:
    account = await world.bought()
    world.fake.set_subscription(subscription_of(account), "canceled")
    await world.hear()
    before = await stored_events(world)
    await world.store.queue_account_deleted(account.id)
    await world.store.queue_account_deleted("acct_nobody")
    assert await stored_events(world) == before


# --- the cap ---


async def test_a_cap_counts_the_billing_week_and_what_is_under_way(world: BillingWorld) -> None:
    account = await world.bought()
    caller = caller_of(account)
    await world.service.set_cap(caller, 10)
    await world.use(account, [9])
    await world.gate(caller, "full")
    await world.use(account, [1])
    with pytest.raises(BillingFailed) as caught:
        await world.gate(caller, "full")
    assert caught.value.retry_after_seconds is not None
    assert 0 < caught.value.retry_after_seconds <= WEEK_SECONDS
    # The week begins when the subscription did, so a week later it is another one.
    world.clock.advance(WEEK_SECONDS)
    await world.gate(caller, "full")


async def test_a_cap_of_nothing_stops_everything_and_no_cap_stops_nothing(world: BillingWorld) -> None:
    account = await world.bought()
    caller = caller_of(account)
    await world.service.set_cap(caller, 0)
    with pytest.raises(BillingFailed):
        await world.gate(caller, "full")
    await world.service.set_cap(caller, None)
    await world.use(account, [100_000])
    await world.gate(caller, "full")
