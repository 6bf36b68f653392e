"""Refuses new paid jobs to an account whose payment failed or whose spending cap is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stenobird.errors import BillingFailed
from stenobird.ports.billing import WEEK_SECONDS

if TYPE_CHECKING:
    from stenobird.ports import AccountState, Caller, Clock, Mode
    from stenobird.ports.billing import BillingAccount, BillingStore

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


class AccountGate:
    """Raises `BillingFailed` for an account that may not start a full job now.

    A cap counts the metered minutes of the billing week plus one minute for every running job. Jobs that
    start at the same moment, and jobs longer than a minute, can take an account over its cap.
    """

    def __init__(self, store: BillingStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def __call__(self, caller: Caller, mode: Mode) -> None:
        """Check the caller's account. Previews and test jobs are free, so they always pass."""
        if mode != "full":
            return
        account = await self._store.account(caller.account_id)
        if account is None:
            return
        if account.state != "active":
            raise BillingFailed(_REASONS[account.state], details={"account_state": account.state})
        cap = account.spending_cap_minutes
        if cap is None:
            return
        since = week_start(account, self._clock.time())
        minutes, under_way = await self._store.week_minutes(account.id, since=since)
        if minutes + under_way >= cap:
            raise BillingFailed(
                f"This account has reached its own spending cap of {cap} minutes a billing week. Raise or "
                "remove it with PUT /v1/billing/spending-cap, or wait for the next billing week.",
                details={"account_state": account.state, "spending_cap_minutes": cap},
                retry_after_seconds=max(1, int(since + WEEK_SECONDS - self._clock.time())),
            )


def week_start(account: BillingAccount, now: float) -> float:
    """Return when the account's billing week began; without a subscription, seven days ago."""
    if account.anchor_at is None:
        return now - WEEK_SECONDS
    return now - (now - account.anchor_at) % WEEK_SECONDS
