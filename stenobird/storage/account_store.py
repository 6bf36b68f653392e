"""Accounts, API keys, wallet records, usage and the audit log, in SQL."""

from __future__ import annotations

import secrets
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, Select, and_, bindparam, delete, func, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError

from stenobird.errors import InvalidRequest
from stenobird.ports import (
    AccountRecord,
    AuditEntry,
    KeyRecord,
    UsageRecord,
    UsageSum,
    WalletEntry,
    WalletRecord,
)
from stenobird.storage import wallet
from stenobird.storage.engine import Database, one, one_or_none
from stenobird.storage.rows import from_row
from stenobird.storage.schema import (
    accounts,
    api_keys,
    audit,
    checkouts,
    db_now,
    disabled_webhooks,
    idempotency,
    jobs,
    outbox,
    recoveries,
    reservations,
    uploads,
    usage,
    usage_days,
    wallet_entries,
    wallets,
    webhook_secrets,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from stenobird.ports import AccountBilling, NewKey, Tier

DELETED_NAME: Final = "deleted"
SWEEP_BATCH: Final = 100


_METERED: Final = func.coalesce(usage.c.metered_minutes, usage.c.minutes - usage.c.credit_units)
_KEY_FIELDS: Final = [one.name for one in fields(KeyRecord)]
_ACCOUNT_FIELDS: Final = [one.name for one in fields(AccountRecord)]
_FIND_KEY: Final = (
    select(
        api_keys.c.key_hash,
        *(api_keys.c[name] for name in _KEY_FIELDS),
        *(accounts.c[name] for name in _ACCOUNT_FIELDS),
    )
    .outerjoin(accounts, and_(accounts.c.id == api_keys.c.account_id, accounts.c.deleted_at.is_(None)))
    .where(api_keys.c.key_hash == bindparam("sent_hash"))
)


class AccountStore:
    """Accounts, keys, wallets and usage. Every method is one transaction; changes leave an audit row.

    A deleted account stays in the ledger only: `get` and `standing` return `None`. `by` is the id of the key
    that made the change, or `operator`.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    async def standing(self, account_id: str) -> tuple[AccountRecord, int] | None:
        """Return the account and the unreserved units of its wallet; `None` if it was deleted."""
        async with self._db.read() as connection:
            row = await one_or_none(connection, _live(account_id))
            if row is None:
                return None
            units = await wallet.available_units(connection, account_id)
        return from_row(AccountRecord, row), units

    async def create_account(
        self,
        account_id: str,
        name: str,
        tier: Tier,
        billing: AccountBilling = "metered",
        *,
        email: str | None = None,
        by: str,
    ) -> AccountRecord:
        """Store a new account. Raises `InvalidRequest` when its id is taken."""
        values = {"id": account_id, "name": name, "tier": tier, "billing": billing, "email": email}
        try:
            async with self._db.write() as connection:
                new = insert(accounts).values(**values, created_at=db_now()).returning(accounts)
                row = await one(connection, new)
                await record_audit(connection, account_id, "account.created", account_id, by=by, tier=tier)
                return from_row(AccountRecord, row)
        except IntegrityError as exc:
            raise InvalidRequest(f"The account {account_id} already exists.") from exc

    async def ensure_account(
        self, account_id: str, *, name: str, tier: Tier, billing: AccountBilling = "metered"
    ) -> AccountRecord:
        """Return the account, created if there is none. Two processes may call this at the same time."""
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
                await record_audit(connection, account_id, "account.created", account_id, by="operator")
            row = await one(connection, select(accounts).where(accounts.c.id == account_id))
            return from_row(AccountRecord, row)

    async def get(self, account_id: str) -> AccountRecord | None:
        """Return the account."""
        row = await self._db.row(_live(account_id))
        return from_row(AccountRecord, row) if row is not None else None

    async def list_accounts(self, *, after: str = "", limit: int = 100) -> list[AccountRecord]:
        """Return accounts by id, from the first one after `after`."""
        query = (
            select(accounts)
            .where(accounts.c.id > after, accounts.c.deleted_at.is_(None))
            .order_by(accounts.c.id)
            .limit(limit)
        )
        return [from_row(AccountRecord, row) for row in await self._db.rows(query)]

    async def set_plan(
        self, account_id: str, *, tier: Tier | None, billing: AccountBilling | None, by: str
    ) -> AccountRecord | None:
        """Change tier or billing or both; `None` when there is no such account."""
        changes: dict[str, Any] = {"tier": tier, "billing": billing}
        changes = {name: value for name, value in changes.items() if value is not None}
        async with self._db.write() as connection:
            if changes:
                changed = await connection.execute(
                    update(accounts)
                    .where(accounts.c.id == account_id, accounts.c.deleted_at.is_(None))
                    .values(**changes)
                )
                if changed.rowcount:
                    await record_audit(connection, account_id, "account.plan", account_id, by=by, **changes)
            row = await one_or_none(connection, _live(account_id))
        return from_row(AccountRecord, row) if row is not None else None

    async def delete_account(self, account_id: str, *, by: str) -> bool:
        """Delete name, address, stored responses, messages and uploads; return whether the account existed.

        Keys, ledger and wallet rows stay, as does what Stripe needs for the last invoice.
        """
        async with self._db.write() as connection:
            deleted = await connection.execute(
                update(accounts)
                .where(accounts.c.id == account_id, accounts.c.deleted_at.is_(None))
                .values(deleted_at=db_now(), name=DELETED_NAME, email=None)
            )
            if deleted.rowcount == 0:
                return False
            for table in (idempotency, webhook_secrets, disabled_webhooks, recoveries):
                await connection.execute(delete(table).where(table.c.account_id == account_id))
            await connection.execute(
                delete(outbox).where(outbox.c.account_id == account_id, outbox.c.kind == "webhook")
            )
            # The next sweep of uploads removes their bytes, once no job needs them.
            await connection.execute(
                update(uploads)
                .where(uploads.c.account_id == account_id)
                .values(expires_at=0.0, filename=DELETED_NAME)
            )
            await connection.execute(
                update(checkouts).where(checkouts.c.account_id == account_id).values(email=None)
            )
            await record_audit(connection, account_id, "account.deleted", account_id, by=by)
            return True

    async def open_jobs(self, account_id: str) -> int:
        """Return how many unfinished jobs the account has."""
        return await self._db.number(
            select(func.count()).where(jobs.c.account_id == account_id, jobs.c.completed_at.is_(None))
        )

    async def deleted_with_jobs(self) -> list[str]:
        """Return deleted accounts that still have jobs, at most 100."""
        any_job = select(jobs.c.id).where(jobs.c.account_id == accounts.c.id).exists()
        query = select(accounts.c.id).where(accounts.c.deleted_at.is_not(None), any_job).limit(SWEEP_BATCH)
        return [row["id"] for row in await self._db.rows(query)]

    async def add_units(self, account_id: str, units: int, *, reason: str, by: str) -> WalletRecord | None:
        """Add units to the wallet (negative: remove them); `None` when there is no such account."""
        async with self._db.write() as connection:
            if await one_or_none(connection, _live(account_id).with_for_update()) is None:
                return None
            await wallet.change(self._db, connection, account_id, units, reason=reason)
            await record_audit(
                connection, account_id, "credits.added", account_id, by=by, units=units, reason=reason
            )
            return await _wallet(connection, account_id, limit=1)

    async def wallet(self, account_id: str, *, limit: int = 20) -> WalletRecord:
        """Return the wallet with its newest entries."""
        async with self._db.read() as connection:
            return await _wallet(connection, account_id, limit=limit)

    async def audit(self, account_id: str | None, *, limit: int = 100) -> list[AuditEntry]:
        """Return the newest audit rows of an account (of all for `None`), newest first."""
        query = select(audit).order_by(audit.c.created_at.desc(), audit.c.id).limit(limit)
        if account_id is not None:
            query = query.where(audit.c.account_id == account_id)
        found = [(row, dict(row["detail"])) for row in await self._db.rows(query)]
        return [from_row(AuditEntry, row, by=detail.pop("by", None), detail=detail) for row, detail in found]

    async def usage_by_day(self, account_id: str, *, since: float, until: float) -> list[UsageSum]:
        """Return the sums of the days that `[since, until)` touches, UTC, oldest first.

        Days without jobs are omitted.
        """
        query = (
            select(usage_days)
            .where(
                usage_days.c.account_id == account_id,
                usage_days.c.day >= int(since // wallet.DAY_SECONDS),
                usage_days.c.day < -int(-until // wallet.DAY_SECONDS),
            )
            .order_by(usage_days.c.day)
        )
        return [
            from_row(
                UsageSum,
                row,
                day=datetime.fromtimestamp(row["day"] * wallet.DAY_SECONDS, UTC).date().isoformat(),
            )
            for row in await self._db.rows(query)
        ]

    async def usage_by_job(
        self,
        account_id: str,
        *,
        since: float,
        until: float,
        before: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> list[UsageRecord]:
        """Return ledger rows of `[since, until)`, newest first, older than `before`'s time and job id."""
        where: list[ColumnElement[bool]] = [
            usage.c.account_id == account_id,
            usage.c.created_at >= since,
            usage.c.created_at < until,
        ]
        if before is not None:
            where.append(tuple_(usage.c.created_at, usage.c.job_id) < tuple_(*before))
        query = (
            select(
                usage.c.job_id,
                # The column was named when a minute was always one unit; a minute of a larger model is more.
                usage.c.minutes.label("units"),
                usage.c.credit_units,
                _METERED.label("metered_minutes"),
                usage.c.audio_seconds,
                usage.c.created_at,
            )
            .where(*where)
            .order_by(usage.c.created_at.desc(), usage.c.job_id.desc())
            .limit(limit)
        )
        return [
            from_row(UsageRecord, row, minutes=wallet.whole_minutes(row["audio_seconds"]))
            for row in await self._db.rows(query)
        ]

    # --- keys -------------------------------------------------------------------------------------------

    async def add_key(self, key: NewKey, *, by: str = "operator", max_valid: int | None = None) -> KeyRecord:
        """Store a key. Raises `InvalidRequest` if its account is missing or has `max_valid` valid keys."""
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
            record = await insert_key(connection, key)
            await record_audit(
                connection, key.account_id, "key.created", key.id, by=by, mode=key.mode, scope=key.scope
            )
            return record

    async def find_key(self, key_hash: str) -> tuple[KeyRecord, str, AccountRecord | None] | None:
        """Return the key with this hash, revoked or not, its stored hash, and its account unless deleted."""
        row = await self._db.find(_FIND_KEY, {"sent_hash": key_hash})
        if row is None:
            return None
        stored_hash, *columns = row
        key = KeyRecord(*columns[: len(_KEY_FIELDS)])
        account = columns[len(_KEY_FIELDS) :]
        return key, stored_hash, AccountRecord(*account) if account[0] is not None else None

    async def list_keys(self, account_id: str | None = None) -> list[KeyRecord]:
        """Return an account's keys (all keys for `None`), revoked ones included, oldest first."""
        query = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
        if account_id is not None:
            query = query.where(api_keys.c.account_id == account_id)
        return [from_row(KeyRecord, row) for row in await self._db.rows(query)]

    async def get_key(self, key_id: str) -> KeyRecord | None:
        """Return the key with this id, revoked or not."""
        row = await self._db.row(select(api_keys).where(api_keys.c.id == key_id))
        return from_row(KeyRecord, row) if row is not None else None

    async def revoke_key(
        self, key_id: str, *, account_id: str | None = None, by: str = "operator"
    ) -> KeyRecord | None:
        """Revoke the key, of this account only if given; `None` if there is no such key. Idempotent."""
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
                await record_audit(connection, revoked, "key.revoked", key_id, by=by)
            row = await one_or_none(connection, select(api_keys).where(*which))
            return from_row(KeyRecord, row) if row is not None else None

    async def rotate_key(self, key_id: str, new: NewKey, *, by: str = "operator") -> KeyRecord | None:
        """Store `new` and revoke the old key in one commit; `None` if the old one is missing or revoked."""
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
            record = await insert_key(connection, new)
            await record_audit(connection, new.account_id, "key.rotated", key_id, by=by, replaced_by=new.id)
            return record


def _live(account_id: str) -> Select[Any]:
    """Return the query of an account that is not deleted."""
    return select(accounts).where(accounts.c.id == account_id, accounts.c.deleted_at.is_(None))


async def _wallet(connection: AsyncConnection, account_id: str, *, limit: int) -> WalletRecord:
    units = await connection.scalar(select(wallets.c.units).where(wallets.c.account_id == account_id))
    reserved = await connection.scalar(
        select(func.coalesce(func.sum(reservations.c.units), 0)).where(
            reservations.c.account_id == account_id
        )
    )
    found = await connection.execute(
        select(wallet_entries)
        .where(wallet_entries.c.account_id == account_id)
        .order_by(wallet_entries.c.created_at.desc(), wallet_entries.c.id)
        .limit(limit)
    )
    entries = tuple(from_row(WalletEntry, row) for row in found.mappings())
    return WalletRecord(units or 0, reserved or 0, entries)


async def record_audit(
    connection: AsyncConnection,
    account_id: str | None,
    action: str,
    subject: str,
    *,
    by: str | None = None,
    **detail: Any,
) -> None:
    """Record that `by` did `action` to `subject`, in the commit of the change. `detail` holds no secrets.

    `by` is a key's id or `operator`; `None` for changes that follow from Stripe.
    """
    await connection.execute(
        insert(audit).values(
            id=f"aud_{secrets.token_hex(12)}",
            account_id=account_id,
            action=action,
            subject=subject,
            detail=detail if by is None else {"by": by, **detail},
            created_at=db_now(),
        )
    )


async def insert_key(connection: AsyncConnection, key: NewKey) -> KeyRecord:
    """Insert the row of a new key."""
    added = insert(api_keys).values(**asdict(key), created_at=db_now()).returning(api_keys)
    return from_row(KeyRecord, await one(connection, added))
