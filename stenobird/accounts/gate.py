"""Decides whether an account may start another job that may cost something.

    state        POST that creates a job                          everything else
    active       within its wallet, cap and limits                open
    past_due     402 billing_failed                               open
    disputed     402 billing_failed                               open
    cancelled    402 billing_failed; /api/v1: 403                 /v1 open; /api/v1: 403
                 plan_downgraded_api_revoked                      plan_downgraded_api_revoked

`billing.standing.AccountGate` checks state and cap, as the first of the checks here. Whatever the account's
state, paid transcripts stay readable, keys can be revoked and the account can be deleted; see
docs/decisions/0030-unpaid-accounts.md. Test jobs and previews are free and always pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stenobird.errors import InsufficientCredits, InvalidAPIKeyUser, PlanDowngraded

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from stenobird.config import Settings
    from stenobird.ports import AccountStanding, Caller, Mode, Tier


class JobGate:
    """Admits or refuses one more job of an account, by the currently committed state.

    `standing` reads an account's standing. `checks` run first; each returns, or raises the `RequestError` for
    the client.
    """

    def __init__(
        self,
        standing: Callable[[str], Awaitable[AccountStanding | None]],
        *,
        open_jobs: Mapping[Tier, int] | None = None,
        checks: Sequence[Callable[[Caller, Mode], Awaitable[None]]] = (),
    ) -> None:
        self._standing = standing
        self._open_jobs = dict(open_jobs or {})
        self._checks = tuple(checks)

    async def __call__(self, caller: Caller, mode: Mode) -> int | None:
        """Return how many open jobs the account may have, including this one; `None` for no limit.

        Raises the errors of the checks, `InsufficientCredits` for a prepaid account without credits, and
        `InvalidAPIKeyUser` if the account was deleted.
        """
        if mode != "full":
            return None
        for check in self._checks:
            await check(caller, mode)
        account = caller.account
        if account is not None and account.billing != "prepaid":
            # Only credits are not in the row that this request was authenticated with.
            return self._open_jobs.get(account.tier)
        standing = await self._standing(caller.account_id)
        if standing is None:
            raise InvalidAPIKeyUser
        if standing.billing == "prepaid" and standing.available_units < 1:
            raise InsufficientCredits(
                "The account has no credits left. Add credits, then try again.",
                details={"available_units": standing.available_units},
            )
        return self._open_jobs.get(standing.tier)


def check_plan(standing: AccountStanding) -> None:
    """Raise `PlanDowngraded` if the plan does not include the AlefBot dialect."""
    if standing.state == "cancelled" or standing.tier == "free":
        raise PlanDowngraded(details={"account_state": standing.state, "tier": standing.tier})


def open_job_limits(settings: Settings) -> dict[Tier, int]:
    """Return how many jobs an account of each paying tier may have open at once."""
    return {"premium": settings.jobs_per_account, "platinum": 2 * settings.jobs_per_account}
