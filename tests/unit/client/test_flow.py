"""What the client does when the service misbehaves, told by a scripted service."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from stenobird import errors
from stenobird.client import (
    AsyncStenobirdClient,
    Event,
    RetryPolicy,
    ServiceError,
    ServiceUnreachable,
    StenobirdClient,
    TranscriptOptions,
)
from stenobird.client.model import Result, error_from_body

if TYPE_CHECKING:
    from pathlib import Path

Handler = Callable[[httpx.Request], httpx.Response]

STATUS = {"id": "tr_1", "status": "queued", "mode": "preview", "terminal": False, "result_ready": False}


def event(event_id: int, name: str, **data: Any) -> bytes:
    return f"id: {event_id}\nevent: {name}\ndata: {json.dumps({'id': 'tr_1'} | data)}\n\n".encode()


def stream(*frames: bytes) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, content=b"".join(frames))


DONE = event(9, "done", status="completed", terminal=True, result_ready=True)


class Service:
    """Answers each request with the next of its script, and remembers the requests and the waits."""

    def __init__(self, *script: httpx.Response | Exception) -> None:
        self.script = list(script)
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        item = self.script.pop(0)
        if isinstance(item, Exception):
            raise item
        return item

    def client(self, policy: RetryPolicy | None = None, *, api_key: str = "sb_live_key") -> StenobirdClient:
        return StenobirdClient(
            "http://service",
            api_key=api_key,
            policy=policy,
            transport=httpx.MockTransport(self.answer),
            sleep=self.waits.append,
        )


def test_retries_of_a_post_share_key_and_bytes() -> None:
    service = Service(
        httpx.ReadError("gone"),
        httpx.Response(502),
        httpx.ConnectError("no"),
        httpx.Response(202, json=STATUS),
    )
    with service.client() as client:
        assert client.create("https://example.com/ä").id == "tr_1"
    assert len({request.headers["idempotency-key"] for request in service.requests}) == 1
    assert len({request.content for request in service.requests}) == 1
    assert {request.headers["authorization"] for request in service.requests} == {"Bearer sb_live_key"}
    assert len(service.waits) == 3


def test_two_calls_have_two_keys_by_default() -> None:
    service = Service(*(httpx.Response(202, json=STATUS) for _ in range(4)))
    with service.client() as client:
        client.create("https://example.com")
        client.create("https://example.com")
        options = TranscriptOptions(idempotency_key="mine")
        client.create("https://example.com", options)
        client.create("https://example.com", options)
    keys = [request.headers["idempotency-key"] for request in service.requests]
    assert keys[0] != keys[1]
    assert keys[2:] == ["mine", "mine"]


def test_only_chosen_options_are_sent() -> None:
    service = Service(httpx.Response(202, json=STATUS))
    with service.client() as client:
        options = TranscriptOptions(language="he", preview_id="tr_0", max_minutes=5)
        client.create("https://example.com", options)
    assert json.loads(service.requests[0].content) == {
        "audio_url": "https://example.com",
        "language": "he",
        "preview_id": "tr_0",
        "max_minutes": 5,
    }


def test_retries_end_with_the_policy() -> None:
    service = Service(*(httpx.ConnectError("refused") for _ in range(4)))
    with service.client(RetryPolicy(max_tries=4)) as client, pytest.raises(ServiceUnreachable) as raised:
        client.create("https://example.com")
    assert raised.value.details["reason"] == "ConnectError: refused"
    assert [0.25 * 2**n <= wait <= 0.5 * 2**n for n, wait in enumerate(service.waits)] == [True] * 3


def test_the_delay_of_the_service_is_respected() -> None:
    busy = {"error": "queue_busy", "message": "The queue is full.", "retry_after_seconds": 7}
    limited = {"error": "rate_limited", "message": "Too many requests."}
    service = Service(
        httpx.Response(429, json=busy),
        httpx.Response(429, json=limited, headers={"Retry-After": "31"}),
        httpx.Response(202, json=STATUS),
    )
    with service.client() as client:
        client.create("https://example.com")
    assert service.waits == [7, 31]


def test_waiting_for_a_busy_queue_ends() -> None:
    busy = {"error": "queue_busy", "message": "The queue is full.", "retry_after_seconds": 1}
    service = Service(*(httpx.Response(429, json=busy) for _ in range(3)))
    with service.client(RetryPolicy(max_busy_tries=3)) as client, pytest.raises(errors.QueueBusy):
        client.create("https://example.com")
    assert service.waits == [1, 1]


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 410, 422])
def test_a_refusal_is_final(status: int) -> None:
    service = Service(httpx.Response(status, json={"error": "invalid_request", "message": "No."}))
    with service.client() as client, pytest.raises(errors.InvalidRequest, match=r"^No\.$"):
        client.create("https://example.com")
    assert service.waits == []


def test_a_result_is_awaited_until_it_is_ready() -> None:
    early = {"error": "transcript_not_ready", "message": "Wait.", "retry_after_seconds": 2}
    body = {"id": "tr_1", "status": "completed", "mode": "full", "text": "Hi.", "segments": []}
    service = Service(
        httpx.Response(409, json=early), httpx.Response(409, json=early), httpx.Response(200, json=body)
    )
    with service.client() as client:
        assert client.result("tr_1").status == "completed"
    assert service.waits == [2, 2]


def test_events_are_emitted_once() -> None:
    one, two = event(1, "status", status="queued"), event(2, "status", status="transcribing")
    service = Service(stream(one, two), stream(one, two, DONE))
    with service.client() as client:
        seen = [item.id for item in client.resume("tr_1")]
    assert seen == [1, 2, 9]
    assert "last-event-id" not in service.requests[0].headers
    assert service.requests[1].headers["last-event-id"] == "2"


def test_a_truncated_event_is_read_again() -> None:
    whole = event(1, "transcript", text="Hello.", chunk_index=0)
    service = Service(stream(whole[:-20]), stream(whole, DONE))
    with service.client() as client:
        assert [item.type for item in client.resume("tr_1")] == ["transcript", "done"]
    assert "last-event-id" not in service.requests[1].headers


def test_comments_and_unknown_events_are_accepted() -> None:
    service = Service(
        stream(b"retry: 1\n\n", event(1, "status"), b": ping\n\n", event(2, "confetti", colour="red"), DONE)
    )
    with service.client() as client:
        seen = list(client.resume("tr_1"))
    assert [item.type for item in seen] == ["status", "confetti", "done"]
    assert type(seen[1]) is Event
    assert seen[1].data["colour"] == "red"


def test_streams_without_events_lead_to_polling() -> None:
    done = STATUS | {"status": "completed", "terminal": True, "result_ready": True}
    running = STATUS | {"status": "transcribing", "stage": "transcribing", "retry_after_seconds": 2}
    service = Service(
        httpx.Response(503),
        stream(),
        httpx.Response(200, html="<p>scanning</p>"),
        httpx.Response(200, json=running),
        httpx.Response(200, json=running),
        httpx.Response(200, json=done),
        stream(event(1, "status", status="queued"), event(2, "transcript", text="Hi.", chunk_index=0), DONE),
    )
    with service.client() as client:
        seen = [(item.id, item.type) for item in client.resume("tr_1")]
    assert seen == [(None, "status"), (1, "status"), (2, "transcript"), (9, "done")]
    assert service.waits[2:] == [2, 2]


def test_a_lost_network_ends_a_stream_with_the_id_to_resume_from() -> None:
    service = Service(stream(event(4, "status")), *(httpx.ConnectError("no") for _ in range(3)))
    with service.client(RetryPolicy(max_tries=3)) as client, pytest.raises(ServiceUnreachable) as raised:
        list(client.resume("tr_1", 3))
    assert raised.value.details["last_event_id"] == 4


@pytest.mark.parametrize(
    "content", [b"id: x\ndata: {}\n\n", b"data: {}\n\n", b"id: 1\ndata: not json\n\n"], ids=str
)
def test_a_stream_of_another_service_is_refused(content: bytes) -> None:
    service = Service(stream(content))
    with service.client() as client, pytest.raises(ServiceError, match="Check the address"):
        list(client.resume("tr_1"))


def test_a_response_of_another_service_is_refused() -> None:
    for answer in (httpx.Response(200, html="<p>Welcome</p>"), httpx.Response(404, html="<p>Nowhere</p>")):
        with Service(answer).client() as client, pytest.raises(ServiceError, match="Check"):
            client.status("tr_1")


def test_the_error_of_a_newer_service_keeps_its_code() -> None:
    error = error_from_body({"error": "too_beautiful", "message": "It is.", "hint": "Look away."}, 418)
    assert isinstance(error, ServiceError)
    assert (error.code, error.http_status, error.message) == ("too_beautiful", 418, "It is.")
    assert error.details == {"hint": "Look away."}
    assert ServiceError.code == "service_error"


@pytest.mark.parametrize(
    "cls",
    [
        errors.QueueBusy,
        errors.TranscriptionFailed,
        errors.UnsupportedURL,
        errors.InvalidURL,
        errors.AudioTooLarge,
    ],
)
def test_an_error_body_becomes_its_exception(cls: type[errors.StenobirdError]) -> None:
    error = cls(details={"detail": 1}, retry_after_seconds=3)
    assert type(error_from_body(error.body(), cls.http_status)) is cls
    assert error_from_body(error.body(), cls.http_status).body() == error.body()


def test_trimmed_segments_join_to_the_text() -> None:
    texts = ["Hello", " there.", "今日は", "鳥", "  Twice.", " Twice."]
    rows = [{"id": n, "start": n, "end": n + 1, "text": text.strip()} for n, text in enumerate(texts)]
    body = {"id": "tr_1", "status": "completed", "text": "".join(texts), "segments": rows}
    result = Result.from_body(body)
    assert [segment.text for segment in result.transcript.segments] == texts
    assert result.text == "".join(texts)


SLOT = httpx.Response(201, json={"upload_id": "upl_1", "upload_url": "/back/end/api/v1/uploads/upl_1/binary"})
NOT_THERE = httpx.Response(404, json={"error": "not_found", "message": "There is nothing at this address."})


def test_uploads_work_below_a_prefix(tmp_path: Path) -> None:
    file = tmp_path / "a.mp3"
    file.write_bytes(b"12345")
    known = ["/v1/transcripts", "//elsewhere/api/v1/uploads", "/back/end/api/v1/uploads"]
    paths: dict[str, object] = {path: {} for path in known}
    service = Service(
        NOT_THERE,
        httpx.Response(200, json={"paths": paths}),
        SLOT,
        httpx.Response(200, json={"ok": True, "bytes_received": 5}),
    )

    with service.client() as client:
        assert client.upload(str(file)) == "upload:upl_1"

    assert [(request.method, request.url.path) for request in service.requests] == [
        ("POST", "/api/v1/uploads"),
        ("GET", "/openapi.json"),
        ("POST", "/back/end/api/v1/uploads"),
        ("PUT", "/back/end/api/v1/uploads/upl_1/binary"),
    ]


def test_a_service_without_uploads_says_so(tmp_path: Path) -> None:
    file = tmp_path / "a.mp3"
    file.write_bytes(b"12345")
    service = Service(NOT_THERE, httpx.Response(200, json={"paths": {"/v1/transcripts": {}}}))

    with service.client() as client, pytest.raises(ServiceError, match="takes no files"):
        client.upload(file)


def test_an_empty_file_is_refused_before_a_request(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").touch()
    service = Service()

    with service.client() as client, pytest.raises(errors.EmptyUploadBody, match=r"a\.mp3 is empty"):
        client.upload(tmp_path / "a.mp3")

    assert service.requests == []


@pytest.mark.parametrize("address", ["", "localhost:8000", "ftp://a", "http://", "http://a:b", "//a"])
def test_an_invalid_address_is_refused_at_once(address: str) -> None:
    for make in (StenobirdClient, AsyncStenobirdClient):
        with pytest.raises(errors.InvalidRequest, match="is no address of a service"):
            make(address)


def test_a_key_may_end_with_a_line_feed_only() -> None:
    service = Service(httpx.Response(202, json=STATUS))
    with service.client(api_key="sb_live_a\n") as client:
        client.create("https://example.com/a")
    assert service.requests[0].headers["Authorization"] == "Bearer sb_live_a"
    for key in ("", "\n", "a b", "a\r\nX-Other: 1", "ключ"):
        with pytest.raises(errors.InvalidAPIKey):
            StenobirdClient(api_key=key)


def test_an_idempotency_key_that_is_not_a_header_value_is_refused() -> None:
    with Service().client() as client, pytest.raises(errors.InvalidRequest, match="idempotency_key"):
        client.create("https://example.com/a", TranscriptOptions(idempotency_key="a\nb"))


@pytest.mark.parametrize("body", [{"ok": True}, {"status": "x"}, {"id": "tr_1", "segments": [{}]}])
def test_an_incomplete_response_is_a_service_error(body: dict[str, Any]) -> None:
    answer = httpx.Response(200, json=body)
    with Service(answer, answer, answer).client() as client:
        for call in (client.create, client.status, client.result):
            with pytest.raises(ServiceError, match="not one of Stenobird's"):
                call("tr_1")


@pytest.mark.parametrize(
    "frame", ["event: status\ndata: [1]", "event: transcript\ndata: {}", "event: done\ndata: 1"]
)
def test_an_invalid_event_is_a_service_error(frame: str) -> None:
    answer = stream(f"id: 1\n{frame}\n\n".encode())
    with Service(answer).client() as client, pytest.raises(ServiceError):
        list(client.resume("tr_1"))


def test_a_redirect_error_names_its_target() -> None:
    moved = httpx.Response(308, headers={"Location": "https://new.example/v1/transcripts"})
    with Service(moved).client() as client, pytest.raises(ServiceError, match=r"https://new\.example/"):
        client.create("https://example.com/a")


def test_a_wait_beyond_the_policy_raises_the_error() -> None:
    service = Service(httpx.Response(503, headers={"Retry-After": "86400"}))
    with service.client() as client, pytest.raises(errors.StenobirdError) as caught:
        client.status("tr_1")
    assert caught.value.retry_after_seconds == 86400
    assert service.waits == []


def test_a_negative_wait_is_ignored() -> None:
    busy = {"error": "queue_busy", "message": "", "retry_after_seconds": -5}
    service = Service(httpx.Response(429, json=busy), httpx.Response(202, json=STATUS))
    with service.client() as client:
        client.create("https://example.com/a")
    assert all(seconds > 0 for seconds in service.waits)


def test_the_network_error_is_in_the_message() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Name or service not known")

    client = StenobirdClient(transport=httpx.MockTransport(refuse), sleep=lambda _: None)
    with client, pytest.raises(ServiceUnreachable, match=r"\(ConnectError: Name or service not known\)"):
        client.status("tr_1")
