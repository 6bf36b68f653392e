"""Webhook deliveries on the outbox, and signing secrets, in SQL."""

from __future__ import annotations

import base64
import hashlib
from secrets import token_bytes
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import ColumnElement, and_, case, delete, func, literal, select, tuple_, update

from stenobird.ports.webhooks import Delivery, DeliveryState, SigningSecrets
from stenobird.storage.engine import Database, one, one_or_none
from stenobird.storage.rows import from_row
from stenobird.storage.schema import accounts, db_now, disabled_webhooks, outbox, webhook_secrets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import RowMapping
    from sqlalchemy.ext.asyncio import AsyncConnection

    from stenobird.ports import KeyMode

SQLTime: TypeAlias = "ColumnElement[float] | float"
"""Seconds since the epoch, as SQL or as a number."""
PURGE_BATCH = 1000
SECRET_BYTES = 32

_OURS = outbox.c.kind == "webhook"
DISABLED = "Not sent: the receiver has answered 410. A replay enables this URL again."


class DeliveryStore:
    """Deliveries, and the secrets that sign them: one for live jobs, one for jobs of test keys.

    Every method is one transaction; many workers may call at once.

    `now` is the database's clock, which all processes share, unless a test replaces it.
    """

    def __init__(self, database: Database, *, now: Callable[[], SQLTime] = db_now) -> None:
        self._db = database
        self._now = now
        self.filled = database.outbox_filled
        """Set when this process has committed a delivery, or made one due again."""

    async def claim(
        self, *, lease_seconds: float, limit: int, per_account: int, busy: Mapping[str, int] | None = None
    ) -> Sequence[Delivery]:
        """Lease due deliveries, oldest first.

        At most `per_account` of each account, less those it is sending already (`busy`, by account).
        Deliveries to a disabled target become `dead`; those of deleted accounts are removed.
        """
        now = self._now()
        due = (_OURS, outbox.c.settled_at.is_(None), outbox.c.next_attempt_at <= now)
        place = func.row_number().over(
            partition_by=outbox.c.account_id, order_by=(outbox.c.next_attempt_at, outbox.c.id)
        )
        ranked = select(outbox.c.id, outbox.c.account_id, place.label("place")).where(*due).subquery()
        places = (
            case(
                {account_id: per_account - count for account_id, count in busy.items()},
                value=ranked.c.account_id,
                else_=per_account,
            )
            if busy
            else literal(per_account)
        )
        query = (
            select(outbox)
            # Repeated outside the subquery, where PostgreSQL re-checks rows that another worker just changed.
            .where(outbox.c.id.in_(select(ranked.c.id).where(ranked.c.place <= places)), *due)
            .order_by(outbox.c.next_attempt_at, outbox.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        async with self._db.read(once=True) as connection:
            # Most polls find nothing and should not wait for the writer connection.
            if await connection.scalar(select(outbox.c.id).where(*due).limit(1)) is None:
                return []
        async with self._db.write() as connection:
            rows = (await connection.execute(query)).mappings().all()
            owners = {row["account_id"] for row in rows}
            alive = set(
                await connection.scalars(
                    select(accounts.c.id).where(accounts.c.id.in_(owners), accounts.c.deleted_at.is_(None))
                )
            )
            found = await connection.execute(
                select(disabled_webhooks.c.account_id, disabled_webhooks.c.target_hash).where(
                    disabled_webhooks.c.account_id.in_(alive)
                )
            )
            disabled = {(row.account_id, row.target_hash) for row in found}
            orphans = [row["id"] for row in rows if row["account_id"] not in alive]
            if orphans:
                await connection.execute(delete(outbox).where(outbox.c.id.in_(orphans)))
            kept = [row for row in rows if row["account_id"] in alive]
            dead = [row["id"] for row in kept if (row["account_id"], _target(_text(row, "url"))) in disabled]
            if dead:
                await connection.execute(
                    update(outbox)
                    .where(outbox.c.id.in_(dead))
                    .values(state="dead", settled_at=now, error=DISABLED)
                )
            ids = [row["id"] for row in kept if row["id"] not in dead]
            if not ids:
                return []
            claimed = await connection.execute(
                update(outbox)
                .where(outbox.c.id.in_(ids))
                .values(
                    state="sending",
                    attempts=outbox.c.attempts + 1,
                    tries=outbox.c.tries + 1,
                    attempted_at=now,
                    next_attempt_at=now + lease_seconds,
                )
                .returning(outbox)
            )
            records = {row["id"]: _record(row) for row in claimed.mappings()}
        return [records[one] for one in ids]

    async def release_leases(self) -> int:
        """Make deliveries that are being sent due again, and return how many; the attempts are not counted.

        Only for a process that is known to be the only one.
        """
        return await self._db.execute(
            update(outbox)
            .where(_OURS, outbox.c.state == "sending", outbox.c.settled_at.is_(None))
            .values(state="pending", tries=outbox.c.tries - 1, next_attempt_at=self._now())
        )

    async def note_delivered(self, due: Delivery, *, status_code: int) -> None:
        """Store that the receiver answered 2xx."""
        await self._db.execute(
            update(outbox)
            .where(outbox.c.id == due.id, outbox.c.state != "delivered")
            .values(state="delivered", settled_at=self._now(), status_code=status_code, error=None)
        )

    async def note_failed(
        self, due: Delivery, *, retry_seconds: float | None, status_code: int | None, error: str
    ) -> None:
        """Store a failed attempt, unless there was a later claim. Without `retry_seconds` it is `dead`."""
        values: dict[str, Any] = {"status_code": status_code, "error": error}
        if retry_seconds is None:
            values |= {"state": "dead", "settled_at": self._now()}
        else:
            values |= {"state": "pending", "next_attempt_at": self._now() + retry_seconds}
        await self._db.execute(update(outbox).where(_held(due)).values(**values))

    async def disable_target(self, due: Delivery, *, status_code: int, error: str) -> None:
        """End the delivery as `dead`, and every later one of this account to this URL until a replay."""
        async with self._db.write() as connection:
            changed = await connection.execute(
                update(outbox)
                .where(_held(due))
                .values(state="dead", settled_at=self._now(), status_code=status_code, error=error)
            )
            if changed.rowcount:
                await connection.execute(
                    self._db.insert(disabled_webhooks)
                    .values(account_id=due.account_id, target_hash=_target(due.url), disabled_at=self._now())
                    .on_conflict_do_nothing()
                )

    async def own_deliveries(
        self,
        account_id: str,
        *,
        mode: KeyMode | None = None,
        state: DeliveryState | None = None,
        job_id: str | None = None,
        before: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> Sequence[Delivery]:
        """Return the account's deliveries, newest first, older than `before`'s time and id.

        `mode`, `state` and `job_id` select deliveries; `None` means any.
        """
        where = [_OURS, outbox.c.account_id == account_id, *_matching(mode, state, job_id)]
        if before is not None:
            where.append(tuple_(outbox.c.created_at, outbox.c.id) < tuple_(*before))
        query = (
            select(outbox).where(*where).order_by(outbox.c.created_at.desc(), outbox.c.id.desc()).limit(limit)
        )
        return [_record(row) for row in await self._db.rows(query)]

    async def replay(
        self, account_id: str, delivery_id: str, *, mode: KeyMode | None = None
    ) -> Delivery | None:
        """Make the delivery due now, with all its attempts, and enable its target again.

        A delivery that is being sent stays as it is. `None` if the account has no such delivery of this mode.
        """
        own = (_OURS, outbox.c.id == delivery_id, outbox.c.account_id == account_id, *_matching(mode))
        locked = select(outbox).where(*own).with_for_update()
        leased = and_(outbox.c.state == "sending", outbox.c.next_attempt_at > self._now())
        async with self._db.write() as connection:
            row = await one_or_none(connection, locked)
            if row is None:
                return None
            begun = await connection.execute(
                update(outbox)
                .where(*own, ~leased)
                .values(state="pending", settled_at=None, tries=0, next_attempt_at=self._now())
            )
            if begun.rowcount:
                await connection.execute(
                    delete(disabled_webhooks).where(
                        disabled_webhooks.c.account_id == account_id,
                        disabled_webhooks.c.target_hash == _target(_text(row, "url")),
                    )
                )
                row = await one(connection, locked)
        self.filled.set()
        return _record(row)

    async def purge(self, *, settled_before: float) -> int:
        """Delete deliveries, dead ones included, that ended before this time; return how many."""
        old = select(outbox.c.id).where(_OURS, outbox.c.settled_at < settled_before).limit(PURGE_BATCH)
        removed = 0
        while gone := await self._db.execute(delete(outbox).where(outbox.c.id.in_(old)), patient=True):
            removed += gone
        return removed

    # --- signing secrets --------------------------------------------------------------------------------

    async def signing_secrets(self, account_id: str, *, mode: KeyMode, now: float) -> SigningSecrets:
        """Return the account's secrets; create one if there is none."""
        query = select(webhook_secrets).where(_of(account_id, mode))
        row = await self._db.row(query)
        if row is None:
            async with self._db.write() as connection:
                await self._make(connection, account_id, mode)
                row = await one(connection, query)
        return _secrets(row, now)

    async def rotate_secret(
        self, account_id: str, *, mode: KeyMode, now: float, overlap_seconds: float
    ) -> SigningSecrets:
        """Create a secret. The current one stays valid for `overlap_seconds`; an older one ends now."""
        async with self._db.write() as connection:
            await self._make(connection, account_id, mode)
            row = await one(
                connection,
                update(webhook_secrets)
                .where(_of(account_id, mode))
                # The right-hand sides read the row before this update.
                .values(
                    previous_secret=webhook_secrets.c.secret,
                    previous_until=now + overlap_seconds,
                    secret=new_secret(),
                    created_at=now,
                )
                .returning(webhook_secrets),
            )
        return _secrets(row, now)

    async def _make(self, connection: AsyncConnection, account_id: str, mode: KeyMode) -> None:
        await connection.execute(
            self._db.insert(webhook_secrets)
            .values(account_id=account_id, mode=mode, secret=new_secret(), created_at=db_now())
            .on_conflict_do_nothing()
        )


def _matching(
    mode: KeyMode | None, state: DeliveryState | None = None, job_id: str | None = None
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if mode is not None:
        conditions.append(outbox.c.payload["mode"].as_string() == mode)
    if state is not None:
        conditions.append(outbox.c.state == state)
    if job_id is not None:
        conditions.append(outbox.c.job_id == job_id)
    return conditions


def _held(due: Delivery) -> ColumnElement[bool]:
    """Return the condition that this claim is the latest one and the delivery is not settled."""
    return and_(outbox.c.id == due.id, outbox.c.attempts == due.attempts, outbox.c.settled_at.is_(None))


def _target(url: str) -> str:
    """Return the hash that identifies a URL, because a PostgreSQL index can't hold long URLs."""
    return hashlib.sha256(url.encode()).hexdigest()


def _text(row: RowMapping, name: str) -> str:
    # An incomplete row must not stop the others, so it fails by itself.
    return str(row["payload"].get(name, ""))


def _record(row: RowMapping) -> Delivery:
    return from_row(
        Delivery,
        row,
        event_id="evt_" + row["id"].removeprefix("out_"),
        event_type=_text(row, "event_type"),
        origin=_text(row, "origin"),
        status=_text(row, "status"),
        url=_text(row, "url"),
        next_attempt_at=row["next_attempt_at"] if row["settled_at"] is None else None,
        mode="test" if _text(row, "mode") == "test" else "live",
    )


def new_secret() -> str:
    """Return a new signing secret, in the form of Standard Webhooks."""
    return "whsec_" + base64.b64encode(token_bytes(SECRET_BYTES)).decode()


def _of(account_id: str, mode: KeyMode) -> ColumnElement[bool]:
    return and_(webhook_secrets.c.account_id == account_id, webhook_secrets.c.mode == mode)


def _secrets(row: RowMapping, now: float) -> SigningSecrets:
    until = row["previous_until"]
    lasting = until is not None and now < until
    return SigningSecrets(
        current=row["secret"],
        since=row["created_at"],
        previous=row["previous_secret"] if lasting else None,
        previous_until=until if lasting else None,
    )
