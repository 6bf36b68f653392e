"""The delivery log and the secrets on both databases."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stenobird.storage.delivery_store import DeliveryStore
from tests.support.webhook_world import OWNER, webhook_world

if TYPE_CHECKING:
    from stenobird.storage.engine import Database

pytestmark = pytest.mark.anyio

URL = "https://hooks.example/x"


async def test_claims_at_once_share_out_and_settle_each_once(database: Database) -> None:
    async with webhook_world(database) as world:
        for number in range(4):
            await world.accounts.create_account(
                f"acct_{number}", "other", "premium", "operator", by="operator"
            )
            for _ in range(4):
                await world.end_job(URL, account_id=f"acct_{number}")
        shares = await asyncio.gather(
            *(world.deliveries.claim(lease_seconds=60, limit=5, per_account=4) for _ in range(8))
        )
        left = await world.deliveries.claim(lease_seconds=60, limit=100, per_account=4)
        ids = [due.id for share in (*shares, left) for due in share]
        assert len(ids) == len(set(ids)) == 16
        world.clock.advance(59)
        assert await world.deliveries.claim(lease_seconds=60, limit=9, per_account=9) == []
        world.clock.advance(1)
        again = await world.deliveries.claim(lease_seconds=60, limit=99, per_account=2)
        assert len(again) == 8
        assert {(due.attempts, due.tries) for due in again} == {(2, 2)}


async def test_accounts_that_are_busy_get_what_is_left_of_their_share(database: Database) -> None:
    async with webhook_world(database) as world:
        for _ in range(6):
            await world.end_job(URL)
        for busy, expected in (({OWNER: 4}, 0), ({OWNER: 3, "acct_else": 4}, 1), ({}, 4)):
            claimed = await world.deliveries.claim(lease_seconds=60, limit=9, per_account=4, busy=busy)
            assert len(claimed) == expected


async def test_released_leases_are_due_at_once_and_count_no_try(database: Database) -> None:
    async with webhook_world(database) as world:
        await world.end_job(URL)
        await world.end_job(f"{URL}/waits")
        await world.deliveries.claim(lease_seconds=60, limit=1, per_account=1)
        assert await world.deliveries.release_leases() == 1
        again = await world.deliveries.claim(lease_seconds=60, limit=9, per_account=9)
        assert sorted((one.attempts, one.tries) for one in again) == [(1, 1), (2, 1)]
        [settled, waiting] = again
        await world.deliveries.note_delivered(settled, status_code=200)
        await world.deliveries.note_failed(waiting, retry_seconds=9, status_code=None, error="down")
        assert await world.deliveries.release_leases() == 0


async def test_deliveries_are_found_by_mode_state_and_job(database: Database) -> None:
    async with webhook_world(database) as world:
        live = await world.end_job(URL)
        sandbox = await world.end_job(URL, mode="test")
        for due in await world.deliveries.claim(lease_seconds=60, limit=9, per_account=9):
            if due.job_id == sandbox:
                assert due.mode == "test"
                await world.deliveries.note_delivered(due, status_code=200)

        async def found(**wanted: Any) -> list[str]:
            return [row.job_id for row in await world.deliveries.own_deliveries(OWNER, **wanted)]

        assert sorted(await found()) == sorted((live, sandbox))
        assert await found(mode="live") == [live]
        assert await found(mode="test", state="delivered") == [sandbox]
        assert await found(mode="test", state="dead") == []
        assert await found(job_id=live) == [live]
        [row] = await world.deliveries.own_deliveries(OWNER, job_id=live)
        assert row.mode == "live"
        assert await world.deliveries.replay(OWNER, row.id, mode="test") is None


async def test_each_mode_has_a_secret_of_its_own(database: Database) -> None:
    async with webhook_world(database) as world:
        now = world.clock.now
        live = await world.deliveries.signing_secrets(OWNER, mode="live", now=now)
        sandbox = await world.deliveries.signing_secrets(OWNER, mode="test", now=now)
        rotated = await world.deliveries.rotate_secret(OWNER, mode="test", now=now, overlap_seconds=60)
        assert live.current not in {sandbox.current, rotated.current}
        assert rotated.all == (rotated.current, sandbox.current)
        assert await world.deliveries.signing_secrets(OWNER, mode="live", now=now) == live


async def test_only_the_last_claim_fails_a_delivery_and_any_success_counts(database: Database) -> None:
    async with webhook_world(database) as world:
        await world.end_job(URL)
        [stale] = await world.deliveries.claim(lease_seconds=1, limit=1, per_account=1)
        world.clock.advance(1)
        [held] = await world.deliveries.claim(lease_seconds=60, limit=1, per_account=1)
        assert held.attempts == stale.attempts + 1
        await world.deliveries.note_failed(stale, retry_seconds=None, status_code=None, error="late")
        assert (await world.only()).state == "sending"
        await world.deliveries.note_failed(held, retry_seconds=9, status_code=500, error="down")
        row = await world.only()
        assert (row.state, row.next_attempt_at, row.error) == ("pending", world.clock.now + 9, "down")
        await world.deliveries.note_delivered(stale, status_code=200)
        row = await world.only()
        assert (row.state, row.error, row.settled_at) == ("delivered", None, world.clock.now)


async def test_a_disabled_target_is_dead_at_the_claim_until_a_replay(database: Database) -> None:
    long_url = f"{URL}?{'a' * 3000}"
    async with webhook_world(database) as world:
        await world.end_job(long_url)
        now = world.clock.now
        [due] = await world.deliveries.claim(lease_seconds=60, limit=1, per_account=1)
        await world.deliveries.disable_target(due, status_code=410, error="gone")
        await world.end_job(long_url)
        assert await world.deliveries.claim(lease_seconds=60, limit=1, per_account=1) == []
        assert [row.state for row in await world.log()] == ["dead", "dead"]
        replayed = await world.deliveries.replay(OWNER, due.id)
        assert replayed is not None
        assert (replayed.state, replayed.settled_at, replayed.next_attempt_at) == ("pending", None, now)
        await world.end_job(long_url)
        found = await world.deliveries.claim(lease_seconds=60, limit=9, per_account=9)
        assert sorted(one.tries for one in found) == [1, 1]


async def test_a_replay_of_what_is_being_sent_changes_nothing(database: Database) -> None:
    async with webhook_world(database) as world:
        await world.end_job(URL)
        now = world.clock.now
        [due] = await world.deliveries.claim(lease_seconds=60, limit=1, per_account=1)
        replayed = await world.deliveries.replay(OWNER, due.id)
        assert replayed is not None
        assert (replayed.state, replayed.next_attempt_at) == ("sending", now + 60)
        assert await world.deliveries.replay("acct_other", due.id) is None


async def test_rotations_at_once_leave_one_secret_and_one_before_it(database: Database) -> None:
    async with webhook_world(database) as world:
        now = world.clock.now
        made = await asyncio.gather(
            *(
                world.deliveries.rotate_secret(OWNER, mode="live", now=now, overlap_seconds=60)
                for _ in range(4)
            )
        )
        known = {one.current for one in made}
        last = await world.deliveries.signing_secrets(OWNER, mode="live", now=now + 59)
        assert len(known) == 4
        assert len(last.all) == 2
        assert set(last.all) <= known
        ended = await world.deliveries.signing_secrets(OWNER, mode="live", now=now + 60)
        assert (ended.all, ended.previous_until) == ((last.current,), None)


async def test_leases_and_waits_go_by_the_clock_of_the_database(database: Database) -> None:
    async with webhook_world(database) as world:
        await world.end_job(URL)
        # No other clock is asked: not that of the test either.
        store = DeliveryStore(database)
        [due] = await store.claim(lease_seconds=60, limit=9, per_account=9)
        assert await store.claim(lease_seconds=60, limit=9, per_account=9) == []
        [record] = await store.own_deliveries(OWNER)
        assert record.attempted_at is not None
        assert record.next_attempt_at is not None
        assert record.next_attempt_at - record.attempted_at == pytest.approx(60, abs=0.01)
        await store.note_failed(due, retry_seconds=0.0, status_code=None, error="down")
        [again] = await store.claim(lease_seconds=60, limit=9, per_account=9)
        assert again.tries == 2
        await store.disable_target(again, status_code=410, error="gone")
        replayed = await store.replay(OWNER, due.id)
        assert replayed is not None
        assert replayed.state == "pending"
        [last] = await store.claim(lease_seconds=60, limit=9, per_account=9)
        sending = await store.replay(OWNER, due.id)
        assert sending is not None
        assert sending.state == "sending"
        assert await store.release_leases() == 1
        await store.note_delivered(last, status_code=200)
        [record] = await store.own_deliveries(OWNER)
        assert (record.state, record.attempts) == ("delivered", 3)
