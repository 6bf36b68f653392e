"""API keys and the accounts they stand for, in SQL: `ports.KeyStore` for SQLite and PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, insert, select, update
from typing_extensions import override

from stenobird.errors import InvalidRequest
from stenobird.ports import FoundKey, KeyRecord, KeyStore
from stenobird.storage.account_store import account_from_row
from stenobird.storage.audit import note
from stenobird.storage.schema import accounts, api_keys, db_now

if TYPE_CHECKING:
    from sqlalchemy.engine import RowMapping
    from sqlalchemy.ext.asyncio import AsyncConnection

    from stenobird.ports import AccountBilling, AccountRecord, NewKey, Tier
    from stenobird.storage.engine import Database


class SqlKeyStore(KeyStore):
    """`ports.KeyStore` on a `Database`. Needs no closing of its own."""

    def __init__(self, database: Database) -> None:
        self._db = database

    @override
    async def ensure_account(
        self, account_id: str, *, name: str, tier: Tier, billing: AccountBilling = "metered"
    ) -> AccountRecord:
        async with self._db.write() as connection:
            made = await connection.execute(
                self._db.insert(accounts)
                .values(id=account_id, name=name, tier=tier, billing=billing, created_at=db_now())
                .on_conflict_do_update(
                    index_elements=[accounts.c.id],
                    set_={"deleted_at": None, "name": name, "tier": tier, "billing": billing},
                    where=accounts.c.deleted_at.is_not(None),
                )
                .returning(accounts.c.id)
            )
            if made.scalar_one_or_none() is not None:
                await note(connection, account_id, "account.created", account_id, by="operator")
            found = await connection.execute(select(accounts).where(accounts.c.id == account_id))
            return account_from_row(found.mappings().one())

    @override
    async def add_key(self, key: NewKey, *, by: str = "operator", max_valid: int | None = None) -> KeyRecord:
        async with self._db.write() as connection:
            owner = await connection.scalar(
                select(accounts.c.id)
                .where(accounts.c.id == key.account_id, accounts.c.deleted_at.is_(None))
                .with_for_update()
            )
            if owner is None:
                raise InvalidRequest(f"There is no account {key.account_id}. Create it first.")
            if max_valid is not None:
                count = select(func.count()).where(
                    api_keys.c.account_id == key.account_id, api_keys.c.revoked_at.is_(None)
                )
                if (await connection.scalar(count) or 0) >= max_valid:
                    raise InvalidRequest(
                        f"The account has {max_valid} keys, the most that it may have. "
                        "Revoke keys that are not used.",
                        details={"max_keys": max_valid},
                    )
            record = await _insert(connection, key)
            await note(
                connection, key.account_id, "key.created", key.id, by=by, mode=key.mode, scope=key.scope
            )
            return record

    @override
    async def find_key(self, key_hash: str) -> FoundKey | None:
        async with self._db.read() as connection:
            found = await connection.execute(select(api_keys).where(api_keys.c.key_hash == key_hash))
            row = found.mappings().one_or_none()
            if row is None:
                return None
            owner = await connection.execute(
                select(accounts).where(accounts.c.id == row["account_id"], accounts.c.deleted_at.is_(None))
            )
            account = owner.mappings().one_or_none()
        return FoundKey(
            _key(row), row["key_hash"], account_from_row(account) if account is not None else None
        )

    @override
    async def list_keys(self, account_id: str | None = None) -> list[KeyRecord]:
        query = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
        if account_id is not None:
            query = query.where(api_keys.c.account_id == account_id)
        async with self._db.read() as connection:
            return [_key(row) for row in (await connection.execute(query)).mappings()]

    @override
    async def get_key(self, key_id: str) -> KeyRecord | None:
        async with self._db.read() as connection:
            found = await connection.execute(select(api_keys).where(api_keys.c.id == key_id))
            row = found.mappings().one_or_none()
        return _key(row) if row is not None else None

    @override
    async def revoke_key(
        self, key_id: str, *, account_id: str | None = None, by: str = "operator"
    ) -> KeyRecord | None:
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
                await note(connection, revoked, "key.revoked", key_id, by=by)
            row = (await connection.execute(select(api_keys).where(*which))).mappings().one_or_none()
            return _key(row) if row is not None else None

    @override
    async def rotate_key(self, key_id: str, new: NewKey, *, by: str = "operator") -> KeyRecord | None:
        async with self._db.write() as connection:
            revoked = await connection.scalar(
                update(api_keys)
                .where(
                    api_keys.c.id == key_id,
                    api_keys.c.account_id == new.account_id,
                    api_keys.c.revoked_at.is_(None),
                )
                .values(revoked_at=db_now())
                .returning(api_keys.c.id)
            )
            if revoked is None:
                return None
            record = await _insert(connection, new)
            await note(connection, new.account_id, "key.rotated", key_id, by=by, replaced_by=new.id)
            return record


async def _insert(connection: AsyncConnection, key: NewKey) -> KeyRecord:
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
    return _key(added.mappings().one())


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
