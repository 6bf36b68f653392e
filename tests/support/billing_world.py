"""Billing over a real database and the fake Stripe, for tests; time stands still unless the test moves it."""

from __future__ import annotations

import secrets
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import stripe
from pydantic import SecretStr
from sqlalchemy import insert, select

from stenobird.billing.service import open_billing
from stenobird.billing.standing import check_payment
from stenobird.billing.stripe_gateway import (
    API_VERSION,
    HTTPXClient,
    StripeGateway,
    open_stripe,
)
from stenobird.billing.worker import Metering
from stenobird.ports import Caller
from stenobird.storage.schema import usage
from stenobird.storage.stores import open_stores
from stenobird.testing import FakeClock
from tests.support.fake_stripe import FakeStripe, running_stripe
from tests.support.web_world import web_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from stenobird.billing.service import BillingService
    from stenobird.billing.standing import BillingStanding
    from stenobird.billing.stripe_gateway import StripeGateway
    from stenobird.billing.worker import BillingWorker
    from stenobird.config import Settings
    from stenobird.ports import Mode
    from stenobird.ports.billing import BillingAccount
    from stenobird.storage.billing_store import BillingStore
    from stenobird.storage.engine import Database
    from stenobird.storage.stores import Stores

BASE = "https://stenobird.test"
WEBHOOK_SECRETS = ("whsec_older", "whsec_fake")


@dataclass
class StripeSandbox:
    """A gateway that is set up, with a customer of its own. `fake` is `None` on Stripe itself."""

    gateway: StripeGateway
    settings: Settings
    fake: FakeStripe | None
    now: float
    customer_id: str

    @property
    def minute(self) -> int:
        """The start of a minute that began a few minutes ago."""
        return int(self.now) // 60 * 60 - 300


@asynccontextmanager
async def open_till(*, live_test_key: str | None = None) -> AsyncIterator[StripeSandbox]:
    """Open a sandbox on the fake, or, given a key, on Stripe's test mode."""
    async with AsyncExitStack() as stack:
        fake = None
        if live_test_key is None:
            clock = FakeClock()
            fake = await stack.enter_async_context(running_stripe(FakeStripe(clock)))
            base, key, now = fake.url, fake.secret_key, clock.time()
        else:
            base, key, now = "https://api.stripe.com", live_test_key, time.time()
        settings = web_settings(
            stripe_secret_key=SecretStr(key),
            stripe_webhook_secret=SecretStr(",".join(WEBHOOK_SECRETS)),
            stripe_meter_event_name="stenobird_contract_test",
            stripe_api_base=base,
        )
        async with open_stripe(settings) as first:
            _, price_id, portal_id, _ = await first.set_up(currency="usd", cents_a_minute="1")
        settings = settings.model_copy(
            update={
                "stripe_price_id": price_id,
                "stripe_portal_configuration_id": portal_id,
            }
        )
        gateway = await stack.enter_async_context(open_stripe(settings))
        if fake is not None:
            customer_id = f"cus_{secrets.token_hex(4)}"
            fake.objects[customer_id] = {"id": customer_id, "object": "customer"}
        else:
            http = HTTPXClient(timeout=180)
            stack.push_async_callback(http.close_async)
            client = stripe.StripeClient(key, stripe_version=API_VERSION, http_client=http)
            customer_id = (await client.v1.customers.create_async({"email": "contract@example.com"})).id
        yield StripeSandbox(gateway, settings, fake, now, customer_id)


@dataclass
class Mailbox:
    """A `Mailer` that keeps what it is given: address, subject, text."""

    mails: list[tuple[str, str, str]] = field(default_factory=list)

    async def send(self, to: str, subject: str, text: str) -> None:
        """Keep it."""
        self.mails.append((to, subject, text))


@dataclass
class BillingWorld:
    """Everything of billing, open, with the fake behind it."""

    clock: FakeClock
    stores: Stores
    fake: FakeStripe
    settings: Settings
    gateway: StripeGateway
    mailbox: Mailbox
    service: BillingService
    standing: BillingStanding
    worker: BillingWorker
    gate: Callable[[Caller, Mode], Awaitable[None]]

    @property
    def database(self) -> Database:
        """The database."""
        return self.stores.database

    @property
    def store(self) -> BillingStore:
        """What billing keeps."""
        return self.stores.billing

    def metering(self, **options: Any) -> Metering:
        """Return a metering of its own, as another process would have."""
        return Metering(self.store, self.gateway, self.clock, **options)

    async def bought(self, email: str = "buyer@example.com") -> BillingAccount:
        """Return an account that a checkout made."""
        session_id, _ = await self.service.start_checkout(email, base_url=BASE)
        self.fake.complete_checkout(session_id)
        checkout = await self.standing.complete(session_id)
        assert checkout is not None
        assert checkout.account_id is not None
        account = await self.store.account(checkout.account_id)
        assert account is not None
        return account

    async def reload(self, account: BillingAccount) -> BillingAccount:
        """Return the account as it is now."""
        found = await self.store.account(account.id)
        assert found is not None
        return found

    async def hear(self, *, since: int = 0) -> None:
        """Have every webhook event since then delivered and followed up."""
        for event in self.fake.events[since:]:
            await self.service.accept_event(*self.fake.signed(event))
        while await self.worker.step():
            pass

    async def use(
        self,
        account: BillingAccount,
        minutes: Sequence[int],
        *,
        at: float | None = None,
        apart_seconds: float = 0.0,
    ) -> list[str]:
        """Write ledger rows of completed jobs, the first the youngest; return the job ids."""
        last = at if at is not None else self.clock.time()
        jobs = [f"tr_{secrets.token_hex(11)}" for _ in minutes]
        async with self.database.write() as connection:
            await connection.execute(
                insert(usage),
                [
                    {
                        "id": f"use_{job}",
                        "job_id": job,
                        "account_id": account.id,
                        "minutes": count,
                        "audio_seconds": count * 60.0,
                        "created_at": last - apart_seconds * number,
                    }
                    for number, (job, count) in enumerate(zip(jobs, minutes, strict=True))
                ],
            )
        return jobs

    async def states(self) -> dict[str, str]:
        """Return the meter state of every ledger row by job."""
        async with self.database.read() as connection:
            found = await connection.execute(select(usage.c.job_id, usage.c.meter_state))
            return {row.job_id: row.meter_state for row in found}


def caller_of(account: BillingAccount, **changes: Any) -> Caller:
    """Return a caller with a live key of the account."""
    values: dict[str, Any] = {
        "account_id": account.id,
        "api_key_id": "key_1",
        "mode": "live",
        "scope": "full_access",
        "tier": account.tier,
    }
    return Caller(**{**values, **changes})


def stripe_settings(fake: FakeStripe, **changes: Any) -> Settings:
    """Return the settings of a service that sells minutes through the fake Stripe."""
    return web_settings(
        stripe_secret_key=SecretStr(fake.secret_key),
        stripe_webhook_secret=SecretStr(",".join(WEBHOOK_SECRETS)),
        stripe_price_id=fake.add_price("stenobird_audio_minutes"),
        stripe_api_base=fake.url,
        **({"public_url": BASE} | changes),
    )


@asynccontextmanager
async def billing_world(
    database_url: str,
    *,
    timeout_seconds: float | None = None,
    settings_of: Callable[[FakeStripe], Settings] = stripe_settings,
) -> AsyncIterator[BillingWorld]:
    """Open billing over this database while the context lasts."""
    clock, mailbox = FakeClock(), Mailbox()
    async with AsyncExitStack() as stack:
        fake = await stack.enter_async_context(running_stripe(FakeStripe(clock)))
        settings = settings_of(fake).model_copy(update={"database_url": SecretStr(database_url)})
        stores = await stack.enter_async_context(open_stores(settings))
        service, worker = await stack.enter_async_context(
            open_billing(settings, stores.billing, clock, mailer=mailbox, timeout_seconds=timeout_seconds)
        )
        assert service.standing is not None
        assert worker is not None
        yield BillingWorld(
            clock=clock,
            stores=stores,
            fake=fake,
            settings=settings,
            gateway=service.standing.gateway,
            mailbox=mailbox,
            service=service,
            standing=service.standing,
            worker=worker,
            gate=partial(check_payment, stores.billing, clock),
        )
