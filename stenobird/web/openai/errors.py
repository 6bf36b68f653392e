"""Errors as the OpenAI SDKs read them: `{"error": {message, type, param, code}}`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Scope

    from stenobird.errors import StenobirdError

_ROOTS: Final = ("/v1/audio", "/v1/models")
_TYPE_OF_CODE: Final = {"rate_limited": "rate_limit_error", "queue_busy": "rate_limit_error"}
_TYPE_OF_STATUS: Final = {401: "authentication_error", 402: "insufficient_quota", 403: "permission_error"}
_PARAMETERS: Final = {"audio_url": "url", "upload_id": "file", "word_timestamps": "timestamp_granularities"}


def speaks_openai(scope: Scope) -> bool:
    """Return whether the request is for an address of the dialect, known or not."""
    path: str = scope["path"]
    return any(path == root or path.startswith(f"{root}/") for root in _ROOTS)


def error_object(body: Mapping[str, Any], status: int) -> dict[str, Any]:
    """Return the nested error for a flat error body."""
    code = str(body["error"])
    kind = _TYPE_OF_CODE.get(code) or _TYPE_OF_STATUS.get(status)
    field = body.get("field")
    return {
        "error": {
            "message": body["message"],
            "type": kind or ("server_error" if status >= 500 else "invalid_request_error"),
            "param": _PARAMETERS.get(str(field), field),
            "code": code,
        }
    }


def openai_response(error: StenobirdError, flat: Response) -> Response:
    """Return the answer for an error, with the status and headers of the flat dialect's."""
    headers = {
        name: value for name, value in flat.headers.items() if name not in {"content-length", "content-type"}
    }
    return JSONResponse(error_object(error.body(), flat.status_code), flat.status_code, headers)
