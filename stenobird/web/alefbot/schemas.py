"""The bodies of the AlefBot dialect: what clients send, and what they get.

Errors are `{"error": {code, message, request_id, details}}`.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeVar
from urllib.parse import urlencode

from pydantic import BaseModel, Field, ValidationError

from stenobird import errors
from stenobird.bodies import Body, Number, Omittable, RequestBody, Timestamp, example
from stenobird.jobs.schemas import MAX_PROMPT_CHARS, MAX_URL_CHARS
from stenobird.ports import KeyMode, KeyScope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Scope

    from stenobird.ports import JobRecord, JobStatus

ModelTier = Literal["standard", "fast_low_cost", "premium_quality"]
JobState = Literal["pending", "processing", "completed", "failed", "cancelled"]
OutputFormat = Literal["srt", "plain_text"]

_STATES: Final[Mapping[JobStatus, JobState]] = {
    "queued": "pending",
    "transcribing": "processing",
    "completed": "completed",
    "preview_complete": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
STATUSES: Final[Mapping[str, JobStatus]] = {
    state: status for status, state in _STATES.items() if status != "preview_complete"
}
"""The job status that `?status=` filters by."""

_Model = TypeVar("_Model", bound=BaseModel)

_CREATED_AT: Final = "2026-11-22T09:30:00.000Z"
_COMPLETED_AT: Final = "2026-11-22T09:31:12.000Z"
_JOB_ID: Final = "65336736-4ce2-415a-9d4a-11fe4c1d5d08"
_JOB_PATH: Final = f"/api/v1/transcriptions/{_JOB_ID}"
_KEY: Final = {
    "id": "key_27eea71c812f204e5c8c",
    "name": "ci",
    "scope": "read_only",
    "mode": "test",
    "last_four_chars": "RtjD",
    "is_valid": True,
    "created_at": _CREATED_AT,
}
_JOB: Final = {
    "job_id": _JOB_ID,
    "status": "completed",
    "created_at": _CREATED_AT,
    "updated_at": _COMPLETED_AT,
    "media_duration_seconds": 71.2,
    "credits_used": 1,
    "analysis": {"language": "en", "dialect": None},
    "links": {"self": _JOB_PATH, "artifact": f"{_JOB_PATH}/artifact"},
}


class CreateKey(RequestBody):
    """A key to create."""

    model_config = example({"name": "ci", "scope": "read_only", "mode": "test"})

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S", description="Label of the key.")]
    scope: Annotated[KeyScope, Field(description="read_only refuses everything but GET.")] = "full_access"
    mode: Annotated[
        KeyMode | None,
        Field(
            description="test is a sandbox. Without it the key is live; a test key creates test keys only."
        ),
    ] = None


class CreateTranscription(RequestBody):
    """A job to create for an upload."""

    model_config = example({"upload_id": "upl_91b4a892518d11127121", "output_format": "srt"})

    upload_id: Annotated[str, Field(max_length=64, description="Identifier from POST /uploads.")]
    translate_to_hebrew: Annotated[
        bool, Field(description="Whether the output should be translated to Hebrew.")
    ] = False
    model_tier: Annotated[
        ModelTier | None, Field(description="Which of the configured models transcribes.")
    ] = None
    user_prompt: Annotated[
        str | None, Field(max_length=MAX_PROMPT_CHARS, description="Names and terms likely to be spoken.")
    ] = None
    output_format: Annotated[
        OutputFormat, Field(description="Accepted; artifacts can be downloaded in every format.")
    ] = "srt"
    webhook_url: Annotated[
        str | None,
        Field(max_length=MAX_URL_CHARS, description="An https URL that gets an event when the job ends."),
    ] = None


class TestWebhook(RequestBody):
    """A test event to send."""

    model_config = example(
        {"webhook_url": "https://example.com/hook", "event_type": "transcription.completed"}
    )
    __test__ = False  # a test collector would take it for a test

    webhook_url: Annotated[str, Field(max_length=MAX_URL_CHARS, description="Webhook destination to test.")]
    event_type: Annotated[
        str, Field(pattern=r"^[a-z0-9_.]{1,64}$", description="Event name of the test event.")
    ] = "transcription.completed"


def parse_body(model: type[_Model], value: object) -> _Model:
    """Return the request in a decoded JSON body. Raises `ValidationFailed`, which names the wrong fields."""
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        problems = [
            {"field": ".".join(str(part) for part in error["loc"]) or "body", "message": error["msg"]}
            for error in exc.errors(include_url=False, include_input=False, include_context=False)
        ]
        first = problems[0]
        message = f'"{first["field"]}" is not valid: {_lower(first["message"])}.'
        raise errors.ValidationFailed(message, details={"errors": problems}) from exc


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


class KeyItem(Body):
    """A key without its secret."""

    model_config = example(_KEY)

    id: str
    name: str
    scope: KeyScope
    mode: KeyMode
    last_four_chars: str
    is_valid: bool
    created_at: Timestamp


class CreatedKey(Body):
    """A new key. `key` is not shown again."""

    model_config = example({"key": "alef_sk_test_qv7Qx5R3tgUyxhB2IDWD88gjX3RERu0wRtjD", "item": _KEY})

    key: str
    item: KeyItem


class Account(Body):
    """The account of a key."""

    model_config = example(
        {
            "account_id": "acct_4f9a",
            "effective_tier": "premium",
            "api_access": True,
            "wallet_balance": 120,
            "status": "active",
        }
    )

    account_id: str
    effective_tier: str
    api_access: bool
    wallet_balance: Number
    status: str


class UploadSlot(Body):
    """A new upload slot; `upload_url` is a path."""

    model_config = example(
        {
            "upload_id": "upl_91b4a892518d11127121",
            "upload_url": "/api/v1/uploads/upl_91b4a892518d11127121/binary",
            "upload_method": "PUT",
            "expires_at": "2026-11-22T10:00:00.000Z",
        }
    )

    upload_id: str
    upload_url: str
    upload_method: Literal["PUT"]
    expires_at: Timestamp


class UploadReceived(Body):
    """The bytes have been received."""

    model_config = example({"ok": True, "bytes_received": 2048})

    ok: Literal[True]
    bytes_received: int


class SelfLink(Body):
    """The path of the job."""

    self: str


class JobLinks(Body):
    """The paths of the job and of its artifact."""

    self: str
    artifact: str


class CreatedJob(Body):
    """A new job: `queued`, or `completed` with a summary for a test key."""

    model_config = example({"job_id": _JOB_ID, "status": "queued", "links": {"self": _JOB_PATH}})

    job_id: str
    status: Literal["queued", "completed"]
    links: SelfLink
    summary: Annotated[Omittable[str], Field(description="Test keys only: the text.")] = None


class Analysis(Body):
    """Properties of the audio."""

    language: str | None
    dialect: str | None


class JobFailure(Body):
    """Why a job failed."""

    code: Annotated[str, Field(validation_alias="error")]
    message: str


class Job(Body):
    """The state of a job."""

    model_config = example(_JOB)

    job_id: str
    status: JobState
    created_at: Timestamp
    updated_at: Timestamp
    media_duration_seconds: float | None
    credits_used: Number | None
    analysis: Analysis
    links: JobLinks
    error: Annotated[Omittable[JobFailure], Field(description="Only for failed jobs.")] = None

    @classmethod
    def of(cls, job: JobRecord, root: str) -> Self:
        """Return the body of a job; `root` is where the dialect's paths begin."""
        path = f"{root}/transcriptions/{job.id}"
        minutes = job.billable_minutes
        return cls(
            job_id=job.id,
            status=_STATES[job.status],
            created_at=job.created_at,
            updated_at=job.updated_at,
            media_duration_seconds=job.duration_seconds,
            credits_used=job.units(minutes) if minutes is not None else None,
            # The spoken language, also where the text is a translation. No model here detects dialects.
            analysis=Analysis(language=job.extra.spoken_language or job.language, dialect=None),
            links=JobLinks.model_validate({"self": path, "artifact": f"{path}/artifact"}),
            error=job.error,
        )


class PageLinks(Body):
    """Paths of this page and its neighbours."""

    self: str
    next: str | None
    prev: str | None

    @classmethod
    def of(cls, path: str, query: Mapping[str, str], *, offset: int, limit: int, total: int) -> Self:
        """Return the links of a page; `query` are its other parameters, which they keep.

        The page before one beyond the end is the last one that has items.
        """

        def at(cursor: int) -> str:
            return f"{path}?{urlencode({**query, 'limit': limit, 'cursor': cursor})}"

        return cls.model_validate(
            {
                "self": at(offset),
                "next": at(offset + limit) if offset + limit < total else None,
                "prev": at(max(0, min(offset, total) - limit)) if offset > 0 else None,
            }
        )


class JobList(Body):
    """A page of jobs, newest first."""

    model_config = example(
        {
            "items": [_JOB],
            "total": 1,
            "links": {"self": "/api/v1/transcriptions?limit=20&cursor=0", "next": None, "prev": None},
        }
    )

    items: list[Job]
    total: int
    links: PageLinks


class WebhookTested(Body):
    """The result of sending a test event."""

    model_config = example(
        {"ok": True, "event_id": "evt_9b2d", "delivered": True, "status_code": 200, "error": None}
    )

    ok: bool
    event_id: str
    delivered: bool
    status_code: int | None
    error: str | None


class ErrorDetail(Body):
    """The error."""

    code: str
    message: str
    request_id: str | None
    details: dict[str, Any]


class ErrorBody(Body):
    """The body of every error of this dialect."""

    error: ErrorDetail


API_PATH: Final = "/api/v1"


class ScopeViolation(errors.ReadOnlyKey):
    """This API key is read-only, so it can't create keys. Use a key with the scope full_access."""

    code = "scope_violation"


OWN_CODES: Final[Mapping[type[errors.StenobirdError], tuple[str, int]]] = {
    errors.InvalidAPIKeyMode: ("invalid_api_key_mode", 401),
    errors.InvalidAPIKeyUser: ("invalid_api_key_user", 401),
    errors.RateLimited: ("rate_limit_exceeded", 429),
    errors.TranscriptNotFound: ("job_not_found", 404),
    errors.InvalidRequest: (errors.ValidationFailed.code, errors.ValidationFailed.http_status),
}
"""The code and the status of errors that have others in this dialect."""


def dialect_root(scope: Scope) -> str:
    """Return the path that the dialect's addresses begin with, without a slash at the end."""
    prefix: str = scope["app"].state.services.settings.api_prefix
    return prefix + API_PATH


def new_request_id(_sent: str = "") -> str:
    """Return an id in the documented form, whatever id the client sent; support searches for it."""
    return f"req_{secrets.token_hex(9)}"


def render(error: errors.StenobirdError, request_id: str | None, *, root: str) -> tuple[int, ErrorBody]:
    """Return the status and the body of an error. `root` is where the dialect's addresses begin."""
    if type(error) is errors.NotFound:
        error = errors.NotFound(
            f"There is nothing at this address. Create jobs with POST {root}/transcriptions."
        )
    details = dict(error.details)
    if error.retry_after_seconds is not None:
        details["retry_after_seconds"] = error.retry_after_seconds
    code, status = OWN_CODES.get(type(error), (error.code, error.http_status))
    if isinstance(error, errors.CompressedRequest):
        code = errors.ValidationFailed.code
    detail = ErrorDetail(code=code, message=error.message, request_id=request_id, details=details)
    return status, ErrorBody(error=detail)
