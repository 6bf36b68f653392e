"""`IdempotencyStore`: who may work on a request, and what everybody else is told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from stenobird.errors import IdempotencyInProgress, IdempotencyMismatch
from stenobird.storage.idempotency_store import (
    CLAIM_SECONDS,
    KEPT_SECONDS,
    IdempotencyClaim,
    IdempotencyStore,
    StoredAnswer,
)
from stenobird.storage.schema import idempotency

if TYPE_CHECKING:
    from stenobird.storage.engine import Database

pytestmark = pytest.mark.anyio

ANSWER = StoredAnswer(202, {"location": "/x"}, '{"id":"tr_1"}')


@pytest.fixture
def store(database: Database) -> IdempotencyStore:
    return IdempotencyStore(database)


async def claim(store: IdempotencyStore, resource_id: str = "tr_1", body: str = "b") -> IdempotencyClaim:
    claimed = await store.claim("scope", body, account_id="acct_1", resource_id=resource_id)
    assert isinstance(claimed, IdempotencyClaim)
    return claimed


async def let_pass(database: Database, seconds: float) -> None:
    """Move every row so far into the past: the store goes by the database's clock."""
    async with database.write() as connection:
        await connection.execute(
            update(idempotency).values(
                created_at=idempotency.c.created_at - seconds,
                claim_expires_at=idempotency.c.claim_expires_at - seconds,
            )
        )


async def test_a_stored_answer_is_found_again_by_the_same_body_only(store: IdempotencyStore) -> None:
    assert await store.look("scope", "b") is None
    await store.answer(await claim(store), ANSWER)
    assert await store.look("scope", "b") == ANSWER
    assert await store.claim("scope", "b", account_id=None, resource_id="tr_2") == ANSWER
    with pytest.raises(IdempotencyMismatch):
        await store.look("scope", "other")
    with pytest.raises(IdempotencyMismatch):
        await store.claim("scope", "other", account_id=None, resource_id="tr_2")
    assert await store.look("another scope", "b") is None


async def test_of_many_at_once_one_may_work(store: IdempotencyStore) -> None:
    results = await asyncio.gather(
        *(store.claim("scope", "b", account_id=None, resource_id=f"tr_{n}") for n in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, IdempotencyClaim) for result in results) == 1
    refused = [result for result in results if isinstance(result, IdempotencyInProgress)]
    assert len(refused) == 19
    assert refused[0].retry_after_seconds
    with pytest.raises(IdempotencyInProgress):
        await store.look("scope", "b")


async def test_a_claim_whose_owner_died_is_taken_over_under_the_same_id(
    store: IdempotencyStore, database: Database
) -> None:
    first = await claim(store)
    await let_pass(database, CLAIM_SECONDS + 1)
    assert await store.look("scope", "b") is None
    second = await claim(store, "tr_2")
    assert second.resource_id == "tr_1"
    assert second.token != first.token
    # Who was merely slow changes nothing any more.
    await store.answer(first, StoredAnswer(500, {}, "late"))
    await store.forget(first)
    await store.answer(second, ANSWER)
    assert await store.look("scope", "b") == ANSWER


async def test_a_claim_that_was_given_up_is_free_at_once_for_the_same_body(
    store: IdempotencyStore,
) -> None:
    await store.abandon(await claim(store))
    with pytest.raises(IdempotencyMismatch):
        await store.look("scope", "other")
    assert (await claim(store, "tr_2")).resource_id == "tr_1"


async def test_a_refused_request_leaves_nothing_so_a_corrected_body_may_come(
    store: IdempotencyStore,
) -> None:
    await store.forget(await claim(store))
    assert (await claim(store, "tr_2", body="corrected")).resource_id == "tr_2"


async def test_an_answer_is_never_forgotten_or_replaced(store: IdempotencyStore) -> None:
    claimed = await claim(store)
    await store.answer(claimed, ANSWER)
    await store.forget(claimed)
    await store.abandon(claimed)
    await store.answer(claimed, StoredAnswer(202, {}, "another"))
    assert await store.look("scope", "b") == ANSWER


async def test_a_key_may_be_used_anew_after_a_day(store: IdempotencyStore, database: Database) -> None:
    await store.answer(await claim(store), ANSWER)
    await let_pass(database, KEPT_SECONDS - 60)
    assert await store.look("scope", "b") == ANSWER
    await let_pass(database, 61)
    assert await store.look("scope", "other") is None
    assert (await claim(store, "tr_2", body="other")).resource_id == "tr_2"
    with pytest.raises(IdempotencyInProgress):
        await store.look("scope", "other")


async def test_old_rows_are_purged(store: IdempotencyStore, database: Database) -> None:
    await store.answer(await claim(store), ANSWER)
    assert await store.purge() == 0
    await let_pass(database, KEPT_SECONDS + 1)
    assert await store.purge() == 1


async def test_an_answer_is_withdrawn_only_as_long_as_it_is_the_one_that_is_stored(
    store: IdempotencyStore,
) -> None:
    await store.answer(await claim(store), ANSWER)
    await store.withdraw("scope", StoredAnswer(202, {}, '{"id":"tr_0"}'))
    await store.withdraw("another scope", ANSWER)
    assert await store.look("scope", "b") == ANSWER
    await store.withdraw("scope", ANSWER)
    assert await store.look("scope", "b") is None
    assert (await claim(store, "tr_2", body="other")).resource_id == "tr_2"
    # A claim is no answer, so nothing takes it away.
    await store.withdraw("scope", ANSWER)
    with pytest.raises(IdempotencyInProgress):
        await store.look("scope", "other")
