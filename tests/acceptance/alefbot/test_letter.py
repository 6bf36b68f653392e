"""The details of the AlefBot contract: the order of checks, HTTP semantics, bounds of uploads."""

from __future__ import annotations

import asyncio
import io
import re
from collections import Counter
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import docx
import httpx
import pytest
import structlog

from stenobird.bootstrap import Overrides
from stenobird.config import Settings
from stenobird.speech.engines import SpeechEngines
from stenobird.testing import FakeRecognizer
from stenobird.uploads import MAX_WRITERS
from tests.support.until import async_until
from tests.support.web_world import WebWorld, web_settings, web_world

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

SLOT = {"filename": "lecture.mp3", "content_type": "audio/mpeg", "size_bytes": 5}
DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def code_of(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def upload(api: httpx.AsyncClient, key: dict[str, str], **changes: Any) -> str:
    made = await api.post("/uploads", headers=key, json=SLOT | changes)
    upload_id: str = made.json()["upload_id"]
    put = await api.put(f"/uploads/{upload_id}/binary", headers=key, content=b"12345")
    assert put.status_code == 200, put.text
    return upload_id


async def finished_job(api: httpx.AsyncClient, world: WebWorld, **changes: Any) -> tuple[str, dict[str, str]]:
    key = await world.key(await world.account("acct_test"), mode="test")
    body = {"upload_id": await upload(api, key, **changes)}
    made = await api.post("/transcriptions", headers=key, json=body)
    return made.json()["job_id"], key


# --- the order of checks ------------------------------------------------------------------------------------


async def test_the_rate_limit_comes_before_errors_of_the_body(
    api: httpx.AsyncClient, live: dict[str, str]
) -> None:
    once = live | {"Idempotency-Key": "mine"}
    assert (await api.post("/uploads", headers=once, json=SLOT)).status_code == 201
    for _ in range(29):
        await api.get("/transcriptions", headers=live)

    for headers, content in [
        (live, b"x" * 70_000),
        (live | {"Idempotency-Key": "not a key"}, b"{}"),
        (once, b'{"another": "body"}'),
    ]:
        answer = await api.post("/uploads", headers=headers, content=content)
        assert code_of(answer) == (429, "rate_limit_exceeded")
        assert answer.headers["x-ratelimit-remaining"] == "0"
    replay = await api.post("/uploads", headers=once, json=SLOT)
    assert replay.status_code == 201, "a stored answer is free"


async def test_every_refusal_but_a_replay_is_counted(api: httpx.AsyncClient, live: dict[str, str]) -> None:
    once = live | {"Idempotency-Key": "mine"}
    left = []
    for headers, content in [
        (live, b"x" * 70_000),
        (live | {"Idempotency-Key": ""}, b"{}"),
        (live, b"{}"),
        (once, b'{"filename":"a","content_type":"b","size_bytes":1}'),
        (once, b"{}"),
        (once, b'{"filename":"a","content_type":"b","size_bytes":1}'),
    ]:
        answer = await api.post("/uploads", headers=headers, content=content)
        left.append((answer.status_code, int(answer.headers["x-ratelimit-remaining"])))

    assert left == [(422, 29), (422, 28), (422, 27), (201, 26), (409, 25), (201, 25)]


async def test_too_many_open_jobs_are_not_the_rate_limit(
    tmp_path: Path,
) -> None:
    async with (
        web_world(tmp_path, web_settings(jobs_per_account=1)) as world,
        httpx.AsyncClient(base_url=world.root, trust_env=False) as api,
    ):
        key = await world.key(await world.account())
        body = {"upload_id": await upload(api, key)}
        first = await api.post("/transcriptions", headers=key, json=body)
        second = await api.post("/transcriptions", headers=key, json=body)

    assert first.status_code == 202
    assert code_of(second) == (429, "queue_busy")
    assert "retry-after" in second.headers


async def test_a_refused_job_does_not_fix_the_bytes(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    upload_id = await upload(api, live)
    await world.change_account("acct_owner", billing="prepaid")
    refused = await api.post("/transcriptions", headers=live, json={"upload_id": upload_id})

    await api.put(f"/uploads/{upload_id}/binary", headers=live, content=b"other")

    assert code_of(refused) == (402, "insufficient_credits")
    stored = [path.read_bytes() for path in world.blobs_dir.rglob("*") if path.is_file()]
    assert stored == [b"other"]


@pytest.mark.parametrize("state", ["past_due", "disputed"])
async def test_an_account_with_a_failed_payment_creates_no_job_but_reads_the_others(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld, state: str
) -> None:
    body = {"upload_id": await upload(api, live)}
    test_key = await world.key("acct_owner", mode="test")
    await world.change_account("acct_owner", state=state)

    refused = await api.post("/transcriptions", headers=live, json=body)
    created = await api.post("/transcriptions", headers=test_key, json=body)

    assert code_of(refused) == (402, "billing_failed")
    assert created.status_code == 200
    assert (await api.get("/account", headers=live)).json()["status"] == state
    assert (await api.get("/transcriptions", headers=live)).status_code == 200


async def test_fifty_posts_with_one_key_create_one_job(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    body = {"upload_id": await upload(api, live)}
    headers = live | {"Idempotency-Key": "the-same"}

    async with asyncio.TaskGroup() as tasks:
        posts = [
            tasks.create_task(api.post("/transcriptions", headers=headers, json=body)) for _ in range(50)
        ]
    answers = [post.result() for post in posts]

    assert len({answer.json()["job_id"] for answer in answers}) == 1
    assert Counter(answer.headers.get("idempotent-replayed") for answer in answers) == {None: 1, "true": 49}
    assert {answer.status_code for answer in answers} == {202}
    assert (await api.get("/transcriptions", headers=live)).json()["total"] == 1


async def test_a_tier_without_its_engine_is_refused_at_once(tmp_path: Path) -> None:
    overrides = Overrides(
        engines=SpeechEngines(
            FakeRecognizer(), {"premium_quality": FakeRecognizer(failure="Its model is not there.")}
        )
    )
    async with (
        web_world(tmp_path, overrides=overrides) as world,
        httpx.AsyncClient(base_url=world.root, trust_env=False) as api,
    ):
        key = await world.key(await world.account())
        body = {"upload_id": await upload(api, key)}
        premium = await api.post(
            "/transcriptions", headers=key, json=body | {"model_tier": "premium_quality"}
        )
        standard = await api.post("/transcriptions", headers=key, json=body | {"model_tier": "standard"})

    assert code_of(premium) == (503, "engine_unavailable")
    assert standard.status_code == 202


# --- HTTP ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("text/*", "text/plain"),
        ("application/*", "application/x-subrip"),
        ("application/x-subrip;q=0, */*", "text/plain"),
        ("application/x-subrip;q=0, text/*;q=0, */*;q=0.1", DOCX),
        ("text/plain;q=0.5, */*;q=0.8", "application/x-subrip"),
        ("text/plain;q=0, text/*", "application/x-subrip"),
        ("*/*, text/plain", "text/plain"),
        ("TEXT/PLAIN;Q=1.0", "text/plain"),
        ("image/png", "application/x-subrip"),
    ],
)
async def test_the_most_specific_media_range_sets_the_quality(
    api: httpx.AsyncClient, world: WebWorld, accept: str, kind: str
) -> None:
    job_id, key = await finished_job(api, world)

    answer = await api.get(f"/transcriptions/{job_id}/artifact", headers=key | {"Accept": accept})

    assert answer.headers["content-type"].partition(";")[0] == kind


async def test_lists_may_come_on_several_lines(api: httpx.AsyncClient, world: WebWorld) -> None:
    job_id, key = await finished_job(api, world)
    path = f"/transcriptions/{job_id}/artifact"
    etag = (await api.get(path, headers=key)).headers["etag"]

    same = await api.get(path, headers=[*key.items(), ("If-None-Match", '"x,y"'), ("If-None-Match", etag)])
    text = await api.get(path, headers=[*key.items(), ("Accept", "image/png"), ("Accept", "text/plain")])

    assert (same.status_code, same.content) == (304, b"")
    assert text.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("sent", "status"),
    [("*", 304), ('"no", W/{}', 304), ("{}", 304), ('"{}"', 200), ('"x{}', 200), ("", 200), ("W/", 200)],
)
async def test_if_none_match_follows_the_specification(
    api: httpx.AsyncClient, world: WebWorld, sent: str, status: int
) -> None:
    job_id, key = await finished_job(api, world)
    etag = (await api.get(f"/transcriptions/{job_id}", headers=key)).headers["etag"]

    answer = await api.get(f"/transcriptions/{job_id}", headers=key | {"If-None-Match": sent.format(etag)})

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("שיעור מתמטיקה.mp3", "שיעור מתמטיקה.docx"),
        ("lecture.mp3", "lecture.docx"),
        ("../../etc/passwd", "passwd.docx"),
        ('a"b\r\nSet-Cookie: x.mp3', "a b Set-Cookie x.docx"),
        ("invoice\u202exslx.mp3", "invoicexslx.docx"),
        (" .mp3", None),
    ],
)
async def test_an_artifact_is_named_after_its_file_in_any_script(
    api: httpx.AsyncClient, world: WebWorld, filename: str, shown: str | None
) -> None:
    job_id, key = await finished_job(api, world, filename=filename)

    answer = await api.get(f"/transcriptions/{job_id}/artifact.docx", headers=key)

    disposition = answer.headers["content-disposition"]
    plain, _, full = disposition.partition("; filename*=UTF-8''")
    assert plain == f'attachment; filename="{job_id}.docx"'
    assert disposition.isascii()
    assert unquote(full) == (shown or "")
    document = docx.Document(io.BytesIO(answer.content))
    if shown is not None and "\r" not in filename and "\u202e" not in filename:
        assert document.core_properties.title == shown.removesuffix(".docx")


@pytest.mark.parametrize("prefix", ["", "/backend"])
async def test_malformed_http_gets_a_request_id_and_the_nested_body(tmp_path: Path, prefix: str) -> None:
    settings = Settings(_env_file=None, api_prefix=prefix)
    options = web_settings(api_prefix=settings.api_prefix)
    async with web_world(tmp_path, options) as world:
        root = f"{prefix}/api/v1"
        refused = [
            (f"GET {root}/acc\u00e9 HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed_request"),
            (f"FOO {root}/account HTTP/1.1\r\nHost: x\r\n\r\n", 400, "malformed_request"),
            (
                f"PUT {root}/uploads/u/binary HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
                400,
                "malformed_request",
            ),
            (f"GET {root}/account HTTP/1.1\r\nX: {'a' * 200_000}", 431, "head_too_large"),
        ]
        for request, status, code in refused:
            head, _, body = (await _raw(world.url, request)).partition("\r\n\r\n")
            assert head.startswith(f"HTTP/1.1 {status} ")
            found = re.search(r"x-request-id: (req_[0-9a-f]{18})", head)
            assert found is not None
            error = httpx.Response(status, text=body).json()["error"]
            assert list(error) == ["code", "message", "request_id", "details"]
            assert (error["code"], error["request_id"]) == (code, found[1])
        head, _, body = (await _raw(world.url, "FOO /v1/transcripts HTTP/1.1\r\n\r\n")).partition("\r\n\r\n")
        assert httpx.Response(400, text=body).json()["error"] == "malformed_request"
        assert "x-request-id: " in head


async def _raw(url: str, request: str) -> str:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(request.encode("latin-1"))
    answer = await reader.read()
    writer.close()
    return answer.decode()


async def test_a_job_has_one_address(api: httpx.AsyncClient, world: WebWorld) -> None:
    job_id, key = await finished_job(api, world)

    for spelled in (job_id.replace("-", ""), f"{{{job_id}}}", f"urn:uuid:{job_id}"):
        assert code_of(await api.get(f"/transcriptions/{spelled}", headers=key)) == (404, "job_not_found")
    assert (await api.get(f"/transcriptions/{job_id.upper()}", headers=key)).status_code == 200


async def test_a_body_that_violates_http_is_refused_once(live: dict[str, str], world: WebWorld) -> None:
    async with httpx.AsyncClient(base_url=world.root, trust_env=False) as api:
        upload_id = (await api.post("/uploads", headers=live, json=SLOT)).json()["upload_id"]
    head = f"PUT /api/v1/uploads/{upload_id}/binary HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"

    with structlog.testing.capture_logs() as logs:
        answer = await _raw(
            world.url, f"{head}Authorization: {live['Authorization']}\r\n\r\n5\r\n12345\r\nZZ\r\n"
        )
        await async_until(lambda: any(row["event"] == "request" for row in logs))

    assert answer.startswith("HTTP/1.1 400 ")
    assert answer.count("HTTP/1.1 400 ") == 1
    assert [row["event"] for row in logs if row["log_level"] in {"warning", "error"}] == []
    assert [path for path in world.blobs_dir.rglob("*") if path.is_file()] == []


async def test_a_web_page_can_read_the_405(api: httpx.AsyncClient, live: dict[str, str]) -> None:
    origin = {"Origin": "https://app.example"}
    preflight = await api.options("/account", headers=origin | {"Access-Control-Request-Method": "PATCH"})
    answer = await api.patch("/account", headers=live | origin)

    assert preflight.status_code == 200
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    assert code_of(answer) == (405, "method_not_allowed")
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_an_unknown_path_names_the_paths_of_this_dialect(
    api: httpx.AsyncClient, live: dict[str, str]
) -> None:
    answer = await api.get("/nothing", headers=live)

    assert "POST /api/v1/transcriptions" in answer.json()["error"]["message"]


async def test_the_page_before_one_beyond_the_end_is_not_empty(
    api: httpx.AsyncClient, live: dict[str, str]
) -> None:
    upload_id = await upload(api, live)
    for _ in range(3):
        await api.post("/transcriptions", headers=live, json={"upload_id": upload_id})

    links = (await api.get("/transcriptions?limit=2&cursor=900", headers=live)).json()["links"]

    assert links["prev"] == "/api/v1/transcriptions?limit=2&cursor=1"
    assert links["next"] is None


async def test_a_job_is_cancelled_and_then_removed(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    job = await api.post("/transcriptions", headers=live, json={"upload_id": await upload(api, live)})
    path = f"/transcriptions/{job.json()['job_id']}"
    reader = await world.key("acct_owner", scope="read_only")
    stranger = await world.key(await world.account("acct_other"))

    assert code_of(await api.delete(path, headers=reader)) == (403, "scope_violation_read_only")
    assert code_of(await api.delete(path, headers=stranger)) == (404, "job_not_found")
    cancelled = await api.delete(path, headers=live)
    listed = await api.get("/transcriptions?status=cancelled", headers=live)
    artifact = await api.get(f"{path}/artifact", headers=live)
    removed = await api.delete(path, headers=live)

    assert (cancelled.status_code, cancelled.json()["status"]) == (202, "cancelled")
    assert cancelled.json()["credits_used"] is None
    assert listed.json()["items"] == [cancelled.json()]
    assert code_of(artifact) == (404, "artifact_not_found")
    assert (removed.status_code, removed.content) == (204, b"")
    assert "x-ratelimit-limit" not in removed.headers
    assert code_of(await api.get(path, headers=live)) == (404, "job_not_found")
    assert (await api.get("/transcriptions", headers=live)).json()["total"] == 0
    assert code_of(await api.delete("/transcriptions/tr_x", headers=live)) == (404, "job_not_found")


# --- uploads ------------------------------------------------------------------------------------------------


async def test_a_form_instead_of_a_file_is_refused(api: httpx.AsyncClient, live: dict[str, str]) -> None:
    upload_id = (await api.post("/uploads", headers=live, json=SLOT)).json()["upload_id"]

    answer = await api.put(f"/uploads/{upload_id}/binary", headers=live, files={"file": b"12345"})

    assert code_of(answer) == (400, "upload_size_mismatch")
    assert "is a form" in answer.json()["error"]["message"]


async def test_a_slot_limits_its_concurrent_clients(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    upload_id = (await api.post("/uploads", headers=live, json=SLOT)).json()["upload_id"]
    path = f"/uploads/{upload_id}/binary"
    url = httpx.URL(world.root + path)
    head = f"PUT {url.path} HTTP/1.1\r\nHost: {url.host}\r\nAuthorization: {live['Authorization']}\r\n"
    connections = [await asyncio.open_connection(url.host, url.port) for _ in range(MAX_WRITERS + 1)]
    for _, writer in connections:
        writer.write(f"{head}Content-Length: 5\r\n\r\n123".encode())

    # All but one wait for the rest of their bodies; the last to arrive is refused at once.
    answers = {asyncio.create_task(reader.readuntil(b"}")): writer for reader, writer in connections}
    (refused,), accepted = await asyncio.wait(answers, return_when=asyncio.FIRST_COMPLETED)
    assert refused.result().startswith(b"HTTP/1.1 429 ")
    assert b"queue_busy" in refused.result()
    for answer in accepted:
        answers[answer].write(b"45")
        assert (await answer).startswith(b"HTTP/1.1 200 ")
    for _, writer in connections:
        writer.close()
        await writer.wait_closed()
    assert (await api.put(path, headers=live, content=b"12345")).status_code == 200
    stored = [path.read_bytes() for path in world.blobs_dir.rglob("*") if path.is_file()]
    assert stored == [b"12345"]
