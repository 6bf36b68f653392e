"""Accounts, their audit log and what they read of the ledger."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import insert, select, update

from stenobird.errors import InvalidRequest, RateLimited
from stenobird.ports import NewEvent, NewJob, NewKey, RecognitionOptions
from stenobird.storage.account_store import AccountStore
from stenobird.storage.idempotency_store import IdempotencyStore
from stenobird.storage.job_store import JobStore
from stenobird.storage.schema import accounts as accounts_table
from stenobird.storage.schema import idempotency, usage
from stenobird.storage.wallet import add_to_day

if TYPE_CHECKING:
    from stenobird.storage.engine import Database

pytestmark = pytest.mark.anyio

MIDNIGHT = 1_700_006_400.0
"""2023-11-15T00:00:00Z."""


@pytest.fixture
def accounts(database: Database) -> AccountStore:
    return AccountStore(database)


async def make(accounts: AccountStore, account_id: str = "acct_1") -> None:
    await accounts.create_account(
        account_id, "Ann", "premium", "operator", email="ann@example.com", by="operator"
    )


def a_key(key_id: str, account_id: str = "acct_1") -> NewKey:
    return NewKey(key_id, account_id, "laptop", f"hash of {key_id}", "live", "full_access", "abcd")


async def add_usage(
    database: Database, *rows: tuple[str, float, int, int, int], audio_seconds: float | None = None
) -> None:
    async with database.write() as connection:
        for job_id, created_at, minutes, credit, metered in rows:
            added = await connection.execute(
                insert(usage)
                .values(
                    id=f"use_{job_id}",
                    job_id=job_id,
                    account_id="acct_1",
                    minutes=minutes,
                    credit_units=credit,
                    metered_minutes=metered,
                    audio_seconds=minutes * 60.0 if audio_seconds is None else audio_seconds,
                    created_at=created_at,
                )
                .returning(usage)
            )
            await add_to_day(database, connection, added.mappings().one())


async def test_an_account_is_made_once_and_read_back(accounts: AccountStore) -> None:
    await make(accounts)
    found = await accounts.get("acct_1")
    assert found is not None
    assert (found.name, found.tier, found.billing, found.state) == ("Ann", "premium", "operator", "active")
    with pytest.raises(InvalidRequest):
        await make(accounts)
    assert [account.id for account in await accounts.list_accounts()] == ["acct_1"]
    assert await accounts.list_accounts(after="acct_1") == []


async def test_plan_and_credits_change_and_every_change_is_audited(accounts: AccountStore) -> None:
    await make(accounts)
    changed = await accounts.set_plan("acct_1", tier="platinum", billing=None, by="operator")
    assert changed is not None
    assert (changed.tier, changed.billing) == ("platinum", "operator")
    wallet = await accounts.add_units("acct_1", 7, reason="gift", by="key_1")
    assert wallet is not None
    assert wallet.units == 7
    assert await accounts.add_units("acct_none", 7, reason="gift", by="operator") is None
    assert await accounts.set_plan("acct_none", tier="free", billing=None, by="operator") is None
    entries = await accounts.audit("acct_1")
    assert {(entry.action, entry.by) for entry in entries} == {
        ("account.created", "operator"),
        ("account.plan", "operator"),
        ("credits.added", "key_1"),
    }
    assert next(e.detail for e in entries if e.action == "credits.added") == {"units": 7, "reason": "gift"}


async def test_a_deleted_account_is_gone_but_its_keys_and_ledger_stay(
    database: Database, accounts: AccountStore
) -> None:
    await make(accounts)
    keys = AccountStore(database)
    await keys.add_key(a_key("key_1"))
    await add_usage(database, ("tr_1", MIDNIGHT, 3, 0, 3))
    await IdempotencyStore(database).claim("scope", "body", account_id="acct_1", resource_id="tr_1")
    assert await accounts.delete_account("acct_1", by="key_1")
    assert not await accounts.delete_account("acct_1", by="key_1")
    assert await accounts.get("acct_1") is None
    assert await accounts.standing("acct_1") is None
    assert await accounts.list_accounts() == []
    found = await keys.find_key("hash of key_1")
    assert found is not None
    assert found[2] is None
    with pytest.raises(InvalidRequest):
        await keys.add_key(a_key("key_2"))
    days = await AccountStore(database).usage_by_day("acct_1", since=0.0, until=2e9)
    assert [day.minutes for day in days] == [3]
    async with database.read() as connection:
        row = (await connection.execute(select(accounts_table))).mappings().one()
        assert "Ann" not in str(dict(row))
        assert "ann@example.com" not in str(dict(row))
        assert (await connection.execute(select(idempotency))).all() == []
    assert (await accounts.audit("acct_1"))[0].action == "account.deleted"


async def test_jobs_left_behind_by_a_deleted_account_are_found(
    database: Database, accounts: AccountStore
) -> None:
    await make(accounts)
    jobs = JobStore(database)
    for origin in ("stenobird", "alefbot"):
        job = NewJob(
            f"tr_{origin}",
            "full",
            "https://x.example/a.mp3",
            "http://t",
            RecognitionOptions(),
            account_id="acct_1",
            origin=origin,
        )
        await jobs.create(job, NewEvent("status", "{}"), max_queued=100)
    assert await accounts.deleted_with_jobs() == []
    await accounts.delete_account("acct_1", by="operator")
    assert await accounts.deleted_with_jobs() == ["acct_1"]
    assert (await accounts.open_jobs("acct_1"), await accounts.open_jobs("acct_2")) == (2, 0)
    assert sorted(await jobs.open_job_ids("acct_1")) == ["tr_alefbot", "tr_stenobird"]
    assert await jobs.delete_of_account("acct_1") == []


async def test_a_key_is_rotated_in_one_commit_and_only_once(
    database: Database, accounts: AccountStore
) -> None:
    await make(accounts)
    keys = AccountStore(database)
    await keys.add_key(a_key("key_1"))
    made = await asyncio.gather(
        *(keys.rotate_key("key_1", a_key(f"key_new{number}"), by="key_1") for number in range(5))
    )
    assert sum(record is not None for record in made) == 1
    assert [key.is_valid for key in await keys.list_keys("acct_1")] == [False, True]
    assert await keys.rotate_key("key_none", a_key("key_other")) is None


async def test_an_account_has_a_bounded_number_of_valid_keys(
    database: Database, accounts: AccountStore
) -> None:
    await make(accounts)
    keys = AccountStore(database)
    results = await asyncio.gather(
        *(keys.add_key(a_key(f"key_{number}"), max_valid=3) for number in range(6)), return_exceptions=True
    )
    assert sum(isinstance(result, InvalidRequest) for result in results) == 3
    await keys.revoke_key((await keys.list_keys("acct_1"))[0].id)
    await keys.add_key(a_key("key_more"), max_valid=3)


async def test_jobs_under_way_are_bounded_by_account_however_many_come_at_once(database: Database) -> None:
    jobs = JobStore(database)

    async def create(number: int, account_id: str) -> None:
        job = NewJob(
            f"tr_{account_id}_{number}",
            "full",
            "https://x.example/a.mp3",
            "http://t",
            RecognitionOptions(),
            account_id=account_id,
        )
        await jobs.create(job, NewEvent("status", "{}"), max_queued=100, max_open=3)

    results = await asyncio.gather(*(create(n, "acct_1") for n in range(8)), return_exceptions=True)
    refused = [result for result in results if isinstance(result, RateLimited)]
    assert len(refused) == 5
    assert refused[0].retry_after_seconds
    await create(1, "acct_2")


async def test_usage_is_added_up_by_day_at_utc_midnight(database: Database) -> None:
    await add_usage(
        database,
        ("tr_1", MIDNIGHT - 0.5, 1, 1, 0),
        ("tr_2", MIDNIGHT, 2, 0, 2),
        ("tr_3", MIDNIGHT + 86_399.9, 3, 1, 2),
        ("tr_4", MIDNIGHT + 86_400, 4, 0, 4),
    )
    store = AccountStore(database)
    days = await store.usage_by_day("acct_1", since=MIDNIGHT - 1, until=MIDNIGHT + 86_400)
    assert [(d.day, d.jobs, d.minutes, d.credit_units, d.metered_minutes) for d in days] == [
        ("2023-11-14", 1, 1, 1, 0),
        ("2023-11-15", 2, 5, 1, 4),
    ]
    assert await store.usage_by_day("acct_2", since=0, until=2e9) == []


@pytest.mark.parametrize(
    ("audio_seconds", "minutes"),
    [(0.5, 1), (59.9, 1), (119.9999, 1), (120.0, 2), (150.0, 2), (21_600.0, 360)],
)
async def test_minutes_of_a_dearer_model_stay_minutes_and_cost_more_units(
    database: Database, audio_seconds: float, minutes: int
) -> None:
    row_of_job = ("tr_1", MIDNIGHT, minutes * 2, 1, minutes * 2 - 1)
    await add_usage(database, row_of_job, audio_seconds=audio_seconds)

    store = AccountStore(database)
    (row,) = await store.usage_by_job("acct_1", since=0, until=2e9)
    (day,) = await store.usage_by_day("acct_1", since=0, until=2e9)

    assert (row.minutes, row.units, row.credit_units) == (minutes, minutes * 2, 1)
    assert (day.minutes, day.units, day.metered_minutes) == (minutes, minutes * 2, minutes * 2 - 1)


async def test_usage_is_paged_by_job_newest_first(database: Database) -> None:
    await add_usage(database, *((f"tr_{n}", MIDNIGHT + n // 2, n + 1, 0, n + 1) for n in range(7)))
    store = AccountStore(database)
    seen: list[str] = []
    before: tuple[float, str] | None = None
    while page := await store.usage_by_job("acct_1", since=0, until=2e9, before=before, limit=2):
        seen += [row.job_id for row in page]
        before = page[-1].created_at, page[-1].job_id
    assert seen == [f"tr_{n}" for n in (6, 5, 4, 3, 2, 1, 0)]


async def test_an_old_row_without_metered_minutes_is_read_as_metered(database: Database) -> None:
    await add_usage(database, ("tr_1", MIDNIGHT, 3, 1, 0))
    async with database.write() as connection:
        await connection.execute(update(usage).values(metered_minutes=None))
    (row,) = await AccountStore(database).usage_by_job("acct_1", since=0, until=2e9)
    assert (row.minutes, row.credit_units, row.metered_minutes) == (3, 1, 2)
