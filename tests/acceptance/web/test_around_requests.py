"""What all responses share: ids, headers, CORS, unknown routes, unexpected errors, health."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import httpx
import pytest
import structlog

from stenobird import __version__
from stenobird.bootstrap import Overrides
from stenobird.errors import StorageUnavailable
from stenobird.serving import remove_expired
from stenobird.speech.engines import SpeechEngines
from stenobird.testing import FakeRecognizer
from stenobird.web.app import create_app
from stenobird.web.server import WebServer, running
from tests.support.until import async_until
from tests.support.web_world import (
    MeasuredStreams,
    measured_world,
    open_world_services,
    web_settings,
    web_world,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stenobird.jobs.worker import Worker
    from stenobird.storage.job_store import JobStore
    from stenobird.web.services import Services
    from tests.support.web_world import WebWorld

pytestmark = pytest.mark.anyio


async def test_unknown_routes_answer_with_a_flat_body(http: httpx.AsyncClient) -> None:
    for path in ("/nowhere", "/v1/nowhere", "/v1/transcripts/", "/v1/transcripts/tr_1/nowhere"):
        answer = await http.get(path)
        assert (answer.status_code, answer.json()["error"]) == (404, "not_found")
        assert set(answer.json()) == {"error", "message"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/transcripts", "GET, HEAD, OPTIONS, POST"),
        ("PATCH", "/v1/transcripts/tr_1", "DELETE, GET, HEAD, OPTIONS"),
        ("POST", "/v1/transcripts/tr_1/events", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_wrong_method_gets_the_allowed_ones(
    http: httpx.AsyncClient, method: str, path: str, allowed: str
) -> None:
    answer = await http.request(method, path)
    assert (answer.status_code, answer.json()["error"]) == (405, "method_not_allowed")
    assert answer.headers["allow"] == allowed
    options = await http.options(path)
    assert (options.status_code, options.headers["allow"], options.content) == (204, allowed, b"")


async def test_head_is_get_without_a_body(http: httpx.AsyncClient) -> None:
    job = (await http.post("/v1/transcripts", json={"audio_url": "https://example.com/a"})).json()
    for url in (job["status_url"], job["events_url"], "/healthz"):
        answer = await http.head(url)
        assert (answer.status_code, answer.content) == (200, b"")
    events = await http.head(job["events_url"])
    assert events.headers["content-type"].startswith("text/event-stream")


async def test_any_web_page_may_call_the_api_without_credentials(http: httpx.AsyncClient) -> None:
    page = {"Origin": "https://page.example"}
    preflight = await http.options(
        "/v1/transcripts",
        headers=page
        | {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization, content-type, idempotency-key, last-event-id",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "authorization" in preflight.headers["access-control-allow-headers"]
    assert "DELETE" in preflight.headers["access-control-allow-methods"]
    refused = await http.get("/v1/transcripts", headers=page)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "*"
    assert "X-Request-ID" in refused.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in refused.headers
    assert refused.headers["vary"] == "Origin"
    assert (await http.get("/v1/transcripts")).headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in (await http.get("/healthz", headers=page)).headers


async def test_every_answer_has_an_id_and_safe_headers(http: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/nowhere", "/v1/transcripts"):
        headers = (await http.get(path)).headers
        assert len(headers["x-request-id"]) == 32
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert "server" not in headers
        assert headers["date"].endswith("GMT")


@pytest.mark.parametrize(
    ("sent", "kept"), [("abc-123.X_y", True), ("a b", False), ("x" * 129, False), ("é", False)]
)
async def test_a_safe_request_id_is_used(http: httpx.AsyncClient, sent: str, kept: bool) -> None:  # noqa: FBT001
    answer = await http.get("/healthz", headers=[(b"X-Request-ID", sent.encode())])
    assert (answer.headers["x-request-id"] == sent) is kept


async def test_an_unexpected_error_reveals_no_details() -> None:
    async with measured_world(MeasuredStreams()) as (url, _), httpx.AsyncClient(base_url=url) as http:
        with structlog.testing.capture_logs() as logs:
            answer = await http.post(
                "/v1/transcripts",
                json={"audio_url": "https://example.com/a"},
                headers={"Origin": "https://page.example"},
            )
    assert answer.status_code == 500
    assert answer.json()["error"] == "internal_error"
    assert "secret internals" not in answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["access-control-allow-origin"] == "*"
    assert [row["log_level"] for row in logs if row["event"] == "unhandled_exception"] == ["error"]


async def test_the_access_log_has_no_secrets(http: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as logs:
        await http.get(
            "/v1/transcripts?token=query-secret", headers={"Authorization": "Bearer header-secret"}
        )
    rows = [row for row in logs if row["event"] == "request"]
    assert [(row["path"], row["status"], row["route"]) for row in rows] == [
        ("/v1/transcripts", 401, "/v1/transcripts")
    ]
    assert "secret" not in json.dumps(logs, default=str)


async def test_healthz_names_the_engine(tmp_path: Path) -> None:
    overrides = Overrides(engines=SpeechEngines(FakeRecognizer()))
    async with web_world(tmp_path, overrides=overrides) as world, httpx.AsyncClient() as http:
        answer = await http.get(f"{world.url}/healthz")
    assert answer.json() == {
        "status": "ok",
        "version": __version__,
        "engine": {"engine": "fake", "model": "numbers", "state": "ready", "message": None},
        "running": 0,
        "translator": None,
        "speakers": None,
    }


async def ask(services: Services, path: str) -> httpx.Response:
    server = WebServer(create_app(services), services.settings, services.shutting_down)
    async with running(server) as url, httpx.AsyncClient(base_url=url) as http:
        return await http.get(path)


class BrokenStore:
    """Job counts that fail in a way the test chooses."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def counts(self) -> Mapping[str, int]:
        """Raise the error; without one, hang."""
        if self._error is not None:
            raise self._error
        await asyncio.Event().wait()
        raise AssertionError


def broken_store(error: Exception | None) -> JobStore:
    return cast("JobStore", BrokenStore(error))


async def test_readyz_gives_the_reasons() -> None:
    async with open_world_services() as opened:
        store = broken_store(StorageUnavailable("The database does not answer."))
        answer = await ask(replace(opened, job_store=store), "/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "reasons": ["The database does not answer."], "checks": {}}


async def test_readyz_and_metrics_say_that_the_worker_pauses() -> None:
    async with open_world_services() as opened:
        worker = cast("Worker", SimpleNamespace(trouble="The disk is full.", running=0))
        opened.metrics.worker_troubled(troubled=True)
        services = replace(opened, worker=worker)
        ready, metrics = await ask(services, "/readyz"), await ask(services, "/metrics")
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["The worker pauses: The disk is full."])
    assert {"stenobird_worker_troubled 1.0", "stenobird_worker_troubles_total 1.0"} <= set(
        metrics.text.splitlines()
    )


async def test_readyz_does_not_wait_for_a_check_that_hangs() -> None:
    async with open_world_services() as opened:
        services = replace(opened, job_store=broken_store(None), check_timeout_seconds=0.05)
        answer = await ask(services, "/readyz")
    assert answer.status_code == 503
    assert answer.json()["reasons"] == ["The checks did not finish in time."]


async def test_metrics_count_requests_by_route_and_jobs_by_status(
    world: WebWorld, http: httpx.AsyncClient
) -> None:
    job = (await http.post("/v1/transcripts", json={"audio_url": "https://example.com/a"})).json()
    await http.get(job["status_url"])
    await http.get("/nowhere")
    world.services.metrics.audio_transcribed(12.5)
    answer = await http.get("/metrics")
    lines = answer.text.splitlines()
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'stenobird_http_requests_total{method="POST",route="/v1/transcripts",status="202"} 1.0' in lines
    assert (
        'stenobird_http_requests_total{method="GET",route="/v1/transcripts/{id}",status="200"} 1.0' in lines
    )
    assert 'stenobird_http_requests_total{method="GET",route="unmatched",status="404"} 1.0' in lines
    assert 'stenobird_jobs{status="queued"} 1.0' in lines
    assert "stenobird_audio_seconds_total 12.5" in lines
    assert job["id"] not in answer.text


async def test_metrics_survive_a_database_that_does_not_answer() -> None:
    async with open_world_services() as opened:
        answer = await ask(replace(opened, job_store=broken_store(ConnectionError())), "/metrics")
    assert answer.status_code == 200
    assert "stenobird_jobs{" not in answer.text


async def send_raw(url: str, data: bytes) -> bytes:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        return await reader.read()
    finally:
        writer.close()


async def test_a_body_that_never_arrives_is_refused() -> None:
    async with open_world_services() as opened:
        services = replace(opened, body_timeout_seconds=0.05)
        server = WebServer(create_app(services), services.settings, services.shutting_down)
        async with running(server) as url:
            answer = await send_raw(
                url,
                b"POST /v1/transcripts HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
            )
    # The connection has been closed: whatever comes next is no request.
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {
        "error": "request_timeout",
        "message": "The request body did not arrive in time. Send it again.",
    }


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n", b"400"),
        (b"POST /v1/transcripts HTTP/1.1\r\nContent-Length: 2\r\n", b"400"),
        (b"GET /healthz HTTP/1.0\r\n", b"200"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n", b"200"),
    ],
    ids=["none", "two", "none, with a body", "HTTP/1.0", "one"],
)
async def test_http_1_1_needs_one_host(world: WebWorld, head: bytes, status: bytes) -> None:
    answer = await send_raw(world.url, head + b"Connection: close\r\n\r\n{}")
    assert answer.split(b" ")[1] == status
    assert answer.count(b"x-request-id: ") == 1


async def test_probes_are_not_in_the_log_of_requests(http: httpx.AsyncClient) -> None:
    with structlog.testing.capture_logs() as logs:
        for path in ("/healthz", "/readyz", "/metrics", "/v1/nowhere"):
            await http.get(path)
    requests = [(log["path"], log["log_level"]) for log in logs if log["event"] == "request"]
    assert requests == [
        ("/healthz", "debug"),
        ("/readyz", "debug"),
        ("/metrics", "debug"),
        ("/v1/nowhere", "info"),
    ]


async def test_an_outage_of_the_database_is_one_line_in_the_log(tmp_path: Path) -> None:
    async with web_world(tmp_path) as world, httpx.AsyncClient(base_url=world.url) as http:
        services = world.services
        (tmp_path / "stenobird.db").rename(tmp_path / "aside.db")
        with structlog.testing.capture_logs() as logs:
            for path in ("/readyz", "/metrics", "/v1/transcripts/tr_1"):
                await http.get(path)
            post = await http.post("/v1/transcripts", json={"audio_url": "https://example.com/a"})
            await remove_expired(services, now=0.0)
            # Each tries once at the start, and then waits.
            for loop in (services.webhook_deliverer.run(), services.accounts.remove_deleted(services.clock)):
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await loop
    assert (post.status_code, "deleted or replaced" in post.text) == (503, True)
    lines = [(row["event"], row["log_level"]) for row in logs if row["event"] != "request"]
    assert lines == [("database_unavailable", "warning")]


async def test_a_client_has_a_bound_on_its_open_streams(tmp_path: Path) -> None:
    async with (
        web_world(tmp_path, web_settings(streams_per_address=2)) as world,
        httpx.AsyncClient(base_url=world.url) as http,
        AsyncExitStack() as streams,
    ):
        job = (await http.post("/v1/transcripts", json={"audio_url": "https://example.com/a"})).json()
        events = f"/v1/transcripts/{job['id']}/events"
        for _ in range(2):
            last = await streams.enter_async_context(http.stream("GET", events))
            assert last.status_code == 200
        refused = await http.get(events)
        assert (refused.status_code, refused.json()["error"]) == (429, "rate_limited")
        assert int(refused.headers["retry-after"]) > 0
        # One that is closed makes room for another.
        await last.aclose()

        async def admitted() -> bool:
            async with http.stream("GET", events) as again:
                return again.status_code == 200

        await async_until(admitted)


async def test_a_client_that_disconnects_during_its_body_is_not_an_error(world: WebWorld) -> None:
    host, _, port = world.url.removeprefix("http://").partition(":")
    with structlog.testing.capture_logs() as logs:
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /v1/transcripts HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        await async_until(lambda: logs)
    assert [(row["event"], row["status"]) for row in logs] == [("request", 400)]


async def test_a_request_head_that_is_too_large_is_refused(world: WebWorld) -> None:
    answer = await send_raw(world.url, b"GET / HTTP/1.1\r\nx-endless: " + b"a" * 70_000)
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_slow_request_head_is_cut_off() -> None:
    async with open_world_services() as services:
        server = WebServer(
            create_app(services), services.settings, services.shutting_down, head_timeout_seconds=0.1
        )
        async with running(server) as url:
            begun_head = b"GET /healthz HTTP/1.1\r\nhost: x"
            for begun in (b"", begun_head, begun_head + b"\r\n\r\n" + begun_head):
                host, _, port = url.removeprefix("http://").partition(":")
                reader, writer = await asyncio.open_connection(host, int(port))
                with suppress(ConnectionResetError):  # if the time was over before the server got it
                    writer.write(begun)
                    answers = (await reader.read()).count(b"HTTP/1.1")
                    assert answers <= begun.count(b"\r\n\r\n")
                writer.close()
