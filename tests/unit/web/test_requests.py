"""Reading request bodies, before schema validation."""

from __future__ import annotations

import asyncio
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from stenobird.errors import CompressedRequest, InvalidRequest
from stenobird.web.alefbot.schemas import render
from stenobird.web.requests import _texts, json_object, page_size, read_json_body
from stenobird.web.site.templating import read_form

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Message, Receive

REQUEST = Request({"type": "http", "headers": []})


def request(receive: Receive) -> Request:
    services = SimpleNamespace(body_timeout_seconds=0.02)
    app = SimpleNamespace(state=SimpleNamespace(services=services))
    return Request({"type": "http", "method": "POST", "headers": [], "app": app}, receive)


async def hangs_up() -> Message:
    return {"type": "http.disconnect"}


async def falls_silent() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.anyio
@pytest.mark.parametrize("read", [read_json_body, read_form], ids=["json", "form"])
@pytest.mark.parametrize(
    ("receive", "said"),
    [(hangs_up, "broke off"), (falls_silent, "in time")],
    ids=["hangs up", "falls silent"],
)
async def test_a_client_that_disconnects_during_its_body_is_not_an_internal_error(
    read: Callable[[Request], Awaitable[Any]], receive: Receive, said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        await read(request(receive))


def test_invalid_characters_are_found_at_any_depth() -> None:
    value: object = "deep"
    for _ in range(10 * sys.getrecursionlimit()):
        value = [{"a": value}]
    assert list(_texts(value))[-1] == "deep"


@pytest.mark.parametrize("depth", [10, 500, 5_000, 30_000])
def test_a_deeply_nested_body_is_read_or_refused(depth: int) -> None:
    body = b'{"audio_url": "https://example.com/a.mp3", "x": ' + b"[" * depth + b"]" * depth + b"}"
    try:
        assert json_object(REQUEST, body)["audio_url"] == "https://example.com/a.mp3"
    except InvalidRequest:
        assert depth > 100


@pytest.mark.parametrize("text", [r'"\u0000"', r'"\ud800"', r'{"\udfff": 1}', r'[[{"a": ["\u0000"]}]]'])
def test_invalid_characters_are_refused_anywhere(text: str) -> None:
    with pytest.raises(InvalidRequest, match="NUL"):
        json_object(REQUEST, b'{"x": ' + text.encode() + b"}")


@pytest.mark.parametrize(
    "mark", [b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\r\n"], ids=["none", "mark", "mark and line break"]
)
def test_a_byte_order_mark_before_json_is_skipped(mark: bytes) -> None:
    assert json_object(REQUEST, mark + b'{"audio_url": "https://a.example/x"}') == {
        "audio_url": "https://a.example/x"
    }


@pytest.mark.parametrize("body", [b"\xff\xfe{\0}\0", b"\xef\xbb{}", b"{}\xef\xbb\xbf"])
def test_other_marks_are_not_json(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="not valid JSON"):
        json_object(REQUEST, body)


@pytest.mark.anyio
@pytest.mark.parametrize("coding", [b"gzip", b"br", b"deflate", b"GZIP, identity"])
async def test_a_compressed_body_is_refused_before_it_is_read(coding: bytes) -> None:
    compressed = Request(
        {"type": "http", "method": "POST", "headers": [(b"content-encoding", coding)]}, hangs_up
    )
    with pytest.raises(CompressedRequest) as caught:
        await read_json_body(compressed)
    assert (caught.value.code, caught.value.http_status) == ("invalid_request", 415)


def test_a_compressed_body_is_a_validation_error_of_the_alefbot_dialect() -> None:
    status, body = render(CompressedRequest(), "req_1", root="/api/v1")
    assert status == 415
    assert '"validation_error"' in body.model_dump_json()


@pytest.mark.parametrize(("sent", "size"), [("", 20), ("limit=1", 1), ("limit=100", 100)])
def test_a_limit_is_taken_as_it_is(sent: str, size: int) -> None:
    request = Request({"type": "http", "headers": [], "query_string": sent.encode()})
    assert page_size(request, default=20, maximum=100) == size


@pytest.mark.parametrize("sent", ["0", "101", "-1", "x", "", "1e2", "99999999999"])
def test_a_limit_outside_its_range_is_refused(sent: str) -> None:
    request = Request({"type": "http", "headers": [], "query_string": f"limit={sent}".encode()})
    with pytest.raises(InvalidRequest, match="from 1 to 100") as refused:
        page_size(request, default=20, maximum=100)
    assert refused.value.details == {"field": "limit"}
