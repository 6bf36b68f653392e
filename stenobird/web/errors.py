"""Turns every error into a response of the dialect that its address belongs to."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from stenobird.errors import MethodNotAllowed, NotFound, StenobirdError
from stenobird.web.limits import add_limit_headers
from stenobird.web.representations import json_response
from stenobird.web.requests import base_url_of
from stenobird.web.routing import dialect_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ExceptionHandler, Scope

_OPENAI_PATH: Final = re.compile(r"(?:/v1/v1)?/(?:audio/(?:transcriptions|translations)|models)")
"""What OpenAI clients request if their base URL has no `/v1`, or if they add another one."""


def error_response(error: StenobirdError, scope: Scope) -> Response:
    """Return the response for an error, with `Retry-After` and `WWW-Authenticate` where they apply."""
    dialect = dialect_of(scope)
    from_sdk = any(name.startswith(b"x-stainless-") for name, _ in scope.get("headers", ()))
    render = (dialect.render_for_sdk if from_sdk else None) or dialect.render
    status, body = render(error, scope.get("state", {}).get("request_id"))
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    if status == 408:
        headers["Connection"] = "close"  # the rest of the body would be read as the next request's
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="stenobird"'
    return json_response(body, status, headers)


async def _render_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, StenobirdError)
    response = error_response(error, request.scope)
    add_limit_headers(request, response)
    return response


async def _render_http_exception(request: Request, error: Exception) -> Response:
    """Render what Starlette itself refuses: an unknown path, or a method that the path doesn't have."""
    assert isinstance(error, HTTPException)
    if error.status_code != 405:
        remedy = None
        if _OPENAI_PATH.fullmatch(request.url.path):
            base = f"{base_url_of(request)}/v1"
            remedy = f"There is nothing at this address. Set the base URL of an OpenAI client to {base}"
        return error_response(NotFound(remedy), request.scope)
    allowed = ", ".join(sorted({*(error.headers or {}).get("Allow", "").split(", "), "OPTIONS"} - {""}))
    if request.method == "OPTIONS":
        return Response(status_code=204, headers={"Allow": allowed})
    error_405 = MethodNotAllowed(f"{request.method} is not allowed here. Use {allowed}.")
    response = error_response(error_405, request.scope)
    response.headers["Allow"] = allowed
    return response


def exception_handlers() -> dict[type[Exception], ExceptionHandler]:
    """Return the handlers for `Starlette(exception_handlers=…)`."""
    return {StenobirdError: _render_error, HTTPException: _render_http_exception}
