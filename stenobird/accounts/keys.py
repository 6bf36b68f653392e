"""API keys: their format, and the service that creates, checks and revokes them.

A key is a prefix that names its mode, 30 random base62 digits, and a 6-digit checksum.
`sb_live_…` and `sb_test_…` are minted by the CLI and at checkout, `alef_sk_live_…` and `alef_sk_test_…` by
the AlefBot dialect; both families are accepted everywhere. The checksum is the CRC-32 of the 30 digits (as
ASCII) in base62, so a typo is refused without a database lookup. It does not cover the prefix: only the part
after the prefix is hashed and stored, so a key sent with the other mode's prefix is recognised.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from stenobird.errors import (
    InvalidAPIKey,
    InvalidAPIKeyMode,
    InvalidAPIKeyUser,
    InvalidRequest,
    KeyNotFound,
    LiveKeyRequired,
)
from stenobird.ports import Caller, KeyMode, KeyRecord, KeyScope, NewKey

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.storage.account_store import AccountStore

OPERATOR_ACCOUNT: Final = "acct_operator"
"""The account of keys that the operator creates without naming an account."""
OPERATOR: Final = "operator"
"""The actor in the audit log for changes made on the command line."""
MAX_NAME_CHARS: Final = 200
MAX_OWN_KEYS: Final = 100
"""Valid keys that an account may create for itself."""
KeyFamily: TypeAlias = Literal["sb", "alef_sk"]

BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_DIGITS: Final = 30
CHECKSUM_DIGITS: Final = 6

# Each digit stands for as many bytes as any other.
_UNUSED_BYTES: Final = bytes(range(256 - 256 % len(BASE62), 256))
_DIGIT_OF_BYTE: Final = (BASE62 * 5)[:256].encode()

_KEY = re.compile(r"(sb|alef_sk)_(live|test)_([0-9A-Za-z]{36})", re.ASCII)


@dataclass(frozen=True, slots=True)
class APIKey:
    """A well-formed key; `body` is the secret part, so it is kept out of `repr`."""

    family: KeyFamily
    mode: KeyMode
    body: str = field(repr=False)

    @property
    def secret(self) -> str:
        """The key as its owner sends it."""
        return f"{self.family}_{self.mode}_{self.body}"

    @property
    def key_hash(self) -> str:
        """SHA-256 (hex) of the part after the prefix, as stored; 178 random bits need no key stretching."""
        return hashlib.sha256(self.body.encode("ascii")).hexdigest()

    @property
    def last_four_chars(self) -> str:
        """The part of the key that lists show."""
        return self.body[-4:]


def mint(mode: KeyMode, *, family: KeyFamily = "sb") -> APIKey:
    """Return a new random key."""
    digits = random_base62(RANDOM_DIGITS)
    return APIKey(family, mode, digits + _checksum(digits))


def parse(text: str) -> APIKey | None:
    """Parse a key; return `None` if the text is not a key or its checksum is wrong."""
    match = _KEY.fullmatch(text)
    if match is None or _checksum(match[3][:RANDOM_DIGITS]) != match[3][RANDOM_DIGITS:]:
        return None
    family: KeyFamily = "sb" if match[1] == "sb" else "alef_sk"
    return APIKey(family, "live" if match[2] == "live" else "test", match[3])


def random_base62(digits: int) -> str:
    """Return that many random base62 digits, 5.95 bits each."""
    text = ""
    while len(text) < digits:
        text += secrets.token_bytes(2 * digits).translate(_DIGIT_OF_BYTE, _UNUSED_BYTES).decode()
    return text[:digits]


def _checksum(digits: str) -> str:
    number = zlib.crc32(digits.encode("ascii"))
    out = ""
    for _ in range(CHECKSUM_DIGITS):
        number, digit = divmod(number, 62)
        out = BASE62[digit] + out
    return out


class KeyService:
    """Keys over an `AccountStore`. A key's secret is returned once, when it is created, and never stored.

    Methods whose names begin with `own_` are for the owner of an account: a read-only key changes nothing
    (`ReadOnlyKey`), and a test key sees and changes test keys only.
    """

    def __init__(self, store: AccountStore) -> None:
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
        """Create a key; return its secret and its record.

        Without `account_id` it belongs to the operator's account (tier premium, unmetered), which is created
        if necessary. Raises `InvalidRequest` for an unknown account or an empty or too long name.
        """
        _check_name(name)
        if account_id is None:
            operator = await self._store.ensure_account(
                OPERATOR_ACCOUNT, name="operator", tier="premium", billing="operator"
            )
            account_id = operator.id
        key = mint(mode, family=family)
        record = new_record(key, name, account_id=account_id, scope=scope)
        return key.secret, await self._store.add_key(record, by=OPERATOR)

    async def list(self, account_id: str | None = None) -> list[KeyRecord]:
        """Return an account's keys (all keys for `None`), revoked ones included, oldest first."""
        return await self._store.list_keys(account_id)

    async def revoke(self, key_id: str, *, account_id: str | None = None) -> bool:
        """Revoke the key (only if it belongs to `account_id`, if given); return whether it exists."""
        return await self._store.revoke_key(key_id, account_id=account_id, by=OPERATOR) is not None

    async def rotate(self, key_id: str) -> tuple[str, KeyRecord]:
        """Replace a valid key with a new one of the same name, mode and scope. Raises `KeyNotFound`."""
        old = await self._store.get_key(key_id)
        if old is None:
            raise KeyNotFound
        return await self._replace(old, by=OPERATOR)

    # --- by the owner -----------------------------------------------------------------------------------

    async def own_create(
        self,
        caller: Caller,
        *,
        name: str,
        mode: KeyMode | None = None,
        scope: KeyScope = "full_access",
        family: KeyFamily = "sb",
    ) -> tuple[str, KeyRecord]:
        """Create a key of the caller's account; return its secret and its record.

        `mode` defaults to the caller's. Raises `ReadOnlyKey`, `LiveKeyRequired` if a test key requests a live
        key, and `InvalidRequest` for an invalid name or more than `MAX_OWN_KEYS` keys.
        """
        caller.require_write()
        mode = mode or caller.mode
        if caller.mode == "test" and mode == "live":
            raise LiveKeyRequired("A test key creates test keys only. Use a live key of the account.")
        _check_name(name)
        key = mint(mode, family=family)
        record = new_record(key, name, account_id=caller.account_id, scope=scope)
        added = await self._store.add_key(record, by=caller.api_key_id, max_valid=MAX_OWN_KEYS)
        return key.secret, added

    async def own_list(self, caller: Caller) -> Sequence[KeyRecord]:
        """Return the account's keys, including revoked ones, oldest first; a test key sees test keys only."""
        records = await self._store.list_keys(caller.account_id)
        return [record for record in records if _sees(caller, record)]

    async def own_revoke(self, caller: Caller, key_id: str) -> None:
        """Revoke a key of the account, which may be the caller's. Idempotent. Raises `KeyNotFound`."""
        caller.require_write()
        await self._own(caller, key_id)
        await self._store.revoke_key(key_id, account_id=caller.account_id, by=caller.api_key_id)

    async def own_rotate(self, caller: Caller, key_id: str) -> tuple[str, KeyRecord]:
        """Replace a key of the account with a new one of the same name, mode and scope, in one commit.

        The old key stops working. Raises `ReadOnlyKey`, and `KeyNotFound` for an unknown or revoked key.
        """
        caller.require_write()
        return await self._replace(await self._own(caller, key_id), by=caller.api_key_id)

    # --- authentication ---------------------------------------------------------------------------------

    async def authenticate(self, authorization: str | None) -> Caller | None:
        """Return the caller of a request by its `Authorization` header; `None` without a header.

        Raises `InvalidAPIKey` for anything but one valid Bearer key, `InvalidAPIKeyMode` for a known key with
        the other mode's prefix, and `InvalidAPIKeyUser` for a key whose account was deleted.
        """
        if authorization is None:
            return None
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer":
            raise InvalidAPIKey('The Authorization header must be "Bearer <api_key>".')
        key = parse(token.strip())
        if key is None:
            raise InvalidAPIKey
        sent_hash = key.key_hash
        found = await self._store.find_key(sent_hash)
        if found is None:
            raise InvalidAPIKey
        record, key_hash, account = found
        if not hmac.compare_digest(key_hash, sent_hash) or not record.is_valid:
            raise InvalidAPIKey
        if record.mode != key.mode:
            raise InvalidAPIKeyMode
        if account is None:
            raise InvalidAPIKeyUser
        return Caller(account.id, record.id, record.mode, record.scope, account.tier, account)

    async def _own(self, caller: Caller, key_id: str) -> KeyRecord:
        record = await self._store.get_key(key_id)
        if record is None or record.account_id != caller.account_id or not _sees(caller, record):
            raise KeyNotFound
        return record

    async def _replace(self, old: KeyRecord, *, by: str) -> tuple[str, KeyRecord]:
        key = mint(old.mode)
        record = new_record(key, old.name, account_id=old.account_id, scope=old.scope)
        rotated = await self._store.rotate_key(old.id, record, by=by)
        if rotated is None:
            raise KeyNotFound("This key is already revoked. Create a new one.")
        return key.secret, rotated


def new_record(key: APIKey, name: str, *, account_id: str = "", scope: KeyScope = "full_access") -> NewKey:
    """Return the record to store of a new key. Billing's store fills in the account."""
    return NewKey(
        id=f"key_{secrets.token_hex(10)}",
        account_id=account_id,
        name=name,
        key_hash=key.key_hash,
        mode=key.mode,
        scope=scope,
        last_four_chars=key.last_four_chars,
    )


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > MAX_NAME_CHARS:
        raise InvalidRequest(f'"name" must have 1 to {MAX_NAME_CHARS} characters.', details={"field": "name"})


def _sees(caller: Caller, record: KeyRecord) -> bool:
    return caller.only_mode in {None, record.mode}
