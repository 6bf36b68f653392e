"""Limits of requests per minute and of open transcripts, over real HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from stenobird.bootstrap import Overrides
from tests.support.web_world import web_settings, web_world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.web_world import FrozenMinutes, WebWorld

pytestmark = pytest.mark.anyio

BODY = {"audio_url": "https://media.example.com/a.mp3"}


async def test_previews_are_counted_by_the_address_from_a_trusted_proxy(
    tmp_path: Path, clock: FrozenMinutes
) -> None:
    settings = web_settings(previews_per_minute=2)
    async with (
        web_world(tmp_path, settings, Overrides(clock=clock)) as world,
        httpx.AsyncClient(base_url=world.url, trust_env=False) as http,
    ):

        async def post(address: str | None) -> httpx.Response:
            headers = {"X-Forwarded-For": address} if address else {}
            return await http.post("/v1/transcripts", json=BODY, headers=headers)

        for remaining in ("1", "0"):
            answer = await post("203.0.113.7")
            assert (answer.status_code, answer.headers["X-RateLimit-Remaining"]) == (202, remaining)
        refused = await post("203.0.113.7")
        assert (refused.status_code, refused.json()["error"]) == (429, "rate_limited")
        assert refused.headers["Retry-After"] == "60"
        assert refused.json()["retry_after_seconds"] == 60
        assert refused.headers["X-RateLimit-Limit"] == "2"
        assert refused.headers["X-RateLimit-Remaining"] == "0"
        assert refused.headers["X-RateLimit-Reset"] == str(int(clock.now) + 60)
        assert (await post("203.0.113.8")).status_code == 202
        assert (await post(None)).status_code == 202
        # A subscriber gets a whole /64.
        assert (await post("2001:db8::1")).status_code == 202
        assert (await post("2001:db8::2")).status_code == 202
        assert (await post("2001:db8::3")).status_code == 429
        clock.advance(60)
        assert (await post("203.0.113.7")).status_code == 202


async def test_the_forwarded_address_of_an_untrusted_peer_is_ignored(
    tmp_path: Path, clock: FrozenMinutes
) -> None:
    settings = web_settings(previews_per_minute=1, trusted_proxies="192.0.2.1")
    async with (
        web_world(tmp_path, settings, Overrides(clock=clock)) as world,
        httpx.AsyncClient(base_url=world.url, trust_env=False) as http,
    ):
        statuses = [
            (
                await http.post(
                    "/v1/transcripts", json=BODY, headers={"X-Forwarded-For": f"203.0.113.{number}"}
                )
            ).status_code
            for number in range(2)
        ]
        assert statuses == [202, 429]


@pytest.mark.parametrize(("tier", "limit"), [("premium", 30), ("platinum", 60)])
async def test_a_tier_has_its_requests_a_minute_and_reading_is_free(
    world: WebWorld, http: httpx.AsyncClient, tier: str, limit: int
) -> None:
    await world.stores.accounts.ensure_account("acct_1", name="Ann", tier=tier)  # type: ignore[arg-type]
    secret, _ = await world.keys.create(account_id="acct_1", mode="test")
    other, _ = await world.keys.create(account_id="acct_1", mode="test")
    headers = [{"Authorization": f"Bearer {key}"} for key in (secret, other)]
    for number in range(limit):
        answer = await http.post("/v1/transcripts", json=BODY, headers=headers[number % 2])
        assert answer.status_code == 202
        assert answer.headers["X-RateLimit-Remaining"] == str(limit - 1 - number)
    refused = await http.post("/v1/transcripts", json=BODY, headers=headers[0])
    assert refused.status_code == 429
    status_url = answer.json()["status_url"]
    reads = [await http.get(status_url, headers=headers[0]) for _ in range(5)]
    assert {read.status_code for read in reads} == {200}
    assert all("X-RateLimit-Limit" not in read.headers for read in reads)


async def test_an_account_has_a_limit_of_open_transcripts(tmp_path: Path, clock: FrozenMinutes) -> None:
    settings = web_settings(jobs_per_account=2)
    async with (
        web_world(tmp_path, settings, Overrides(clock=clock)) as world,
        httpx.AsyncClient(base_url=world.url, trust_env=False) as http,
    ):
        secret, _ = await world.keys.create()
        headers = {"Authorization": f"Bearer {secret}"}
        first, second, third = [
            await http.post("/v1/transcripts", json=BODY, headers=headers) for _ in range(3)
        ]
        assert (first.status_code, second.status_code, third.status_code) == (202, 202, 429)
        assert third.json()["error"] == "rate_limited"
        assert int(third.headers["Retry-After"]) > 0
        await http.delete(first.json()["status_url"], headers=headers)
        fourth = await http.post("/v1/transcripts", json=BODY, headers=headers)
        assert fourth.status_code == 202


async def test_malformed_requests_are_not_counted(http: httpx.AsyncClient, bearer: dict[str, str]) -> None:
    for _ in range(40):
        assert (await http.post("/v1/transcripts", content=b"{", headers=bearer)).status_code == 400
    assert (await http.post("/v1/transcripts", json=BODY, headers=bearer)).status_code == 202


async def test_both_dialects_of_v1_count_each_request_once_and_together(
    http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    left = []
    for path in ("/v1/transcripts", "/v1/audio/transcriptions", "/v1/transcripts"):
        answer = await http.post(path, json=BODY, headers=bearer)
        left.append(int(answer.headers["X-RateLimit-Remaining"]))
    assert left == [29, 28, 27]
