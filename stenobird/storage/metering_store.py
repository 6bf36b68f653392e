"""The metering of ledger rows, in SQL: one half of `BillingStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import String, bindparam, cast, func, literal, select, update

from stenobird.ports.billing import LATE_SECONDS, DoubtfulRow, MeterRow
from stenobird.storage.account_store import record_audit
from stenobird.storage.schema import accounts, usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stenobird.ports.billing import MeterState
    from stenobird.storage.engine import Database

LATE_MINUTES: Final = 30
"""Late rows are spread over this many minutes, because a summary can't distinguish rows of one minute."""

_MINUTES = func.coalesce(usage.c.metered_minutes, usage.c.minutes)


class MeteringStore:
    """The metering of ledger rows. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def claim_usage(self, *, now: float, lease_seconds: float, limit: int) -> list[MeterRow]:
        """Lease rows that are due, oldest first, and commit that an attempt starts.

        Rows with nothing to report become `free` and are not returned.
        """
        due = (
            select(
                usage.c.job_id,
                usage.c.account_id,
                usage.c.meter_state,
                usage.c.meter_identifier,
                usage.c.meter_timestamp,
                usage.c.meter_attempts,
                usage.c.meter_attempted_at,
                usage.c.created_at,
                _MINUTES.label("metered"),
                accounts.c.stripe_customer_id,
            )
            .select_from(usage.outerjoin(accounts, accounts.c.id == usage.c.account_id))
            .where(usage.c.meter_state.in_(("pending", "unknown")), usage.c.meter_due_at <= now)
            .order_by(usage.c.meter_due_at, usage.c.created_at, usage.c.job_id)
            .limit(limit)
            .with_for_update(of=usage, skip_locked=True)
        )
        free: list[str] = []
        claimed: list[MeterRow] = []
        async with self._db.write() as connection:
            for row in (await connection.execute(due)).mappings():
                customer_id = row["stripe_customer_id"]
                if row["meter_state"] == "pending" and (customer_id is None or row["metered"] <= 0):
                    free.append(row["job_id"])
                else:
                    first = row["meter_attempted_at"]
                    timestamp = row["meter_timestamp"]
                    if timestamp is None:
                        timestamp = int(row["created_at"])
                        if timestamp < now - LATE_SECONDS:
                            timestamp = int(now) - 60 * (len(claimed) % LATE_MINUTES)
                    claimed.append(
                        MeterRow(
                            job_id=row["job_id"],
                            account_id=row["account_id"],
                            customer_id=customer_id,
                            minutes=row["metered"],
                            timestamp=timestamp,
                            identifier=row["meter_identifier"] or row["job_id"],
                            attempts=row["meter_attempts"] + 1,
                            attempted_at=now if first is None else first,
                            fresh=first is None,
                        )
                    )
            if free:
                await connection.execute(
                    update(usage).where(usage.c.job_id.in_(free)).values(meter_state="free")
                )
            if claimed:
                await connection.execute(
                    update(usage)
                    .where(usage.c.job_id == bindparam("job"))
                    .values(
                        meter_timestamp=bindparam("timestamp"),
                        meter_state="unknown",
                        meter_identifier=func.coalesce(usage.c.meter_identifier, usage.c.job_id),
                        meter_attempts=usage.c.meter_attempts + 1,
                        meter_attempted_at=func.coalesce(usage.c.meter_attempted_at, now),
                        meter_due_at=now + lease_seconds,
                    ),
                    [{"job": row.job_id, "timestamp": row.timestamp} for row in claimed],
                )
        return claimed

    async def settle_usage(
        self, job_ids: Sequence[str], state: MeterState, *, now: float, error: str | None = None
    ) -> None:
        """Set the outcome of claimed rows."""
        if not job_ids:
            return
        await self._db.execute(
            update(usage)
            # Keep a reported error that arrived before the answer.
            .where(usage.c.job_id.in_(job_ids), usage.c.meter_state != "rejected")
            .values(meter_state=state, meter_error=error, meter_due_at=now)
        )

    async def delay_usage(self, row: MeterRow, *, until: float, certain: bool, error: str) -> None:
        """Retry the row at `until`. `certain` means that Stripe has not counted this attempt."""
        harmless = certain and row.fresh
        await self._db.execute(
            update(usage)
            .where(
                usage.c.job_id == row.job_id,
                usage.c.meter_state == "unknown",
                usage.c.meter_identifier == row.identifier,
            )
            .values(
                meter_state="pending" if harmless else "unknown",
                meter_attempted_at=None if harmless else usage.c.meter_attempted_at,
                meter_timestamp=None if harmless else usage.c.meter_timestamp,
                meter_due_at=until,
                meter_error=error,
            )
        )

    async def renew_usage(self, job_ids: Sequence[str], *, until: float) -> None:
        """Make rows that Stripe has not counted pending again, with new identifiers."""
        if not job_ids:
            return
        await self._db.execute(
            update(usage)
            .where(usage.c.job_id.in_(job_ids), usage.c.meter_state.in_(("unknown", "rejected")))
            .values(
                meter_state="pending",
                # The number of attempts only grows, so no identifier is used twice.
                meter_identifier=usage.c.job_id + literal(".") + cast(usage.c.meter_attempts, String),
                meter_timestamp=None,
                meter_attempted_at=None,
                meter_due_at=until,
                meter_error=None,
            )
        )

    async def ledger_minutes(
        self, customer_id: str, *, since: int, until: int
    ) -> tuple[int, float, list[DoubtfulRow]]:
        """Return a customer's metered minutes with timestamps in `[since, until)`.

        That is how many are known to be at Stripe, when the newest of their rows was settled (0.0 if there is
        none), and the rows in doubt, ordered by job id.
        """
        here = (
            usage.c.account_id.in_(
                select(accounts.c.id).where(accounts.c.stripe_customer_id == customer_id).scalar_subquery()
            ),
            usage.c.meter_timestamp >= since,
            usage.c.meter_timestamp < until,
        )
        sent = select(func.coalesce(func.sum(_MINUTES), 0), func.max(usage.c.meter_due_at)).where(
            *here, usage.c.meter_state == "sent"
        )
        unknown = (
            select(usage.c.job_id, _MINUTES, usage.c.meter_attempted_at)
            .where(*here, usage.c.meter_state == "unknown")
            .order_by(usage.c.job_id)
        )
        async with self._db.read() as connection:
            total, last_sent_at = (await connection.execute(sent)).one()
            doubtful = [DoubtfulRow(*row) for row in await connection.execute(unknown)]
        return int(total), last_sent_at or 0.0, doubtful

    async def note_meter_errors(self, errors: Mapping[str, str], *, detail: Mapping[str, Any]) -> int:
        """Mark the rows of these jobs as rejected with their codes; return how many rows changed."""
        marked = 0
        async with self._db.write() as connection:
            for job_id, code in errors.items():
                changed = await connection.execute(
                    update(usage)
                    .where(usage.c.job_id == job_id, usage.c.meter_state.in_(("sent", "unknown")))
                    .values(meter_state="rejected", meter_error=code)
                )
                marked += changed.rowcount
            await record_audit(connection, None, "billing.meter_errors", "stripe", **detail, marked=marked)
        return marked

    async def meter_counts(self) -> dict[str, tuple[int, int]]:
        """Return the numbers of rows and minutes by `MeterState`."""
        query = select(usage.c.meter_state, func.count(), func.coalesce(func.sum(_MINUTES), 0))
        async with self._db.read() as connection:
            found = await connection.execute(query.group_by(usage.c.meter_state))
            return {state: (rows, int(minutes)) for state, rows, minutes in found}

    async def rejected_usage(self, *, limit: int = 100) -> list[tuple[str, str, int, str]]:
        """Return rejected rows as (job id, account id, minutes, error), oldest first."""
        query = (
            select(usage.c.job_id, usage.c.account_id, _MINUTES, func.coalesce(usage.c.meter_error, ""))
            .where(usage.c.meter_state == "rejected")
            .order_by(usage.c.created_at)
            .limit(limit)
        )
        async with self._db.read() as connection:
            return [(row[0], row[1], row[2], row[3]) for row in await connection.execute(query)]
