"""What the owner of an account may do with its keys, by one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.accounts.keys import MAX_OWN_KEYS, KeyService
from stenobird.errors import InvalidAPIKey, InvalidRequest, KeyNotFound, LiveKeyRequired, ReadOnlyKey
from stenobird.storage.account_store import AccountStore
from tests.support.databases import sqlite_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from stenobird.ports import Caller, KeyMode, KeyScope

pytestmark = pytest.mark.anyio


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[KeyService]:
    async with sqlite_database(tmp_path) as database:
        store = AccountStore(database)
        await store.ensure_account("acct_1", name="Ann", tier="premium")
        await store.ensure_account("acct_2", name="Bob", tier="premium")
        yield KeyService(store)


async def a_caller(
    service: KeyService,
    *,
    mode: KeyMode = "live",
    scope: KeyScope = "full_access",
    account_id: str = "acct_1",
) -> Caller:
    secret, _ = await service.create(mode=mode, scope=scope, account_id=account_id)
    caller = await service.authenticate(f"Bearer {secret}")
    assert caller is not None
    return caller


async def test_a_new_key_works_and_belongs_to_the_account_that_made_it(service: KeyService) -> None:
    caller = await a_caller(service)
    secret, record = await service.own_create(caller, name="laptop", scope="read_only")
    found = await service.authenticate(f"Bearer {secret}")
    assert found is not None
    assert (found.account_id, found.mode, found.scope) == ("acct_1", "live", "read_only")
    assert [key.id for key in await service.own_list(caller)] == [caller.api_key_id, record.id]


async def test_a_read_only_key_reads_and_changes_nothing(service: KeyService) -> None:
    caller = await a_caller(service, scope="read_only")
    assert len(await service.own_list(caller)) == 1
    with pytest.raises(ReadOnlyKey):
        await service.own_create(caller, name="x")
    with pytest.raises(ReadOnlyKey):
        await service.own_revoke(caller, caller.api_key_id)
    with pytest.raises(ReadOnlyKey):
        await service.own_rotate(caller, caller.api_key_id)


async def test_a_test_key_makes_and_sees_test_keys_only(service: KeyService) -> None:
    live = await a_caller(service)
    caller = await a_caller(service, mode="test")
    secret, record = await service.own_create(caller, name="ci")
    assert secret.startswith("sb_test_")
    with pytest.raises(LiveKeyRequired):
        await service.own_create(caller, name="ci", mode="live")
    assert [key.id for key in await service.own_list(caller)] == [caller.api_key_id, record.id]
    assert len(await service.own_list(live)) == 3
    with pytest.raises(KeyNotFound):
        await service.own_revoke(caller, live.api_key_id)
    with pytest.raises(KeyNotFound):
        await service.own_rotate(caller, live.api_key_id)


async def test_a_key_of_another_account_is_as_good_as_none(service: KeyService) -> None:
    caller = await a_caller(service)
    other = await a_caller(service, account_id="acct_2")
    for key_id in (other.api_key_id, "key_none"):
        with pytest.raises(KeyNotFound):
            await service.own_revoke(caller, key_id)
        with pytest.raises(KeyNotFound):
            await service.own_rotate(caller, key_id)
    assert [key.is_valid for key in await service.own_list(other)] == [True]


async def test_a_rotated_key_stops_and_its_successor_is_like_it(service: KeyService) -> None:
    caller = await a_caller(service)
    secret, old = await service.own_create(caller, name="laptop", scope="read_only")
    new_secret, new = await service.own_rotate(caller, old.id)
    assert (new.name, new.scope, new.mode) == ("laptop", "read_only", "live")
    with pytest.raises(InvalidAPIKey):
        await service.authenticate(f"Bearer {secret}")
    assert await service.authenticate(f"Bearer {new_secret}") is not None
    with pytest.raises(KeyNotFound):
        await service.own_rotate(caller, old.id)


async def test_a_key_may_end_itself(service: KeyService) -> None:
    caller = await a_caller(service)
    await service.own_revoke(caller, caller.api_key_id)
    await service.own_revoke(caller, caller.api_key_id)
    assert [key.is_valid for key in await service.list("acct_1")] == [False]


async def test_an_owner_has_a_bounded_number_of_keys_but_the_operator_has_not(service: KeyService) -> None:
    caller = await a_caller(service)
    for _ in range(MAX_OWN_KEYS - 1):
        await service.create(account_id="acct_1")
    with pytest.raises(InvalidRequest):
        await service.own_create(caller, name="one more")
    await service.create(account_id="acct_1")
