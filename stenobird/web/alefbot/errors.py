"""Errors as the second dialect shows them: `{"error": {code, message, request_id, details}}`."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

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


def new_request_id(_sent: str = "") -> str:
    """Return an id in the documented form, whatever id the client sent; support searches for it."""
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


def render(error: StenobirdError, request_id: str | None, *, root: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the body of an error. `root` is where the dialect's addresses begin."""
    if type(error) is NotFound:
        error = NotFound(f"There is nothing at this address. Create jobs with POST {root}/transcriptions.")
    return code_of(error)[1], dialect_body(error, request_id)
