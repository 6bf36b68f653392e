"""Credits: reserved while a job runs, settled with its `done`, and never counted twice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from stenobird.errors import InsufficientCredits
from stenobird.ports import JobChange, NewEvent, NewJob, RecognitionOptions, UsageRow
from stenobird.storage.account_store import AccountStore
from stenobird.storage.job_store import JobStore
from stenobird.storage.schema import reservations, usage, wallet_entries, wallets

if TYPE_CHECKING:
    from sqlalchemy import Table

    from stenobird.ports import AccountBilling, Lease
    from stenobird.storage.engine import Database

pytestmark = pytest.mark.anyio

DONE = NewEvent("done", "{}")


@pytest.fixture
def accounts(database: Database) -> AccountStore:
    return AccountStore(database)


@pytest.fixture
def jobs(database: Database) -> JobStore:
    return JobStore(database)


async def an_account(accounts: AccountStore, billing: AccountBilling, units: int = 0) -> str:
    account_id = f"acct_{billing}_{units}"
    await accounts.create_account(account_id, "Ann", "premium", billing, by="operator")
    if units:
        await accounts.add_units(account_id, units, reason="gift", by="operator")
    return account_id


async def a_lease(jobs: JobStore, job_id: str, account_id: str) -> Lease:
    job = NewJob(
        job_id, "full", "https://x.example/a.mp3", "http://t", RecognitionOptions(), account_id=account_id
    )
    await jobs.create(job, NewEvent("status", "{}"), max_queued=100)
    claim = await jobs.claim("w", lanes=["full"])
    assert claim is not None
    return claim.lease


async def complete(jobs: JobStore, lease: Lease, account_id: str, minutes: int) -> None:
    await jobs.finish(
        lease,
        JobChange(status="completed", billable_minutes=minutes),
        [DONE],
        usage=UsageRow(lease.job_id, account_id, minutes, minutes * 60.0),
    )


async def row_of(database: Database, job_id: str) -> tuple[int, int, int, str]:
    query = select(usage.c.minutes, usage.c.credit_units, usage.c.metered_minutes, usage.c.meter_state)
    async with database.read() as connection:
        found = (await connection.execute(query.where(usage.c.job_id == job_id))).one()
    return found[0], found[1], found[2], found[3]


async def count(database: Database, table: Table) -> int:
    async with database.read() as connection:
        return await connection.scalar(select(func.count()).select_from(table)) or 0


async def test_the_wallet_pays_first_and_the_rest_is_metered(
    database: Database, accounts: AccountStore, jobs: JobStore
) -> None:
    account_id = await an_account(accounts, "metered", 5)
    for job_id, minutes in (("tr_1", 3), ("tr_2", 4), ("tr_3", 2)):
        await complete(jobs, await a_lease(jobs, job_id, account_id), account_id, minutes)
    assert await row_of(database, "tr_1") == (3, 3, 0, "free")
    assert await row_of(database, "tr_2") == (4, 2, 2, "pending")
    assert await row_of(database, "tr_3") == (2, 0, 2, "pending")
    wallet = await accounts.wallet(account_id)
    assert (wallet.units, wallet.reserved_units) == (0, 0)
    assert [(entry.units, entry.job_id) for entry in wallet.entries] == [
        (-2, "tr_2"),
        (-3, "tr_1"),
        (5, None),
    ]


async def test_the_operators_own_use_is_in_the_ledger_and_on_no_bill(
    database: Database, accounts: AccountStore, jobs: JobStore
) -> None:
    account_id = await an_account(accounts, "operator", 5)
    lease = await a_lease(jobs, "tr_1", account_id)
    await jobs.append(lease, JobChange(reserve_units=3), [])
    assert await count(database, reservations) == 0
    await complete(jobs, lease, account_id, 3)
    assert await row_of(database, "tr_1") == (3, 0, 0, "free")
    assert (await accounts.wallet(account_id)).units == 5


async def test_a_prepaid_job_beyond_the_balance_is_refused_once_its_length_is_known(
    database: Database, accounts: AccountStore, jobs: JobStore
) -> None:
    account_id = await an_account(accounts, "prepaid", 5)
    first = await a_lease(jobs, "tr_1", account_id)
    await jobs.append(first, JobChange(reserve_units=4), [])
    second = await a_lease(jobs, "tr_2", account_id)
    with pytest.raises(InsufficientCredits) as refused:
        await jobs.append(second, JobChange(stage="submitted", reserve_units=2), [NewEvent("status", "{}")])
    assert refused.value.details == {"required_units": 2, "available_units": 1}
    job = await jobs.get("tr_2")
    assert job is not None
    # The commit was all or nothing.
    assert (job.last_seq, job.stage) == (1, "validating_url")
    await jobs.append(second, JobChange(reserve_units=1), [])
    standing = await accounts.standing(account_id)
    assert standing is not None
    assert standing[1] == 0


async def test_a_second_reservation_of_a_job_replaces_the_first(
    accounts: AccountStore, jobs: JobStore
) -> None:
    account_id = await an_account(accounts, "prepaid", 5)
    lease = await a_lease(jobs, "tr_1", account_id)
    for units in (5, 2, 4):
        await jobs.append(lease, JobChange(reserve_units=units), [])
    wallet = await accounts.wallet(account_id)
    assert (wallet.units, wallet.reserved_units) == (5, 4)


async def test_a_job_that_fails_or_is_cancelled_gives_its_reservation_back(
    database: Database, accounts: AccountStore, jobs: JobStore
) -> None:
    account_id = await an_account(accounts, "prepaid", 5)
    failing = await a_lease(jobs, "tr_1", account_id)
    await jobs.append(failing, JobChange(reserve_units=2), [])
    await jobs.finish(failing, JobChange(status="failed", error={"error": "x"}), [DONE])
    cancelled = await a_lease(jobs, "tr_2", account_id)
    await jobs.append(cancelled, JobChange(reserve_units=3), [])
    await jobs.release(cancelled)
    await jobs.request_cancel("tr_2", [DONE])
    assert await count(database, reservations) == 0
    assert await count(database, usage) == 0
    assert (await accounts.wallet(account_id)).units == 5


async def test_a_prepaid_job_of_unknown_length_may_leave_a_debt(
    database: Database, accounts: AccountStore, jobs: JobStore
) -> None:
    account_id = await an_account(accounts, "prepaid", 2)
    await complete(jobs, await a_lease(jobs, "tr_1", account_id), account_id, 7)
    assert await row_of(database, "tr_1") == (7, 7, 0, "free")
    standing = await accounts.standing(account_id)
    assert standing is not None
    assert standing[1] == -5


async def test_jobs_that_end_at_once_never_spend_the_same_credit(
    database: Database, accounts: AccountStore, jobs: JobStore
) -> None:
    account_id = await an_account(accounts, "metered", 10)
    leases = [await a_lease(jobs, f"tr_{number}", account_id) for number in range(8)]
    await asyncio.gather(*(complete(jobs, lease, account_id, 3) for lease in leases))
    rows = [await row_of(database, lease.job_id) for lease in leases]
    assert sum(credit for _, credit, _, _ in rows) == 10
    assert all(minutes == credit + metered for minutes, credit, metered, _ in rows)
    assert (await accounts.wallet(account_id)).units == 0


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.sampled_from(["add", "job"]), st.integers(min_value=1, max_value=30)), max_size=8)
)
async def test_the_books_balance_whatever_happens(
    database: Database, accounts: AccountStore, jobs: JobStore, steps: list[tuple[str, int]]
) -> None:
    async with database.read() as connection:
        number = await connection.scalar(select(func.count()).select_from(usage)) or 0
    account_id = "acct_books"
    if await accounts.get(account_id) is None:
        await accounts.create_account(account_id, "Ann", "premium", "metered", by="operator")
    for step, amount in steps:
        if step == "add":
            await accounts.add_units(account_id, amount, reason="gift", by="operator")
        else:
            number += 1
            await complete(jobs, await a_lease(jobs, f"tr_{number}", account_id), account_id, amount)
    async with database.read() as connection:
        balance = await connection.scalar(
            select(func.coalesce(func.sum(wallets.c.units), 0)).where(wallets.c.account_id == account_id)
        )
        entries = await connection.scalar(select(func.coalesce(func.sum(wallet_entries.c.units), 0)))
        unbalanced = await connection.scalar(
            select(func.count()).where(usage.c.minutes != usage.c.credit_units + usage.c.metered_minutes)
        )
    assert balance is not None
    assert balance == entries
    assert balance >= 0
    assert unbalanced == 0
