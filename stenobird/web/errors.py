"""Turns every error into the flat JSON body of the Stenobird dialect: `error`, `message`, and what helps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from stenobird.errors import MethodNotAllowed, NotFound, StenobirdError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ExceptionHandler


def error_response(error: StenobirdError) -> Response:
    """Return the answer for an error, with `Retry-After` and `WWW-Authenticate` where due."""
    headers = {"Cache-Control": "no-store"}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    if error.http_status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="stenobird"'
    return JSONResponse(error.body(), error.http_status, headers)


async def _render_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, StenobirdError)
    return error_response(error)


async def _render_http_exception(request: Request, error: Exception) -> Response:
    """Render what Starlette itself refuses: no such route, or not with this method."""
    assert isinstance(error, HTTPException)
    if error.status_code != 405:
        return error_response(NotFound())
    allowed = ", ".join(sorted({*(error.headers or {}).get("Allow", "").split(", "), "OPTIONS"} - {""}))
    if request.method == "OPTIONS":
        return Response(status_code=204, headers={"Allow": allowed})
    response = error_response(MethodNotAllowed(f"{request.method} is not allowed here. Use {allowed}."))
    response.headers["Allow"] = allowed
    return response


def exception_handlers() -> dict[type[Exception], ExceptionHandler]:
    """Return the handlers for `Starlette(exception_handlers=…)`."""
    return {StenobirdError: _render_error, HTTPException: _render_http_exception}
