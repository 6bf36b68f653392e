"""Accounts: the caller of a request, keys, plans, wallets and usage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from stenobird.errors import ReadOnlyKey

if TYPE_CHECKING:
    from collections.abc import Mapping

KeyMode: TypeAlias = Literal["live", "test"]
KeyScope: TypeAlias = Literal["full_access", "read_only"]
Tier: TypeAlias = Literal["free", "premium", "platinum"]
AccountState: TypeAlias = Literal["active", "past_due", "cancelled", "disputed"]
"""The state after the last payment; an account without payments is active."""
AccountBilling: TypeAlias = Literal["operator", "metered", "prepaid"]
"""How usage beyond the wallet is paid: not at all (operator), by Stripe's invoice, or it is refused."""


@dataclass(frozen=True, slots=True)
class Caller:
    """The account and API key that a request was sent with."""

    account_id: str
    api_key_id: str
    mode: KeyMode
    scope: KeyScope
    tier: Tier
    account: AccountRecord | None = field(default=None, compare=False, repr=False)
    """The account's row as this request found it."""

    @property
    def only_mode(self) -> Literal["test"] | None:
        """The only mode whose jobs, keys and deliveries this caller may touch, `None` for all.

        Test keys are kept in test code and on CI machines, so they must not open live transcripts.
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
    spending_cap_minutes: int | None = None


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

    @property
    def available_units(self) -> int:
        """What is not reserved."""
        return self.units - self.reserved_units


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One change. `by` is the id of the key that made it, or `operator`."""

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
    """The sum of one day's ledger rows. `day` is a UTC date (`YYYY-MM-DD`)."""

    day: str
    jobs: int
    minutes: int
    units: int
    credit_units: int
    metered_minutes: int
    audio_seconds: float


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key to store: the SHA-256 (hex) of what follows its prefix, never the key itself."""

    id: str
    account_id: str
    name: str
    key_hash: str
    mode: KeyMode
    scope: KeyScope
    last_four_chars: str


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A stored key as its owner may see it."""

    id: str
    account_id: str
    name: str
    mode: KeyMode
    scope: KeyScope
    last_four_chars: str
    created_at: float
    revoked_at: float | None = None

    @property
    def is_valid(self) -> bool:
        """Whether requests with this key are accepted."""
        return self.revoked_at is None
