"""The bodies of the second dialect, as its clients send them and get them."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # pydantic reads the annotations when the classes are made
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from stenobird.errors import ValidationFailed
from stenobird.jobs.schemas import MAX_PROMPT_CHARS, MAX_URL_CHARS
from stenobird.ports import KeyMode, KeyScope  # noqa: TC001  # likewise

ModelTier = Literal["standard", "fast_low_cost", "premium_quality"]
JobState = Literal["pending", "processing", "completed", "failed", "cancelled"]
OutputFormat = Literal["srt", "plain_text"]

_Model = TypeVar("_Model", bound=BaseModel)


class _Body(BaseModel):
    """Unknown fields are ignored; types are not converted."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class CreateKey(_Body):
    """The body of `POST /keys`."""

    name: Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S", description="Label of the key.")]
    scope: Annotated[KeyScope, Field(description="read_only blocks all but GET.")] = "full_access"
    mode: Annotated[
        KeyMode | None,
        Field(description="test is a sandbox. Left out, it is live; a test key makes test keys only."),
    ] = None


class CreateTranscription(_Body):
    """The body of `POST /transcriptions`."""

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
    output_format: Annotated[OutputFormat, Field(description="The format that is wanted.")] = "srt"
    webhook_url: Annotated[
        str | None,
        Field(max_length=MAX_URL_CHARS, description="An https address to tell about the end."),
    ] = None


class TestWebhook(_Body):
    """The body of `POST /webhooks/test`."""

    __test__ = False  # a test collector would take it for a test

    webhook_url: Annotated[str, Field(max_length=MAX_URL_CHARS, description="Webhook destination to test.")]
    event_type: Annotated[
        str, Field(pattern=r"^[a-z0-9_.]{1,64}$", description="Event name of the dummy.")
    ] = "transcription.completed"


def parse_body(model: type[_Model], value: object) -> _Model:
    """Return the request that a decoded JSON body is. Raises `ValidationFailed` that names the fields."""
    try:
        return model.model_validate(value)
    except ValidationError as exc:
        problems = [
            {"field": ".".join(str(part) for part in error["loc"]) or "body", "message": error["msg"]}
            for error in exc.errors(include_url=False, include_input=False, include_context=False)
        ]
        first = problems[0]
        message = f'"{first["field"]}" is not valid: {_lower(first["message"])}.'
        raise ValidationFailed(message, details={"errors": problems}) from exc


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


class KeyItem(BaseModel):
    """A key without its secret."""

    id: str
    name: str
    scope: KeyScope
    mode: KeyMode
    last_four_chars: str
    is_valid: bool
    created_at: datetime


class CreatedKey(BaseModel):
    """A key just made; `key` is shown only here."""

    key: str
    item: KeyItem


class Account(BaseModel):
    """The account of a key."""

    account_id: str
    effective_tier: str
    api_access: bool
    wallet_balance: float
    status: str


class UploadSlot(BaseModel):
    """An upload slot just made; `upload_url` is a path."""

    upload_id: str
    upload_url: str
    upload_method: Literal["PUT"]
    expires_at: datetime


class UploadReceived(BaseModel):
    """The bytes are there."""

    ok: Literal[True]
    bytes_received: int


class SelfLink(BaseModel):
    """Where the job is."""

    self: str


class JobLinks(BaseModel):
    """Where the job and its output are."""

    self: str
    artifact: str


class CreatedJob(BaseModel):
    """A job just made: `queued`, or `completed` with a summary for a test key."""

    job_id: str
    status: Literal["queued", "completed"]
    links: SelfLink
    summary: str | None = Field(default=None, description="Only for test keys: what the mock says.")


class Analysis(BaseModel):
    """What was found out about the audio."""

    language: str | None
    dialect: str | None


class JobFailure(BaseModel):
    """Why a job failed."""

    code: str
    message: str


class Job(BaseModel):
    """A job as it stands."""

    job_id: str
    status: JobState
    created_at: datetime
    updated_at: datetime
    media_duration_seconds: float | None
    credits_used: float | None
    analysis: Analysis
    links: JobLinks
    error: JobFailure | None = Field(default=None, description="Only for failed jobs.")


class PageLinks(BaseModel):
    """Paths of this page and its neighbours."""

    self: str
    next: str | None
    prev: str | None


class JobList(BaseModel):
    """A page of jobs, newest first."""

    items: list[Job]
    total: int
    links: PageLinks


class WebhookTested(BaseModel):
    """What became of a test event."""

    ok: bool
    event_id: str
    delivered: bool
    status_code: int | None
    error: str | None


class ErrorDetail(BaseModel):
    """What went wrong."""

    code: str
    message: str
    request_id: str | None
    details: dict[str, Any]


class ErrorBody(BaseModel):
    """Every error of this dialect."""

    error: ErrorDetail
