"""API keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from stenobird.ports.accounts import AccountBilling, AccountRecord, KeyMode, KeyScope, Tier


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


class KeyStore(Protocol):
    """API keys and their accounts. Every method is one transaction; changes leave an audit row.

    `by` is the id of the key that made the change, or `operator`.
    """

    async def ensure_account(
        self, account_id: str, *, name: str, tier: Tier, billing: AccountBilling = "metered"
    ) -> AccountRecord:
        """Return the account, created if there is none. Two processes may call this at the same time."""

    async def add_key(self, key: NewKey, *, by: str = "operator", max_valid: int | None = None) -> KeyRecord:
        """Store a key. Raises `InvalidRequest` if its account is missing or has `max_valid` valid keys."""

    async def find_key(self, key_hash: str) -> tuple[KeyRecord, str, AccountRecord | None] | None:
        """Return the key with this hash, revoked or not, its stored hash, and its account unless deleted."""

    async def list_keys(self, account_id: str | None = None) -> list[KeyRecord]:
        """Return an account's keys (all keys for `None`), revoked ones included, oldest first."""

    async def get_key(self, key_id: str) -> KeyRecord | None:
        """Return the key with this id, revoked or not."""

    async def revoke_key(
        self, key_id: str, *, account_id: str | None = None, by: str = "operator"
    ) -> KeyRecord | None:
        """Revoke the key, of this account only if given; `None` if there is no such key. Idempotent."""

    async def rotate_key(self, key_id: str, new: NewKey, *, by: str = "operator") -> KeyRecord | None:
        """Store `new` and revoke the old key in one commit; `None` if the old one is missing or revoked."""
