"""Accounts, checkouts, webhook events and metering of billing, in SQL."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, String, bindparam, cast, func, insert, literal, select, update

from stenobird.ports.billing import (
    ACCOUNT_DELETED,
    LATE_SECONDS,
    BillingAccount,
    Checkout,
    DoubtfulRow,
    MeterRow,
    StoredEvent,
)
from stenobird.storage.account_store import insert_key, record_audit
from stenobird.storage.engine import Database, one, one_or_none
from stenobird.storage.rows import from_row
from stenobird.storage.schema import accounts, checkouts, db_now, jobs, recoveries, stripe_events, usage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import RowMapping
    from sqlalchemy.ext.asyncio import AsyncConnection

    from stenobird.ports import AccountState, NewKey, Tier
    from stenobird.ports.billing import MeterState, PaidCheckout

MAX_ACCOUNTS_BY_EMAIL: Final = 10
MAX_RECOVERIES_AN_HOUR: Final = 3
LATE_MINUTES: Final = 30
"""Late rows are spread over this many minutes, because a summary can't distinguish rows of one minute."""

_MINUTES = func.coalesce(usage.c.metered_minutes, usage.c.minutes)


class BillingStore:
    """Accounts, checkouts, webhook events and metering. Every method is one transaction.

    `now` is the caller's clock where tests have to move it; it need not be precise.
    """

    def __init__(self, database: Database) -> None:
        self._db = database

    # --- accounts ---------------------------------------------------------------------------------------

    async def account(self, account_id: str) -> BillingAccount | None:
        """Return the account, or `None`."""
        return await self._account(accounts.c.id == account_id)

    async def account_of_customer(self, customer_id: str) -> BillingAccount | None:
        """Return the account of a Stripe customer, or `None`."""
        return await self._account(accounts.c.stripe_customer_id == customer_id)

    async def accounts_by_email(self, email: str) -> list[BillingAccount]:
        """Return the accounts with this address (letter case ignored), at most 10, oldest first."""
        query = select(accounts).where(func.lower(accounts.c.email) == email.lower())
        query = query.order_by(accounts.c.created_at, accounts.c.id).limit(MAX_ACCOUNTS_BY_EMAIL)
        return [_account(row) for row in await self._db.rows(query)]

    async def paying_accounts(self, *, after: str = "", limit: int = 100) -> list[BillingAccount]:
        """Return accounts with a Stripe customer, ordered by id, starting after the id `after`."""
        query = select(accounts).where(accounts.c.stripe_customer_id.is_not(None), accounts.c.id > after)
        return [_account(row) for row in await self._db.rows(query.order_by(accounts.c.id).limit(limit))]

    async def apply_state(
        self,
        account: BillingAccount,
        *,
        state: AccountState,
        disputes: Sequence[str],
        anchor_at: float | None,
    ) -> bool:
        """Store the state unless the row changed since `account` was read; return whether it was stored."""
        async with self._db.write() as connection:
            changed = await connection.execute(
                update(accounts)
                .where(accounts.c.id == account.id, accounts.c.billing_version == account.version)
                .values(
                    state=state,
                    stripe_disputes=list(disputes),
                    billing_anchor_at=anchor_at if anchor_at is not None else accounts.c.billing_anchor_at,
                    billing_version=account.version + 1,
                )
            )
            if changed.rowcount == 0:
                return False
            if state != account.state:
                await record_audit(
                    connection, account.id, f"account.{state}", account.customer_id or account.id
                )
            return True

    async def queue_account_deleted(self, account_id: str) -> None:
        """Queue an event that ends the subscription of an account about to be deleted. Idempotent."""
        account = await self.account(account_id)
        if account is not None and account.subscription_id is not None and account.state != "cancelled":
            event = StoredEvent(
                f"bye_{account.subscription_id}", ACCOUNT_DELETED, account.subscription_id, None
            )
            await self.add_event(event, now=db_now())

    async def set_cap(self, account_id: str, minutes: int | None) -> None:
        """Set the account's spending cap per billing week; `None` removes it."""
        async with self._db.write() as connection:
            await connection.execute(
                update(accounts).where(accounts.c.id == account_id).values(spending_cap_minutes=minutes)
            )
            await record_audit(connection, account_id, "account.cap", account_id, minutes=minutes)

    async def week_minutes(self, account_id: str, *, since: float) -> tuple[int, int]:
        """Return the metered minutes since then, and the number of running full jobs of the account."""
        minutes = select(func.coalesce(func.sum(_MINUTES), 0)).where(
            usage.c.account_id == account_id, usage.c.created_at >= since
        )
        under_way = select(func.count()).where(
            jobs.c.account_id == account_id, jobs.c.mode == "full", jobs.c.completed_at.is_(None)
        )
        both = select(minutes.scalar_subquery(), under_way.scalar_subquery())
        async with self._db.read(once=True) as connection:
            metered, running = (await connection.execute(both)).one()
        return int(metered), running

    async def _account(self, which: ColumnElement[bool]) -> BillingAccount | None:
        row = await self._db.row(select(accounts).where(which))
        return _account(row) if row is not None else None

    # --- checkouts and keys -----------------------------------------------------------------------------

    async def begin_checkout(self, checkout: Checkout) -> None:
        """Store a Checkout Session just created."""
        await self._db.execute(insert(checkouts).values(**asdict(checkout)))

    async def checkout(self, session_id: str) -> Checkout | None:
        """Return the Checkout Session, or `None`."""
        row = await self._db.row(select(checkouts).where(checkouts.c.id == session_id))
        return from_row(Checkout, row) if row is not None else None

    async def complete_checkout(
        self, session_id: str, paid: PaidCheckout, new_id: str, tier: Tier, *, now: float
    ) -> Checkout | None:
        """Mark it as paid, and renew its account, or create one. Repeated calls change nothing.

        Returns the checkout, or `None` if it does not exist.
        """
        which = checkouts.c.id == session_id
        async with self._db.write() as connection:
            row = await one_or_none(connection, select(checkouts).where(which).with_for_update())
            if row is None or row["completed_at"] is not None:
                return from_row(Checkout, row) if row is not None else None
            stripe = {
                "state": "active",
                "billing": "metered",
                "stripe_customer_id": paid.customer_id,
                "stripe_subscription_id": paid.subscription_id,
                "billing_anchor_at": paid.anchor_at,
            }
            account_id = row["account_id"]
            if account_id is not None:
                await connection.execute(
                    update(accounts)
                    .where(accounts.c.id == account_id)
                    .values(**stripe, tier=tier, billing_version=accounts.c.billing_version + 1)
                )
                await record_audit(connection, account_id, "account.renewed", session_id)
            else:
                account_id = new_id
                await connection.execute(
                    insert(accounts).values(
                        id=new_id,
                        name=paid.email or "customer",
                        email=paid.email or row["email"],
                        tier=tier,
                        created_at=db_now(),
                        **stripe,
                    )
                )
                await record_audit(connection, account_id, "account.created", session_id)
            done = update(checkouts).where(which).values(account_id=account_id, completed_at=now)
            return from_row(Checkout, await one(connection, done.returning(checkouts)))

    async def grant_claim(self, session_id: str, claim_hash: str, *, expires_at: float) -> bool:
        """Allow one redemption with this claim, replacing an earlier claim; `False` if it was redeemed."""
        granted = await self._db.execute(
            update(checkouts)
            .where(
                checkouts.c.id == session_id,
                checkouts.c.completed_at.is_not(None),
                checkouts.c.key_id.is_(None),
                checkouts.c.renewal.is_(False),
            )
            .values(claim_hash=claim_hash, claim_expires_at=expires_at)
        )
        return granted == 1

    async def redeem_claim(self, claim_hash: str, key: NewKey, *, now: float) -> Checkout | None:
        """Store the key for the checkout's account and use up the claim; `None` for an invalid claim."""
        async with self._db.write() as connection:
            row = await one_or_none(
                connection,
                update(checkouts)
                .where(
                    checkouts.c.claim_hash == claim_hash,
                    checkouts.c.claim_expires_at > now,
                    checkouts.c.key_id.is_(None),
                )
                .values(claim_hash=None, key_id=key.id)
                .returning(checkouts),
            )
            if row is None:
                return None
            await _add_key(connection, row["account_id"], key)
            return from_row(Checkout, row)

    async def add_recovery(self, token_hash: str, account_id: str, *, now: float, expires_at: float) -> bool:
        """Store a recovery token; `False` if the account requested too many recently."""
        lately = select(func.count()).where(
            recoveries.c.account_id == account_id, recoveries.c.created_at > now - 3600
        )
        async with self._db.write() as connection:
            # Serialises the requests of one account, so that the limit holds.
            account = select(accounts.c.id).where(accounts.c.id == account_id)
            await connection.execute(account.with_for_update())
            if (await connection.scalar(lately) or 0) >= MAX_RECOVERIES_AN_HOUR:
                return False
            await connection.execute(
                insert(recoveries).values(
                    token_hash=token_hash, account_id=account_id, created_at=now, expires_at=expires_at
                )
            )
            return True

    async def redeem_recovery(self, token_hash: str, key: NewKey, *, now: float) -> str | None:
        """Store the key and use up the token; return the account's id, or `None` for an invalid token."""
        async with self._db.write() as connection:
            account_id: str | None = await connection.scalar(
                update(recoveries)
                .where(
                    recoveries.c.token_hash == token_hash,
                    recoveries.c.expires_at > now,
                    recoveries.c.used_at.is_(None),
                )
                .values(used_at=now)
                .returning(recoveries.c.account_id)
            )
            if account_id is not None:
                await _add_key(connection, account_id, key)
            return account_id

    # --- webhook events ---------------------------------------------------------------------------------

    async def add_event(self, event: StoredEvent, *, now: float | db_now) -> bool:
        """Store a webhook event; `False` if its id is known."""
        new = self._db.insert(stripe_events).values(**asdict(event), received_at=now, due_at=now)
        added = new.on_conflict_do_nothing().returning(stripe_events.c.id)
        return await self._db.changed(added) is not None

    async def claim_event(self, *, now: float, lease_seconds: float) -> StoredEvent | None:
        """Lease the event that has been due longest, or return `None`."""
        oldest = (
            select(stripe_events.c.id)
            .where(stripe_events.c.processed_at.is_(None), stripe_events.c.due_at <= now)
            .order_by(stripe_events.c.due_at, stripe_events.c.received_at)
            .limit(1)
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
        row = await self._db.changed(
            update(stripe_events)
            .where(stripe_events.c.id == oldest)
            .values(due_at=now + lease_seconds, attempts=stripe_events.c.attempts + 1)
            .returning(stripe_events)
        )
        return from_row(StoredEvent, row) if row is not None else None

    async def settle_event(self, event_id: str, *, now: float) -> None:
        """Mark the event as handled."""
        await self._set_event(event_id, processed_at=now, error=None)

    async def delay_event(self, event_id: str, *, until: float | None, error: str) -> None:
        """Retry the event at `until`; with `None`, give up and keep the error."""
        change = {"processed_at": db_now()} if until is None else {"due_at": until}
        await self._set_event(event_id, **change, error=error)

    async def failed_events(self, *, limit: int = 20) -> list[tuple[str, str, str]]:
        """Return abandoned and failing events as (id, type, error), newest first."""
        query = (
            select(stripe_events.c.id, stripe_events.c.type, stripe_events.c.error)
            .where(stripe_events.c.error.is_not(None))
            .order_by(stripe_events.c.received_at.desc())
            .limit(limit)
        )
        return [(row["id"], row["type"], row["error"]) for row in await self._db.rows(query)]

    async def _set_event(self, event_id: str, **values: Any) -> None:
        await self._db.execute(update(stripe_events).where(stripe_events.c.id == event_id).values(**values))

    # --- metering -------------------------------------------------------------------------------------

    async def claim_usage(self, *, now: float, lease_seconds: float, limit: int) -> list[MeterRow]:
        """Lease rows that are due, oldest first, and commit that an attempt starts.

        Rows with nothing to report become `free` and are not returned.
        """
        due = (
            select(usage, _MINUTES.label("metered"), accounts.c.stripe_customer_id.label("customer_id"))
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
                nothing = row["customer_id"] is None or row["metered"] <= 0
                if row["meter_state"] == "pending" and nothing:
                    free.append(row["job_id"])
                else:
                    first = row["meter_attempted_at"]
                    timestamp = row["meter_timestamp"]
                    if timestamp is None:
                        timestamp = int(row["created_at"])
                        if timestamp < now - LATE_SECONDS:
                            timestamp = int(now) - 60 * (len(claimed) % LATE_MINUTES)
                    claimed.append(
                        from_row(
                            MeterRow,
                            row,
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
            return [tuple(row) for row in await connection.execute(query)]


async def _add_key(connection: AsyncConnection, account_id: str, key: NewKey) -> None:
    await insert_key(connection, replace(key, account_id=account_id))
    await record_audit(connection, account_id, "key.created", key.id)


def _account(row: RowMapping) -> BillingAccount:
    return from_row(
        BillingAccount,
        row,
        customer_id=row["stripe_customer_id"],
        subscription_id=row["stripe_subscription_id"],
        anchor_at=row["billing_anchor_at"],
        disputes=tuple(row["stripe_disputes"] or ()),
        version=row["billing_version"],
    )
