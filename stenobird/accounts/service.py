"""API keys: made, listed, revoked, and told who a request is from."""

from __future__ import annotations

import hmac
import secrets
from typing import TYPE_CHECKING, Final

from stenobird.accounts import keys
from stenobird.errors import InvalidAPIKey, InvalidAPIKeyMode, InvalidRequest
from stenobird.ports import Caller, KeyRecord, NewKey

if TYPE_CHECKING:
    from stenobird.accounts.keys import KeyFamily
    from stenobird.ports import KeyMode, KeyScope, KeyStore

__all__ = ["OPERATOR_ACCOUNT", "KeyRecord", "KeyService"]

OPERATOR_ACCOUNT: Final = "acct_operator"
"""The account of keys that the operator makes for nobody in particular."""
MAX_NAME_CHARS: Final = 200


class KeyService:
    """Keys over a `KeyStore`. A secret leaves through `create` only; it is neither stored nor logged."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store

    async def create(
        self,
        *,
        name: str = "default",
        mode: KeyMode = "live",
        scope: KeyScope = "full_access",
        account_id: str | None = None,
        family: KeyFamily = "sb",
    ) -> tuple[str, KeyRecord]:
        """Make a key and return it, this once, with its record.

        Without an account it belongs to the operator's own (tier premium), which is made if need be. Raises
        `InvalidRequest` for an account that does not exist or a name that is empty or too long.
        """
        if not name.strip() or len(name) > MAX_NAME_CHARS:
            raise InvalidRequest(f'"name" must have 1 to {MAX_NAME_CHARS} characters.')
        if account_id is None:
            operator = await self._store.ensure_account(OPERATOR_ACCOUNT, name="operator", tier="premium")
            account_id = operator.id
        key = keys.mint(mode, family=family)
        record = await self._store.add_key(
            NewKey(
                id=f"key_{secrets.token_hex(10)}",
                account_id=account_id,
                name=name,
                key_hash=key.key_hash,
                mode=mode,
                scope=scope,
                last_four_chars=key.last_four_chars,
            )
        )
        return key.secret, record

    async def list(self, account_id: str | None = None) -> list[KeyRecord]:
        """Return an account's keys (all keys for `None`), revoked ones included, oldest first."""
        return await self._store.list_keys(account_id)

    async def revoke(self, key_id: str, *, account_id: str | None = None) -> bool:
        """Revoke the key (of this account only, where given); return whether there is such a key."""
        return await self._store.revoke_key(key_id, account_id=account_id) is not None

    async def authenticate(self, authorization: str | None) -> Caller | None:
        """Return who an `Authorization` header stands for; `None` when there is no header.

        Raises `InvalidAPIKey` for anything but one valid Bearer key, `InvalidAPIKeyMode` for a known key
        under the other mode's prefix.
        """
        if authorization is None:
            return None
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer":
            raise InvalidAPIKey('The Authorization header must be "Bearer <api_key>".')
        key = keys.parse(token.strip())
        if key is None:
            raise InvalidAPIKey
        found = await self._store.find_key(key.key_hash)
        if found is None or not hmac.compare_digest(found.key_hash, key.key_hash):
            raise InvalidAPIKey
        if not found.key.is_valid or found.account is None:
            raise InvalidAPIKey
        if found.key.mode != key.mode:
            raise InvalidAPIKeyMode
        return Caller(
            account_id=found.account.id,
            api_key_id=found.key.id,
            mode=found.key.mode,
            scope=found.key.scope,
            tier=found.account.tier,
        )
