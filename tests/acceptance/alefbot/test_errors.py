"""Every code of the published matrix, and the cases without one, in their order of precedence."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import re
import ssl
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trustme

from stenobird.accounts import keys as key_form
from stenobird.bootstrap import Overrides
from tests.support.dns import FakeResolver
from tests.support.web_world import WebWorld, web_settings, web_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

SLOT = {"filename": "lecture.mp3", "content_type": "audio/mpeg", "size_bytes": 5}
NOBODY = "00000000-0000-4000-8000-000000000000"
LIMITED = [
    ("POST", "/uploads"),
    ("PUT", "/uploads/upl_0/binary"),
    ("POST", "/transcriptions"),
    ("GET", "/transcriptions"),
    ("GET", f"/transcriptions/{NOBODY}"),
]
FREE = [
    ("GET", "/keys"),
    ("POST", "/keys"),
    ("GET", "/account"),
    ("GET", f"/transcriptions/{NOBODY}/artifact"),
    ("POST", "/webhooks/test"),
]


def error_of(answer: httpx.Response) -> tuple[int, str]:
    """Return status and code of an error whose body has the published shape."""
    body = answer.json()
    assert list(body) == ["error"], body
    error = body["error"]
    assert list(error) == ["code", "message", "request_id", "details"]
    assert re.fullmatch(r"req_[0-9a-f]{18}", error["request_id"])
    assert error["request_id"] == answer.headers["x-request-id"]
    assert isinstance(error["details"], dict)
    assert error["message"].endswith(".")
    return answer.status_code, error["code"]


async def slot(api: httpx.AsyncClient, key: dict[str, str], **changes: Any) -> str:
    made = await api.post("/uploads", headers=key, json=SLOT | changes)
    upload_id: str = made.json()["upload_id"]
    return upload_id


async def filled(api: httpx.AsyncClient, key: dict[str, str]) -> str:
    upload_id = await slot(api, key)
    await api.put(f"/uploads/{upload_id}/binary", headers=key, content=b"12345")
    return upload_id


# --- who is it ----------------------------------------------------------------------------------------------


async def test_missing_api_key(api: httpx.AsyncClient) -> None:
    for method, path in LIMITED + FREE:
        for headers in ({}, {"Authorization": "Basic YTpi"}, {"Authorization": "Bearer"}):
            answer = await api.request(method, path, headers=headers)

            assert error_of(answer) == (401, "missing_api_key")
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert "x-ratelimit-limit" not in answer.headers


@pytest.mark.parametrize(
    "secret", ["alef_sk_live_short", key_form.mint("live", family="alef_sk").secret], ids=["short", "unknown"]
)
async def test_invalid_api_key(api: httpx.AsyncClient, secret: str) -> None:
    answer = await api.get("/account", headers={"Authorization": f"Bearer {secret}"})

    assert error_of(answer) == (401, "invalid_api_key")


async def test_invalid_api_key_of_a_revoked_one(api: httpx.AsyncClient, world: WebWorld) -> None:
    key = await world.key(await world.account())
    record = (await world.keys.list("acct_owner"))[0]
    await world.keys.revoke(record.id)

    assert error_of(await api.get("/account", headers=key)) == (401, "invalid_api_key")


async def test_invalid_api_key_mode(api: httpx.AsyncClient, live: dict[str, str]) -> None:
    swapped = {"Authorization": live["Authorization"].replace("_live_", "_test_")}

    assert error_of(await api.get("/account", headers=swapped)) == (401, "invalid_api_key_mode")


async def test_invalid_api_key_user(api: httpx.AsyncClient, live: dict[str, str], world: WebWorld) -> None:
    await world.accounts.delete_account("acct_owner", by="operator")

    assert error_of(await api.get("/account", headers=live)) == (401, "invalid_api_key_user")


@pytest.mark.parametrize("columns", [{"tier": "free"}, {"state": "cancelled"}])
async def test_plan_downgraded_api_revoked_comes_before_the_scope(
    api: httpx.AsyncClient, world: WebWorld, columns: dict[str, str]
) -> None:
    key = await world.key(await world.account(), scope="read_only")
    await world.change_account("acct_owner", **columns)

    assert error_of(await api.get("/account", headers=key)) == (403, "plan_downgraded_api_revoked")
    assert error_of(await api.post("/uploads", headers=key)) == (403, "plan_downgraded_api_revoked")


async def test_a_read_only_key_reads_but_does_not_write(api: httpx.AsyncClient, world: WebWorld) -> None:
    key = await world.key(await world.account(), scope="read_only")

    assert (await api.get("/transcriptions", headers=key)).status_code == 200
    for method, path in [
        ("POST", "/uploads"),
        ("PUT", "/uploads/upl_0/binary"),
        ("POST", "/transcriptions"),
        ("POST", "/webhooks/test"),
    ]:
        answer = await api.request(method, path, headers=key, content=b"no json")
        assert error_of(answer) == (403, "scope_violation_read_only")
        assert "x-ratelimit-limit" not in answer.headers
    assert error_of(await api.post("/keys", headers=key)) == (403, "scope_violation")


# --- how much -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tier", "limit"), [("premium", 30), ("platinum", 60)])
async def test_rate_limit_exceeded_until_the_minute_ends(
    api: httpx.AsyncClient, world: WebWorld, tier: Any, limit: int
) -> None:
    key = await world.key(await world.account(tier=tier))
    other = await world.key("acct_owner", mode="test")
    reset = (int(world.clock.now) // 60 + 1) * 60

    for used in range(1, limit + 1):
        answer = await api.get("/transcriptions", headers=key if used % 2 else other)
        assert answer.status_code == 200
        assert answer.headers["x-ratelimit-limit"] == str(limit)
        assert answer.headers["x-ratelimit-remaining"] == str(limit - used)
        assert answer.headers["x-ratelimit-reset"] == str(reset)
    for method, path in LIMITED:
        answer = await api.request(method, path, headers=key, content=b"no json")
        assert error_of(answer) == (429, "rate_limit_exceeded")
        assert answer.headers["x-ratelimit-remaining"] == "0"
        assert int(answer.headers["retry-after"]) <= 60
    for method, path in FREE:
        answer = await api.request(method, path, headers=key, content=b"no json")
        assert answer.status_code != 429
        assert not [name for name in answer.headers if name.startswith("x-ratelimit")]

    world.clock.now += 60
    assert (await api.get("/transcriptions", headers=key)).status_code == 200


async def test_errors_after_the_count_have_the_headers_too(
    api: httpx.AsyncClient, live: dict[str, str]
) -> None:
    for method, path in LIMITED:
        answer = await api.request(method, path, headers=live, content=b"no json")
        assert "x-ratelimit-remaining" in answer.headers, (method, path)


# --- bodies and resources -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "content", "field"),
    [
        ("/keys", b"", None),
        ("/keys", b"[]", None),
        ("/keys", b'{"name": "a\\u0000b"}', None),
        ("/keys", b'{"name": "  "}', "name"),
        ("/keys", b'{"name": "a", "scope": "admin"}', "scope"),
        ("/uploads", b'{"filename": "a.mp3", "content_type": "audio/mpeg"}', "size_bytes"),
        ("/uploads", b'{"filename": "a.mp3", "content_type": "audio/mpeg", "size_bytes": "5"}', "size_bytes"),
        ("/uploads", b'{"filename": "a.mp3", "content_type": "audio/mpeg", "size_bytes": 0}', "size_bytes"),
        ("/transcriptions", b"{}", "upload_id"),
        ("/transcriptions", b'{"upload_id": "u", "output_format": "vtt"}', "output_format"),
        ("/transcriptions", b'{"upload_id": "u", "model_tier": "best"}', "model_tier"),
        ("/webhooks/test", b"{}", "webhook_url"),
    ],
)
async def test_validation_error(
    api: httpx.AsyncClient, live: dict[str, str], path: str, content: bytes, field: str | None
) -> None:
    answer = await api.post(path, headers=live, content=content)

    assert error_of(answer) == (422, "validation_error")
    problems = answer.json()["error"]["details"].get("errors", [{"field": None}])
    assert problems[0]["field"] == field


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=-1", "status=done", "cursor="])
async def test_validation_error_of_a_page(api: httpx.AsyncClient, live: dict[str, str], query: str) -> None:
    assert error_of(await api.get(f"/transcriptions?{query}", headers=live)) == (422, "validation_error")


@pytest.mark.parametrize("upload_id", ["upl_02f4c48f7fc74ec58cc6", "a%00b", "x" * 300])
async def test_upload_not_found(api: httpx.AsyncClient, live: dict[str, str], upload_id: str) -> None:
    put = await api.put(f"/uploads/{upload_id}/binary", headers=live, content=b"12345")
    post = await api.post("/transcriptions", headers=live, json={"upload_id": "upl_02f4c48f7fc74ec58cc6"})

    assert error_of(put) == error_of(post) == (404, "upload_not_found")


async def test_upload_not_found_for_another_account(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    upload_id = await filled(api, live)
    other = await world.key(await world.account("acct_other"))

    put = await api.put(f"/uploads/{upload_id}/binary", headers=other, content=b"12345")
    post = await api.post("/transcriptions", headers=other, json={"upload_id": upload_id})

    assert error_of(put) == error_of(post) == (404, "upload_not_found")


async def test_upload_slot_expired_bytes_or_not(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    for upload_id in (await slot(api, live), await filled(api, live)):
        await world.expire(upload_id)
        put = await api.put(f"/uploads/{upload_id}/binary", headers=live, content=b"12345")
        post = await api.post("/transcriptions", headers=live, json={"upload_id": upload_id})
        assert error_of(put) == error_of(post) == (410, "upload_slot_expired")


async def test_upload_not_available(api: httpx.AsyncClient, live: dict[str, str]) -> None:
    answer = await api.post("/transcriptions", headers=live, json={"upload_id": await slot(api, live)})

    assert error_of(answer) == (409, "upload_not_available")


async def in_pieces(data: bytes) -> AsyncIterator[bytes]:
    for byte in data:
        yield bytes([byte])


async def test_empty_upload_body(api: httpx.AsyncClient, live: dict[str, str]) -> None:
    path = f"/uploads/{await slot(api, live)}/binary"

    assert error_of(await api.put(path, headers=live, content=b"")) == (400, "empty_upload_body")
    assert error_of(await api.put(path, headers=live, content=in_pieces(b""))) == (400, "empty_upload_body")


@pytest.mark.parametrize("data", [b"1234", b"123456", b"1" * 200_000])
async def test_upload_size_mismatch_keeps_the_earlier_bytes(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld, data: bytes
) -> None:
    upload_id = await filled(api, live)
    path = f"/uploads/{upload_id}/binary"

    assert error_of(await api.put(path, headers=live, content=data)) == (400, "upload_size_mismatch")
    answer = await api.put(path, headers=live, content=in_pieces(data[:1000]))
    assert error_of(answer) == (400, "upload_size_mismatch")

    stored = [path.read_bytes() for path in world.blobs_dir.rglob("*") if path.is_file()]
    assert stored == [b"12345"]
    assert (await api.post("/transcriptions", headers=live, json={"upload_id": upload_id})).status_code == 202


async def test_upload_too_large_and_no_room(tmp_path: Path) -> None:
    options = web_settings(max_audio_bytes=1000, upload_quota_bytes=1500)
    async with (
        web_world(tmp_path, options) as world,
        httpx.AsyncClient(base_url=world.root, trust_env=False) as api,
    ):
        key = await world.key(await world.account())
        too_large = await api.post("/uploads", headers=key, json={**SLOT, "size_bytes": 1001})
        await slot(api, key, size_bytes=1000)
        no_room = await api.post("/uploads", headers=key, json={**SLOT, "size_bytes": 1000})

    assert error_of(too_large) == (413, "upload_too_large")
    assert error_of(no_room) == (429, "queue_busy")
    assert "retry-after" in no_room.headers


@pytest.mark.parametrize("job_id", [NOBODY, "tr_0123456789012345678901", "x", "a%00b"])
async def test_job_not_found(api: httpx.AsyncClient, live: dict[str, str], job_id: str) -> None:
    assert error_of(await api.get(f"/transcriptions/{job_id}", headers=live)) == (404, "job_not_found")
    assert error_of(await api.get(f"/transcriptions/{job_id}/artifact", headers=live)) == (
        404,
        "job_not_found",
    )


async def test_job_not_found_for_another_account(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    made = await api.post("/transcriptions", headers=live, json={"upload_id": await filled(api, live)})
    other = await world.key(await world.account("acct_other"))

    answer = await api.get(f"/transcriptions/{made.json()['job_id']}", headers=other)

    assert error_of(answer) == (404, "job_not_found")


@pytest.mark.parametrize("address", ["?format=vtt", "?format=json", "?format=", ".vtt", ".srt?format=pdf"])
async def test_unsupported_artifact_format_comes_before_the_job(
    api: httpx.AsyncClient, live: dict[str, str], address: str
) -> None:
    answer = await api.get(f"/transcriptions/{NOBODY}/artifact{address}", headers=live)

    assert error_of(answer) == (400, "unsupported_artifact_format")


async def test_translation_unavailable_before_any_work(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    body = {"upload_id": await filled(api, live), "translate_to_hebrew": True}

    answer = await api.post("/transcriptions", headers=live, json=body)

    assert error_of(answer) == (503, "translation_unavailable")
    assert (await api.get("/transcriptions", headers=live)).json()["total"] == 0


async def test_a_payment_that_failed_and_credits_that_are_used_up(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    body = {"upload_id": await filled(api, live)}
    await world.change_account("acct_owner", billing="prepaid")

    answer = await api.post("/transcriptions", headers=live, json=body)

    assert error_of(answer) == (402, "insufficient_credits")


# --- webhooks -----------------------------------------------------------------------------------------------


TARGETS = {
    "http://hooks.example/x": "invalid_webhook_url",
    "ftp://hooks.example/x": "invalid_webhook_url",
    "https://": "invalid_webhook_url",
    "https://nowhere.example/x": "invalid_webhook_url",
    "https://hooks.example:99999/x": "invalid_webhook_url",
    "https://127.0.0.1/x": "webhook_url_forbidden_target",
    "https://localhost/x": "webhook_url_forbidden_target",
    "https://10.1.2.3/x": "webhook_url_forbidden_target",
    "https://[::1]/x": "webhook_url_forbidden_target",
    "https://169.254.169.254/x": "webhook_url_forbidden_target",
    "https://224.0.0.1/x": "webhook_url_forbidden_target",
    "https://0.0.0.0/x": "webhook_url_forbidden_target",
    "https://inside.example/x": "webhook_url_forbidden_target",
    "https://both.example/x": "webhook_url_forbidden_target",
}


async def test_webhook_targets_are_checked_at_once(tmp_path: Path) -> None:
    names = {
        "hooks.example": [["93.184.216.34"]],
        "inside.example": [["10.0.0.7"]],
        "both.example": [["93.184.216.34", "10.0.0.7"]],
    }
    async with (
        web_world(tmp_path, overrides=Overrides(resolver=FakeResolver(names))) as world,
        httpx.AsyncClient(base_url=world.root, trust_env=False) as api,
    ):
        key = await world.key(await world.account(tier="platinum"))
        body = {"upload_id": await filled(api, key)}
        for url, code in TARGETS.items():
            test = await api.post("/webhooks/test", headers=key, json={"webhook_url": url})
            job = await api.post("/transcriptions", headers=key, json=body | {"webhook_url": url})
            assert error_of(test) == error_of(job) == (400, code), url
        fine = await api.post(
            "/transcriptions", headers=key, json=body | {"webhook_url": "https://hooks.example/x"}
        )

    assert fine.status_code == 202


async def test_a_test_event_is_signed_and_its_outcome_returned(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("hooks.example")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(serving)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    received: list[tuple[dict[str, str], bytes]] = []
    answers = [b"204 No Content", b"500 Broken", b"302 Found\r\nLocation: https://hooks.example/y"]

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        received.append((headers, await reader.readexactly(int(headers["content-length"]))))
        status = answers[len(received) - 1]
        writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(receive, "127.0.0.1", 0, ssl=serving) as server:
        port = server.sockets[0].getsockname()[1]
        settings = web_settings(egress_allow=(ipaddress.ip_network("127.0.0.0/8"),), egress_ports=None)
        overrides = Overrides(resolver=FakeResolver({"hooks.example": [["127.0.0.1"]]}), tls=trusting)
        async with (
            web_world(tmp_path, settings, overrides) as world,
            httpx.AsyncClient(base_url=world.root, trust_env=False) as api,
        ):
            key = await world.key(await world.account())
            secret = await world.secret("acct_owner")
            body = {"webhook_url": f"https://hooks.example:{port}/hook"}
            results = [(await api.post("/webhooks/test", headers=key, json=body)).json() for _ in range(3)]

    assert [list(answer) for answer in results] == [
        ["ok", "event_id", "delivered", "status_code", "error"]
    ] * 3
    assert [(answer["ok"], answer["delivered"], answer["status_code"]) for answer in results] == [
        (True, True, 204),
        (False, False, 500),
        (False, False, 302),
    ]
    assert [answer["error"] is None for answer in results] == [True, False, False]
    headers, payload = received[0]
    event = json.loads(payload)
    assert (event["event_id"], event["event_type"]) == (results[0]["event_id"], "transcription.completed")
    timestamp = headers["x-alefbot-timestamp"]
    expected = hmac.new(secret.encode(), f"{timestamp}.".encode() + payload, hashlib.sha256).hexdigest()
    assert headers["x-alefbot-signature"] == expected
    assert json.dumps(event, separators=(",", ":"), sort_keys=True).encode() == payload


# --- around requests ----------------------------------------------------------------------------------------


async def test_unknown_paths_and_methods_have_the_nested_body(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    assert error_of(await api.get("/nothing", headers=live)) == (404, "not_found")
    assert error_of(await api.get("", headers=live)) == (404, "not_found")
    wrong = await api.delete("/account", headers=live)
    assert error_of(wrong) == (405, "method_not_allowed")
    assert "GET" in wrong.headers["allow"]
    assert "error" in (await api.get(f"{world.url}/v1/nothing")).json()
    assert isinstance((await api.get(f"{world.url}/v1/nothing")).json()["error"], str)


async def test_head_and_options(api: httpx.AsyncClient, live: dict[str, str]) -> None:
    head = await api.head("/account", headers=live)
    options = await api.options("/account")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["x-request-id"].startswith("req_")
    assert options.status_code == 204
    assert {"GET", "HEAD", "OPTIONS"} <= set(options.headers["allow"].split(", "))
    assert options.headers["x-request-id"].startswith("req_")


async def test_pages_of_any_site_may_call_it_with_a_key(api: httpx.AsyncClient, live: dict[str, str]) -> None:
    preflight = await api.options(
        "/uploads/upl_0/binary",
        headers={
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "authorization",
        },
    )
    answer = await api.get("/transcriptions", headers=live | {"Origin": "https://app.example"})
    error = await api.get("/account", headers={"Origin": "https://app.example"})

    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    exposed = answer.headers["access-control-expose-headers"].lower()
    assert {"x-request-id", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"} <= set(
        exposed.split(", ")
    )
    assert "access-control-allow-credentials" not in answer.headers
    assert error.headers["access-control-allow-origin"] == "*"


async def test_an_unexpected_error_has_the_nested_body(tmp_path: Path) -> None:
    async with (
        web_world(tmp_path) as world,
        httpx.AsyncClient(base_url=world.root, trust_env=False) as api,
    ):
        key = await world.key(await world.account())
        async with world.database.write() as connection:
            await connection.exec_driver_sql("DROP TABLE uploads")
        answer = await api.post("/uploads", headers=key, json=SLOT)

    assert error_of(answer)[0] in {500, 503}


async def test_two_clients_on_one_slot_leave_one_complete_file(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    size = 3_000_000
    upload_id = await slot(api, live, size_bytes=size)
    begun = asyncio.Event()

    async def slow(byte: bytes) -> AsyncIterator[bytes]:
        yield byte * (size // 2)
        begun.set()
        await fast_is_done.wait()
        yield byte * (size - size // 2)

    fast_is_done = asyncio.Event()
    path = f"/uploads/{upload_id}/binary"

    async def send_slowly() -> httpx.Response:
        return await api.put(path, headers=live, content=slow(b"s"))

    async with asyncio.TaskGroup() as tasks:
        slowly = tasks.create_task(send_slowly())
        await begun.wait()
        fast = await api.put(path, headers=live, content=b"f" * size)
        fast_is_done.set()

    assert fast.json() == slowly.result().json() == {"ok": True, "bytes_received": size}
    stored = [path.read_bytes() for path in world.blobs_dir.rglob("*") if path.is_file()]
    assert stored == [b"s" * size], "the last complete one wins, whole"


async def test_an_interrupted_upload_can_be_repeated(
    api: httpx.AsyncClient, live: dict[str, str], world: WebWorld
) -> None:
    data = b"0123456789" * 100_000
    upload_id = await slot(api, live, size_bytes=len(data))
    path = f"/uploads/{upload_id}/binary"

    async def cut() -> AsyncIterator[bytes]:
        yield data[: len(data) // 2]
        raise ConnectionError("the train went into a tunnel")

    with pytest.raises(ConnectionError):
        await api.put(path, headers=live | {"Content-Length": str(len(data))}, content=cut())
    body = {"upload_id": upload_id}
    assert error_of(await api.post("/transcriptions", headers=live, json=body)) == (
        409,
        "upload_not_available",
    )
    whole = await api.put(path, headers=live, content=data)

    assert whole.json()["bytes_received"] == len(data)
    assert (await api.post("/transcriptions", headers=live, json=body)).status_code == 202
    stored = [path.read_bytes() for path in world.blobs_dir.rglob("*") if path.is_file()]
    assert stored == [data]
