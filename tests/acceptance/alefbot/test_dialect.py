"""The AlefBot dialect, endpoint by endpoint, field by field."""

from __future__ import annotations

import io
import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import docx
import httpx
import pytest

from stenobird.config import Settings
from tests.support.web_world import web_settings, web_world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.web_world import WebWorld

pytestmark = pytest.mark.anyio

SLOT = {"filename": "lecture.mp3", "content_type": "audio/mpeg", "size_bytes": 5}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


async def upload(api: httpx.AsyncClient, key: dict[str, str], data: bytes = b"12345") -> str:
    slot = await api.post("/uploads", headers=key, json={**SLOT, "size_bytes": len(data)})
    upload_id: str = slot.json()["upload_id"]
    put = await api.put(f"/uploads/{upload_id}/binary", headers=key, content=data)
    assert put.status_code == 200, put.text
    return upload_id


async def job(api: httpx.AsyncClient, key: dict[str, str], **wishes: Any) -> str:
    made = await api.post(
        "/transcriptions", headers=key, json={"upload_id": await upload(api, key), **wishes}
    )
    assert made.status_code in {200, 202}, made.text
    job_id: str = made.json()["job_id"]
    return job_id


async def test_a_key_is_made_shown_once_and_listed(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    made = await api.post("/keys", headers=live, json={"name": "CI Read Only", "scope": "read_only"})

    assert made.status_code == 200
    body = made.json()
    assert re.fullmatch(r"alef_sk_live_[0-9A-Za-z]{36}", body["key"])
    item = body["item"]
    assert list(item) == ["id", "name", "scope", "mode", "last_four_chars", "is_valid", "created_at"]
    assert (item["name"], item["scope"], item["mode"]) == ("CI Read Only", "read_only", "live")
    assert item["last_four_chars"] == body["key"][-4:]
    assert item["is_valid"] is True
    assert TIME.fullmatch(item["created_at"])
    listed = (await api.get("/keys", headers={"Authorization": f"Bearer {body['key']}"})).json()
    assert item in listed
    assert body["key"] not in json.dumps(listed)

    await world.keys.revoke(item["id"])
    after = {key["id"]: key["is_valid"] for key in (await api.get("/keys", headers=live)).json()}
    assert after[item["id"]] is False


async def test_a_test_key_makes_test_keys_only(api: httpx.AsyncClient, world: WebWorld) -> None:
    test_key = await world.key(await world.account(), mode="test")

    made = await api.post("/keys", headers=test_key, json={"name": "another"})
    refused = await api.post("/keys", headers=test_key, json={"name": "another", "mode": "live"})

    assert made.json()["key"].startswith("alef_sk_test_")
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "live_key_required"


async def test_the_account_shows_plan_and_credits(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    await world.accounts.add_units("acct_owner", 42, reason="a gift", by="operator")

    body = (await api.get("/account", headers=live)).json()

    assert body == {
        "account_id": "acct_owner",
        "effective_tier": "premium",
        "api_access": True,
        "wallet_balance": 42,
        "status": "active",
    }


async def test_a_slot_has_a_relative_url_and_expires_in_thirty_minutes(
    api: httpx.AsyncClient, live: dict[str, str]
) -> None:
    before = datetime.now(UTC)
    made = await api.post("/uploads", headers=live, json=SLOT)
    after = datetime.now(UTC)

    assert made.status_code == 201
    body = made.json()
    assert list(body) == ["upload_id", "upload_url", "upload_method", "expires_at"]
    assert re.fullmatch(r"upl_[0-9a-f]{20}", body["upload_id"])
    assert body["upload_url"] == f"/api/v1/uploads/{body['upload_id']}/binary"
    assert body["upload_method"] == "PUT"
    expires_at = datetime.fromisoformat(body["expires_at"])
    # The times of the database and of responses are rounded.
    assert (expires_at - before).total_seconds() > 1799
    assert (expires_at - after).total_seconds() <= 1800.1


async def test_bytes_are_acknowledged_and_may_be_sent_again(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    upload_id = await upload(api, live, b"first")

    again = await api.put(f"/uploads/{upload_id}/binary", headers=live, content=b"again")

    assert again.json() == {"ok": True, "bytes_received": 5}
    stored = [path.read_bytes() for path in world.blobs_dir.rglob("*") if path.is_file()]
    assert stored == [b"again"]


async def test_a_put_after_the_job_exists_changes_nothing(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    upload_id = await upload(api, live, b"first")
    await api.post("/transcriptions", headers=live, json={"upload_id": upload_id})

    again = await api.put(f"/uploads/{upload_id}/binary", headers=live, content=b"other")

    assert again.json() == {"ok": True, "bytes_received": 5}
    stored = [path.read_bytes() for path in world.blobs_dir.rglob("*") if path.is_file()]
    assert stored == [b"first"]


async def test_a_job_goes_from_queued_to_its_artifacts(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    made = await api.post(
        "/transcriptions",
        headers=live,
        json={
            "upload_id": await upload(api, live),
            "user_prompt": "Stenobird",
            "output_format": "plain_text",
        },
    )

    assert made.status_code == 202
    body = made.json()
    job_id = body["job_id"]
    path = f"/api/v1/transcriptions/{job_id}"
    assert UUID4.fullmatch(job_id)
    assert body == {"job_id": job_id, "status": "queued", "links": {"self": path}}
    assert made.headers["location"] == path

    async def read() -> dict[str, Any]:
        body: dict[str, Any] = (await api.get(f"/transcriptions/{job_id}", headers=live)).json()
        return body

    pending = await read()
    assert list(pending) == [
        "job_id",
        "status",
        "created_at",
        "updated_at",
        "media_duration_seconds",
        "credits_used",
        "analysis",
        "links",
    ]
    assert pending["status"] == "pending"
    assert TIME.fullmatch(pending["created_at"])
    assert TIME.fullmatch(pending["updated_at"])
    assert pending["media_duration_seconds"] is pending["credits_used"] is None
    assert pending["analysis"] == {"language": None, "dialect": None}
    assert pending["links"] == {"self": path, "artifact": f"{path}/artifact"}
    early = await api.get(f"/transcriptions/{job_id}/artifact", headers=live)
    assert (early.status_code, early.json()["error"]["code"]) == (409, "artifact_not_ready")

    assert await world.worker.start() == job_id
    record = await world.store.get(job_id)
    assert record is not None
    assert record.options.prompt == "Stenobird"
    assert (await read())["status"] == "processing"
    await world.worker.say(job_id, "Hello.", " This is it.")
    await world.worker.complete(job_id)
    done = await read()
    assert (done["status"], done["credits_used"], done["analysis"]["language"]) == ("completed", 1, "en")

    srt = await api.get(f"/transcriptions/{job_id}/artifact", headers=live)
    assert srt.headers["content-type"] == "application/x-subrip; charset=utf-8"
    assert srt.text.startswith("1\n00:00:00,000 --> ")
    txt = await api.get(f"/transcriptions/{job_id}/artifact.txt", headers=live)
    assert txt.text == "Hello. This is it.\n"
    assert f'filename="{job_id}.txt"' in txt.headers["content-disposition"]
    document = await api.get(f"/transcriptions/{job_id}/artifact?format=docx", headers=live)
    paragraphs = [paragraph.text for paragraph in docx.Document(io.BytesIO(document.content)).paragraphs]
    assert any("Hello. This is it." in paragraph for paragraph in paragraphs)


@pytest.mark.parametrize(
    ("address", "accept", "kind"),
    [
        ("", "*/*", "application/x-subrip"),
        ("", "application/json", "application/x-subrip"),
        ("", "text/plain", "text/plain"),
        ("", "text/plain;q=0.1, application/x-subrip", "application/x-subrip"),
        (".txt", "application/x-subrip", "text/plain"),
        (".txt?format=srt", "text/plain", "application/x-subrip"),
        ("?format=plain_text", "*/*", "text/plain"),
        ("?format=TXT", "*/*", "text/plain"),
    ],
)
async def test_the_format_is_the_named_one_then_the_suffix_then_accept_then_srt(
    api: httpx.AsyncClient, world: WebWorld, address: str, accept: str, kind: str
) -> None:
    test_key = await world.key(await world.account(), mode="test")
    job_id = await job(api, test_key)

    answer = await api.get(
        f"/transcriptions/{job_id}/artifact{address}", headers=test_key | {"Accept": accept}
    )

    assert answer.headers["content-type"].partition(";")[0] == kind


async def test_a_test_key_has_its_transcript_at_once_for_nothing(
    api: httpx.AsyncClient, world: WebWorld
) -> None:
    test_key = await world.key(await world.account(), mode="test")

    made = await api.post(
        "/transcriptions", headers=test_key, json={"upload_id": await upload(api, test_key)}
    )

    assert made.status_code == 200
    assert made.json()["status"] == "completed"
    assert made.json()["summary"].startswith("This is a test transcript.")
    read = (await api.get(f"/transcriptions/{made.json()['job_id']}", headers=test_key)).json()
    assert (read["status"], read["credits_used"]) == ("completed", 0)
    srt = await api.get(f"/transcriptions/{read['job_id']}/artifact.srt", headers=test_key)
    assert "This is a test transcript." in srt.text


async def test_a_job_is_not_sent_again_while_it_has_not_changed(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    job_id = await job(api, live)
    first = await api.get(f"/transcriptions/{job_id}", headers=live)
    etag = first.headers["etag"]

    same = await api.get(f"/transcriptions/{job_id}", headers=live | {"If-None-Match": f"W/{etag}"})
    await world.worker.start()
    changed = await api.get(f"/transcriptions/{job_id}", headers=live | {"If-None-Match": etag})

    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    assert same.headers["x-request-id"].startswith("req_")
    assert "x-ratelimit-remaining" in same.headers
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


async def test_pages_are_linked_in_both_directions(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    upload_id = await upload(api, live)
    for _ in range(5):
        await api.post("/transcriptions", headers=live, json={"upload_id": upload_id})
    cancelled = await world.worker.start()
    await world.worker.end_cancelled(cancelled)

    async def page(query: str) -> dict[str, Any]:
        body: dict[str, Any] = (await api.get(f"/transcriptions{query}", headers=live)).json()
        return body

    whole = await page("")
    ids = [item["job_id"] for item in whole["items"]]
    assert (len(ids), whole["total"]) == (5, 5)
    path = "/api/v1/transcriptions"
    assert whole["links"] == {"self": f"{path}?limit=20&cursor=0", "next": None, "prev": None}
    middle = await page("?limit=2&cursor=2")
    assert [item["job_id"] for item in middle["items"]] == ids[2:4]
    assert middle["links"] == {
        "self": f"{path}?limit=2&cursor=2",
        "next": f"{path}?limit=2&cursor=4",
        "prev": f"{path}?limit=2&cursor=0",
    }
    found = await page("?status=cancelled&limit=1")
    assert [item["job_id"] for item in found["items"]] == [cancelled]
    assert found["total"] == 1
    assert found["links"]["self"] == f"{path}?status=cancelled&limit=1&cursor=0"
    assert (await page("?cursor=99"))["items"] == []


async def test_each_dialect_finds_only_its_own_jobs(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    ours = await job(api, live)
    made = await api.post(
        f"{world.url}/v1/transcripts", headers=live, json={"audio_url": "https://example.com/a.mp3"}
    )
    theirs = made.json()["id"]

    assert (await api.get(f"/transcriptions/{theirs}", headers=live)).status_code == 404
    assert (await api.get(f"{world.url}/v1/transcripts/{ours}", headers=live)).status_code == 404
    assert (await api.get(f"{world.url}/v1/transcripts/{ours}/events", headers=live)).status_code == 404
    assert [item["job_id"] for item in (await api.get("/transcriptions", headers=live)).json()["items"]] == [
        ours
    ]
    listed = (await api.get(f"{world.url}/v1/transcripts", headers=live)).json()["transcripts"]
    assert [item["id"] for item in listed] == [theirs]


async def test_v1_accepts_uploads_too(api: httpx.AsyncClient, live: dict[str, str], world: WebWorld) -> None:
    upload_id = await upload(api, live)

    made = await api.post(f"{world.url}/v1/transcripts", headers=live, json={"upload_id": upload_id})
    both = await api.post(
        f"{world.url}/v1/transcripts",
        headers=live,
        json={"upload_id": upload_id, "audio_url": "https://example.com/a.mp3"},
    )
    anonymous = await api.post(f"{world.url}/v1/transcripts", json={"upload_id": upload_id})

    assert made.status_code == 202
    assert made.json()["audio_url"] == f"upload:{upload_id}"
    assert both.json()["error"] == "invalid_request"
    assert anonymous.json()["error"] == "missing_api_key"


async def test_a_failed_job_says_why_and_has_no_artifact(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    from stenobird.errors import AudioContentTypeNotSupported  # noqa: PLC0415  # used here only

    job_id = await job(api, live)
    await world.worker.start()
    await world.worker.fail(job_id, AudioContentTypeNotSupported())

    body = (await api.get(f"/transcriptions/{job_id}", headers=live)).json()
    artifact = await api.get(f"/transcriptions/{job_id}/artifact", headers=live)

    assert body["status"] == "failed"
    assert body["error"]["code"] == "audio_content_type_not_supported"
    assert (artifact.status_code, artifact.json()["error"]["code"]) == (404, "artifact_not_found")


async def test_a_prefix_goes_before_every_path_and_into_every_link(tmp_path: Path) -> None:
    prefix = Settings(_env_file=None, api_prefix="backend/").api_prefix
    options = web_settings(api_prefix=prefix)
    async with (
        web_world(tmp_path, options) as world,
        httpx.AsyncClient(base_url=world.root, trust_env=False) as api,
    ):
        key = await world.key(await world.account(), mode="test")
        slot = (await api.post("/uploads", headers=key, json=SLOT)).json()
        job_id = await job(api, key)
        listed = (await api.get("/transcriptions", headers=key)).json()
        without = await api.get(f"{world.url}/api/v1/account", headers=key)
        in_a_browser = await api.get("/nothing", headers={"Accept": "text/html"})
        preflight = await api.options(
            "/account", headers={"Origin": "https://x.example", "Access-Control-Request-Method": "GET"}
        )

    assert slot["upload_url"].startswith("/backend/api/v1/uploads/")
    assert listed["links"]["self"].startswith("/backend/api/v1/transcriptions")
    assert listed["items"][0]["links"]["self"] == f"/backend/api/v1/transcriptions/{job_id}"
    assert without.status_code == 404
    assert "error" in without.json()
    assert in_a_browser.json()["error"]["code"] == "not_found"
    assert preflight.headers["access-control-allow-origin"] == "*"


async def test_idempotent_requests_create_one_resource(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    headers = live | {"Idempotency-Key": "k1"}
    first = await api.post("/uploads", headers=headers, json=SLOT)
    again = await api.post("/uploads", headers=headers, json=SLOT)
    other = await api.post("/uploads", headers=headers, json={**SLOT, "size_bytes": 6})
    body = {"upload_id": await upload(api, live)}
    made = await api.post("/transcriptions", headers=headers, json=body)
    repeated = await api.post("/transcriptions", headers=headers, json=body)

    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-ratelimit-remaining"] == first.headers["x-ratelimit-remaining"]
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_mismatch")
    assert (repeated.status_code, repeated.json()) == (202, made.json())
    assert (await api.get("/transcriptions", headers=live)).json()["total"] == 1
