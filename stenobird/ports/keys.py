"""API keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stenobird.ports.accounts import KeyMode, KeyScope


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
