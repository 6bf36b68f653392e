"""The second dialect's operations for OpenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stenobird import errors
from stenobird.uploads.schemas import CreateUpload
from stenobird.web.alefbot import schemas
from stenobird.web.alefbot.bodies import STATUSES
from stenobird.web.alefbot.errors import ScopeViolation
from stenobird.web.openapi.parts import Answer, Operation, json_of, ref
from stenobird.webhooks.schemas import SecretView

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

TAG = "AlefBot dialect"
SCHEMA_PREFIX = "AlefBot"
"""Before the names of this dialect's schemas, some of which the flat one has too."""
MODELS: Sequence[type[BaseModel]] = (
    schemas.ErrorBody,
    schemas.CreateKey,
    schemas.CreatedKey,
    schemas.KeyItem,
    schemas.Account,
    CreateUpload,
    schemas.UploadSlot,
    schemas.UploadReceived,
    schemas.CreateTranscription,
    schemas.CreatedJob,
    schemas.JobList,
    schemas.Job,
    schemas.TestWebhook,
    schemas.WebhookTested,
    SecretView,
)
"""What requests and answers consist of."""

_WHO: Sequence[type[errors.StenobirdError]] = (
    errors.MissingAPIKey,
    errors.InvalidAPIKey,
    errors.InvalidAPIKeyMode,
    errors.InvalidAPIKeyUser,
    errors.PlanDowngraded,
    errors.StorageUnavailable,
)
_BODY: Sequence[type[errors.StenobirdError]] = (errors.ValidationFailed,)
_WRITE: Sequence[type[errors.StenobirdError]] = (errors.ReadOnlyKey,)
_COUNTED: Sequence[type[errors.StenobirdError]] = (errors.RateLimited,)
_REPEATABLE: Sequence[type[errors.StenobirdError]] = (
    errors.IdempotencyMismatch,
    errors.IdempotencyInProgress,
)
_TARGET: Sequence[type[errors.StenobirdError]] = (errors.InvalidWebhookURL, errors.WebhookTargetForbidden)


def _parameter(name: str, where: str, schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": description,
        "schema": dict(schema),
    }


_RATE = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_TEXT = {"type": "string"}
_JOB_ID = _parameter("job_id", "path", _TEXT, "Transcription job id.")
_UPLOAD_ID = _parameter("upload_id", "path", _TEXT, "Upload slot id returned by POST /uploads.")
_IDEMPOTENCY = _parameter(
    "Idempotency-Key",
    "header",
    {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "Deduplicate retries for 24h.",
)
_IF_NONE_MATCH = _parameter("If-None-Match", "header", _TEXT, "ETag for a conditional GET.")
_FORMAT = _parameter(
    "format",
    "query",
    {"type": "string", "enum": ["srt", "txt", "docx", "plain_text"], "default": "srt"},
    "Requested format.",
)
_ARTIFACT_TYPES = (
    "application/x-subrip",
    "text/plain",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
)


def alefbot_operations(prefix: str) -> Mapping[str, Mapping[str, Operation]]:
    """Return the operations below `{prefix}/api/v1` by path and method."""
    root = f"{prefix}/api/v1"
    job = f"{root}/transcriptions/{{job_id}}"
    keys = {"type": "array", "items": ref(SCHEMA_PREFIX + schemas.KeyItem.__name__)}
    artifact_errors = (
        *_WHO,
        errors.UnsupportedArtifactFormat,
        errors.JobNotFound,
        errors.ArtifactNotReady,
        errors.ArtifactNotFound,
    )
    artifact = {
        200: Answer("Full artifact content body.", {media: {"schema": _TEXT} for media in _ARTIFACT_TYPES}),
        304: Answer("Unchanged since the ETag."),
    }
    return {
        f"{root}/keys": {
            "post": _operation(
                "alefbotCreateKey",
                "Create a new public API key for the authenticated account.",
                {200: _json("New key generated and persisted.", schemas.CreatedKey)},
                (*_WHO, ScopeViolation, errors.LiveKeyRequired, *_BODY),
                body=schemas.CreateKey,
            ),
            "get": _operation(
                "alefbotListKeys",
                "List all public API keys for the authenticated user.",
                {200: Answer("Array of key records.", {"application/json": {"schema": keys}})},
                _WHO,
            ),
        },
        f"{root}/account": {
            "get": _operation(
                "alefbotAccount",
                "Read account tier and wallet balance before job submission.",
                {200: _json("Current account state for API usage.", schemas.Account)},
                _WHO,
            ),
        },
        f"{root}/uploads": {
            "post": _operation(
                "alefbotCreateUpload",
                "Create an upload slot and return an upload_id plus binary upload URL.",
                {201: _json("Expires in 30 minutes.", schemas.UploadSlot, headers=_RATE)},
                (
                    *_WHO,
                    *_WRITE,
                    *_COUNTED,
                    *_REPEATABLE,
                    *_BODY,
                    errors.UploadTooLarge,
                    errors.QueueBusy,
                ),
                body=CreateUpload,
                parameters=(_IDEMPOTENCY,),
            ),
        },
        f"{root}/uploads/{{upload_id}}/binary": {
            "put": _operation(
                "alefbotUploadBinary",
                "Upload raw media bytes to an existing upload slot.",
                {200: _json("Upload acknowledged.", schemas.UploadReceived, headers=_RATE)},
                (
                    *_WHO,
                    *_WRITE,
                    *_COUNTED,
                    errors.EmptyUploadBody,
                    errors.UploadSizeMismatch,
                    errors.UploadNotFound,
                    errors.UploadSlotExpired,
                    errors.QueueBusy,
                ),
                body={"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
                parameters=(_UPLOAD_ID,),
            ),
        },
        f"{root}/transcriptions": {
            "post": _operation(
                "alefbotCreateTranscription",
                "Create a transcription job from a previously uploaded file.",
                {
                    200: _json("Completed at once (test keys).", schemas.CreatedJob, headers=_RATE),
                    202: _json("Job queued (live keys).", schemas.CreatedJob, headers=_RATE),
                },
                (
                    *_WHO,
                    *_WRITE,
                    *_COUNTED,
                    *_REPEATABLE,
                    *_BODY,
                    *_TARGET,
                    errors.TranslationUnavailable,
                    errors.UploadNotFound,
                    errors.UploadSlotExpired,
                    errors.UploadNotAvailable,
                    errors.BillingFailed,
                    errors.InsufficientCredits,
                    errors.EngineUnavailable,
                    errors.QueueBusy,
                ),
                body=schemas.CreateTranscription,
                parameters=(_IDEMPOTENCY,),
            ),
            "get": _operation(
                "alefbotListTranscriptions",
                "List API-origin transcription jobs with cursor-style pagination.",
                {200: _json("Paginated transcription job list.", schemas.JobList, headers=_RATE)},
                (*_WHO, *_COUNTED, *_BODY),
                parameters=(
                    _number("limit", 1, 100, 20, "Page size (1-100)."),
                    _number("cursor", 0, 10**9, 0, "Zero-based offset cursor."),
                    _parameter(
                        "status", "query", {"type": "string", "enum": list(STATUSES)}, "Status filter."
                    ),
                ),
            ),
        },
        job: {
            "get": _operation(
                "alefbotTranscription",
                "Read a single API-origin transcription job and track status progression.",
                {
                    200: _json("Current job snapshot.", schemas.Job, headers=("ETag", *_RATE)),
                    304: Answer("Unchanged since the ETag."),
                },
                (*_WHO, *_COUNTED, errors.JobNotFound),
                parameters=(_JOB_ID, _IF_NONE_MATCH),
            ),
            "delete": _operation(
                "alefbotDeleteTranscription",
                "Cancel a job under way, or remove a finished one with what it heard.",
                {
                    202: _json("It is cancelled, or will be within moments.", schemas.Job),
                    204: Answer("It is removed."),
                },
                (*_WHO, *_WRITE, errors.JobNotFound),
                parameters=(_JOB_ID,),
            ),
        },
        f"{job}/artifact": {
            "get": _operation(
                "alefbotArtifact",
                "Download output artifact for completed jobs.",
                artifact,
                artifact_errors,
                parameters=(_JOB_ID, _FORMAT, _IF_NONE_MATCH),
            ),
        },
        f"{job}/artifact.{{suffix}}": {
            "get": _operation(
                "alefbotArtifactBySuffix",
                "The same, the format named by the path.",
                artifact,
                artifact_errors,
                parameters=(
                    _JOB_ID,
                    _parameter(
                        "suffix", "path", {"type": "string", "enum": ["srt", "txt", "docx"]}, "The format."
                    ),
                    _IF_NONE_MATCH,
                ),
            ),
        },
        f"{root}/webhooks/test": {
            "post": _operation(
                "alefbotTestWebhook",
                "Send a signed dummy webhook payload.",
                {200: _json("Webhook test dispatched with signed headers.", schemas.WebhookTested)},
                (*_WHO, *_WRITE, *_BODY, *_TARGET),
                body=schemas.TestWebhook,
            ),
        },
        f"{root}/webhooks/secret": {
            "get": _operation(
                "alefbotWebhookSecret",
                "Read the secret that signs webhooks.",
                {200: _json("The secret.", SecretView)},
                (*_WHO, *_WRITE),
            ),
            "post": _operation(
                "alefbotRotateWebhookSecret",
                "Rotate the secret that signs webhooks.",
                {200: _json("The new secret.", SecretView)},
                (*_WHO, *_WRITE),
            ),
        },
    }


def _operation(
    operation_id: str,
    summary: str,
    answers: Mapping[int, Answer],
    refusals: Sequence[type[errors.StenobirdError]],
    *,
    body: type[BaseModel] | Mapping[str, Any] | None = None,
    parameters: Sequence[Mapping[str, Any]] = (),
) -> Operation:
    return Operation(
        summary,
        TAG,
        operation_id,
        answers,
        refusals,
        parameters=parameters,
        body=_content(body) if isinstance(body, type) else body,
        dialect="alefbot",
    )


def _json(description: str, model: type[BaseModel], headers: Sequence[str] = ()) -> Answer:
    return Answer(description, _content(model), headers)


def _content(model: type[BaseModel]) -> dict[str, Any]:
    return json_of(SCHEMA_PREFIX + model.__name__)


def _number(name: str, lowest: int, highest: int, default: int, description: str) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": lowest, "maximum": highest, "default": default}
    return _parameter(name, "query", schema, description)
