"""`Idempotency-Key` in the OpenAI dialect: one job for a request, however often it is sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from stenobird.errors import TranscriptionFailed
from stenobird.storage.schema import idempotency

if TYPE_CHECKING:
    import httpx
    import openai

    from tests.support.web_world import WebWorld

pytestmark = pytest.mark.anyio

FILE = ("talk.mp3", b"ID3" + bytes(5000), "audio/mpeg")
KEY = {"Idempotency-Key": "0e1c9c52-7d5b-4c4e-b8c1-5f1c36b8e111"}
PATH = "/v1/audio/transcriptions"


async def jobs(world: WebWorld) -> int:
    return sum((await world.store.counts()).values())


async def heard(world: WebWorld, http: httpx.AsyncClient, **fields: Any) -> httpx.Response:
    """Send a file with the key, and drive the worker for it."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(world.worker.carry_out("Hello", " there."))
        return await http.post(PATH, files={"file": FILE}, data=fields, headers=KEY)


async def test_a_request_that_is_sent_again_gets_the_same_transcript(
    world: WebWorld, http: httpx.AsyncClient
) -> None:
    first = await heard(world, http)
    # Each form has a new boundary.
    again = await http.post(PATH, files={"file": FILE}, headers=KEY)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert first.headers["x-transcript-id"] == again.headers["x-transcript-id"]
    assert ("idempotent-replayed" in first.headers, again.headers["idempotent-replayed"]) == (False, "true")
    assert await jobs(world) == 1


async def test_another_request_with_the_same_key_is_refused(world: WebWorld, http: httpx.AsyncClient) -> None:
    await heard(world, http, response_format="json")
    other = ("talk.mp3", b"ID3" + bytes(5001), "audio/mpeg")
    for answer in (
        await http.post(PATH, files={"file": other}, headers=KEY),
        await http.post(PATH, files={"file": FILE}, data={"language": "de"}, headers=KEY),
        await http.post(PATH, files={"file": FILE}, data={"response_format": "srt"}, headers=KEY),
        await http.post(PATH, json={"url": "https://example.com/a"}, headers=KEY),
    ):
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "idempotency_mismatch")
    assert await jobs(world) == 1


async def test_a_client_that_disconnects_gets_the_text_when_it_returns(
    world: WebWorld, sdk: openai.AsyncOpenAI
) -> None:
    async with asyncio.TaskGroup() as tasks:
        sent = tasks.create_task(
            sdk.audio.transcriptions.create(model="whisper-1", file=FILE, extra_headers=KEY)
        )
        job_id = await world.worker.start_next()
        sent.cancel()
    again = asyncio.create_task(
        sdk.audio.transcriptions.create(model="whisper-1", file=FILE, extra_headers=KEY)
    )
    await world.worker.say(job_id, "Hello", " there.")
    await world.worker.complete(job_id)
    assert (await again).text == "Hello there."
    assert await jobs(world) == 1


async def test_a_broken_stream_is_read_from_its_start(world: WebWorld, sdk: openai.AsyncOpenAI) -> None:
    async def create() -> Any:
        return await sdk.audio.transcriptions.create(
            model="whisper-1", file=FILE, stream=True, extra_headers=KEY
        )

    async with asyncio.TaskGroup() as tasks:
        starting = tasks.create_task(world.worker.start_next())
        stream = await create()
        job_id = await starting
    await world.worker.say(job_id, "Hello")
    assert (await anext(aiter(stream))).delta == "Hello"
    await stream.close()

    again = await create()
    await world.worker.say(job_id, " there.")
    await world.worker.complete(job_id)
    events = [event async for event in again]
    assert [event.type for event in events][-1] == "transcript.text.done"
    assert events[-1].text == "Hello there."
    assert await jobs(world) == 1


async def test_many_concurrent_requests_create_one_job(world: WebWorld, http: httpx.AsyncClient) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(world.worker.carry_out("Hello."))
        sent = [
            tasks.create_task(http.post(PATH, files={"file": FILE}, headers=KEY, timeout=180))
            for _ in range(6)
        ]
    answers = [task.result() for task in sent]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.headers["x-transcript-id"] for answer in answers}) == 1
    assert await jobs(world) == 1


@pytest.mark.parametrize("end", ["failed", "cancelled", "deleted"])
async def test_a_job_without_a_transcript_is_replaced_by_a_new_one(
    world: WebWorld, http: httpx.AsyncClient, end: str
) -> None:
    async with asyncio.TaskGroup() as tasks:
        sent = tasks.create_task(http.post(PATH, files={"file": FILE}, headers=KEY))
        if end == "failed":
            job_id = await world.worker.start_next()
            await world.worker.fail(job_id, TranscriptionFailed())
        elif end == "cancelled":
            while not await jobs(world):
                await world.worker.wakeups.wait_job(5.0)
            [row] = (await http.get("/v1/transcripts")).json()["transcripts"]
            job_id = row["id"]
            await http.delete(f"/v1/transcripts/{job_id}")
        else:
            job_id = await world.worker.carry_out("Hello.")
    first = sent.result()
    assert first.status_code == {"failed": 422, "cancelled": 410, "deleted": 200}[end]
    if end == "deleted":
        await http.delete(f"/v1/transcripts/{job_id}")

    again = await heard(world, http)
    assert again.json()["text"] == "Hello there."
    assert "idempotent-replayed" not in again.headers
    assert again.headers["x-transcript-id"] != job_id


async def test_a_stopping_service_leaves_the_job_to_the_next_one(
    world: WebWorld, http: httpx.AsyncClient
) -> None:
    async with asyncio.TaskGroup() as tasks:
        sent = tasks.create_task(http.post(PATH, files={"file": FILE}, headers=KEY))
        job_id = await world.worker.start_next()
        world.services.shutting_down.set()
    assert (sent.result().status_code, sent.result().headers["retry-after"]) == (503, "5")
    job = await world.store.get(job_id)
    assert job is not None
    assert not job.cancel_requested


async def test_the_idempotency_key_stores_no_transcript(world: WebWorld, http: httpx.AsyncClient) -> None:
    answer = await heard(world, http)
    async with world.database.read() as connection:
        [row] = (await connection.execute(idempotency.select())).mappings().all()
    assert row["body"] == f'{{"id":"{answer.headers["x-transcript-id"]}"}}'


async def test_a_malformed_api_key_is_refused(http: httpx.AsyncClient) -> None:
    answer = await http.post(PATH, files={"file": FILE}, headers={"Idempotency-Key": "a b"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
