"""The billing state of accounts: follows Stripe's, and keeps accounts that don't pay from new paid jobs.

A webhook event is handled by fetching the current state from Stripe and storing it.

Only the ids in an event's body are used, so duplicates and the order of arrival make no difference. The
version of the account's row keeps an older answer from replacing a newer one.
"""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

import structlog

from stenobird.errors import BillingFailed, StorageUnavailable
from stenobird.ports.billing import ACCOUNT_DELETED, WEEK_SECONDS, BillingAccount, Checkout, StoredEvent

if TYPE_CHECKING:
    from stenobird.billing.stripe_gateway import StripeGateway
    from stenobird.ports import AccountState, Caller, Clock, Mode
    from stenobird.storage.billing_store import BillingStore

REFRESH_ATTEMPTS: Final = 5
CHECKOUT_TIER: Final = "premium"

_METER_REPORTS: Final = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")

_log = structlog.get_logger(__name__)


class BillingStanding:
    """Updates accounts to their state at Stripe. Raises `GatewayError` and `StorageUnavailable`."""

    def __init__(self, store: BillingStore, gateway: StripeGateway, clock: Clock) -> None:
        self._store = store
        self.gateway = gateway
        self._clock = clock
        self._refresh_lock = asyncio.Lock()

    async def handle(self, event: StoredEvent) -> None:
        """Handle one event. Idempotent."""
        if event.type.startswith("checkout.session.") and event.object_id is not None:
            await self.complete(event.object_id)
        elif event.type == ACCOUNT_DELETED and event.object_id is not None:
            await self.gateway.end_subscription(event.object_id)
        elif event.type in _METER_REPORTS:
            await self._note_meter_errors(event)
        elif event.type.startswith("charge.dispute.") and event.object_id is not None:
            dispute = await self.gateway.dispute(event.object_id)
            if dispute is not None and dispute[1] is not None:
                account = await self._store.account_of_customer(dispute[1])
                if account is not None:
                    await self.refresh(account, dispute_id=event.object_id)
        elif event.customer_id is not None:
            account = await self._store.account_of_customer(event.customer_id)
            # Without an account its Checkout isn't complete yet; completing it fetches the state.
            if account is not None:
                await self.refresh(account)

    async def complete(self, session_id: str) -> Checkout | None:
        """Create or renew the account of a Checkout Session once it is complete at Stripe.

        Returns the current checkout; `None` if this service did not start it.
        """
        checkout = await self._store.checkout(session_id)
        if checkout is None or checkout.completed_at is not None:
            return checkout
        paid = await self.gateway.paid_checkout(session_id)
        if paid is None:
            return checkout
        new_id = f"acct_{secrets.token_hex(10)}"
        checkout = await self._store.complete_checkout(
            session_id, paid, new_id, CHECKOUT_TIER, now=self._clock.time()
        )
        # If another call completed it first, that call also refreshes the account.
        if (
            checkout is not None
            and checkout.account_id is not None
            and (checkout.renewal or checkout.account_id == new_id)
        ):
            account = await self._store.account(checkout.account_id)
            if account is not None:
                await self.refresh(account)
        return checkout

    async def refresh(self, account: BillingAccount, *, dispute_id: str | None = None) -> None:
        """Fetch the account's subscription and disputes from Stripe, and store its state."""
        # Serialised within a process, so that only other processes can interfere.
        async with self._refresh_lock:
            current = await self._store.account(account.id)
            if current is not None:
                await self._refresh(current, dispute_id)

    async def _refresh(self, account: BillingAccount, dispute_id: str | None) -> None:
        for _ in range(REFRESH_ATTEMPTS):
            subscription = None
            if account.subscription_id is not None:
                subscription = await self.gateway.subscription(account.subscription_id)
            disputes = []
            for known in dict.fromkeys([*account.disputes, *([dispute_id] if dispute_id else [])]):
                dispute = await self.gateway.dispute(known)
                if dispute is not None and not dispute[0]:
                    disputes.append(known)
            state = subscription.state if subscription is not None else "cancelled"
            stored = await self._store.apply_state(
                account,
                state="disputed" if disputes else state,
                disputes=disputes,
                anchor_at=subscription.anchor_at if subscription is not None else None,
            )
            if stored:
                return
            changed = await self._store.account(account.id)
            if changed is None:
                return
            account = changed
        raise StorageUnavailable("Too many concurrent changes to the account. The update will be retried.")

    async def _note_meter_errors(self, event: StoredEvent) -> None:
        count, codes, samples = await self.gateway.meter_errors(event.id)
        marked = await self._store.note_meter_errors(
            {job_of(key): code for key, code in samples},
            detail={"event": event.id, "error_count": count, "codes": dict(codes)},
        )
        _log.error(
            "meter_events_not_counted",
            remedy="stenobird billing reconcile",
            errors=count,
            codes=dict(codes),
            marked=marked,
        )


def attempt_key(identifier: str, attempt: int) -> str:
    """Return the idempotency key of one attempt to send a meter event."""
    return f"{identifier}.a{attempt}"


def job_of(key: str) -> str:
    """Return the job id in a meter event's identifier or idempotency key; job ids contain no dot."""
    return key.partition(".")[0]


_REASONS: Final[dict[AccountState, str]] = {
    "past_due": (
        "The last payment for this account failed. Update the payment method through POST "
        "/v1/billing/portal, then try again."
    ),
    "cancelled": (
        "The subscription of this account has ended. Subscribe again with POST /v1/billing/checkout and this "
        "account's API key, then try again."
    ),
    "disputed": (
        "A payment of this account is disputed. It can start new transcripts once the dispute is settled. "
        "Contact the operator of this service."
    ),
}


async def check_payment(store: BillingStore, clock: Clock, caller: Caller, mode: Mode) -> None:
    """Raise `BillingFailed` for an account that may not start a full job now. Other jobs are free.

    A cap counts the metered minutes of the billing week plus one minute for every running job. Jobs that
    start at the same moment, and jobs longer than a minute, can take an account over its cap.
    """
    if mode != "full":
        return
    known = caller.account
    if known is not None and (known.state, known.spending_cap_minutes) == ("active", None):
        return  # says the row that this request was authenticated with
    account = await store.account(caller.account_id)
    if account is None:
        return
    if account.state != "active":
        raise BillingFailed(_REASONS[account.state], details={"account_state": account.state})
    cap = account.spending_cap_minutes
    if cap is None:
        return
    since = week_start(account, clock.time())
    minutes, under_way = await store.week_minutes(account.id, since=since)
    if minutes + under_way >= cap:
        raise BillingFailed(
            f"This account has reached its own spending cap of {cap} minutes a billing week. Raise or remove "
            "it with PUT /v1/billing/spending-cap, or wait for the next billing week.",
            details={"account_state": account.state, "spending_cap_minutes": cap},
            retry_after_seconds=max(1, int(since + WEEK_SECONDS - clock.time())),
        )


def week_start(account: BillingAccount, now: float) -> float:
    """Return when the account's billing week began; without a subscription, seven days ago."""
    if account.anchor_at is None:
        return now - WEEK_SECONDS
    return now - (now - account.anchor_at) % WEEK_SECONDS
