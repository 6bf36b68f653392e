"""Turns every error into a JSON body: flat in the Stenobird dialect, nested in the other two."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from stenobird.errors import MethodNotAllowed, NotFound, StenobirdError
from stenobird.web.alefbot.errors import dialect_response, speaks_dialect
from stenobird.web.limits import headers_of
from stenobird.web.openai.errors import openai_response, speaks_openai

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ExceptionHandler, Scope


def error_response(error: StenobirdError) -> Response:
    """Return the answer for an error, with `Retry-After` and `WWW-Authenticate` where due."""
    headers = {"Cache-Control": "no-store"}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    if error.http_status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="stenobird"'
    return JSONResponse(error.body(), error.http_status, headers)


def rendered(error: StenobirdError, scope: Scope) -> Response:
    """Return the answer for an error in the dialect of the address that was asked."""
    if speaks_dialect(scope):
        return dialect_response(error, scope)
    flat = error_response(error)
    return openai_response(error, flat) if speaks_openai(scope) else flat


async def _render_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StenobirdError)
    response = rendered(error, request.scope)
    response.headers.update(headers_of(request))
    return response


async def _render_http_exception(request: Request, error: Exception) -> Response:
    """Render what Starlette itself refuses: no such route, or not with this method."""
    assert isinstance(error, HTTPException)
    if error.status_code != 405:
        return rendered(NotFound(), request.scope)
    allowed = ", ".join(sorted({*(error.headers or {}).get("Allow", "").split(", "), "OPTIONS"} - {""}))
    if request.method == "OPTIONS":
        return Response(status_code=204, headers={"Allow": allowed})
    error_405 = MethodNotAllowed(f"{request.method} is not allowed here. Use {allowed}.")
    response = rendered(error_405, request.scope)
    response.headers["Allow"] = allowed
    return response


def exception_handlers() -> dict[type[Exception], ExceptionHandler]:
    """Return the handlers for `Starlette(exception_handlers=…)`."""
    return {StenobirdError: _render_error, HTTPException: _render_http_exception}
