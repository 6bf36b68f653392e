"""Wallet credits and the ledger, in the transactions of jobs: reserved at the start, settled with `done`.

Each function uses the caller's connection and the lock on the account's row, so that two jobs of one account
never use the same credit. For every ledger row of a live account

    minutes = credit_units + metered_minutes            (metered, prepaid)
    0       = credit_units = metered_minutes            (the operator's own use)
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, func, insert, select

from stenobird.errors import InsufficientCredits
from stenobird.storage.engine import Database, one
from stenobird.storage.schema import (
    accounts,
    db_now,
    jobs,
    reservations,
    usage,
    usage_days,
    wallet_entries,
    wallets,
)

if TYPE_CHECKING:
    from sqlalchemy.engine import RowMapping
    from sqlalchemy.ext.asyncio import AsyncConnection

    from stenobird.ports import AccountBilling, UsageRow


DAY_SECONDS: Final = 86_400


def whole_minutes(audio_seconds: float) -> int:
    """Return what `jobs.pipeline.billable_minutes` says of a length: whole minutes, at least one."""
    return max(1, int(audio_seconds // 60))


async def add_to_day(database: Database, connection: AsyncConnection, row: RowMapping) -> None:
    """Add a row of the ledger to the sums of its day, in the commit of the row."""
    key = {"account_id": row["account_id"], "day": int(row["created_at"] // DAY_SECONDS)}
    numbers = {
        "jobs": 1,
        "minutes": whole_minutes(row["audio_seconds"]),
        "units": row["minutes"],
        "credit_units": row["credit_units"],
        "metered_minutes": row["metered_minutes"],
        "audio_seconds": row["audio_seconds"],
    }
    await database.add_up(connection, usage_days, key, numbers)


async def available_units(connection: AsyncConnection, account_id: str, *, but_for: str | None = None) -> int:
    """Return the account's units less all reservations, except those of one job."""
    units = select(wallets.c.units).where(wallets.c.account_id == account_id)
    reserved = select(func.sum(reservations.c.units)).where(reservations.c.account_id == account_id)
    if but_for is not None:
        reserved = reserved.where(reservations.c.job_id != but_for)
    available = func.coalesce(units.scalar_subquery(), 0) - func.coalesce(reserved.scalar_subquery(), 0)
    return await connection.scalar(select(available)) or 0


async def reserve(database: Database, connection: AsyncConnection, job_id: str, units: int) -> None:
    """Reserve units for a job of an account; a repeated call replaces the reservation.

    A metered account reserves at most what its wallet has. Raises `InsufficientCredits` if a prepaid account
    has too few units.
    """
    account_id = await connection.scalar(select(jobs.c.account_id).where(jobs.c.id == job_id))
    if account_id is None:
        return
    billing, available = await _locked(connection, account_id, job_id)
    if billing == "operator":
        return
    if billing == "prepaid" and available < units:
        raise InsufficientCredits(
            f"This audio needs {units} credits and the account has {max(0, available)} left. "
            "Add credits, then try again.",
            details={"required_units": units, "available_units": available},
        )
    units = min(units, max(0, available))
    await connection.execute(
        database.insert(reservations)
        .values(job_id=job_id, account_id=account_id, units=units, created_at=db_now())
        .on_conflict_do_update(index_elements=[reservations.c.job_id], set_={"units": units})
    )


async def release(connection: AsyncConnection, job_id: str) -> None:
    """Remove the reservation of a job that ends, if there is one."""
    await connection.execute(delete(reservations).where(reservations.c.job_id == job_id))


async def settle(database: Database, connection: AsyncConnection, row: UsageRow) -> None:
    """Write the ledger row of a completed job, and debit the wallet.

    A prepaid wallet pays everything and may become negative. That happens only if the length was not known
    before, and the account can't start another job until the debt is paid. A second row for a job violates
    `UNIQUE(job_id)` and aborts the transaction.
    """
    billing, available = await _locked(connection, row.account_id, row.job_id)
    credit = 0
    if billing == "prepaid":
        credit = row.minutes
    elif billing == "metered":
        credit = min(row.minutes, max(0, available))
    metered = row.minutes - credit if billing == "metered" else 0
    ledger = await one(
        connection,
        insert(usage)
        .values(
            id=f"use_{secrets.token_hex(12)}",
            job_id=row.job_id,
            account_id=row.account_id,
            minutes=row.minutes,
            audio_seconds=row.audio_seconds,
            created_at=db_now(),
            credit_units=credit,
            metered_minutes=metered,
            meter_state="pending" if metered else "free",
        )
        .returning(usage),
    )
    await add_to_day(database, connection, ledger)
    if credit:
        await change(database, connection, row.account_id, -credit, reason="used", job_id=row.job_id)


async def change(
    database: Database,
    connection: AsyncConnection,
    account_id: str,
    units: int,
    *,
    reason: str,
    job_id: str | None = None,
) -> None:
    """Add units to the wallet (negative: remove them), with an entry for the reason."""
    await database.add_up(connection, wallets, {"account_id": account_id}, {"units": units})
    await connection.execute(
        insert(wallet_entries).values(
            id=f"wal_{secrets.token_hex(12)}",
            account_id=account_id,
            units=units,
            reason=reason,
            job_id=job_id,
            created_at=db_now(),
        )
    )


async def _locked(connection: AsyncConnection, account_id: str, job_id: str) -> tuple[AccountBilling, int]:
    """Lock the account; return its billing, and its units less the reservations of its other jobs."""
    billing = await connection.scalar(
        select(accounts.c.billing).where(accounts.c.id == account_id).with_for_update()
    )
    # Without an account row there is no wallet; metering finds no customer and settles the row as free.
    units = await available_units(connection, account_id, but_for=job_id)
    return billing or "metered", units
