"""Accounts and API keys in SQL: `ports.KeyStore` for SQLite and PostgreSQL."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from sqlalchemy import insert, select, update

from stenobird.errors import InvalidRequest
from stenobird.ports import AccountRecord, FoundKey, KeyRecord
from stenobird.storage.schema import accounts, api_keys, audit, db_now

if TYPE_CHECKING:
    from sqlalchemy.engine import RowMapping
    from sqlalchemy.ext.asyncio import AsyncConnection

    from stenobird.ports import NewKey, Tier
    from stenobird.storage.engine import Database


class SqlKeyStore:
    """`ports.KeyStore` on a `Database`. Needs no closing of its own."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def ensure_account(self, account_id: str, *, name: str, tier: Tier) -> AccountRecord:
        """Return the account, made now if there is none. Safe to call at the same time from two processes."""
        async with self._db.write() as connection:
            made = await connection.execute(
                self._db.insert(accounts)
                .values(id=account_id, name=name, tier=tier, created_at=db_now())
                .on_conflict_do_nothing()
                .returning(accounts.c.id)
            )
            if made.scalar_one_or_none() is not None:
                await _note(connection, account_id, "account.created", account_id)
            found = await connection.execute(select(accounts).where(accounts.c.id == account_id))
            return _account(found.mappings().one())

    async def add_key(self, key: NewKey) -> KeyRecord:
        """Store a key. Raises `InvalidRequest` when its account does not exist."""
        async with self._db.write() as connection:
            owner = await connection.scalar(
                select(accounts.c.id).where(accounts.c.id == key.account_id).with_for_update()
            )
            if owner is None:
                raise InvalidRequest(f"There is no account {key.account_id}. Create it first.")
            added = await connection.execute(
                insert(api_keys)
                .values(
                    id=key.id,
                    account_id=key.account_id,
                    name=key.name,
                    key_hash=key.key_hash,
                    mode=key.mode,
                    scope=key.scope,
                    last_four_chars=key.last_four_chars,
                    created_at=db_now(),
                )
                .returning(api_keys)
            )
            await _note(connection, key.account_id, "key.created", key.id)
            return _key(added.mappings().one())

    async def find_key(self, key_hash: str) -> FoundKey | None:
        """Return the key with this hash, revoked or not."""
        async with self._db.read() as connection:
            found = await connection.execute(select(api_keys).where(api_keys.c.key_hash == key_hash))
            row = found.mappings().one_or_none()
            if row is None:
                return None
            owner = await connection.execute(select(accounts).where(accounts.c.id == row["account_id"]))
            account = owner.mappings().one_or_none()
        return FoundKey(_key(row), row["key_hash"], _account(account) if account is not None else None)

    async def list_keys(self, account_id: str | None = None) -> list[KeyRecord]:
        """Return an account's keys (all keys for `None`), revoked ones included, oldest first."""
        query = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
        if account_id is not None:
            query = query.where(api_keys.c.account_id == account_id)
        async with self._db.read() as connection:
            return [_key(row) for row in (await connection.execute(query)).mappings()]

    async def revoke_key(self, key_id: str, *, account_id: str | None = None) -> KeyRecord | None:
        """Revoke the key (of this account only, where given); `None` when there is none. Idempotent."""
        which = [api_keys.c.id == key_id]
        if account_id is not None:
            which.append(api_keys.c.account_id == account_id)
        async with self._db.write() as connection:
            revoked = await connection.scalar(
                update(api_keys)
                .where(*which, api_keys.c.revoked_at.is_(None))
                .values(revoked_at=db_now())
                .returning(api_keys.c.account_id)
            )
            if revoked is not None:
                await _note(connection, revoked, "key.revoked", key_id)
            row = (await connection.execute(select(api_keys).where(*which))).mappings().one_or_none()
            return _key(row) if row is not None else None


async def _note(connection: AsyncConnection, account_id: str, action: str, subject: str) -> None:
    await connection.execute(
        insert(audit).values(
            id=f"aud_{secrets.token_hex(12)}",
            account_id=account_id,
            action=action,
            subject=subject,
            detail={},
            created_at=db_now(),
        )
    )


def _account(row: RowMapping) -> AccountRecord:
    return AccountRecord(row["id"], row["name"], row["tier"], row["created_at"], row["email"])


def _key(row: RowMapping) -> KeyRecord:
    return KeyRecord(
        id=row["id"],
        account_id=row["account_id"],
        name=row["name"],
        mode=row["mode"],
        scope=row["scope"],
        last_four_chars=row["last_four_chars"],
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
    )
