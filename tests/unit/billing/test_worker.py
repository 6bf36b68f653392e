"""The billing worker goes on, whatever one step of it does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stenobird.billing.mail import SMTPMailer
from stenobird.billing.service import BillingService
from stenobird.billing.worker import BillingWorker, Metering
from stenobird.errors import BillingUnavailable
from stenobird.storage.billing_store import BillingStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.ports.billing import MeterState, StoredEvent
    from stenobird.storage.engine import Database
    from tests.support.billing_world import BillingWorld

pytestmark = pytest.mark.anyio


class SurprisingStore(BillingStore):
    """Fails once in a way that nobody foresaw, and is content the second time."""

    calls = 0

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.wake = asyncio.Event()
        self.settled = asyncio.Event()

    async def claim_event(self, *, now: float, lease_seconds: float) -> StoredEvent | None:
        self.calls += 1
        # So that nobody waits for the next poll.
        self.wake.set()
        if self.calls == 1:
            raise KeyError("unforeseen")
        return await super().claim_event(now=now, lease_seconds=lease_seconds)

    async def settle_usage(self, job_ids: Sequence[str], state: MeterState, **more: Any) -> None:
        await super().settle_usage(job_ids, state, **more)
        self.settled.set()


async def test_an_unexpected_error_in_a_step_does_not_stop_the_worker(world: BillingWorld) -> None:
    account = await world.bought()
    [job] = await world.use(account, [5])
    store = SurprisingStore(world.database)
    metering = Metering(store, world.gateway, world.clock)
    worker = BillingWorker(store, world.standing, metering, world.clock, wake=store.wake)
    async with asyncio.timeout(180), asyncio.TaskGroup() as tasks:
        running = tasks.create_task(worker.run())
        await store.settled.wait()
        running.cancel()
    assert await world.states() == {job: "sent"}
    assert store.calls > 1


async def test_an_address_that_no_header_can_hold_is_a_mail_that_could_not_be_sent() -> None:
    mailer = SMTPMailer.of("smtp://127.0.0.1:1", "keys@stenobird.test")
    with pytest.raises(BillingUnavailable):
        await mailer.send("someone@example.com\nBcc: all@example.com", "Subject", "Text")


async def test_an_unexpected_error_in_a_mail_does_not_stop_the_next(
    world: BillingWorld,
) -> None:
    account = await world.bought()
    assert account.email is not None
    sent = asyncio.Event()

    class Mailer:
        calls = 0

        async def send(self, _to: str, _subject: str, _text: str) -> None:
            self.calls += 1
            if self.calls == 1:
                raise KeyError("unforeseen")
            sent.set()

    service = BillingService(world.store, world.clock, mailer=Mailer(), public_url="https://stenobird.test")
    async with asyncio.timeout(180), asyncio.TaskGroup() as tasks:
        mails = tasks.create_task(service.send_recoveries())
        service.ask_recovery(account.email)
        service.ask_recovery(account.email)
        await sent.wait()
        mails.cancel()
