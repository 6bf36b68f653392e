"""The first dialect's table of operations for OpenAPI: transcripts."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from stenobird import errors
from stenobird.jobs.schemas import CreateTranscript
from stenobird.ports import JobStatus  # noqa: TC001  # pydantic reads it when the class is made
from stenobird.web.openapi import Answer, Dialect, Operation, parameter

TAG = "Transcripts"


class TranscriptStatus(BaseModel):
    """How a transcript stands, and where the rest of it is."""

    id: str
    status: JobStatus
    mode: Literal["preview", "full", "test"]
    status_url: str
    poll_url: str
    events_url: str
    result_url: str
    terminal: bool
    result_ready: bool
    retry_after_seconds: float
    stage: str
    audio_url: str
    created_at: str


class TranscriptList(BaseModel):
    """A page of an account's transcripts, newest first."""

    transcripts: list[TranscriptStatus]
    next_cursor: str | None


class TranscriptSegment(BaseModel):
    """A phrase with its times in seconds."""

    id: int
    start: float
    end: float
    text: str


class TranscriptResult(BaseModel):
    """What was said."""

    id: str
    status: JobStatus
    mode: Literal["preview", "full", "test"]
    text: str
    segments: list[TranscriptSegment]
    language: str | None
    duration_seconds: float
    source: dict[str, Any] | None
    engine: str | None
    model: str | None
    billable_minutes: int
    created_at: str
    completed_at: str | None


class FlatError(BaseModel):
    """Every error of this dialect: a stable code, and a message that says what to do."""

    error: str
    message: str
    retry_after_seconds: float | None = Field(default=None)


_WHO = (errors.InvalidAPIKey, errors.StorageUnavailable)
_ONE = (*_WHO, errors.MissingAPIKey, errors.TranscriptNotFound)
_ID = parameter("id", "path", {"type": "string"}, "The transcript's id.")
_SHARE = parameter("share", "query", {"type": "string"}, "A share token of the owner.")
_SEEN = parameter(
    "Last-Event-ID", "header", {"type": "integer", "minimum": 0}, "The last event that was read."
)


def stenobird_operations() -> Dialect:
    """Return the dialect at `/v1`."""
    path = "/v1/transcripts"
    documents = ("application/json", "text/plain", "application/x-subrip", "text/vtt")
    return Dialect(
        (
            Operation(
                "POST",
                path,
                TAG,
                "createTranscript",
                "Transcribe what is behind a URL.",
                {202: Answer("Queued.", TranscriptStatus, headers=("Location",))},
                (
                    *_WHO,
                    errors.MissingAPIKey,
                    errors.InvalidRequest,
                    errors.InvalidURL,
                    errors.WebhookRequiresAPIKey,
                    errors.BillingFailed,
                    errors.InsufficientCredits,
                    errors.ReadOnlyKey,
                    errors.UploadNotFound,
                    errors.UploadNotAvailable,
                    errors.UploadSlotExpired,
                    errors.IdempotencyMismatch,
                    errors.IdempotencyInProgress,
                    errors.QueueBusy,
                    errors.RateLimited,
                    errors.EngineUnavailable,
                ),
                body=CreateTranscript,
                key=False,
                description="Without a key it is a preview of the first seconds.",
            ),
            Operation(
                "GET",
                path,
                TAG,
                "listTranscripts",
                "List the account's transcripts.",
                {200: Answer("A page, newest first.", TranscriptList)},
                (*_WHO, errors.MissingAPIKey, errors.InvalidRequest),
                parameters=(
                    parameter(
                        "limit", "query", {"type": "integer", "minimum": 1, "maximum": 100}, "Page size."
                    ),
                    parameter("cursor", "query", {"type": "string"}, "next_cursor of an earlier page."),
                ),
            ),
            Operation(
                "GET",
                f"{path}/{{id}}",
                TAG,
                "getTranscript",
                "How a transcript stands.",
                {
                    200: Answer("Its status.", TranscriptStatus, headers=("ETag",)),
                    304: Answer("Unchanged since the ETag."),
                },
                _ONE,
                parameters=(_ID, _SHARE),
                key=False,
            ),
            Operation(
                "DELETE",
                f"{path}/{{id}}",
                TAG,
                "deleteTranscript",
                "Cancel a transcript under way, or remove a finished one.",
                {202: Answer("It is being cancelled.", TranscriptStatus), 204: Answer("It is removed.")},
                (*_ONE, errors.ReadOnlyKey),
                parameters=(_ID,),
            ),
            Operation(
                "GET",
                f"{path}/{{id}}/events",
                TAG,
                "transcriptEvents",
                "The events of a transcript, from the start or from where the reader left off, live.",
                {
                    200: Answer(
                        "Server-Sent Events.", schema={"type": "string"}, media=("text/event-stream",)
                    ),
                    204: Answer("The reader has seen the last one."),
                },
                (*_ONE, errors.InvalidRequest),
                parameters=(_ID, _SHARE, _SEEN),
                key=False,
            ),
            Operation(
                "GET",
                f"{path}/{{id}}/result",
                TAG,
                "transcriptResult",
                "What was said.",
                {
                    200: Answer("The transcript.", schema={}, media=documents),
                    304: Answer("Unchanged since the ETag."),
                },
                (
                    *_ONE,
                    errors.InvalidRequest,
                    errors.TranscriptNotReady,
                    errors.TranscriptCancelled,
                    errors.TranscriptionFailed,
                ),
                parameters=(
                    _ID,
                    _SHARE,
                    parameter(
                        "format",
                        "query",
                        {"type": "string", "enum": ["json", "txt", "srt", "vtt", "docx"]},
                        "Instead of Accept.",
                    ),
                ),
                key=False,
            ),
        ),
        FlatError,
    )
