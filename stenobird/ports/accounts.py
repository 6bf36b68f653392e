"""Accounts: who calls, what an account may do, its wallet and its usage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from stenobird.errors import ReadOnlyKey

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KeyMode: TypeAlias = Literal["live", "test"]
KeyScope: TypeAlias = Literal["full_access", "read_only"]
Tier: TypeAlias = Literal["free", "premium", "platinum"]
AccountState: TypeAlias = Literal["active", "past_due", "cancelled", "disputed"]
"""What the last payment says; an account without payments is active."""
AccountBilling: TypeAlias = Literal["operator", "metered", "prepaid"]
"""Who pays for what the wallet does not: nobody (the operator's own use), Stripe's invoice, or no one may."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request, as its API key says."""

    account_id: str
    api_key_id: str
    mode: KeyMode
    scope: KeyScope
    tier: Tier

    @property
    def only_mode(self) -> Literal["test"] | None:
        """The only mode whose jobs, keys and deliveries this caller may touch, `None` for all.

        A test key lies in test code and on CI machines: it must not open what the account had transcribed.
        """
        return "test" if self.mode == "test" else None

    def require_write(self, error: type[ReadOnlyKey] = ReadOnlyKey) -> None:
        """Raise `error` for a key that may only read."""
        if self.scope == "read_only":
            raise error


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """An account's row. Times are seconds since the epoch, UTC."""

    id: str
    name: str
    tier: Tier
    created_at: float
    email: str | None = None
    state: AccountState = "active"
    billing: AccountBilling = "metered"
    deleted_at: float | None = None


@dataclass(frozen=True, slots=True)
class NewAccountRow:
    """An account about to be made."""

    id: str
    name: str
    tier: Tier
    billing: AccountBilling
    email: str | None = None


@dataclass(frozen=True, slots=True)
class WalletEntry:
    """One change of a wallet: units added (positive) or used by a job."""

    id: str
    units: int
    reason: str
    job_id: str | None
    created_at: float


@dataclass(frozen=True, slots=True)
class WalletRecord:
    """A wallet: its balance, what running jobs have reserved of it, and its entries, newest first."""

    units: int
    reserved_units: int
    entries: tuple[WalletEntry, ...]


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """Who changed what: `by` is a key's id, or `operator`."""

    id: str
    account_id: str | None
    action: str
    subject: str
    by: str | None
    detail: Mapping[str, Any]
    created_at: float


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One ledger row: a completed job and who paid for its minutes.

    `minutes` are the job's billable ones, `units` what they cost, from the wallet and the meter together.
    """

    job_id: str
    minutes: int
    units: int
    credit_units: int
    metered_minutes: int
    audio_seconds: float
    created_at: float


@dataclass(frozen=True, slots=True)
class UsageSum:
    """Ledger rows of some time, added up. `day` is a date, UTC (`YYYY-MM-DD`)."""

    day: str
    jobs: int
    minutes: int
    units: int
    credit_units: int
    metered_minutes: int
    audio_seconds: float


@dataclass(frozen=True, slots=True)
class AccountStanding:
    """Whether an account may have work done: its plan, how it pays, and the wallet's unreserved units."""

    account_id: str
    tier: Tier
    state: AccountState
    billing: AccountBilling
    available_units: int


class StandingStore(Protocol):
    """Where the standing of accounts is kept."""

    async def standing(self, account_id: str) -> AccountStanding | None:
        """Return the account's standing as last committed; `None` when it is gone."""


class AccountStore(StandingStore, Protocol):
    """Accounts and their wallets. Every method is one transaction; changes leave an audit row.

    A deleted account is gone for all but the ledger: `get` and `standing` return `None`. `by` is who did it:
    the id of a key, or `operator`.
    """

    async def create_account(self, account: NewAccountRow, *, by: str) -> AccountRecord:
        """Store the account. Raises `InvalidRequest` when its id is taken."""

    async def get(self, account_id: str) -> AccountRecord | None:
        """Return the account."""

    async def list_accounts(self, *, after: str = "", limit: int = 100) -> Sequence[AccountRecord]:
        """Return accounts by id, from the first one after `after`."""

    async def set_plan(
        self, account_id: str, *, tier: Tier | None, billing: AccountBilling | None, by: str
    ) -> AccountRecord | None:
        """Change tier or billing or both; `None` when there is no such account."""

    async def delete_account(self, account_id: str, *, by: str) -> bool:
        """Forget name, address, answers, messages and uploads; return whether the account was there.

        Keys, ledger and wallet rows stay, and so does what Stripe needs for its last invoice.
        """

    async def job_ids(self, account_id: str, *, after: str = "", limit: int = 100) -> Sequence[str]:
        """Return the ids of the account's jobs of any origin, in order, from the first one after `after`."""

    async def deleted_with_jobs(self) -> Sequence[str]:
        """Return the deleted accounts that have jobs left, at most 100."""

    async def add_units(self, account_id: str, units: int, *, reason: str, by: str) -> WalletRecord | None:
        """Add units to the wallet (negative: take them back); `None` when there is no such account."""

    async def wallet(self, account_id: str, *, limit: int = 20) -> WalletRecord:
        """Return the wallet with its newest entries."""

    async def audit(self, account_id: str | None, *, limit: int = 100) -> Sequence[AuditEntry]:
        """Return the newest audit rows of an account (of all for `None`), newest first."""


class UsageStore(Protocol):
    """The ledger as accounts may read it. Nothing here writes: rows are made by `JobStore.finish`."""

    async def usage_by_day(self, account_id: str, *, since: float, until: float) -> Sequence[UsageSum]:
        """Return the ledger of `[since, until)` by day, UTC, oldest first; days without jobs are left out."""

    async def usage_by_job(
        self,
        account_id: str,
        *,
        since: float,
        until: float,
        before: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> Sequence[UsageRecord]:
        """Return ledger rows of `[since, until)`, newest first, older than `before`'s time and job id."""
