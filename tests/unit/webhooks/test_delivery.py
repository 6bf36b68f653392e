"""Webhooks of finished jobs: signed, at least once under a stable id, for three days, never inside."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from typing import TYPE_CHECKING, Any

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from stenobird.errors import StorageUnavailable
from stenobird.ports import Clock
from stenobird.storage.delivery_store import DeliveryStore
from stenobird.testing import FakeClock
from stenobird.webhooks.delivery import (
    ANSWER_BYTES,
    LEASE_SECONDS,
    PER_ACCOUNT,
    POST_SECONDS,
    WebhookDeliverer,
)
from stenobird.webhooks.schemas import WebhookEvent
from stenobird.webhooks.service import OVERLAP_SECONDS
from tests.support.canary import open_canary
from tests.support.faults import FaultyDatabase
from tests.support.raw_server import RawRequest, RawServer, open_server
from tests.support.until import async_until
from tests.support.webhook_world import OWNER, Receiver, WebhookWorld, webhook_world

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyio.abc import SocketStream

    from stenobird.ports import KeyMode
    from stenobird.ports.webhooks import Delivery, SigningSecrets
    from stenobird.storage.engine import Database

pytestmark = pytest.mark.anyio

HOUR = 3600.0


def alefbot_accepts(secret: str, request: RawRequest, body: bytes) -> bool:
    """Whether an AlefBot receiver would accept it: signed anew from the parsed body."""
    again = json.dumps(json.loads(body), separators=(",", ":"), sort_keys=True)
    message = f"{request.headers['x-alefbot-timestamp']}.{again}".encode()
    wanted = hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted, request.headers["x-alefbot-signature"])


# --- what is sent -------------------------------------------------------------------------------------------


async def test_a_finished_job_is_delivered_once_and_verifies_with_the_library(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    job_id = await world.end_job(server.url("/hook"))
    deliverer = world.deliverer()
    assert [await deliverer.step(), await deliverer.step()] == [1, 0]

    [request] = receiver.requests
    assert (request.method, request.target) == ("POST", "/hook")
    secret = await world.secret()
    body = Webhook(secret).verify(request.body, dict(request.headers))
    assert body == {
        "event_id": request.headers["webhook-id"],
        "event_type": "transcription.cancelled",
        "job_id": job_id,
        "status": "cancelled",
        "created_at": body["created_at"],
    }
    assert request.body == json.dumps(body, separators=(",", ":"), sort_keys=True).encode("ascii")
    assert body.keys() == WebhookEvent.model_fields.keys()
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(request.body.replace(b"cancelled", b"completed"), dict(request.headers))
    assert not any(name.startswith("x-alefbot") for name in request.headers)

    row = await world.only()
    assert (row.state, row.attempts, row.status_code, row.error) == ("delivered", 1, 204, None)
    assert (row.event_id, row.next_attempt_at) == (request.headers["webhook-id"], None)


async def test_a_job_of_the_second_dialect_has_its_signature_too(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    await world.end_job(server.url(), origin="alefbot")
    await world.deliverer().step()
    [request] = receiver.requests
    secret = await world.secret()
    Webhook(secret).verify(request.body, dict(request.headers))
    assert alefbot_accepts(secret, request, request.body)
    assert not alefbot_accepts(secret, request, request.body.replace(b"tr_1", b"tr_2"))
    signature = request.headers["x-alefbot-signature"]
    assert len(signature) == 64
    assert set(signature) <= set("0123456789abcdef")


async def test_a_job_of_a_test_key_is_signed_with_the_secret_of_test_keys(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    await world.end_job(server.url(), origin="alefbot", mode="test")
    await world.deliverer().step()
    [request] = receiver.requests
    sandbox = await world.secret(mode="test")
    Webhook(sandbox).verify(request.body, dict(request.headers))
    assert alefbot_accepts(sandbox, request, request.body)
    live = await world.secret()
    assert live != sandbox
    with pytest.raises(WebhookVerificationError):
        Webhook(live).verify(request.body, dict(request.headers))


async def test_a_rotated_secret_signs_beside_the_new_one_for_a_day(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    old = await world.secret()
    rotated = await world.deliveries.rotate_secret(
        OWNER, mode="live", now=world.clock.now, overlap_seconds=OVERLAP_SECONDS
    )
    await world.end_job(server.url(), origin="alefbot")
    await world.deliverer().step()
    world.clock.advance(OVERLAP_SECONDS)
    await world.end_job(server.url())
    await world.deliverer().step()

    during, after = receiver.requests
    for secret in (old, rotated.current):
        Webhook(secret).verify(during.body, dict(during.headers))
    assert alefbot_accepts(rotated.current, during, during.body)
    assert old != rotated.current
    assert [len(one.headers["webhook-signature"].split()) for one in (during, after)] == [2, 1]


# --- receivers that are down --------------------------------------------------------------------------------


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("down_as", [503, None])
async def test_a_receiver_down_for_60_hours_gets_every_event_under_its_id(
    world: WebhookWorld, server: RawServer, receiver: Receiver, chance: float, down_as: int | None
) -> None:
    receiver.status = down_as
    for _ in range(3):
        await world.end_job(server.url())
    ids = {row.event_id for row in await world.log()}
    deliverer = world.deliverer(chance=chance)
    await world.work_until(world.clock.now + 60 * HOUR, deliverer)
    assert {row.state for row in await world.log()} == {"pending"}
    assert {request.headers["webhook-id"] for request in receiver.requests} == ids

    receiver.status = 204
    await world.work_until(world.clock.now + 24 * HOUR, deliverer)
    assert sorted(receiver.accepted) == sorted(ids)
    assert {row.state for row in await world.log()} == {"delivered"}


@pytest.mark.parametrize("chance", [0.0, 1.0])
async def test_a_receiver_down_for_90_hours_leaves_dead_letters_that_a_replay_delivers(
    world: WebhookWorld, server: RawServer, receiver: Receiver, chance: float
) -> None:
    receiver.status = 503
    for _ in range(3):
        await world.end_job(server.url())
    deliverer = world.deliverer(chance=chance)
    await world.work_until(world.clock.now + 90 * HOUR, deliverer)
    dead = await world.log()
    assert {(row.state, row.attempts, row.status_code) for row in dead} == {("dead", 15, 503)}
    assert receiver.accepted == []

    receiver.status = 200
    assert await deliverer.step() == 0
    for row in dead:
        replayed = await world.deliveries.replay(OWNER, row.id)
        assert replayed is not None
        assert replayed.state == "pending"
    assert await deliverer.step() == 3
    assert sorted(receiver.accepted) == sorted(row.event_id for row in dead)
    assert {row.state for row in await world.log()} == {"delivered"}


@pytest.mark.parametrize(
    ("asked", "wait"),
    [
        ("90", 90.0),
        ("1", 5.0),
        ("86400", 3600.0),
        ("soon", 5.0),
        ("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", 5.0),
    ],
)
async def test_a_receiver_may_ask_to_be_called_later(
    world: WebhookWorld, server: RawServer, receiver: Receiver, asked: str, wait: float
) -> None:
    receiver.status, receiver.headers = 429, {"Retry-After": asked}
    await world.end_job(server.url())
    chance = 0.5 if wait == 5.0 else 0.0
    await world.deliverer(chance=chance).step()
    row = await world.only()
    assert (row.state, row.next_attempt_at) == ("pending", world.clock.now + wait)


class BrokenSecrets(DeliveryStore):
    """Fails for one account in a way that nobody foresaw."""

    broken = "acct_broken"

    async def signing_secrets(self, account_id: str, *, mode: KeyMode, now: float) -> SigningSecrets:
        if account_id == self.broken:
            raise ValueError("unforeseen")
        return await super().signing_secrets(account_id, mode=mode, now=now)


async def test_an_unexpected_error_fails_only_its_delivery(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    broken = BrokenSecrets.broken
    await world.accounts.create_account(broken, broken, "premium", "operator", by="operator")
    await world.end_job(server.url(), account_id=broken)
    await world.end_job(server.url())
    store = BrokenSecrets(world.database, now=world.clock.time)
    deliverer = WebhookDeliverer(store, world.client, world.clock, chance=lambda: 0.5)
    assert await deliverer.step() == 2
    assert (await world.only()).state == "delivered"
    [failed] = await world.log(broken)
    assert (failed.state, failed.next_attempt_at) == ("pending", world.clock.now + 5.0)
    assert len(receiver.accepted) == 1


class SurprisingDeliveries(DeliveryStore):
    """Can't claim the first time, for a reason that nobody foresaw."""

    def __init__(self, database: Database, *, now: Callable[[], float]) -> None:
        super().__init__(database, now=now)
        self.calls = 0
        self.delivered = asyncio.Event()

    async def claim(self, **bounds: Any) -> Sequence[Delivery]:
        self.calls += 1
        if self.calls == 1:
            raise KeyError("unforeseen")
        return await super().claim(**bounds)

    async def note_delivered(self, due: Delivery, *, status_code: int) -> None:
        await super().note_delivered(due, status_code=status_code)
        self.delivered.set()


async def test_an_unexpected_error_in_a_claim_is_retried(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    await world.end_job(server.url())
    store = SurprisingDeliveries(world.database, now=world.clock.time)
    deliverer = WebhookDeliverer(store, world.client, Clock(), poll_seconds=0.1)
    async with asyncio.timeout(180), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(deliverer.run())
        await store.delivered.wait()
        running.cancel()
    assert store.calls > 1
    assert len(receiver.accepted) == 1


async def test_what_this_process_commits_is_sent_without_waiting_for_the_poll(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    deliverer = WebhookDeliverer(world.deliveries, world.client, Clock(), poll_seconds=300)
    async with asyncio.timeout(180), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(deliverer.run())
        for _ in range(3):
            before = len(receiver.accepted)
            await world.end_job(server.url())
            await async_until(lambda before=before: len(receiver.accepted) > before)  # type: ignore[misc]
        running.cancel()


# --- crashes ------------------------------------------------------------------------------------------------


async def test_a_crash_between_the_post_and_its_commit_repeats_the_same_event(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    await world.secret()
    await world.end_job(server.url())
    broken = FaultyDatabase.over(world.database, ["ok", "lost before"])
    assert await world.deliverer(database=broken).step() == 1
    assert (await world.only()).state == "sending"

    deliverer = world.deliverer()
    assert await deliverer.step() == 0
    world.clock.advance(LEASE_SECONDS)
    assert await deliverer.step() == 1
    one, two = receiver.requests
    assert one.headers["webhook-id"] == two.headers["webhook-id"]
    assert one.body == two.body
    row = await world.only()
    assert (row.state, row.attempts) == ("delivered", 2)


async def test_a_lost_answer_to_the_commit_sends_nothing_twice(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    await world.secret()
    await world.end_job(server.url())
    broken = FaultyDatabase.over(world.database, ["ok", "lost after"])
    await world.deliverer(database=broken).step()
    world.clock.advance(HOUR)
    assert await world.deliverer().step() == 0
    assert len(receiver.accepted) == 1
    assert (await world.only()).state == "delivered"


async def test_a_worker_that_ends_in_mid_post_leaves_the_event_to_another(
    world: WebhookWorld, receiver: Receiver
) -> None:
    asked = asyncio.Event()
    first = asyncio.Event()

    async def slow_once(request: RawRequest, stream: SocketStream) -> None:
        if not first.is_set():
            first.set()
            asked.set()
            await stream.receive()
            return
        await receiver(request, stream)

    async with open_server(slow_once) as server:
        await world.end_job(server.url())
        worker = asyncio.create_task(world.deliverer().run())
        await asked.wait()
        worker.cancel()
        await asyncio.wait([worker])
        assert (await world.only()).state == "sending"
        world.clock.advance(LEASE_SECONDS)
        await world.deliverer().step()
        ids = {request.headers["webhook-id"] for request in server.requests}
    assert ids == {(await world.only()).event_id}
    assert (await world.only()).state == "delivered"


async def test_a_late_failure_does_not_undo_what_another_worker_delivered(
    world: WebhookWorld, server: RawServer
) -> None:
    await world.end_job(server.url())
    [stalled] = await world.deliveries.claim(lease_seconds=10.0, limit=1, per_account=1)
    world.clock.advance(10.0)
    await world.deliverer().step()
    await world.deliveries.note_failed(stalled, retry_seconds=0.0, status_code=500, error="late")
    await world.deliveries.disable_target(stalled, status_code=410, error="late")
    assert (await world.only()).state == "delivered"
    await world.end_job(server.url())
    assert await world.deliverer().step() == 1


async def test_an_unreachable_database_is_waited_for(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    await world.secret()
    await world.end_job(server.url())
    broken = FaultyDatabase.over(world.database, ["lost before", "lost before"])
    worker = asyncio.create_task(world.deliverer(database=broken).run())
    await async_until(lambda: receiver.accepted)
    worker.cancel()
    await asyncio.wait([worker])
    assert len(receiver.accepted) == 1


async def test_a_worker_whose_lease_is_nearly_over_sends_nothing(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    await world.secret()
    await world.end_job(server.url())

    class Slow(DeliveryStore):
        async def signing_secrets(self, account_id: str, *, mode: KeyMode, now: float) -> SigningSecrets:
            world.clock.advance(LEASE_SECONDS - POST_SECONDS + 1)
            return await super().signing_secrets(account_id, mode=mode, now=now)

    slow = WebhookDeliverer(
        Slow(world.database, now=world.clock.time), world.client, world.clock, chance=lambda: 0.5
    )
    await slow.step()
    assert receiver.requests == []
    world.clock.advance(POST_SECONDS)
    await world.deliverer().step()
    assert len(receiver.accepted) == 1


async def test_a_worker_whose_clock_is_wrong_takes_nothing_from_another(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    await world.end_job(server.url())
    await world.deliveries.claim(lease_seconds=60, limit=1, per_account=1)
    wrong = FakeClock(world.clock.now + HOUR)
    ahead = WebhookDeliverer(world.deliveries, world.client, wrong, chance=lambda: 0.5)
    assert await ahead.step() == 0
    assert receiver.requests == []


async def test_what_a_dead_process_was_sending_is_due_at_once_and_costs_no_try(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    await world.end_job(server.url())
    await world.deliveries.claim(lease_seconds=60, limit=1, per_account=1)
    assert await world.deliverer().step() == 0
    assert await world.deliveries.release_leases() == 1
    [due] = await world.deliveries.claim(lease_seconds=60, limit=1, per_account=1)
    assert (due.attempts, due.tries) == (2, 1)
    await world.deliveries.note_delivered(due, status_code=200)
    assert await world.deliveries.release_leases() == 0
    assert receiver.requests == []


async def test_a_step_says_that_the_database_is_away(world: WebhookWorld, server: RawServer) -> None:
    await world.end_job(server.url())
    broken = FaultyDatabase.over(world.database, ["lost before"])
    with pytest.raises(StorageUnavailable):
        await world.deliverer(database=broken).step()


# --- workers beside each other ------------------------------------------------------------------------------


async def test_two_workers_send_each_event_once(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    for _ in range(12):
        await world.end_job(server.url())
    one, two = world.deliverer(), world.deliverer()
    while sum(await asyncio.gather(one.step(), two.step())):
        pass
    assert sorted(receiver.accepted) == sorted({row.event_id for row in await world.log()})
    assert len(receiver.accepted) == 12


async def test_one_account_cannot_take_all_the_places(world: WebhookWorld, server: RawServer) -> None:
    await world.accounts.create_account("acct_other", "other", "premium", "operator", by="operator")
    for _ in range(10):
        await world.end_job(server.url())
    await world.end_job(server.url(), account_id="acct_other")
    claimed = await world.deliveries.claim(lease_seconds=60, limit=5, per_account=4)
    assert [due.account_id for due in claimed].count(OWNER) == 4
    assert [due.account_id for due in claimed].count("acct_other") == 1


async def test_a_receiver_that_does_not_answer_holds_up_no_other(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    await world.accounts.create_account("acct_other", "other", "premium", "operator", by="operator")
    stuck = asyncio.Event()

    async def never(_request: RawRequest, stream: SocketStream) -> None:
        stuck.set()
        await stream.receive()

    async with open_server(never) as silent:
        for _ in range(6):
            await world.end_job(silent.url())
        worker = asyncio.create_task(world.deliverer().run())
        await stuck.wait()
        for _ in range(3):
            await world.end_job(server.url(), account_id="acct_other")
        await async_until(lambda: len(receiver.accepted) >= 3)
        assert len(silent.requests) <= PER_ACCOUNT
        worker.cancel()
        await asyncio.wait([worker])
    assert sorted(receiver.accepted) == sorted(row.event_id for row in await world.log("acct_other"))


# --- answers that are no 2xx --------------------------------------------------------------------------------


async def test_410_disables_the_target_for_the_account_until_a_replay(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    receiver.status = 410
    await world.end_job(server.url("/gone"))
    deliverer = world.deliverer()
    await deliverer.step()
    row = await world.only()
    assert (row.state, row.attempts, row.status_code) == ("dead", 1, 410)

    receiver.status = 200
    await world.end_job(server.url("/gone"))
    await world.end_job(server.url("/other"))
    await deliverer.step()
    assert [request.target for request in receiver.requests] == ["/gone", "/other"]
    assert sorted(row.state for row in await world.log()) == ["dead", "dead", "delivered"]

    await world.deliveries.replay(OWNER, row.id)
    await world.end_job(server.url("/gone"))
    await deliverer.step()
    assert [request.target for request in receiver.requests][2:] == ["/gone", "/gone"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_not_followed(
    world: WebhookWorld, server: RawServer, receiver: Receiver, status: int
) -> None:
    async with open_canary() as canary:
        receiver.status = status
        receiver.headers = {"Location": f"http://127.0.0.1:{canary.port}/"}
        await world.end_job(server.url())
        await world.deliverer().step()
        assert await canary.settle() == 0
    row = await world.only()
    assert (row.state, row.status_code, len(receiver.requests)) == ("pending", status, 1)
    assert row.error is not None
    assert "redirect" in row.error


async def test_an_endless_answer_is_not_read(world: WebhookWorld) -> None:
    sent = 0

    async def endless(_request: RawRequest, stream: SocketStream) -> None:
        nonlocal sent
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
        while True:
            await stream.send(b"x" * ANSWER_BYTES)
            sent += ANSWER_BYTES

    async with open_server(endless) as server:
        await world.end_job(server.url())
        await world.deliverer().step()
    assert (await world.only()).state == "delivered"
    assert sent < 50_000_000


# --- where nothing is sent ----------------------------------------------------------------------------------


async def test_nothing_reaches_a_private_address_however_it_is_named(database: Database) -> None:
    names = {
        "inside.example": [["127.0.0.1"]],
        "mixed.example": [["93.184.216.34", "127.0.0.1"]],
    }
    async with open_canary() as canary, webhook_world(database, allow=(), names=names) as world:
        for host in ("inside.example", "mixed.example", "127.0.0.1", "2130706433", "[::ffff:127.0.0.1]"):
            await world.end_job(f"http://{host}:{canary.port}/hook")
        await world.work_until(world.clock.now + 90 * HOUR, world.deliverer())
        assert await canary.settle() == 0
        rows = await world.log()
    assert {(row.state, row.attempts, row.status_code) for row in rows} == {("dead", 15, None)}


async def test_events_of_a_deleted_account_are_not_sent(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    await world.end_job(server.url())
    await world.accounts.delete_account(OWNER, by="owner")
    assert await world.log() == []
    # A job that was under way ends after its account.
    await world.end_job(server.url())
    assert await world.deliverer().step() == 0
    assert (await world.log(), receiver.requests) == ([], [])


async def test_purging_keeps_what_is_still_to_be_sent(world: WebhookWorld, server: RawServer) -> None:
    await world.end_job(server.url())
    await world.deliverer().step()
    await world.end_job(server.url("/later"))
    assert await world.deliveries.purge(settled_before=world.clock.now) == 0
    assert await world.deliveries.purge(settled_before=world.clock.now + 1) == 1
    assert [row.url for row in await world.log()] == [server.url("/later")]
