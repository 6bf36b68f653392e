"""Share links: anyone with the link reads the transcript, until its owner revokes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.support.web_world import WebWorld

pytestmark = pytest.mark.anyio


async def _completed(world: WebWorld, http: httpx.AsyncClient, key: dict[str, str]) -> str:
    made = await http.post("/v1/transcripts", json={"audio_url": "https://example.com/a.mp3"}, headers=key)
    assert made.status_code == 202
    job_id = await world.worker.start()
    await world.worker.say(job_id, "one", " two")
    await world.worker.complete(job_id)
    return job_id


async def test_a_share_token_opens_status_events_and_result_and_nothing_else(
    world: WebWorld, http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    job_id = await _completed(world, http, bearer)
    other = await _completed(world, http, bearer)

    made = await http.post(f"/v1/transcripts/{job_id}/share", headers=bearer)

    assert made.status_code == 201
    token = made.json()["token"]
    assert made.json()["share_url"] == f"{world.url}/t/{job_id}?share={token}"
    share = {"share": token}
    address = f"/v1/transcripts/{job_id}"
    assert (await http.get(address, params=share)).json()["status"] == "completed"
    assert "event: done" in (await http.get(f"{address}/events", params=share)).text
    assert (await http.get(f"{address}/result", params=share)).json()["text"] == "one two"
    assert (await http.get(f"/v1/transcripts/{other}", params=share)).status_code == 404
    assert (await http.get("/v1/transcripts", params=share)).status_code == 401
    assert (await http.delete(address, params=share)).status_code == 401
    assert (await http.post(f"{address}/share", params=share)).status_code == 401


async def test_a_revoked_share_token_opens_nothing(
    world: WebWorld, http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    job_id = await _completed(world, http, bearer)
    address = f"/v1/transcripts/{job_id}"
    tokens = [(await http.post(f"{address}/share", headers=bearer)).json()["token"] for _ in range(2)]
    assert (await http.get(f"{address}/share", headers=bearer)).json() == {"links": 2}

    assert (await http.delete(f"{address}/share", headers=bearer)).status_code == 204

    for token in tokens:
        assert (await http.get(address, params={"share": token})).status_code == 404
    assert (await http.get(f"{address}/share", headers=bearer)).json() == {"links": 0}


async def test_a_transcript_has_at_most_twenty_share_links(
    world: WebWorld, http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    job_id = await _completed(world, http, bearer)
    answers = [
        (await http.post(f"/v1/transcripts/{job_id}/share", headers=bearer)).status_code for _ in range(21)
    ]

    assert answers == [201] * 20 + [400]


async def test_share_links_end_with_their_transcript(
    world: WebWorld, http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    job_id = await _completed(world, http, bearer)
    token = (await http.post(f"/v1/transcripts/{job_id}/share", headers=bearer)).json()["token"]

    assert (await http.delete(f"/v1/transcripts/{job_id}", headers=bearer)).status_code == 204

    assert (await http.get(f"/v1/transcripts/{job_id}", params={"share": token})).status_code == 404


async def test_only_the_owner_makes_and_revokes_share_links(
    world: WebWorld, http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    job_id = await _completed(world, http, bearer)
    await world.stores.accounts.ensure_account("acct_other", name="other", tier="premium")
    secret, _ = await world.keys.create(account_id="acct_other")
    stranger = {"Authorization": f"Bearer {secret}"}
    reading, _ = await world.keys.create(scope="read_only")
    reader = {"Authorization": f"Bearer {reading}"}
    address = f"/v1/transcripts/{job_id}/share"

    assert (await http.post(address, headers=stranger)).status_code == 404
    assert (await http.delete(address, headers=stranger)).status_code == 404
    assert (await http.post(address)).status_code == 401
    assert (await http.post(address, headers=reader)).status_code == 403


async def test_a_preview_needs_no_share_link(world: WebWorld, http: httpx.AsyncClient) -> None:
    await http.post("/v1/transcripts", json={"audio_url": "https://example.com/a.mp3"})
    job_id = await world.worker.start()

    answer = await http.post(f"/v1/transcripts/{job_id}/share")

    assert answer.status_code == 400
    assert "needs no share link" in answer.json()["message"]
