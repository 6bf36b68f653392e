"""Errors of the AlefBot dialect: `{"error": {code, message, request_id, details}}`."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

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
from stenobird.web.alefbot.schemas import ErrorBody, ErrorDetail

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
"""The code and the status of errors that have others in this dialect."""


def dialect_root(scope: Scope) -> str:
    """Return the path that the dialect's addresses begin with, without a slash at the end."""
    prefix: str = scope["app"].state.services.settings.api_prefix
    return prefix + API_PATH


def new_request_id(_sent: str = "") -> str:
    """Return an id in the documented form, whatever id the client sent; support searches for it."""
    return f"req_{secrets.token_hex(9)}"


def render(error: StenobirdError, request_id: str | None, *, root: str) -> tuple[int, ErrorBody]:
    """Return the status and the body of an error. `root` is where the dialect's addresses begin."""
    if type(error) is NotFound:
        error = NotFound(f"There is nothing at this address. Create jobs with POST {root}/transcriptions.")
    details = dict(error.details)
    if error.retry_after_seconds is not None:
        details["retry_after_seconds"] = error.retry_after_seconds
    code, status = OWN_CODES.get(type(error), (error.code, error.http_status))
    detail = ErrorDetail(code=code, message=error.message, request_id=request_id, details=details)
    return status, ErrorBody(error=detail)
