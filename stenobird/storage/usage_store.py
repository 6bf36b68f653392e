"""Usage reports from the ledger, in SQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, select, tuple_

from stenobird.ports import UsageRecord, UsageSum
from stenobird.storage.rows import from_row
from stenobird.storage.schema import usage, usage_days

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

    from stenobird.storage.engine import Database

DAY_SECONDS: Final = 86_400

_METERED = func.coalesce(usage.c.metered_minutes, usage.c.minutes - usage.c.credit_units)
_SUMS = ("jobs", "minutes", "units", "credit_units", "metered_minutes", "audio_seconds")


def whole_minutes(audio_seconds: float) -> int:
    """Return what `jobs.pipeline.billable_minutes` says of a length: whole minutes, at least one."""
    return max(1, int(audio_seconds // 60))


async def add_to_day(database: Database, connection: AsyncConnection, row: Mapping[str, Any]) -> None:
    """Add a row of the ledger to the sums of its day, in the commit of the row."""
    day = database.insert(usage_days).values(
        account_id=row["account_id"],
        day=int(row["created_at"] // DAY_SECONDS),
        jobs=1,
        minutes=whole_minutes(row["audio_seconds"]),
        units=row["minutes"],
        credit_units=row["credit_units"],
        metered_minutes=row["metered_minutes"],
        audio_seconds=row["audio_seconds"],
    )
    sums = {name: usage_days.c[name] + day.excluded[name] for name in _SUMS}
    await connection.execute(
        day.on_conflict_do_update(index_elements=[usage_days.c.account_id, usage_days.c.day], set_=sums)
    )


class UsageStore:
    """The ledger, read-only: `JobStore.finish` writes it."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def usage_by_day(self, account_id: str, *, since: float, until: float) -> list[UsageSum]:
        """Return the sums of the days that `[since, until)` touches, UTC, oldest first.

        Days without jobs are omitted.
        """
        query = (
            select(usage_days)
            .where(
                usage_days.c.account_id == account_id,
                usage_days.c.day >= int(since // DAY_SECONDS),
                usage_days.c.day < -int(-until // DAY_SECONDS),
            )
            .order_by(usage_days.c.day)
        )
        return [
            UsageSum(
                datetime.fromtimestamp(row["day"] * DAY_SECONDS, UTC).date().isoformat(),
                *(row[name] for name in _SUMS),
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
        where = _within(account_id, since, until)
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
            from_row(UsageRecord, row, minutes=whole_minutes(row["audio_seconds"]))
            for row in await self._db.rows(query)
        ]


def _within(account_id: str, since: float, until: float) -> list[ColumnElement[bool]]:
    return [
        usage.c.account_id == account_id,
        usage.c.created_at >= since,
        usage.c.created_at < until,
    ]
