"""The signing secrets of accounts, in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, select, update
from typing_extensions import override

from stenobird.ports.webhooks import SecretStore, SigningSecrets
from stenobird.storage.schema import db_now, webhook_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import RowMapping
    from sqlalchemy.ext.asyncio import AsyncConnection

    from stenobird.ports import KeyMode
    from stenobird.storage.engine import Database


class SqlWebhookSecrets(SecretStore):
    """`ports.webhooks.SecretStore` on a `Database`. Needs no closing of its own."""

    def __init__(self, database: Database, new_secret: Callable[[], str]) -> None:
        self._db = database
        self._new_secret = new_secret

    @override
    async def signing_secrets(self, account_id: str, *, mode: KeyMode, now: float) -> SigningSecrets:
        async with self._db.read() as connection:
            row = await _read(connection, account_id, mode)
        if row is None:
            async with self._db.write() as connection:
                await self._make(connection, account_id, mode)
                row = await _read(connection, account_id, mode)
        assert row is not None
        return _secrets(row, now)

    @override
    async def rotate_secret(
        self, account_id: str, *, mode: KeyMode, now: float, overlap_seconds: float
    ) -> SigningSecrets:
        async with self._db.write() as connection:
            await self._make(connection, account_id, mode)
            await connection.execute(
                update(webhook_secrets)
                .where(_of(account_id, mode))
                # The right-hand sides read the row before this update.
                .values(
                    previous_secret=webhook_secrets.c.secret,
                    previous_until=now + overlap_seconds,
                    secret=self._new_secret(),
                    created_at=now,
                )
            )
            row = await _read(connection, account_id, mode)
        assert row is not None
        return _secrets(row, now)

    async def _make(self, connection: AsyncConnection, account_id: str, mode: KeyMode) -> None:
        await connection.execute(
            self._db.insert(webhook_secrets)
            .values(account_id=account_id, mode=mode, secret=self._new_secret(), created_at=db_now())
            .on_conflict_do_nothing()
        )


def _of(account_id: str, mode: KeyMode) -> ColumnElement[bool]:
    return and_(webhook_secrets.c.account_id == account_id, webhook_secrets.c.mode == mode)


async def _read(connection: AsyncConnection, account_id: str, mode: KeyMode) -> RowMapping | None:
    query = select(webhook_secrets).where(_of(account_id, mode))
    return (await connection.execute(query)).mappings().one_or_none()


def _secrets(row: RowMapping, now: float) -> SigningSecrets:
    until = row["previous_until"]
    lasting = until is not None and now < until
    return SigningSecrets(
        current=row["secret"],
        since=row["created_at"],
        previous=row["previous_secret"] if lasting else None,
        previous_until=until if lasting else None,
    )
