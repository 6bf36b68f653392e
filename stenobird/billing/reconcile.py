"""Compares the ledger with Stripe's counts, customer by customer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stenobird.ports.billing import BillingGateway, BillingStore

PAGE = 100


@dataclass(frozen=True, slots=True)
class Comparison:
    """The minutes of one customer within one period."""

    account_id: str
    customer_id: str
    ledger_minutes: int
    in_doubt_minutes: int
    stripe_minutes: int

    @property
    def difference(self) -> int:
        """Minutes that Stripe counted beyond the ledger's sent rows; negative if Stripe lacks some."""
        return self.stripe_minutes - self.ledger_minutes

    @property
    def agrees(self) -> bool:
        """Whether rows in doubt explain the whole difference."""
        return 0 <= self.difference <= self.in_doubt_minutes


async def compare(
    store: BillingStore, gateway: BillingGateway, *, since: float, until: float
) -> AsyncIterator[Comparison]:
    """Yield a comparison for every account with a customer; the period is widened to whole minutes.

    Stripe's summaries lag by minutes, so a period that ends now may differ without an error.
    Raises `GatewayError`.
    """
    start, end = int(since) // 60 * 60, -int(-until // 60) * 60
    after = ""
    while accounts := await store.paying_accounts(after=after, limit=PAGE):
        for account in accounts:
            assert account.customer_id is not None
            ledger = await store.ledger_minutes(account.customer_id, since=start, until=end)
            counted = await gateway.meter_minutes(account.customer_id, since=start, until=end)
            yield Comparison(
                account_id=account.id,
                customer_id=account.customer_id,
                ledger_minutes=ledger.sent,
                in_doubt_minutes=sum(row.minutes for row in ledger.unknown),
                stripe_minutes=counted,
            )
        after = accounts[-1].id
