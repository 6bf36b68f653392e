"""Errors as the OpenAI SDKs read them: `{"error": {message, type, param, code}}`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stenobird.bodies import Body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stenobird.errors import StenobirdError

_TYPE_OF_CODE: Final = {"rate_limited": "rate_limit_error", "queue_busy": "rate_limit_error"}
_TYPE_OF_STATUS: Final = {401: "authentication_error", 402: "insufficient_quota", 403: "permission_error"}
_PARAMETERS: Final = {"audio_url": "url", "upload_id": "file", "word_timestamps": "timestamp_granularities"}


class OpenAIErrorDetail(Body):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(Body):
    """Every error of the OpenAI dialect."""

    error: OpenAIErrorDetail


def error_object(body: Mapping[str, Any], status: int) -> OpenAIError:
    """Return the nested error for a flat error body."""
    code = str(body["error"])
    kind = _TYPE_OF_CODE.get(code) or _TYPE_OF_STATUS.get(status)
    field = body.get("field")
    return OpenAIError(
        error=OpenAIErrorDetail(
            message=body["message"],
            type=kind or ("server_error" if status >= 500 else "invalid_request_error"),
            param=_PARAMETERS.get(str(field), field),
            code=code,
        )
    )


def render(error: StenobirdError, _request_id: str | None = None) -> tuple[int, OpenAIError]:
    """Return the status and the body of an error."""
    return error.http_status, error_object(error.body(), error.http_status)
