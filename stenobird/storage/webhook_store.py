"""The signing secrets of accounts, in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select

from stenobird.storage.schema import db_now, webhook_secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from stenobird.storage.engine import Database


class SqlWebhookSecrets:
    """`webhooks.sender.WebhookSecrets` on a `Database`. Needs no closing of its own."""

    def __init__(self, database: Database, new_secret: Callable[[], str]) -> None:
        self._db = database
        self._new_secret = new_secret

    async def secret_of(self, account_id: str) -> str:
        """Return the account's secret, made now if it has none. Safe from two processes at once."""
        query = select(webhook_secrets.c.secret).where(webhook_secrets.c.account_id == account_id)
        async with self._db.read() as connection:
            secret: str | None = await connection.scalar(query)
        if secret is not None:
            return secret
        async with self._db.write() as connection:
            await connection.execute(
                self._db.insert(webhook_secrets)
                .values(account_id=account_id, secret=self._new_secret(), created_at=db_now())
                .on_conflict_do_nothing()
            )
            made: str | None = await connection.scalar(query)
        assert made is not None
        return made
