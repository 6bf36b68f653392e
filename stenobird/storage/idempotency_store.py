"""Idempotency keys in SQL."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import ColumnElement, and_, delete, select, update

from stenobird.errors import IdempotencyInProgress, IdempotencyMismatch
from stenobird.storage.engine import Database, one
from stenobird.storage.schema import db_now, idempotency

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import RowMapping


KEPT_SECONDS: Final = 24 * 3600
CLAIM_SECONDS: Final = 30
"""How long a request is reserved for its claimant; creating a job takes milliseconds."""
RETRY_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """The response to a request with an Idempotency-Key, which is sent again when the request is repeated."""

    status: int
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class IdempotencyClaim:
    """The right to process a request. The resource it creates has the id `resource_id`, so it exists once."""

    scope_hash: str
    resource_id: str
    token: str


class IdempotencyStore:
    """Idempotency keys, kept 24 hours on the database's clock. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def look(self, scope_hash: str, body_hash: str) -> StoredAnswer | None:
        """Return the stored response, if there is one, without writing.

        Raises `IdempotencyMismatch` for another body, `IdempotencyInProgress` while the first is processed.
        """
        row = await self._db.row(
            select(idempotency, _claimed().label("claimed")).where(
                idempotency.c.scope_hash == scope_hash, idempotency.c.created_at > db_now() - KEPT_SECONDS
            )
        )
        return _answer(row, body_hash) if row is not None else None

    async def claim(
        self, scope_hash: str, body_hash: str, *, account_id: str | None, resource_id: str
    ) -> IdempotencyClaim | StoredAnswer:
        """Return the right to process the request, or the response that was stored meanwhile.

        A claim that takes over from a crashed process keeps its `resource_id`. Raises what `look` raises.
        """
        token = secrets.token_hex(16)
        values = {
            "account_id": account_id,
            "body_hash": body_hash,
            "resource_id": resource_id,
            "claim_token": token,
            "claim_expires_at": db_now() + CLAIM_SECONDS,
            "created_at": db_now(),
        }
        async with self._db.write() as connection:
            new = await connection.execute(
                self._db.insert(idempotency)
                .values(scope_hash=scope_hash, **values)
                .on_conflict_do_update(
                    index_elements=[idempotency.c.scope_hash],
                    set_={**values, "status": None, "headers": None, "body": None},
                    where=idempotency.c.created_at <= db_now() - KEPT_SECONDS,
                )
                .returning(idempotency.c.resource_id)
            )
            if new.scalar_one_or_none() is not None:
                return IdempotencyClaim(scope_hash, resource_id, token)
            row = await one(
                connection,
                select(idempotency, _claimed().label("claimed"))
                .where(idempotency.c.scope_hash == scope_hash)
                .with_for_update(),
            )
            if (answer := _answer(row, body_hash)) is not None:
                return answer
            await connection.execute(
                update(idempotency)
                .where(idempotency.c.scope_hash == scope_hash)
                .values(claim_token=token, claim_expires_at=db_now() + CLAIM_SECONDS)
            )
            return IdempotencyClaim(scope_hash, row["resource_id"], token)

    async def answer(self, claim: IdempotencyClaim, answer: StoredAnswer) -> None:
        """Store the response, unless another request has taken over the claim."""
        await self._db.execute(
            update(idempotency)
            .where(_held(claim))
            .values(status=answer.status, headers=dict(answer.headers), body=answer.body)
        )

    async def forget(self, claim: IdempotencyClaim) -> None:
        """Remove the claim, because nothing was created; the next request may have another body."""
        await self._db.execute(delete(idempotency).where(_held(claim)))

    async def abandon(self, claim: IdempotencyClaim) -> None:
        """Let the next request take over at once; it is unknown whether something was created."""
        await self._db.execute(update(idempotency).where(_held(claim)).values(claim_expires_at=0.0))

    async def withdraw(self, scope_hash: str, answer: StoredAnswer) -> None:
        """Remove this stored response, which is outdated; a newer one stays."""
        await self._db.execute(
            delete(idempotency).where(
                idempotency.c.scope_hash == scope_hash, idempotency.c.body == answer.body
            )
        )

    async def purge(self) -> int:
        """Delete keys older than 24 hours; return how many."""
        return await self._db.execute(
            delete(idempotency).where(idempotency.c.created_at <= db_now() - KEPT_SECONDS)
        )


def _held(claim: IdempotencyClaim) -> ColumnElement[bool]:
    return and_(
        idempotency.c.scope_hash == claim.scope_hash,
        idempotency.c.claim_token == claim.token,
        idempotency.c.status.is_(None),
    )


def _claimed() -> ColumnElement[bool]:
    return idempotency.c.claim_expires_at > db_now()


def _answer(row: RowMapping, body_hash: str) -> StoredAnswer | None:
    if row["body_hash"] != body_hash:
        raise IdempotencyMismatch
    if row["status"] is not None:
        return StoredAnswer(row["status"], row["headers"] or {}, row["body"] or "")
    if row["claimed"]:
        raise IdempotencyInProgress(retry_after_seconds=RETRY_SECONDS)
    return None
