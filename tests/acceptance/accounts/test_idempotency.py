"""`Idempotency-Key` over real HTTP: repeated and concurrent requests create one job."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import httpx
import pytest
from sqlalchemy import delete, func, select, update

from stenobird.bootstrap import Overrides
from stenobird.storage.schema import idempotency, jobs
from tests.support.faults import FaultyDatabase
from tests.support.web_world import web_world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.web_world import FrozenMinutes, WebWorld

pytestmark = pytest.mark.anyio

BODY = {"audio_url": "https://media.example.com/a.mp3"}


async def job_count(world: WebWorld) -> int:
    async with world.database.read() as connection:
        return await connection.scalar(select(func.count()).select_from(jobs)) or 0


async def test_a_hundred_concurrent_requests_create_one_job_and_return_its_id(
    world: WebWorld, http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    headers = bearer | {"Idempotency-Key": "order-66"}
    answers = await asyncio.gather(
        *(http.post("/v1/transcripts", json=BODY, headers=headers) for _ in range(100))
    )
    assert Counter(answer.status_code for answer in answers) == {202: 100}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    assert await job_count(world) == 1


async def test_a_hundred_requests_to_two_processes_create_one_job(
    tmp_path: Path, clock: FrozenMinutes
) -> None:
    """Two servers that share only a database, as two processes do."""
    async with (
        web_world(tmp_path, overrides=Overrides(clock=clock)) as one,
        web_world(tmp_path, overrides=Overrides(clock=clock)) as two,
        httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=200), timeout=180) as http,
    ):
        secret, _ = await one.keys.create()
        headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": "order-66"}

        async def post(number: int) -> httpx.Response:
            url = (one, two)[number % 2].url
            return await http.post(f"{url}/v1/transcripts", json=BODY, headers=headers)

        answers = await asyncio.gather(*(post(number) for number in range(100)))
        assert {answer.status_code for answer in answers} <= {202, 409}
        made = {answer.json()["id"] for answer in answers if answer.status_code == 202}
        assert len(made) == 1
        refused = [answer.json() for answer in answers if answer.status_code == 409]
        assert all(body["error"] == "idempotency_in_progress" for body in refused)
        assert await job_count(one) == 1
        for number in range(4):
            again = await post(number)
            assert again.headers["Idempotent-Replayed"] == "true"
            assert again.json()["id"] in made


async def test_a_replay_is_the_first_response_byte_for_byte(
    world: WebWorld, http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    headers = bearer | {"Idempotency-Key": "k"}
    first = await http.post("/v1/transcripts", json=BODY, headers=headers)
    job_id = await world.worker.start()
    await world.worker.complete(job_id)
    second = await http.post("/v1/transcripts", json=BODY, headers=headers)
    assert (second.status_code, second.content) == (202, first.content)
    assert second.headers["Location"] == first.headers["Location"]
    assert second.headers["Content-Type"] == first.headers["Content-Type"]
    assert second.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers


async def test_the_same_key_with_other_bytes_is_a_mismatch(
    http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    headers = bearer | {"Idempotency-Key": "k"}
    await http.post("/v1/transcripts", json=BODY, headers=headers)
    # The raw bytes are compared; the JSON is the same.
    other = await http.post(
        "/v1/transcripts", content=b'{ "audio_url": "https://media.example.com/a.mp3" }', headers=headers
    )
    assert (other.status_code, other.json()["error"]) == (409, "idempotency_mismatch")


async def test_idempotency_keys_are_scoped_by_account_mode_and_address(
    world: WebWorld, http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    await world.stores.accounts.ensure_account("acct_2", name="Bob", tier="premium")
    ids = set()
    live, _ = await world.keys.create(account_id="acct_2")
    test, _ = await world.keys.create(mode="test")
    for authorization in (
        bearer,
        {"Authorization": f"Bearer {live}"},
        {"Authorization": f"Bearer {test}"},
        {},
    ):
        answer = await http.post(
            "/v1/transcripts", json=BODY, headers={**authorization, "Idempotency-Key": "k"}
        )
        assert answer.status_code == 202
        ids.add(answer.json()["id"])
    assert len(ids) == 4


async def test_another_key_of_the_account_gets_the_same_answer(
    world: WebWorld, http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    other, _ = await world.keys.create()
    first = await http.post("/v1/transcripts", json=BODY, headers=bearer | {"Idempotency-Key": "k"})
    second = await http.post(
        "/v1/transcripts", json=BODY, headers={"Authorization": f"Bearer {other}", "Idempotency-Key": "k"}
    )
    assert second.json()["id"] == first.json()["id"]


async def test_a_refused_request_may_be_corrected_under_its_key(
    http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    headers = bearer | {"Idempotency-Key": "k"}
    wrong = await http.post("/v1/transcripts", json={"audio_url": "ftp://example.com/a"}, headers=headers)
    assert wrong.status_code == 400
    right = await http.post("/v1/transcripts", json=BODY, headers=headers)
    assert right.status_code == 202
    assert "Idempotent-Replayed" not in right.headers


@pytest.mark.parametrize("key", ["", "x" * 256, "a b"])
async def test_a_malformed_idempotency_key_is_refused(
    http: httpx.AsyncClient, bearer: dict[str, str], key: str
) -> None:
    answer = await http.post("/v1/transcripts", json=BODY, headers=bearer | {"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_a_process_killed_between_job_and_response_leaves_one_job(
    world: WebWorld, http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    headers = bearer | {"Idempotency-Key": "k"}
    first = await http.post("/v1/transcripts", json=BODY, headers=headers)
    # The state after the process was killed there and its claim has expired.
    async with world.database.write() as connection:
        await connection.execute(
            update(idempotency).values(status=None, headers=None, body=None, claim_expires_at=0.0)
        )
    again = await http.post("/v1/transcripts", json=BODY, headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert "Idempotent-Replayed" not in again.headers
    assert await job_count(world) == 1
    third = await http.post("/v1/transcripts", json=BODY, headers=headers)
    assert (third.headers["Idempotent-Replayed"], third.content) == ("true", again.content)


async def test_after_a_process_killed_between_claim_and_job_the_next_request_creates_the_job(
    world: WebWorld, http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    headers = bearer | {"Idempotency-Key": "k"}
    first = await http.post("/v1/transcripts", json=BODY, headers=headers)
    async with world.database.write() as connection:
        await connection.execute(delete(jobs))
        await connection.execute(
            update(idempotency).values(status=None, headers=None, body=None, claim_expires_at=0.0)
        )
    again = await http.post("/v1/transcripts", json=BODY, headers=headers)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    assert await job_count(world) == 1


async def test_a_job_committed_without_a_response_is_not_created_twice(
    world: WebWorld, http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    """The database commits the job, but the connection is lost: 503, and the retry finds the job."""
    world.store.database = FaultyDatabase.over(world.database, ["lost after", "lost before"])
    headers = bearer | {"Idempotency-Key": "k"}
    first = await http.post("/v1/transcripts", json=BODY, headers=headers)
    assert (first.status_code, first.json()["error"]) == (503, "storage_unavailable")
    assert await job_count(world) == 1
    again = await http.post("/v1/transcripts", json=BODY, headers=headers)
    assert again.status_code == 202
    assert await job_count(world) == 1


async def test_replays_are_not_counted_against_the_limit(
    http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    headers = bearer | {"Idempotency-Key": "k"}
    first = await http.post("/v1/transcripts", json=BODY, headers=headers)
    for _ in range(40):
        assert (await http.post("/v1/transcripts", json=BODY, headers=headers)).status_code == 202
    other = await http.post("/v1/transcripts", json=BODY, headers=bearer)
    assert int(other.headers["X-RateLimit-Remaining"]) == int(first.headers["X-RateLimit-Remaining"]) - 1
