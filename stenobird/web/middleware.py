"""ASGI middleware around every request: request id, access log, metrics, security headers, CORS, errors."""

from __future__ import annotations

import math
import re
import time
from typing import TYPE_CHECKING, Final

import structlog
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import Response

from stenobird.errors import MethodNotAllowed, NotFound, StenobirdError
from stenobird.web.limits import add_limit_headers
from stenobird.web.representations import json_response
from stenobird.web.requests import base_url_of
from stenobird.web.routing import dialect_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from stenobird.web.probes import Metrics

DIRECT_SEND = "stenobird.direct_send"
"""Scope key of the server's own `send`, without the wrappers of the middleware, for SSE frames.

Use it only for body messages with `more_body`; the start and the last body message take the normal `send`. It
saves a sixth of the cost of delivering an event, see docs/decisions/0004-own-sse-responder.md.
"""

_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    # An API response opened in a browser runs nothing. Pages send a policy of their own.
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)

PROBE_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})

_log = structlog.get_logger("stenobird.web.access")


def request_context(app: ASGIApp, metrics: Metrics) -> ASGIApp:
    """Give each request an id, and log and count its response.

    The dialect chooses the id, which is in the response, in every log line of the request, and in
    `scope["state"]["request_id"]`. The access log has the path, never the query string or a header, since
    both may contain secrets. `sent_bytes` does not include what is sent with `DIRECT_SEND`.
    """

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        sent_id = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        dialect = dialect_of(scope)
        in_api = dialect.covers(scope["path"])
        request_id = dialect.request_id(sent_id.decode("latin-1"))
        scope.setdefault("state", {})["request_id"] = request_id
        scope.setdefault(DIRECT_SEND, send)
        started = time.perf_counter()
        status = 0
        streamed = False
        sent_bytes = 0

        async def send_observed(message: Message) -> None:
            nonlocal status, streamed, sent_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = headers = [*message["headers"], (b"x-request-id", request_id.encode())]
                names = {name for name, _ in headers}
                headers.extend(pair for pair in _SECURITY_HEADERS if pair[0] not in names)
                if in_api and b"access-control-allow-origin" not in names:
                    headers.append((b"vary", b"Origin"))  # as CORS adds to responses to web pages
                streamed = b"content-length" not in names and status == 200
            else:
                sent_bytes += len(message.get("body", b""))
            await send(message)

        bound = structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            await app(scope, receive, send_observed)
        finally:
            seconds = time.perf_counter() - started
            route: str = getattr(scope.get("route"), "path_format", "unmatched")
            metrics.request_answered(
                method=scope["method"], route=route, status=status, seconds=None if streamed else seconds
            )
            # Probes come every few seconds, and what they find wrong is logged where it is wrong.
            log = _log.debug if scope["path"] in PROBE_PATHS else _log.info
            log(
                "request",
                method=scope["method"],
                path=scope["path"],
                route=route,
                status=status,
                milliseconds=round(seconds * 1000, 1),
                sent_bytes=sent_bytes,
                client=scope["client"][0] if scope.get("client") else None,
            )
            structlog.contextvars.reset_contextvars(**bound)

    return run


def answer_errors(
    app: ASGIApp, respond: Callable[[StenobirdError | HTTPException, Scope], Response]
) -> ASGIApp:
    """Send what `respond` returns for an exception; an unexpected one is `internal_error`, and logged.

    If the response has started, the exception is raised again, and the server closes the connection. This
    middleware is inside CORS, so that a web page can read the error.
    """

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        started = False

        async def send_observed(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            try:
                await app(scope, receive, send_observed)
            except (StenobirdError, HTTPException) as exc:
                if started:
                    raise
                await respond(exc, scope)(scope, receive, send_observed)
        except Exception:
            _log.exception("unhandled_exception", method=scope["method"], path=scope["path"])
            if started:
                raise
            error = StenobirdError(details={"request_id": scope["state"]["request_id"]})
            await respond(error, scope)(scope, receive, send)

    return run


def public_api_cors(app: ASGIApp) -> ASGIApp:
    """Let any web page call the API, without cookies: the page sends its key in a header."""
    with_cors = CORSMiddleware(
        app,
        allow_origins=("*",),
        # All, so that a page gets a readable 405 for a wrong method instead of a failed preflight.
        allow_methods=("*",),
        allow_headers=("*",),
        expose_headers=(
            "Content-Disposition",
            "ETag",
            "Idempotent-Replayed",
            "Location",
            "Retry-After",
            "X-RateLimit-Limit",
            "X-RateLimit-Remaining",
            "X-RateLimit-Reset",
            "X-Request-ID",
            "X-Transcript-ID",
        ),
        max_age=86_400,
    )

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        from_page = scope["type"] == "http" and any(name == b"origin" for name, _ in scope["headers"])
        public = from_page and dialect_of(scope).covers(scope["path"])
        await (with_cors if public else app)(scope, receive, send)

    return run


_OPENAI_PATH: Final = re.compile(r"(?:/v1/v1)?/(?:audio/(?:transcriptions|translations)|models)")
"""What OpenAI clients request if their base URL has no `/v1`, or if they add another one."""


def error_response(error: StenobirdError | HTTPException, scope: Scope) -> Response:
    """Return the response for an error, with `Retry-After` and `WWW-Authenticate` where they apply.

    `HTTPException` is what Starlette itself refuses: an unknown path, or a method that the path doesn't have.
    """
    headers = {}
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            methods = {*(error.headers or {}).get("Allow", "").split(", "), "OPTIONS"}
            headers["Allow"] = ", ".join(sorted(methods - {""}))
            if scope["method"] == "OPTIONS":
                return Response(status_code=204, headers=headers)
            error = MethodNotAllowed(f"{scope['method']} is not allowed here. Use {headers['Allow']}.")
        elif _OPENAI_PATH.fullmatch(scope["path"]):
            base = f"{base_url_of(Request(scope))}/v1"
            error = NotFound(
                f"There is nothing at this address. Set the base URL of an OpenAI client to {base}"
            )
        else:
            error = NotFound()
    dialect = dialect_of(scope)
    from_sdk = any(name.startswith(b"x-stainless-") for name, _ in scope.get("headers", ()))
    render = (dialect.render_for_sdk if from_sdk else None) or dialect.render
    status, body = render(error, scope.get("state", {}).get("request_id"))
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    if status == 408:
        headers["Connection"] = "close"  # the rest of the body would be read as the next request's
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="stenobird"'
    response = json_response(body, status, headers)
    add_limit_headers(Request(scope), response)
    return response
