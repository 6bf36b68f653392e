"""Whether an account may have work done, asked each time it wants to start a full job.

    state        POST that would make a job                       everything else
    active       as its wallet and its limits allow               open
    past_due     402 billing_failed                               open
    disputed     402 billing_failed                               open
    cancelled    402 billing_failed; /api/v1: 403                 /v1 open; /api/v1: 403
                 plan_downgraded_api_revoked                      plan_downgraded_api_revoked

Transcripts that were paid for stay readable, keys can be revoked and the account be deleted, whatever its
state; see docs/decisions/0010-what-a-lapsed-account-may-do.md. Test jobs and previews cost nothing and are
not asked about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from stenobird.errors import BillingFailed, InsufficientCredits, InvalidAPIKey, PlanDowngraded

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stenobird.ports import AccountState, Caller, Standing, StandingStore, Tier

_PAYMENT: Final[Mapping[AccountState, str]] = {
    "past_due": (
        "The last payment for this account failed. Update the payment method at /pricing, then try again."
    ),
    "disputed": (
        "A payment for this account is disputed. Settle it with your bank, or write to the operator; "
        "earlier transcripts stay readable."
    ),
    "cancelled": "The subscription of this account has ended. Subscribe again at /pricing.",
}


class Objection(Protocol):
    """One more reason not to start a job, from a feature that knows more (a spending cap, say)."""

    async def __call__(self, standing: Standing) -> None:
        """Return if there is none; else raise the `RequestError` that says what to do."""


@dataclass(frozen=True, slots=True)
class Admission:
    """What an admitted job is bound by: how many jobs of its account may be under way, this one included."""

    max_open_jobs: int | None = None


class AccountGate:
    """Says yes or no to one more full job of an account, from what is committed at that moment."""

    def __init__(
        self,
        accounts: StandingStore,
        *,
        open_jobs: Mapping[Tier, int] | None = None,
        objections: Sequence[Objection] = (),
    ) -> None:
        self._accounts = accounts
        self._open_jobs = dict(open_jobs or {})
        self._objections = tuple(objections)

    async def admit(self, caller: Caller) -> Admission:
        """Return what the job is bound by.

        Raises `BillingFailed` for an account that does not pay, `InsufficientCredits` for one that pays in
        advance and has no credit left, what the objections raise, and `InvalidAPIKey` when it is gone.
        """
        standing = await self._accounts.standing(caller.account_id)
        if standing is None:
            raise InvalidAPIKey
        check_payment(standing)
        for objection in self._objections:
            await objection(standing)
        return Admission(self._open_jobs.get(standing.tier))


def check_payment(standing: Standing) -> None:
    """Raise `BillingFailed` or `InsufficientCredits` where new work would not be paid for."""
    if standing.state != "active":
        raise BillingFailed(_PAYMENT[standing.state], details={"account_state": standing.state})
    if standing.billing == "prepaid" and standing.available_units < 1:
        raise InsufficientCredits(
            "The account has no credits left. Add credits, then try again.",
            details={"available_units": standing.available_units},
        )


def check_plan(standing: Standing) -> None:
    """Raise `PlanDowngraded` where the second dialect is not, or no longer, part of the plan."""
    if standing.state == "cancelled" or standing.tier == "free":
        raise PlanDowngraded(details={"account_state": standing.state, "tier": standing.tier})
