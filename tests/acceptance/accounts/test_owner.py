"""Owners manage their keys, account and usage over real HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from stenobird.ports import JobChange, UsageRow

if TYPE_CHECKING:
    import httpx

    from tests.support.web_world import WebWorld

pytestmark = pytest.mark.anyio

BODY = {"audio_url": "https://media.example.com/a.mp3"}


async def complete(world: WebWorld, http: httpx.AsyncClient, headers: dict[str, str], minutes: int) -> str:
    """Run a job of this many minutes and return its id."""
    made = await http.post("/v1/transcripts", json=BODY, headers=headers)
    job_id: str = made.json()["id"]
    assert await world.worker.start() == job_id
    job = await world.store.get(job_id)
    assert job is not None
    assert job.account_id is not None
    events = world.worker.events[job_id]
    await world.store.finish(
        world.worker.leases.pop(job_id),
        JobChange(status="completed", billable_minutes=minutes, duration_seconds=minutes * 60.0),
        [events.done("completed", billable_minutes=minutes)],
        usage=UsageRow(job_id, job.account_id, minutes, minutes * 60.0),
    )
    return job_id


async def test_a_key_is_made_listed_rotated_and_revoked(
    http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    made = await http.post("/v1/keys", json={"name": "laptop", "scope": "read_only"}, headers=bearer)
    assert (made.status_code, made.headers["Cache-Control"]) == (201, "no-store")
    key = made.json()["key"]
    assert key.startswith("sb_live_")
    listed = (await http.get("/v1/keys", headers=bearer)).json()["keys"]
    assert [row["name"] for row in listed] == ["default", "laptop"]
    assert all("key" not in row and "key_hash" not in row for row in listed)

    rotated = await http.post(f"/v1/keys/{made.json()['id']}/rotate", headers=bearer)
    assert (rotated.status_code, rotated.json()["replaces"]) == (201, made.json()["id"])
    assert (rotated.json()["scope"], rotated.json()["name"]) == ("read_only", "laptop")
    old = await http.get("/v1/account", headers={"Authorization": f"Bearer {key}"})
    assert (old.status_code, old.json()["error"]) == (401, "invalid_api_key")
    new = {"Authorization": f"Bearer {rotated.json()['key']}"}
    assert (await http.get("/v1/account", headers=new)).status_code == 200

    for _ in range(2):
        gone = await http.delete(f"/v1/keys/{rotated.json()['id']}", headers=bearer)
        assert (gone.status_code, gone.content) == (204, b"")
    assert (await http.get("/v1/account", headers=new)).status_code == 401
    listed = (await http.get("/v1/keys", headers=bearer)).json()["keys"]
    assert [row["is_valid"] for row in listed] == [True, False, False]


async def test_a_key_is_made_without_a_body_and_never_stored_with_an_idempotency_key(
    http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    headers = bearer | {"Idempotency-Key": "k"}
    first, second = [await http.post("/v1/keys", headers=headers) for _ in range(2)]
    assert first.json()["key"] != second.json()["key"]
    assert "Idempotent-Replayed" not in second.headers


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": 7}, "name"),
        ({"mode": "prod"}, "mode"),
        ({"scope": "admin"}, "scope"),
    ],
)
async def test_an_invalid_field_is_named(
    http: httpx.AsyncClient, bearer: dict[str, str], body: dict[str, object], field: str
) -> None:
    answer = await http.post("/v1/keys", json=body, headers=bearer)
    assert (answer.status_code, answer.json()["error"], answer.json()["field"]) == (
        400,
        "invalid_request",
        field,
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/keys"),
        ("POST", "/v1/keys"),
        ("DELETE", "/v1/keys/key_1"),
        ("POST", "/v1/keys/key_1/rotate"),
        ("GET", "/v1/account"),
        ("DELETE", "/v1/account"),
        ("GET", "/v1/usage"),
    ],
)
async def test_account_endpoints_need_a_key(http: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["error"]) == (401, "missing_api_key")


async def test_a_read_only_key_reads_and_a_test_key_sees_test_keys_only(
    world: WebWorld, http: httpx.AsyncClient, bearer: dict[str, str]
) -> None:
    reading, live = await world.keys.create(scope="read_only")
    reader = {"Authorization": f"Bearer {reading}"}
    for method, path in (("POST", "/v1/keys"), ("DELETE", f"/v1/keys/{live.id}"), ("DELETE", "/v1/account")):
        answer = await http.request(method, path, headers=reader)
        assert (answer.status_code, answer.json()["error"]) == (403, "scope_violation_read_only")
    assert (await http.get("/v1/usage", headers=reader)).status_code == 200
    testing, _ = await world.keys.create(mode="test")
    tester = {"Authorization": f"Bearer {testing}"}
    refused = await http.post("/v1/keys", json={"mode": "live"}, headers=tester)
    assert (refused.status_code, refused.json()["error"]) == (403, "live_key_required")
    made = await http.post("/v1/keys", headers=tester)
    assert (made.status_code, made.json()["mode"]) == (201, "test")
    for path in (f"/v1/keys/{live.id}", "/v1/keys/key_none", "/v1/keys/a%00b"):
        gone = await http.delete(path, headers=tester)
        assert (gone.status_code, gone.json()["error"]) == (404, "key_not_found")
    kept = await http.delete("/v1/account", headers=tester)
    assert (kept.status_code, kept.json()["error"]) == (403, "live_key_required")


async def test_usage_by_day_and_by_job_adds_up_and_credits_are_used_first(
    world: WebWorld, http: httpx.AsyncClient
) -> None:
    await world.accounts.create_account("acct_1", "Ann", "premium", "metered", by="operator")
    await world.accounts.add_units("acct_1", 4, reason="gift", by="operator")
    secret, _ = await world.keys.create(account_id="acct_1")
    headers = {"Authorization": f"Bearer {secret}"}
    ids = [await complete(world, http, headers, minutes) for minutes in (3, 2, 5)]

    usage = (await http.get("/v1/usage", headers=headers)).json()
    assert usage["total"] == {
        "jobs": 3,
        "billable_minutes": 10,
        "units": 10,
        "credit_units": 4,
        "metered_minutes": 6,
        "audio_seconds": 600.0,
    }
    assert len(usage["days"]) in {1, 2}  # the test may run over midnight
    assert [job["id"] for job in usage["jobs"]] == ids[::-1]
    assert [(job["credit_units"], job["metered_minutes"]) for job in usage["jobs"]] == [
        (0, 5),
        (1, 1),
        (3, 0),
    ]
    assert usage["next_cursor"] is None

    page = (await http.get("/v1/usage?limit=2", headers=headers)).json()
    rest = (await http.get(f"/v1/usage?limit=2&cursor={page['next_cursor']}", headers=headers)).json()
    assert [job["id"] for job in page["jobs"] + rest["jobs"]] == ids[::-1]
    assert page["total"] == rest["total"] == usage["total"]

    yesterday = (datetime.now(UTC) - timedelta(days=3)).date().isoformat()
    earlier = (await http.get(f"/v1/usage?from={yesterday}&to={yesterday}", headers=headers)).json()
    assert (earlier["total"]["jobs"], earlier["days"], earlier["jobs"]) == (0, [], [])
    assert (await http.get("/v1/account", headers=headers)).json()["credits"]["units"] == 0


@pytest.mark.parametrize(
    "query",
    [
        "from=yesterday",
        "to=2026-13-01",
        "from=0001-01-01",
        "from=2026-02-01&to=2026-01-01",
        "from=2020-01-01&to=2026-01-01",
        "cursor=x",
        "limit=0",
        "limit=many",
    ],
)
async def test_a_wrong_time_or_page_is_refused(
    http: httpx.AsyncClient, bearer: dict[str, str], query: str
) -> None:
    answer = await http.get(f"/v1/usage?{query}", headers=bearer)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_a_prepaid_account_without_credits_gets_402_but_still_previews(
    world: WebWorld, http: httpx.AsyncClient
) -> None:
    await world.accounts.create_account("acct_1", "Ann", "premium", "prepaid", by="operator")
    secret, _ = await world.keys.create(account_id="acct_1")
    headers = {"Authorization": f"Bearer {secret}"}
    refused = await http.post("/v1/transcripts", json=BODY, headers=headers)
    assert (refused.status_code, refused.json()["error"]) == (402, "insufficient_credits")
    await world.accounts.add_units("acct_1", 1, reason="gift", by="operator")
    assert (await http.post("/v1/transcripts", json=BODY, headers=headers)).status_code == 202


async def test_a_deleted_account_leaves_nothing_but_the_ledger(
    world: WebWorld, http: httpx.AsyncClient
) -> None:
    await world.accounts.create_account(
        "acct_1", "Ann Example", "premium", "metered", email="ann@example.com", by="operator"
    )
    secret, _ = await world.keys.create(account_id="acct_1")
    headers = {"Authorization": f"Bearer {secret}"}
    done = await complete(world, http, headers, 3)
    queued = (await http.post("/v1/transcripts", json=BODY, headers=headers)).json()["id"]
    running = await world.worker.start()
    assert running == queued
    waiting = (await http.post("/v1/transcripts", json=BODY, headers=headers)).json()["id"]

    gone = await http.delete("/v1/account", headers=headers)
    assert (gone.status_code, gone.json()) == (
        202,
        {"id": "acct_1", "deleted": True, "transcripts_ending": 2},
    )
    refused = await http.get("/v1/account", headers=headers)
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_api_key")
    assert await world.services.accounts.sweep_deleted() == 1
    assert await world.store.get(done) is None
    assert await world.store.get(waiting) is None

    await world.worker.end_cancelled(running)
    assert world.services.accounts is not None
    assert await world.services.accounts.sweep_deleted() == 0
    assert await world.store.get(running) is None
    _, jobs, _ = await world.services.accounts.usage("acct_1", since=0.0, until=4e9)
    assert [row.job_id for row in jobs] == [done]
    assert [key.is_valid for key in await world.keys.list("acct_1")] == [True]
