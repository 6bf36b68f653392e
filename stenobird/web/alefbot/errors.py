"""Errors as the second dialect shows them: `{"error": {code, message, request_id, details}}`."""

from __future__ import annotations

import math
import secrets
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response

from stenobird.errors import (
    InvalidAPIKeyMode,
    InvalidAPIKeyUser,
    InvalidRequest,
    NotFound,
    RateLimited,
    ReadOnlyKey,
    TranscriptNotFound,
    ValidationFailed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Scope

    from stenobird.errors import StenobirdError

API_PATH: Final = "/api/v1"


class ScopeViolation(ReadOnlyKey):
    """This API key is read-only, so it can't create keys. Use a key with the scope full_access."""

    code = "scope_violation"


OWN_CODES: Final[Mapping[type[StenobirdError], tuple[str, int]]] = {
    InvalidAPIKeyMode: ("invalid_api_key_mode", 401),
    InvalidAPIKeyUser: ("invalid_api_key_user", 401),
    RateLimited: ("rate_limit_exceeded", 429),
    TranscriptNotFound: ("job_not_found", 404),
    InvalidRequest: (ValidationFailed.code, ValidationFailed.http_status),
}
"""What this dialect calls errors that the other one has another name for."""


def dialect_root(scope: Scope) -> str:
    """Return the path that the dialect's addresses begin with, without a slash at the end."""
    prefix: str = scope["app"].state.services.settings.api_prefix
    return prefix + API_PATH


def speaks_dialect(scope: Scope) -> bool:
    """Return whether the request is for an address of the dialect, known or not."""
    return is_below(dialect_root(scope), scope["path"])


def is_below(root: str, path: str) -> bool:
    """Return whether a path is the root's or below it."""
    return path == root or path.startswith(f"{root}/")


def new_request_id() -> str:
    """Return an id in the form that this dialect publishes; support looks for it as it stands."""
    return f"req_{secrets.token_hex(9)}"


def code_of(error: StenobirdError) -> tuple[str, int]:
    """Return the dialect's code and status for an error."""
    return OWN_CODES.get(type(error), (error.code, error.http_status))


def dialect_body(error: StenobirdError, request_id: str | None) -> dict[str, Any]:
    """Return the nested error body."""
    details = dict(error.details)
    if error.retry_after_seconds is not None:
        details["retry_after_seconds"] = error.retry_after_seconds
    return {
        "error": {
            "code": code_of(error)[0],
            "message": error.message,
            "request_id": request_id,
            "details": details,
        }
    }


def dialect_response(error: StenobirdError, scope: Scope) -> Response:
    """Return the answer for an error, with `Retry-After` and `WWW-Authenticate` where due."""
    if type(error) is NotFound:
        error = NotFound(
            f"There is nothing at this address. Jobs are made with POST {dialect_root(scope)}/transcriptions."
        )
    headers = {"Cache-Control": "no-store"}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    status = code_of(error)[1]
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="stenobird"'
    return JSONResponse(dialect_body(error, scope["state"].get("request_id")), status, headers)
