"""Accounts: created and changed by the operator, viewed and deleted by their owner; credits, usage, jobs."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

import structlog

from stenobird.accounts.keys import MAX_NAME_CHARS, OPERATOR
from stenobird.bodies import read_cursor, write_cursor
from stenobird.errors import (
    InsufficientCredits,
    InvalidAPIKeyUser,
    InvalidRequest,
    LiveKeyRequired,
    PlanDowngraded,
    StorageUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from stenobird.config import Settings
    from stenobird.ports import (
        AccountBilling,
        AccountRecord,
        AuditEntry,
        Caller,
        Clock,
        Mode,
        Tier,
        UsageRecord,
        UsageSum,
        WalletRecord,
    )
    from stenobird.storage.account_store import AccountStore

MAX_UNITS: Final = 10_000_000
"""The most units that one `add_credits` may move; a larger amount is a typing error."""
PAGE: Final = 100
SWEEP_RETRY_SECONDS: Final = 10.0
"""How soon jobs are looked at again that were still ending."""

_log = structlog.get_logger(__name__)


class AccountService:
    """Accounts over an `AccountStore`.

    `remove_jobs` ends and deletes all jobs of an account and returns how many are still ending. The
    `before_delete` hooks run with the account's id before it is deleted, to end its subscription for
    example; if one raises, nothing is deleted.
    """

    def __init__(
        self,
        store: AccountStore,
        *,
        remove_jobs: Callable[[str], Awaitable[int]],
        before_delete: Sequence[Callable[[str], Awaitable[None]]] = (),
    ) -> None:
        self._store = store
        self._remove_jobs = remove_jobs
        self._before_delete = tuple(before_delete)
        self._deleted = asyncio.Event()

    # --- by the operator --------------------------------------------------------------------------------

    async def create(
        self, name: str, *, tier: Tier, billing: AccountBilling, email: str | None = None
    ) -> AccountRecord:
        """Create an account. Raises `InvalidRequest` for an invalid name or e-mail address."""
        if not name.strip() or len(name) > MAX_NAME_CHARS:
            raise InvalidRequest(f"The name must have 1 to {MAX_NAME_CHARS} characters.")
        if email is not None and "@" not in email.strip("@"):
            raise InvalidRequest(f"{email} is not an e-mail address.")
        account_id = f"acct_{secrets.token_hex(10)}"
        return await self._store.create_account(account_id, name, tier, billing, email=email, by=OPERATOR)

    async def get(self, account_id: str) -> AccountRecord:
        """Return the account. Raises `InvalidRequest` if it does not exist."""
        account = await self._store.get(account_id)
        if account is None:
            raise _no_account(account_id)
        return account

    async def list(self) -> list[AccountRecord]:
        """Return all accounts, ordered by id."""
        found: list[AccountRecord] = []
        while page := await self._store.list_accounts(after=found[-1].id if found else "", limit=PAGE):
            found += page
        return found

    async def set_plan(
        self, account_id: str, *, tier: Tier | None = None, billing: AccountBilling | None = None
    ) -> AccountRecord:
        """Change the tier, the billing, or both. Raises `InvalidRequest` if the account does not exist."""
        account = await self._store.set_plan(account_id, tier=tier, billing=billing, by=OPERATOR)
        if account is None:
            raise _no_account(account_id)
        return account

    async def add_credits(self, account_id: str, units: int, *, reason: str) -> WalletRecord:
        """Add or remove wallet units. Raises `InvalidRequest` for an unknown account or invalid amount."""
        if units == 0 or abs(units) > MAX_UNITS:
            raise InvalidRequest(f"The units must be between -{MAX_UNITS} and {MAX_UNITS}, and not 0.")
        wallet = await self._store.add_units(account_id, units, reason=reason, by=OPERATOR)
        if wallet is None:
            raise _no_account(account_id)
        return wallet

    async def wallet(self, account_id: str, *, limit: int = 20) -> WalletRecord:
        """Return the wallet with its newest entries."""
        return await self._store.wallet(account_id, limit=limit)

    async def audit(self, account_id: str | None = None, *, limit: int = 100) -> Sequence[AuditEntry]:
        """Return the newest audit rows of an account (which may be deleted), or of all accounts."""
        return await self._store.audit(account_id, limit=limit)

    async def delete(self, account_id: str, *, by: str = OPERATOR) -> int:
        """Delete the account, and return how many of its jobs are under way.

        Runs the `before_delete` hooks, then deletes the account: from then on its keys don't work. Ledger and
        wallet are kept without a name. `remove_deleted` or `sweep_deleted` removes its jobs with their events
        and audio, however many there are. Raises `InvalidRequest` for an unknown account.
        """
        await self.get(account_id)
        for hook in self._before_delete:
            await hook(account_id)
        await self._store.delete_account(account_id, by=by)
        self._deleted.set()
        return await self._store.open_jobs(account_id)

    async def remove_deleted(self, clock: Clock) -> None:
        """Remove the jobs of deleted accounts, now and after each `delete`, until cancelled."""
        while True:
            self._deleted.clear()
            try:
                waiting = await self.sweep_deleted() > 0
            except StorageUnavailable:
                waiting = True
            if waiting:
                await clock.sleep(SWEEP_RETRY_SECONDS)
            else:
                await self._deleted.wait()

    async def sweep_deleted(self) -> int:
        """Remove the jobs of deleted accounts; return how many are still ending."""
        return sum(
            [await self._remove_jobs(account_id) for account_id in await self._store.deleted_with_jobs()]
        )

    # --- by the owner -----------------------------------------------------------------------------------

    async def own_view(self, caller: Caller) -> tuple[AccountRecord, WalletRecord]:
        """Return the caller's account and wallet."""
        # Authentication has just read the account.
        account = caller.account or await self.get(caller.account_id)
        return account, await self._store.wallet(caller.account_id, limit=0)

    async def own_delete(self, caller: Caller) -> int:
        """Delete the caller's account, see `delete`. Raises `ReadOnlyKey`, `LiveKeyRequired`."""
        caller.require_write()
        if caller.mode == "test":
            raise LiveKeyRequired("A test key can't delete the account. Use a live key of the account.")
        return await self.delete(caller.account_id, by=caller.api_key_id)

    async def usage(
        self, account_id: str, *, since: float, until: float, cursor: str | None = None, limit: int = PAGE
    ) -> tuple[Sequence[UsageSum], Sequence[UsageRecord], str | None]:
        """Return the ledger of `[since, until)`: all days, a page of jobs, newest first, and the next cursor.

        Raises `InvalidRequest` for an invalid cursor.
        """
        before = read_cursor(cursor) if cursor is not None else None
        days = await self._store.usage_by_day(account_id, since=since, until=until)
        rows = await self._store.usage_by_job(
            account_id, since=since, until=until, before=before, limit=limit + 1
        )
        page = rows[:limit]
        more = write_cursor(page[-1].created_at, page[-1].job_id) if len(rows) > limit else None
        return days, page, more


def _no_account(account_id: str) -> InvalidRequest:
    return InvalidRequest(f'There is no account {account_id}. Run "stenobird account list" to see them.')


async def admit_job(
    standing: Callable[[str], Awaitable[tuple[AccountRecord, int] | None]],
    checks: Sequence[Callable[[Caller, Mode], Awaitable[None]]],
    open_jobs: Mapping[Tier, int],
    caller: Caller,
    mode: Mode,
) -> int | None:
    """Return how many open jobs the account may have, including a new one; `None` for no limit.

        state        POST that creates a job                          everything else
        active       within its wallet, cap and limits                open
        past_due     402 billing_failed                               open
        disputed     402 billing_failed                               open
        cancelled    402 billing_failed; /api/v1: 403                 /v1 open; /api/v1: 403
                     plan_downgraded_api_revoked                      plan_downgraded_api_revoked

    `billing.standing.check_payment` checks state and cap, as the first of the checks. Whatever the account's
    state, paid transcripts stay readable, keys can be revoked and the account can be deleted; see
    docs/decisions/0030-unpaid-accounts.md. Test jobs and previews are free and always pass.

    `checks` run first; each returns, or raises the `RequestError` for the client. `standing` reads an account
    and its unreserved units, and `open_jobs` is the limit by tier. Raises `InsufficientCredits` for a prepaid
    account without credits, and `InvalidAPIKeyUser` if the account was deleted.
    """
    if mode != "full":
        return None
    for check in checks:
        await check(caller, mode)
    account = caller.account
    if account is None or account.billing == "prepaid":
        # Only credits are not in the row that this request was authenticated with.
        found = await standing(caller.account_id)
        if found is None:
            raise InvalidAPIKeyUser
        account, available_units = found
        if account.billing == "prepaid" and available_units < 1:
            raise InsufficientCredits(
                "The account has no credits left. Add credits, then try again.",
                details={"available_units": available_units},
            )
    return open_jobs.get(account.tier)


def check_plan(account: AccountRecord) -> None:
    """Raise `PlanDowngraded` if the plan does not include the AlefBot dialect."""
    if account.state == "cancelled" or account.tier == "free":
        raise PlanDowngraded(details={"account_state": account.state, "tier": account.tier})


def open_job_limits(settings: Settings) -> dict[Tier, int]:
    """Return how many jobs an account of each paying tier may have open at once."""
    return {"premium": settings.jobs_per_account, "platinum": 2 * settings.jobs_per_account}
