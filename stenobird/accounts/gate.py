"""Whether an account may have work done, asked each time it wants to start a job that may cost something.

    state        POST that would make a job                       everything else
    active       as its wallet, its cap and its limits allow      open
    past_due     402 billing_failed                               open
    disputed     402 billing_failed                               open
    cancelled    402 billing_failed; /api/v1: 403                 /v1 open; /api/v1: 403
                 plan_downgraded_api_revoked                      plan_downgraded_api_revoked

What Stripe says (state, cap) is asked by `billing.gate`, the first of the objections here. Transcripts that
were paid for stay readable, keys can be revoked and the account be deleted, whatever its state; see
docs/decisions/0030-what-a-lapsed-account-may-do.md. Test jobs and previews cost nothing and always pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stenobird.errors import InsufficientCredits, InvalidAPIKeyUser, PlanDowngraded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from stenobird.ports import AccountStanding, Caller, Mode, StandingStore, Tier


@dataclass(frozen=True, slots=True)
class Admission:
    """What an admitted job is bound by: how many jobs of its account may be under way, this one included."""

    max_open_jobs: int | None = None


class JobGate:
    """Says yes or no to one more job of an account, from what is committed at that moment.

    `objections` are asked first; each raises the `RequestError` that says what to do, or returns.
    """

    def __init__(
        self,
        accounts: StandingStore,
        *,
        open_jobs: Mapping[Tier, int] | None = None,
        objections: Sequence[Callable[[Caller, Mode], Awaitable[None]]] = (),
    ) -> None:
        self._accounts = accounts
        self._open_jobs = dict(open_jobs or {})
        self._objections = tuple(objections)

    async def __call__(self, caller: Caller, mode: Mode) -> Admission:
        """Return what the job is bound by.

        Raises what the objections raise, `InsufficientCredits` for an account that pays in advance and has no
        credit left, and `InvalidAPIKeyUser` when the account is gone.
        """
        if mode != "full":
            return Admission()
        for objection in self._objections:
            await objection(caller, mode)
        standing = await self._accounts.standing(caller.account_id)
        if standing is None:
            raise InvalidAPIKeyUser
        if standing.billing == "prepaid" and standing.available_units < 1:
            raise InsufficientCredits(
                "The account has no credits left. Add credits, then try again.",
                details={"available_units": standing.available_units},
            )
        return Admission(self._open_jobs.get(standing.tier))


def check_plan(standing: AccountStanding) -> None:
    """Raise `PlanDowngraded` where the second dialect is not, or no longer, part of the plan."""
    if standing.state == "cancelled" or standing.tier == "free":
        raise PlanDowngraded(details={"account_state": standing.state, "tier": standing.tier})
