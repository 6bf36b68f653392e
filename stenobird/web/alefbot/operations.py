"""The endpoints of the AlefBot dialect and their description."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from stenobird import errors
from stenobird.uploads.schemas import CreateUpload
from stenobird.web.alefbot import routes, schemas
from stenobird.web.alefbot.errors import API_PATH, ScopeViolation, new_request_id, render
from stenobird.web.alefbot.requests import authenticate
from stenobird.web.openapi.operation import Answer, Operation, header, json_of, path, query
from stenobird.web.routing import Dialect, Endpoint
from stenobird.webhooks.schemas import SecretView

_AUTHENTICATION: Final = (
    errors.MissingAPIKey,
    errors.InvalidAPIKey,
    errors.InvalidAPIKeyMode,
    errors.InvalidAPIKeyUser,
    errors.PlanDowngraded,
    errors.StorageUnavailable,
)
_REPEATABLE: Final = (errors.RateLimited, errors.IdempotencyMismatch, errors.IdempotencyInProgress)
_TARGET: Final = (errors.InvalidWebhookURL, errors.WebhookTargetForbidden)
_RATE: Final = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")

_STRING: Final = {"type": "string"}
_OPTIONAL: Final = {"required": False}
_JOB_ID: Final = path("job_id", "Transcription job id.")
_IDEMPOTENCY_KEY: Final = (
    header("Idempotency-Key", "Deduplicate retries for 24h.", {"type": "string", "pattern": "^[!-~]{1,255}$"})
    | _OPTIONAL
)
_IF_NONE_MATCH: Final = header("If-None-Match", "ETag for a conditional GET.") | _OPTIONAL
_ARTIFACT_TYPES: Final = (
    "application/x-subrip",
    "text/plain",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
)

_Operation = partial(Operation, "AlefBot dialect")


def dialect(prefix: str) -> Dialect:
    """Return the dialect at `{prefix}/api/v1`."""
    root = prefix + API_PATH
    return Dialect(
        roots=(root,),
        render=partial(render, root=root),
        request_id=new_request_id,
        authenticate=authenticate,
        endpoints=(*_account(root), *_uploads(root), *_jobs(root), *_webhooks(root)),
        errors=_AUTHENTICATION,
        error_body=schemas.ErrorBody,
        schema_prefix="AlefBot",
    )


def _account(root: str) -> tuple[Endpoint, ...]:
    return (
        Endpoint(
            "POST",
            f"{root}/keys",
            routes.create_key,
            write=True,
            read_only_error=ScopeViolation,
            doc=_Operation(
                "alefbotCreateKey",
                "Create a new public API key for the authenticated account.",
                {200: Answer("New key generated and persisted.", schemas.CreatedKey)},
                (errors.LiveKeyRequired, errors.ValidationFailed),
                body=schemas.CreateKey,
            ),
        ),
        Endpoint(
            "GET",
            f"{root}/keys",
            routes.list_keys,
            doc=_Operation(
                "alefbotListKeys",
                "List all public API keys for the authenticated user.",
                {200: Answer("Array of key records.", json_of({"type": "array", "items": schemas.KeyItem}))},
            ),
        ),
        Endpoint(
            "GET",
            f"{root}/account",
            routes.get_account,
            doc=_Operation(
                "alefbotAccount",
                "Read account tier and wallet balance before job submission.",
                {200: Answer("Current account state for API usage.", schemas.Account)},
            ),
        ),
    )


def _uploads(root: str) -> tuple[Endpoint, ...]:
    return (
        Endpoint(
            "POST",
            f"{root}/uploads",
            routes.create_upload,
            write=True,
            doc=_Operation(
                "alefbotCreateUpload",
                "Create an upload slot and return an upload_id plus binary upload URL.",
                {201: Answer("Expires in 30 minutes.", schemas.UploadSlot, _RATE)},
                (*_REPEATABLE, errors.ValidationFailed, errors.UploadTooLarge, errors.QueueBusy),
                body=CreateUpload,
                parameters=[_IDEMPOTENCY_KEY],
            ),
        ),
        Endpoint(
            "PUT",
            f"{root}/uploads/{{upload_id}}/binary",
            routes.receive_upload,
            write=True,
            limited=True,
            doc=_Operation(
                "alefbotUploadBinary",
                "Upload raw media bytes to an existing upload slot.",
                {200: Answer("Upload acknowledged.", schemas.UploadReceived, _RATE)},
                (
                    errors.RateLimited,
                    errors.EmptyUploadBody,
                    errors.UploadSizeMismatch,
                    errors.UploadNotFound,
                    errors.UploadSlotExpired,
                    errors.QueueBusy,
                ),
                body={"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
                parameters=[path("upload_id", "Upload slot id returned by POST /uploads.")],
            ),
        ),
    )


def _jobs(root: str) -> tuple[Endpoint, ...]:
    jobs, job = f"{root}/transcriptions", f"{root}/transcriptions/{{job_id}}"
    answers = {
        200: Answer(
            "Full artifact content body.", {media_type: {"schema": _STRING} for media_type in _ARTIFACT_TYPES}
        ),
        304: Answer("Unchanged since the ETag."),
    }
    artifact_errors = (
        errors.UnsupportedArtifactFormat,
        errors.JobNotFound,
        errors.ArtifactNotReady,
        errors.ArtifactNotFound,
    )
    formats = ["srt", "txt", "docx", "plain_text"]
    return (
        Endpoint(
            "POST",
            jobs,
            routes.create_job,
            write=True,
            doc=_Operation(
                "alefbotCreateTranscription",
                "Create a transcription job from a previously uploaded file.",
                {
                    200: Answer("Completed at once (test keys).", schemas.CreatedJob, _RATE),
                    202: Answer("Job queued (live keys).", schemas.CreatedJob, _RATE),
                },
                (
                    *_REPEATABLE,
                    errors.ValidationFailed,
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
                parameters=[_IDEMPOTENCY_KEY],
            ),
        ),
        Endpoint(
            "GET",
            jobs,
            routes.list_jobs,
            limited=True,
            doc=_Operation(
                "alefbotListTranscriptions",
                "List API-origin transcription jobs with cursor-style pagination.",
                {200: Answer("Paginated transcription job list.", schemas.JobList, _RATE)},
                (errors.RateLimited, errors.ValidationFailed),
                parameters=[
                    _number("limit", "Page size (1-100).", minimum=1, maximum=100, default=20),
                    _number("cursor", "Zero-based offset cursor.", minimum=0, maximum=10**9, default=0),
                    query("status", "Status filter.", {"type": "string", "enum": list(schemas.STATUSES)})
                    | _OPTIONAL,
                ],
            ),
        ),
        Endpoint(
            "GET",
            job,
            routes.get_job,
            limited=True,
            doc=_Operation(
                "alefbotTranscription",
                "Read a single API-origin transcription job and track status progression.",
                {
                    200: Answer("Current job snapshot.", schemas.Job, ("ETag", *_RATE)),
                    304: Answer("Unchanged since the ETag."),
                },
                (errors.RateLimited, errors.JobNotFound),
                parameters=[_JOB_ID, _IF_NONE_MATCH],
            ),
        ),
        Endpoint(
            "DELETE",
            job,
            routes.delete_job,
            write=True,
            doc=_Operation(
                "alefbotDeleteTranscription",
                "Cancel a job under way, or remove a finished one with what it heard.",
                {
                    202: Answer("It is cancelled, or will be within moments.", schemas.Job),
                    204: Answer("It is removed."),
                },
                (errors.JobNotFound,),
                parameters=[_JOB_ID],
            ),
        ),
        Endpoint(
            "GET",
            f"{job}/artifact",
            routes.get_artifact,
            doc=_Operation(
                "alefbotArtifact",
                "Download output artifact for completed jobs.",
                answers,
                artifact_errors,
                parameters=[
                    _JOB_ID,
                    query("format", "Requested format.", {**_STRING, "enum": formats, "default": "srt"})
                    | _OPTIONAL,
                    _IF_NONE_MATCH,
                ],
            ),
        ),
        Endpoint(
            "GET",
            f"{job}/artifact.{{suffix}}",
            routes.get_artifact,
            doc=_Operation(
                "alefbotArtifactBySuffix",
                "The same, the format named by the path.",
                answers,
                artifact_errors,
                parameters=[
                    _JOB_ID,
                    path("suffix", "The format.", {**_STRING, "enum": formats[:3]}),
                    _IF_NONE_MATCH,
                ],
            ),
        ),
    )


def _webhooks(root: str) -> tuple[Endpoint, ...]:
    return (
        Endpoint(
            "POST",
            f"{root}/webhooks/test",
            routes.send_test_webhook,
            write=True,
            doc=_Operation(
                "alefbotTestWebhook",
                "Send a signed dummy webhook payload.",
                {200: Answer("Webhook test dispatched with signed headers.", schemas.WebhookTested)},
                (errors.ValidationFailed, *_TARGET),
                body=schemas.TestWebhook,
            ),
        ),
        Endpoint(
            "GET",
            f"{root}/webhooks/secret",
            routes.get_webhook_secret,
            write=True,
            doc=_Operation(
                "alefbotWebhookSecret",
                "Read the secret that signs webhooks.",
                {200: Answer("The secret.", SecretView)},
            ),
        ),
        Endpoint(
            "POST",
            f"{root}/webhooks/secret",
            routes.rotate_webhook_secret,
            write=True,
            doc=_Operation(
                "alefbotRotateWebhookSecret",
                "Rotate the secret that signs webhooks.",
                {200: Answer("The new secret.", SecretView)},
            ),
        ),
    )


def _number(name: str, description: str, *, minimum: int, maximum: int, default: int) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": minimum, "maximum": maximum, "default": default}
    return query(name, description, schema) | _OPTIONAL
