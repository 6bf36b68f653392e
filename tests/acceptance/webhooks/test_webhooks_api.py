"""What an account sees of its webhooks: the log, replays, the secret and its rotation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.support.web_world import web_world
from tests.support.webhook_world import OWNER

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

LOG = "/v1/webhooks/deliveries"
SECRET = "/v1/webhooks/secret"


async def test_the_log_is_paged_newest_first_and_only_the_accounts_own(hooks: Any) -> None:
    for number in range(5):
        await hooks.world.end_job(hooks.server.url(f"/{number}"))
    while await hooks.world.deliverer().step():
        pass
    key = await hooks.key()
    seen: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = await hooks.http.get(LOG, params={"limit": 2, "cursor": cursor}, headers=key)
        assert answer.headers["cache-control"] == "no-store"
        page = answer.json()
        seen += page["deliveries"]
        cursor = page["next_cursor"]
    assert sorted(row["job_id"] for row in seen) == [f"tr_{number}" for number in range(1, 6)]
    times = [row["created_at"] for row in seen]
    assert times == sorted(times, reverse=True)
    assert {(row["state"], row["attempts"], row["status_code"]) for row in seen} == {("delivered", 1, 204)}
    assert {row["event_type"] for row in seen} == {"transcription.cancelled"}

    await hooks.world.accounts.create_account(
        "acct_stranger", "stranger", "premium", "operator", by="operator"
    )
    stranger = await hooks.key("acct_stranger")
    assert (await hooks.http.get(LOG, headers=stranger)).json() == {"deliveries": [], "next_cursor": None}
    foreign = await hooks.http.post(f"{LOG}/{seen[0]['id']}/replay", headers=stranger)
    assert (foreign.status_code, foreign.json()["error"]) == (404, "delivery_not_found")


async def test_a_dead_letter_is_read_and_replayed_under_its_id(hooks: Any) -> None:
    hooks.receiver.status = 410
    await hooks.world.end_job(hooks.server.url())
    deliverer = hooks.world.deliverer()
    await deliverer.step()
    key = await hooks.key()
    [row] = (await hooks.http.get(LOG, headers=key)).json()["deliveries"]
    assert (row["state"], row["status_code"], row["next_attempt_at"]) == ("dead", 410, None)
    assert row["error"].startswith("The receiver answered 410")

    hooks.receiver.status = 200
    answer = await hooks.http.post(f"{LOG}/{row['id']}/replay", headers=key)
    assert answer.status_code == 202
    assert (answer.json()["state"], answer.json()["event_id"]) == ("pending", row["event_id"])
    await deliverer.step()
    assert hooks.receiver.accepted == [row["event_id"]]
    [row] = (await hooks.http.get(LOG, headers=key)).json()["deliveries"]
    assert (row["state"], row["attempts"], row["error"]) == ("delivered", 2, None)


async def test_the_secret_rotates_and_both_sign_for_a_day(hooks: Any) -> None:
    key = await hooks.key()
    first = (await hooks.http.get(SECRET, headers=key)).json()
    assert first == (await hooks.http.get(SECRET, headers=key)).json()
    assert first["previous_expires_at"] is None
    rotated = await hooks.http.post(SECRET, headers=key)
    second = rotated.json()
    assert rotated.headers["cache-control"] == "no-store"
    assert first["secret"] not in rotated.text
    assert second["previous_expires_at"] is not None
    assert second["secret"] == (await hooks.http.get(SECRET, headers=key)).json()["secret"]

    await hooks.world.end_job(hooks.server.url())
    await hooks.world.deliverer().step()
    [request] = hooks.receiver.requests
    for secret in (first["secret"], second["secret"]):
        Webhook(secret).verify(request.body, dict(request.headers))

    third = (await hooks.http.post(SECRET, headers=key)).json()
    await hooks.world.end_job(hooks.server.url())
    await hooks.world.deliverer().step()
    request = hooks.receiver.requests[-1]
    Webhook(third["secret"]).verify(request.body, dict(request.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(first["secret"]).verify(request.body, dict(request.headers))


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", LOG), ("POST", f"{LOG}/out_1/replay"), ("GET", SECRET), ("POST", SECRET)],
)
async def test_without_a_key_nothing_is_shown(hooks: Any, method: str, path: str) -> None:
    answer = await hooks.http.request(method, path)
    assert (answer.status_code, answer.json()["error"]) == (401, "missing_api_key")


async def test_a_read_only_key_reads_the_log_and_neither_replays_nor_sees_the_secret(hooks: Any) -> None:
    key = await hooks.key(scope="read_only")
    assert (await hooks.http.get(LOG, headers=key)).status_code == 200
    for method, path in (("POST", f"{LOG}/out_1/replay"), ("GET", SECRET), ("POST", SECRET)):
        answer = await hooks.http.request(method, path, headers=key)
        assert (answer.status_code, answer.json()["error"]) == (403, "scope_violation_read_only")


async def test_a_test_key_sees_and_replays_what_jobs_of_test_keys_sent(hooks: Any) -> None:
    live_job = await hooks.world.end_job(hooks.server.url("/live"))
    test_job = await hooks.world.end_job(hooks.server.url("/test"), mode="test")
    await hooks.world.deliverer().step()
    live, sandbox = await hooks.key(), await hooks.key(mode="test")
    seen = {
        name: {row["job_id"]: row for row in (await hooks.http.get(LOG, headers=key)).json()["deliveries"]}
        for name, key in (("live", live), ("test", sandbox))
    }
    assert seen["live"].keys() == {live_job, test_job}
    assert seen["test"] == {test_job: seen["live"][test_job]}
    assert [seen["live"][job]["mode"] for job in (live_job, test_job)] == ["live", "test"]
    statuses = [
        (await hooks.http.post(f"{LOG}/{seen['live'][job]['id']}/replay", headers=sandbox)).status_code
        for job in (live_job, test_job)
    ]
    assert statuses == [404, 202]


async def test_a_test_key_neither_reads_nor_rotates_the_live_secret(hooks: Any) -> None:
    live, sandbox = await hooks.key(), await hooks.key(mode="test")
    before = (await hooks.http.get(SECRET, headers=live)).json()
    shown = (await hooks.http.get(SECRET, headers=sandbox)).json()
    rotated = (await hooks.http.post(SECRET, headers=sandbox)).json()
    assert (before["mode"], shown["mode"], rotated["mode"]) == ("live", "test", "test")
    assert len({before["secret"], shown["secret"], rotated["secret"]}) == 3
    assert (await hooks.http.get(SECRET, headers=live)).json() == before


async def test_the_log_is_filtered_by_state_and_job(hooks: Any) -> None:
    hooks.receiver.status = 410
    dead = await hooks.world.end_job(hooks.server.url("/gone"))
    await hooks.world.deliverer().step()
    hooks.receiver.status = 204
    delivered = await hooks.world.end_job(hooks.server.url("/there"))
    await hooks.world.deliverer().step()
    key = await hooks.key()
    for query, jobs in (
        ({"state": "dead"}, [dead]),
        ({"state": "delivered"}, [delivered]),
        ({"state": "pending"}, []),
        ({"job_id": dead}, [dead]),
        ({"job_id": dead, "state": "delivered"}, []),
        ({"state": "", "job_id": ""}, [delivered, dead]),
    ):
        answer = await hooks.http.get(LOG, params=query, headers=key)
        assert [row["job_id"] for row in answer.json()["deliveries"]] == jobs, query


@pytest.mark.parametrize(
    "query", ["state=lost", "job_id=%00", "cursor=%21", "cursor=bmFuIHg", "limit=0", "limit=x"]
)
async def test_what_is_no_page_is_refused(hooks: Any, query: str) -> None:
    answer = await hooks.http.get(f"{LOG}?{query}", headers=await hooks.key())
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.parametrize("delivery_id", ["out_none", "%00", "a" * 200])
async def test_an_unknown_delivery_is_not_found(hooks: Any, delivery_id: str) -> None:
    answer = await hooks.http.post(f"{LOG}/{delivery_id}/replay", headers=await hooks.key())
    assert (answer.status_code, answer.json()["error"]) == (404, "delivery_not_found")


async def test_the_second_dialect_shows_and_rotates_the_same_secret(tmp_path: Path) -> None:
    async with (
        web_world(tmp_path) as world,
        httpx.AsyncClient(base_url=world.root, trust_env=False, timeout=180) as api,
    ):
        account = await world.account(OWNER)
        key = await world.key(account)
        shown = (await api.get("/webhooks/secret", headers=key)).json()
        assert shown["secret"] == await world.secret(account)
        rotated = (await api.post("/webhooks/secret", headers=key)).json()
        assert rotated["secret"] == await world.secret(account) != shown["secret"]
        reader = await world.key(account, scope="read_only")
        refused = await api.get("/webhooks/secret", headers=reader)
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "scope_violation_read_only")
        assert (await api.get("/webhooks/secret")).json()["error"]["code"] == "missing_api_key"
