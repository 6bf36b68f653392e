"""Reads requests for all dialects: bodies within bounds, the caller, the browser, pages, the base URL."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
from typing import TYPE_CHECKING, Any, Final

from starlette.requests import ClientDisconnect

from stenobird.errors import CompressedRequest, InvalidRequest, RequestTooSlow, TranscriptNotFound

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from starlette.requests import Request

    from stenobird.errors import StenobirdError
    from stenobird.ports import Caller
    from stenobird.web.services import Services
    from stenobird.web.sse import OpenStreams

MAX_JSON_BYTES = 64 * 1024
BROKEN_OFF = "The request body broke off. Send it again."
BROWSER_COOKIE = "stenobird_browser"

_PLAUSIBLE_ID = re.compile(r"[A-Za-z0-9_\-]{1,64}")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_HOST = re.compile(r"[A-Za-z0-9.\-_]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


_JSON: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def services_of(request: Request) -> Services:
    """Return the services of the app."""
    services: Services = request.app.state.services
    return services


def streams_of(request: Request) -> OpenStreams:
    """Return the register of the app's open streams."""
    streams: OpenStreams = request.app.state.streams
    return streams


async def caller_of(request: Request) -> Caller | None:
    """Return the caller, `None` without an `Authorization` header. Raises `InvalidAPIKey`."""
    return await services_of(request).keys.authenticate(request.headers.get("authorization"))


async def reader_of(request: Request) -> Caller | None:
    """Return the caller that `?share=` stands for, else `caller_of`.

    Such a caller may only read the transcript in the path. Raises `TranscriptNotFound` for a token of
    another transcript.
    """
    token = request.query_params.get("share")
    if not token:
        return await caller_of(request)
    return await services_of(request).shares.reader(path_id(request), token)


def plausible_id(value: str) -> bool:
    """Return whether this could be one of our ids. PostgreSQL would refuse a NUL, for example."""
    return _PLAUSIBLE_ID.fullmatch(value) is not None


def path_id(request: Request, not_found: type[StenobirdError] = TranscriptNotFound) -> str:
    """Return the id in the path. Raises `not_found` for what can't be an id."""
    value: str = request.path_params["id"]
    if not plausible_id(value):
        raise not_found
    return value


def whole_number(text: str) -> int | None:
    """Return the number in a query parameter, `None` for anything but ASCII digits; at most ten of them."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 10 else None


def page_size(request: Request, *, default: int, maximum: int) -> int:
    """Return `?limit=`. Raises `InvalidRequest` for anything but a number from 1 to `maximum`."""
    text = request.query_params.get("limit")
    if text is None:
        return default
    size = whole_number(text)
    if size is None or not 1 <= size <= maximum:
        message = f'"limit" must be a whole number from 1 to {maximum}.'
        raise InvalidRequest(message, details={"field": "limit"})
    return size


# --- bodies -------------------------------------------------------------------------------------------------


async def body_chunks(request: Request, *, silence_seconds: float | None) -> AsyncGenerator[bytes]:
    """Yield the body as it arrives.

    Raises `TimeoutError` when no byte arrives for `silence_seconds`, `InvalidRequest` when the client
    disconnects.
    """
    chunks = request.stream()
    try:
        while True:
            async with asyncio.timeout(silence_seconds):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            if chunk:
                yield chunk
    except ClientDisconnect as exc:
        raise InvalidRequest(BROKEN_OFF) from exc


async def read_body(request: Request, max_bytes: int, too_large: str) -> bytes:
    """Return the raw body. Raises `InvalidRequest` if it is too large or broken off, or `RequestTooSlow`."""
    body = b""
    try:
        async with asyncio.timeout(services_of(request).body_timeout_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > max_bytes:
                    raise InvalidRequest(too_large)
    except TimeoutError as exc:
        raise RequestTooSlow from exc
    except ClientDisconnect as exc:
        raise InvalidRequest(BROKEN_OFF) from exc
    return body


async def read_json_body(request: Request, *, instead: str = "Send a smaller one.") -> bytes:
    """Return the raw body, of at most 64 KiB; `instead` says what to send where it is larger.

    Raises `InvalidRequest`; `CompressedRequest` for a body with a `Content-Encoding`.
    """
    if request.headers.get("content-encoding", "").strip().lower() not in {"", "identity"}:
        raise CompressedRequest
    return await read_body(
        request, MAX_JSON_BYTES, f"The request body is larger than {MAX_JSON_BYTES} bytes. {instead}"
    )


async def read_json_object(request: Request, *, field: str | None = None) -> dict[str, Any]:
    """Read the body and decode it, see `read_json_body` and `json_object`."""
    return json_object(request, await read_json_body(request), field=field)


def json_object(request: Request, body: bytes, *, field: str | None = None) -> dict[str, Any]:
    """Return the JSON object in the body, nested however deeply. Raises `InvalidRequest`.

    A byte order mark before it is skipped, as RFC 8259 allows.
    `field` is one that messages name as an example. The `Content-Type` is not checked: a body that parses as
    a JSON object was meant as one.
    """
    wanted = f'a JSON object with "{field}"' if field else "a JSON object"
    if not body:
        raise InvalidRequest(f"The request has no body. Send {wanted}.")
    try:
        value = _JSON.decode(body.decode("utf-8-sig"))
    except (ValueError, RecursionError) as exc:
        sent_as = request.headers.get("content-type", "").partition(";")[0].strip()
        hint = "" if sent_as in {"", "application/json"} else f' It was sent as "{sent_as[:80]}".'
        raise InvalidRequest(
            f"The request body is not valid JSON. Send {wanted}, as Content-Type: application/json.{hint}"
        ) from exc
    if not isinstance(value, dict):
        raise InvalidRequest(f"The request body must be {wanted}.")
    # Both would pass the schema and fail in the database. In UTF-8 only an escape can stand for them.
    if b"\\u" in body and any("\0" in text or _SURROGATE.search(text) for text in _texts(value)):
        raise InvalidRequest("The request body contains a NUL character or half a surrogate pair. Remove it.")
    return value


def _texts(value: object) -> Iterator[str]:
    # Without recursion: newer Pythons parse JSON that is nested deeper than their calls may be.
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                yield text
            case list() as items:
                waiting += items
            case dict() as fields:
                yield from fields
                waiting += fields.values()


def base_url_of(request: Request) -> str:
    """Return the URL at which clients reach the service, without a slash at the end.

    That is `STENOBIRD_PUBLIC_URL`, or if unset, the scheme and host of this request. uvicorn takes those from
    `X-Forwarded-*` if the peer is a trusted proxy. A malformed `Host` is never used.
    """
    public_url = services_of(request).settings.public_url
    if public_url is not None:
        return public_url
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        name, port = request.scope["server"] or ("localhost", None)
        name = f"[{name}]" if ":" in name else name
        host = f"{name}:{port}" if port else name
    return f"{request.scope['scheme']}://{host}{request.scope.get('root_path', '').rstrip('/')}"


def is_secure(request: Request) -> bool:
    """Return whether clients reach the service by https."""
    return base_url_of(request).startswith("https:")


def browser_of(request: Request) -> str:
    """Return the secret that identifies this browser: that of its cookie, else a new one."""
    known = request.cookies.get(BROWSER_COOKIE, "")
    return known if re.fullmatch(r"[A-Za-z0-9_\-]{43}", known) else secrets.token_urlsafe(32)
