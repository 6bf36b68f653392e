"""Billing: Checkout, keys that are shown once, meter events, and account state from Stripe."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from stenobird.billing.mail import SMTPMailer
from stenobird.billing.service import BillingService
from stenobird.billing.standing import BillingStanding
from stenobird.billing.worker import BillingWorker, Metering

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stenobird.config import Settings
    from stenobird.ports import Clock
    from stenobird.ports.billing import Mailer
    from stenobird.storage.billing_store import BillingStore


@asynccontextmanager
async def open_billing(
    settings: Settings,
    store: BillingStore,
    clock: Clock,
    *,
    mailer: Mailer | None = None,
    timeout_seconds: float | None = None,
) -> AsyncIterator[tuple[BillingService, BillingWorker | None]]:
    """Open billing as the settings say; `mailer` replaces their mail server.

    Without Stripe in the settings there is no worker. Stripe has `timeout_seconds` to answer a request, or
    the gateway's own bound. Raises `ConfigurationError` for settings that don't fit together.
    """
    if settings.stripe_secret_key is None:
        yield BillingService(store, clock), None
        return
    # An installation that sells nothing never loads Stripe's library.
    from stenobird.billing.stripe_gateway import TIMEOUT_SECONDS, open_stripe  # noqa: PLC0415

    if mailer is None and settings.smtp_url is not None:
        mailer = SMTPMailer.of(settings.smtp_url.get_secret_value(), settings.smtp_from)
    if settings.public_url is None:
        # Without a configured address, a forged Host header could point the mailed link elsewhere.
        mailer = None
    async with open_stripe(settings, timeout_seconds=timeout_seconds or TIMEOUT_SECONDS) as gateway:
        standing = BillingStanding(store, gateway, clock)
        wake = asyncio.Event()
        service = BillingService(
            store,
            clock,
            standing=standing,
            mailer=mailer,
            public_url=settings.public_url or "",
            wake=wake.set,
        )
        worker = BillingWorker(
            store,
            standing,
            Metering(store, gateway, clock),
            clock,
            wake=wake,
            mails=service.send_recoveries if mailer is not None else None,
        )
        yield service, worker
