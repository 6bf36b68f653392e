"""Turns every error into a response of the dialect that its address belongs to."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from stenobird.errors import MethodNotAllowed, NotFound, StenobirdError
from stenobird.web.limits import add_limit_headers
from stenobird.web.representations import json_response
from stenobird.web.requests import base_url_of
from stenobird.web.routing import dialect_of

if TYPE_CHECKING:
    from starlette.types import Scope

_OPENAI_PATH: Final = re.compile(r"(?:/v1/v1)?/(?:audio/(?:transcriptions|translations)|models)")
"""What OpenAI clients request if their base URL has no `/v1`, or if they add another one."""


def error_response(error: StenobirdError | HTTPException, scope: Scope) -> Response:
    """Return the response for an error, with `Retry-After` and `WWW-Authenticate` where they apply.

    `HTTPException` is what Starlette itself refuses: an unknown path, or a method that the path doesn't have.
    """
    extra = {}
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            extra["Allow"] = ", ".join(
                sorted({*(error.headers or {}).get("Allow", "").split(", "), "OPTIONS"} - {""})
            )
            if scope["method"] == "OPTIONS":
                return Response(status_code=204, headers=extra)
            error = MethodNotAllowed(f"{scope['method']} is not allowed here. Use {extra['Allow']}.")
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
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    if status == 408:
        headers["Connection"] = "close"  # the rest of the body would be read as the next request's
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="stenobird"'
    response = json_response(body, status, headers | extra)
    add_limit_headers(Request(scope), response)
    return response
