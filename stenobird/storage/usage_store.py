"""Usage reports from the ledger, in SQL."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Integer, and_, case, func, literal_column, or_, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.expression import FunctionElement

from stenobird.ports import UsageRecord, UsageSum
from stenobird.storage.rows import from_row
from stenobird.storage.schema import usage

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement
    from sqlalchemy.sql.compiler import SQLCompiler

    from stenobird.storage.engine import Database

DAY_SECONDS: Final = 86_400

_METERED = func.coalesce(usage.c.metered_minutes, usage.c.minutes - usage.c.credit_units)


class _floor(FunctionElement[int]):  # noqa: N801  # reads as the SQL function it stands for
    """The whole part of a positive number. Written per dialect, because the two round casts differently."""

    type = Integer()
    inherit_cache = True


@compiles(_floor, "sqlite")
def _sqlite_floor(element: _floor, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST({compiler.process(element.clauses, **options)} AS INTEGER)"


@compiles(_floor, "postgresql")
def _postgresql_floor(element: _floor, compiler: SQLCompiler, **options: Any) -> str:
    return f"CAST(floor({compiler.process(element.clauses, **options)}) AS integer)"


_DAY = _floor(usage.c.created_at / literal_column(f"{DAY_SECONDS}.0"))
"""Whole days since the epoch, UTC. PostgreSQL can't group by an expression with a bound value."""
_WHOLE_MINUTES = _floor(usage.c.audio_seconds / 60.0)
_MINUTES = case((_WHOLE_MINUTES < 1, 1), else_=_WHOLE_MINUTES)
"""What `jobs.pipeline.billable_minutes` says of a length: whole minutes, at least one."""
_UNITS = usage.c.minutes
"""The column was named when a minute was always one unit; a minute of a larger model is more."""


class UsageStore:
    """The ledger, read-only: `JobStore.finish` writes it."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def usage_by_day(self, account_id: str, *, since: float, until: float) -> list[UsageSum]:
        """Return the ledger of `[since, until)` by day, UTC, oldest first; days without jobs are omitted."""
        day = _DAY.label("day")
        query = (
            select(
                day,
                func.count().label("jobs"),
                func.sum(_MINUTES).label("minutes"),
                func.sum(_UNITS).label("units"),
                func.sum(usage.c.credit_units).label("credit_units"),
                func.sum(_METERED).label("metered_minutes"),
                func.sum(usage.c.audio_seconds).label("audio_seconds"),
            )
            .where(*_within(account_id, since, until))
            .group_by(day)
            .order_by(day)
        )
        async with self._db.read() as connection:
            found = await connection.execute(query)
            return [
                UsageSum(
                    datetime.fromtimestamp(row["day"] * DAY_SECONDS, UTC).date().isoformat(),
                    row["jobs"],
                    int(row["minutes"]),
                    int(row["units"]),
                    int(row["credit_units"]),
                    int(row["metered_minutes"]),
                    float(row["audio_seconds"]),
                )
                for row in found.mappings()
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
            created_at, job_id = before
            where.append(
                or_(
                    usage.c.created_at < created_at,
                    and_(usage.c.created_at == created_at, usage.c.job_id < job_id),
                )
            )
        query = (
            select(
                usage.c.job_id,
                _MINUTES.label("minutes"),
                _UNITS.label("units"),
                usage.c.credit_units,
                _METERED.label("metered_minutes"),
                usage.c.audio_seconds,
                usage.c.created_at,
            )
            .where(*where)
            .order_by(usage.c.created_at.desc(), usage.c.job_id.desc())
            .limit(limit)
        )
        async with self._db.read() as connection:
            found = await connection.execute(query)
            return [from_row(UsageRecord, row) for row in found.mappings()]


def _within(account_id: str, since: float, until: float) -> list[ColumnElement[bool]]:
    return [
        usage.c.account_id == account_id,
        usage.c.created_at >= since,
        usage.c.created_at < until,
    ]
