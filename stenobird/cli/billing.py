"""`stenobird billing`: set up Stripe, show its state, compare the ledger with what Stripe counted."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stenobird.billing.service import open_billing
from stenobird.billing.standing import BillingStanding
from stenobird.billing.worker import Comparison, compare
from stenobird.cli.local import with_storage
from stenobird.cli.output import print_table
from stenobird.config import Settings
from stenobird.errors import ConfigurationError, StenobirdError
from stenobird.ports import Clock
from stenobird.ports.billing import KeyRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stenobird.billing.stripe_gateway import StripeGateway
    from stenobird.bootstrap import Storage
    from stenobird.ports import KeyRecord
    from stenobird.storage.billing_store import BillingStore

T = TypeVar("T")

SETTLING_SECONDS = 900
"""Stripe's summaries lag, so comparisons leave out the last minutes."""


@click.group()
def billing() -> None:
    """Set up and check payments through Stripe."""


@billing.command()
@click.option("--currency", default="usd", show_default=True)
@click.option("--cents", default="1", show_default=True, help="Cents per minute; may have decimals.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def setup(currency: str, cents: str, *, as_json: bool) -> None:
    """Create the meter, product, weekly metered price and customer portal in Stripe, if missing.

    Prints their settings. It may be run again: what exists is used.
    """
    meter_id, price_id, portal_id, made = _with_stripe(
        lambda _, gateway: gateway.set_up(currency=currency, cents_a_minute=cents)
    )
    settings = {
        "STENOBIRD_STRIPE_PRICE_ID": price_id,
        "STENOBIRD_STRIPE_PORTAL_CONFIGURATION_ID": portal_id,
    }
    if as_json:
        click.echo(json.dumps({"made": made, "meter_id": meter_id, "settings": settings}))
        return
    click.echo(f"Created: {', '.join(made) or 'nothing, everything existed'}. Put these into .env:\n")
    for name, value in settings.items():
        click.echo(f"{name}={value}")
    click.echo(
        "\nThen add a webhook destination in Stripe to <your address>/v1/billing/webhook, and its secret as "
        "STENOBIRD_STRIPE_WEBHOOK_SECRET: docs/how-to/stripe.md names the events."
    )


@billing.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(*, as_json: bool) -> None:
    """Show what was reported to Stripe, what it refused, and which webhook events failed."""
    settings = Settings()

    async def run(storage: Storage) -> dict[str, object]:
        store = storage.stores.billing
        counts = await store.meter_counts()
        return {
            "configured": settings.stripe_secret_key is not None,
            "price": settings.stripe_price_id,
            "meter_events": {
                state: {"jobs": jobs, "minutes": minutes} for state, (jobs, minutes) in counts.items()
            },
            "refused": [
                dict(zip(("job", "account", "minutes", "reason"), row, strict=True))
                for row in await store.rejected_usage()
            ],
            "stuck_events": [
                dict(zip(("event", "type", "reason"), row, strict=True))
                for row in await store.failed_events()
            ],
        }

    found = with_storage(run)
    click.echo(json.dumps(found, indent=None if as_json else 2))


@billing.command()
@click.option("--days", type=click.FloatRange(min=0.01, max=35), default=7.0, show_default=True)
@click.option("--resend", is_flag=True, help="Report what Stripe refused again, with new identifiers.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def reconcile(days: float, *, resend: bool, as_json: bool) -> None:
    """Compare the ledger with what Stripe counted; exit status 1 if they differ.

    Minutes in doubt are settled automatically within about a day. Use --resend after you have fixed the
    reason for which Stripe refused, such as an archived meter: a running service then reports them again.
    """

    async def work(store: BillingStore, gateway: StripeGateway) -> tuple[list[Comparison], int]:
        now = time.time()
        compared = compare(store, gateway, since=now - days * 86_400, until=now - SETTLING_SECONDS)
        found = [comparison async for comparison in compared]
        refused = [row[0] for row in await store.rejected_usage()] if resend else []
        await store.renew_usage(refused, until=now)
        return found, len(refused)

    comparisons, sent_again = _with_stripe(work)
    names = ("ledger_minutes", "in_doubt_minutes", "stripe_minutes", "difference", "agrees")
    rows: list[dict[str, Any]] = [
        {"account": row.account_id, "customer": row.customer_id}
        | {name: getattr(row, name) for name in names}
        for row in comparisons
    ]
    if as_json:
        click.echo(json.dumps(rows))
    else:
        print_table(
            ("account", "customer", "ledger", "in doubt", "Stripe", "difference", "agrees"),
            (list(map(str, (row | {"agrees": "yes" if row["agrees"] else "NO"}).values())) for row in rows),
        )
    if sent_again:
        click.echo(f"{sent_again} refused rows will be reported again.", err=True)
    if not all(row.agrees for row in comparisons):
        sys.exit(1)


@billing.command()
@click.argument("email")
def remint(email: str) -> None:
    """Create a key for each account with this e-mail address, and print it once.

    For customers who lost their key; verify who is asking. Their other keys stay valid.
    """

    async def run(storage: Storage) -> list[tuple[str, KeyRecord]]:
        found = await storage.stores.billing.accounts_by_email(email)
        return [await storage.keys.create(name="reminted", account_id=account.id) for account in found]

    made = with_storage(run)
    if not made:
        raise StenobirdError("There is no account with this e-mail address.")
    for secret, record in made:
        click.echo(f"{record.account_id} {secret}")


@billing.command("clear-disputes")
@click.argument("account_id")
def clear_disputes(account_id: str) -> None:
    """Let an account with lost or open disputes start jobs again, if its subscription is paid."""

    async def work(store: BillingStore, gateway: StripeGateway) -> str:
        account = await store.account(account_id)
        if account is None:
            raise StenobirdError(f"There is no account {account_id}.")
        state = "active" if account.state == "disputed" else account.state
        await store.apply_state(account, state=state, disputes=(), anchor_at=None)
        cleared = await store.account(account_id)
        assert cleared is not None
        await BillingStanding(store, gateway, Clock()).refresh(cleared)
        now = await store.account(account_id)
        assert now is not None
        return now.state

    click.echo(f"{account_id} is {_with_stripe(work)}.")


def _with_stripe(work: Callable[[BillingStore, StripeGateway], Awaitable[T]]) -> T:
    """Return the result of `work`, run with the storage and the gateway that the settings select."""
    settings = Settings()

    async def run(storage: Storage) -> T:
        store = storage.stores.billing
        async with open_billing(settings, store, Clock()) as (service, _):
            if service.standing is None:
                raise ConfigurationError(
                    "Stripe is not set up: set STENOBIRD_STRIPE_SECRET_KEY first, see docs/how-to/stripe.md."
                )
            try:
                return await work(store, service.standing.gateway)
            except KeyRefused as exc:
                raise ConfigurationError(
                    "Stripe does not accept STENOBIRD_STRIPE_SECRET_KEY: it is wrong, revoked, or lacks a "
                    "permission. docs/how-to/stripe.md lists what it needs."
                ) from exc

    return with_storage(run)
