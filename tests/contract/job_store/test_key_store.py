"""What `AccountStore` promises of keys on every database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import delete, select

from stenobird.errors import InvalidRequest
from stenobird.ports import NewKey
from stenobird.storage.schema import accounts, audit

if TYPE_CHECKING:
    from stenobird.storage.account_store import AccountStore
    from stenobird.storage.engine import Database

pytestmark = pytest.mark.anyio


def a_key(key_id: str = "key_1", **changes: Any) -> NewKey:
    values: dict[str, Any] = {
        "id": key_id,
        "account_id": "acct_1",
        "name": "laptop",
        "key_hash": f"hash of {key_id}",
        "mode": "live",
        "scope": "full_access",
        "last_four_chars": "abcd",
    }
    return NewKey(**{**values, **changes})


async def test_an_account_is_made_once_however_many_ask(key_store: AccountStore, database: Database) -> None:
    made = await asyncio.gather(
        *(key_store.ensure_account("acct_1", name=f"name {number}", tier="premium") for number in range(5))
    )
    assert len(set(made)) == 1
    async with database.read() as connection:
        actions = (await connection.execute(select(audit.c.action))).scalars().all()
    assert actions == ["account.created"]


async def test_a_key_is_found_by_its_hash_with_its_account(key_store: AccountStore) -> None:
    account = await key_store.ensure_account("acct_1", name="one", tier="platinum")
    record = await key_store.add_key(a_key())
    found = await key_store.find_key("hash of key_1")
    assert found is not None
    assert found == (record, "hash of key_1", account)
    assert record.is_valid
    assert await key_store.find_key("hash of another") is None


async def test_a_key_needs_an_account(key_store: AccountStore) -> None:
    with pytest.raises(InvalidRequest):
        await key_store.add_key(a_key())
    assert await key_store.list_keys() == []


async def test_a_keys_row_outlives_its_account(key_store: AccountStore, database: Database) -> None:
    await key_store.ensure_account("acct_1", name="one", tier="premium")
    await key_store.add_key(a_key())
    async with database.write() as connection:
        await connection.execute(delete(accounts))
    found = await key_store.find_key("hash of key_1")
    assert found is not None
    assert found[2] is None


async def test_a_revoked_key_stays_listed_and_is_not_valid(
    key_store: AccountStore, database: Database
) -> None:
    await key_store.ensure_account("acct_1", name="one", tier="premium")
    await key_store.add_key(a_key("key_1"))
    await key_store.add_key(a_key("key_2"))
    assert await key_store.revoke_key("key_1", account_id="acct_2") is None
    revoked = await key_store.revoke_key("key_1", account_id="acct_1")
    assert revoked is not None
    assert not revoked.is_valid
    assert await key_store.revoke_key("key_1") == revoked
    assert await key_store.revoke_key("key_none") is None
    assert {key.id: key.is_valid for key in await key_store.list_keys("acct_1")} == {
        "key_1": False,
        "key_2": True,
    }
    assert await key_store.list_keys("acct_2") == []
    async with database.read() as connection:
        actions = (await connection.execute(select(audit.c.action, audit.c.subject))).all()
    assert [tuple(row) for row in actions].count(("key.revoked", "key_1")) == 1
