"""The second dialect's table of operations for OpenAPI."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stenobird import errors
from stenobird.uploads.schemas import CreateUpload
from stenobird.web.alefbot import schemas
from stenobird.web.alefbot.bodies import STATUSES
from stenobird.web.alefbot.errors import OWN_CODES, ScopeViolation
from stenobird.web.openapi import Answer, Dialect, Operation, parameter
from stenobird.webhooks.schemas import SecretView

if TYPE_CHECKING:
    from collections.abc import Sequence

TAG = "AlefBot dialect"

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
_RATE = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
_TEXT = {"type": "string"}
_JOB_ID = parameter("job_id", "path", _TEXT, "Transcription job id.")
_UPLOAD_ID = parameter("upload_id", "path", _TEXT, "Upload slot id returned by POST /uploads.")
_IDEMPOTENCY = parameter(
    "Idempotency-Key",
    "header",
    {"type": "string", "pattern": "^[!-~]{1,255}$"},
    "Deduplicate retries for 24h.",
)
_IF_NONE_MATCH = parameter("If-None-Match", "header", _TEXT, "ETag for a conditional GET.")
_FORMAT = parameter(
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


def alefbot_operations(prefix: str) -> Dialect:
    """Return the dialect below `{prefix}/api/v1`."""
    root = f"{prefix}/api/v1"
    job = f"{root}/transcriptions/{{job_id}}"
    artifact_errors = (
        *_WHO,
        errors.UnsupportedArtifactFormat,
        errors.JobNotFound,
        errors.ArtifactNotReady,
        errors.ArtifactNotFound,
    )
    artifact = {
        200: Answer("Full artifact content body.", schema={"type": "string"}, media=_ARTIFACT_TYPES),
        304: Answer("Unchanged since the ETag."),
    }
    return Dialect(
        (
            Operation(
                "POST",
                f"{root}/keys",
                TAG,
                "alefbotCreateKey",
                "Create a new public API key for the authenticated account.",
                {200: Answer("New key generated and persisted.", schemas.CreatedKey)},
                (*_WHO, ScopeViolation, errors.LiveKeyRequired, *_BODY),
                body=schemas.CreateKey,
            ),
            Operation(
                "GET",
                f"{root}/keys",
                TAG,
                "alefbotListKeys",
                "List all public API keys for the authenticated user.",
                {200: Answer("Array of key records.", schema=_array("KeyItem"))},
                _WHO,
            ),
            Operation(
                "GET",
                f"{root}/account",
                TAG,
                "alefbotAccount",
                "Read account tier and wallet balance before job submission.",
                {200: Answer("Current account state for API usage.", schemas.Account)},
                _WHO,
            ),
            Operation(
                "POST",
                f"{root}/uploads",
                TAG,
                "alefbotCreateUpload",
                "Create an upload slot and return an upload_id plus binary upload URL.",
                {201: Answer("Expires in 30 minutes.", schemas.UploadSlot, headers=_RATE)},
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
            Operation(
                "PUT",
                f"{root}/uploads/{{upload_id}}/binary",
                TAG,
                "alefbotUploadBinary",
                "Upload raw media bytes to an existing upload slot.",
                {200: Answer("Upload acknowledged.", schemas.UploadReceived, headers=_RATE)},
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
                raw_body={"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
                parameters=(_UPLOAD_ID,),
            ),
            Operation(
                "POST",
                f"{root}/transcriptions",
                TAG,
                "alefbotCreateTranscription",
                "Create a transcription job from a previously uploaded file.",
                {
                    200: Answer("Completed at once (test keys).", schemas.CreatedJob, headers=_RATE),
                    202: Answer("Job queued (live keys).", schemas.CreatedJob, headers=_RATE),
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
            Operation(
                "GET",
                f"{root}/transcriptions",
                TAG,
                "alefbotListTranscriptions",
                "List API-origin transcription jobs with cursor-style pagination.",
                {200: Answer("Paginated transcription job list.", schemas.JobList, headers=_RATE)},
                (*_WHO, *_COUNTED, *_BODY),
                parameters=(
                    _number("limit", 1, 100, 20, "Page size (1-100)."),
                    _number("cursor", 0, 10**9, 0, "Zero-based offset cursor."),
                    parameter(
                        "status", "query", {"type": "string", "enum": list(STATUSES)}, "Status filter."
                    ),
                ),
            ),
            Operation(
                "GET",
                job,
                TAG,
                "alefbotTranscription",
                "Read a single API-origin transcription job and track status progression.",
                {
                    200: Answer("Current job snapshot.", schemas.Job, headers=("ETag", *_RATE)),
                    304: Answer("Unchanged since the ETag."),
                },
                (*_WHO, *_COUNTED, errors.JobNotFound),
                parameters=(_JOB_ID, _IF_NONE_MATCH),
            ),
            Operation(
                "DELETE",
                job,
                TAG,
                "alefbotDeleteTranscription",
                "Cancel a job under way, or remove a finished one with what it heard.",
                {
                    202: Answer("It is cancelled, or will be within moments.", schemas.Job),
                    204: Answer("It is removed."),
                },
                (*_WHO, *_WRITE, errors.JobNotFound),
                parameters=(_JOB_ID,),
            ),
            Operation(
                "GET",
                f"{job}/artifact",
                TAG,
                "alefbotArtifact",
                "Download output artifact for completed jobs.",
                artifact,
                artifact_errors,
                parameters=(_JOB_ID, _FORMAT, _IF_NONE_MATCH),
            ),
            Operation(
                "GET",
                f"{job}/artifact.{{suffix}}",
                TAG,
                "alefbotArtifactBySuffix",
                "The same, the format named by the path.",
                artifact,
                artifact_errors,
                parameters=(
                    _JOB_ID,
                    parameter(
                        "suffix", "path", {"type": "string", "enum": ["srt", "txt", "docx"]}, "The format."
                    ),
                    _IF_NONE_MATCH,
                ),
            ),
            Operation(
                "POST",
                f"{root}/webhooks/test",
                TAG,
                "alefbotTestWebhook",
                "Send a signed dummy webhook payload.",
                {200: Answer("Webhook test dispatched with signed headers.", schemas.WebhookTested)},
                (*_WHO, *_WRITE, *_BODY, *_TARGET),
                body=schemas.TestWebhook,
            ),
            Operation(
                "GET",
                f"{root}/webhooks/secret",
                TAG,
                "alefbotWebhookSecret",
                "Read the secret that signs webhooks.",
                {200: Answer("The secret.", SecretView)},
                (*_WHO, *_WRITE),
            ),
            Operation(
                "POST",
                f"{root}/webhooks/secret",
                TAG,
                "alefbotRotateWebhookSecret",
                "Rotate the secret that signs webhooks.",
                {200: Answer("The new secret.", SecretView)},
                (*_WHO, *_WRITE),
            ),
        ),
        schemas.ErrorBody,
        OWN_CODES,
    )


def _array(model: str) -> dict[str, Any]:
    return {"type": "array", "items": {"$ref": f"#/components/schemas/{model}"}}


def _number(name: str, lowest: int, highest: int, default: int, description: str) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": lowest, "maximum": highest, "default": default}
    return parameter(name, "query", schema, description)
