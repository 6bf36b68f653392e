"""The endpoints of the AlefBot dialect: uploads, jobs and their artifacts, keys, webhooks."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from stenobird import errors
from stenobird.jobs.service import new_job_id
from stenobird.jobs.spec import JobSpec, uploaded_source
from stenobird.ports import JobExtra, JobPage, RecognitionOptions
from stenobird.speech.engines import premium_units
from stenobird.uploads import CreateUpload
from stenobird.web.alefbot import schemas
from stenobird.web.alefbot.requests import ARTIFACTS, authenticate, once, read_raw, wanted_format
from stenobird.web.alefbot.schemas import (
    API_PATH,
    STATUSES,
    ScopeViolation,
    dialect_root,
    new_request_id,
    parse_body,
    render,
)
from stenobird.web.openapi import Answer, Operation, header, json_of, path, query
from stenobird.web.representations import document, field_values, json_response, no_content, revalidated
from stenobird.web.requests import base_url_of, body_chunks, json_object, services_of, whole_number
from stenobird.web.routing import Dialect, Endpoint
from stenobird.webhooks.schemas import SecretView

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from starlette.requests import Request
    from starlette.responses import Response

    from stenobird.ports import Caller, JobRecord

ORIGIN: Final = "alefbot"
"""The origin of jobs created here."""

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

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_STRING: Final = {"type": "string"}
_OPTIONAL: Final = {"required": False}
_JOB_ID: Final = path("job_id", "Transcription job id.")
_IDEMPOTENCY_KEY: Final = (
    header("Idempotency-Key", "Deduplicate retries for 24h.", {"type": "string", "pattern": "^[!-~]{1,255}$"})
    | _OPTIONAL
)
_IF_NONE_MATCH: Final = header("If-None-Match", "ETag for a conditional GET.") | _OPTIONAL

_Operation = partial(Operation, "AlefBot dialect")
_ARTIFACT: Final = {
    200: Answer("Full artifact content body.", {one.accepts[0]: {"schema": _STRING} for one in ARTIFACTS}),
    304: Answer("Unchanged since the ETag."),
}
_ARTIFACT_ERRORS: Final = (
    errors.UnsupportedArtifactFormat,
    errors.JobNotFound,
    errors.ArtifactNotReady,
    errors.ArtifactNotFound,
)
_FORMATS: Final = ["srt", "txt", "docx", "plain_text"]

_LIMIT: Final = query(
    "limit", "Page size (1-100).", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}
)
_CURSOR: Final = query(
    "cursor",
    "Zero-based offset cursor.",
    {"type": "integer", "minimum": 0, "maximum": 10**9, "default": 0},
)


@_Operation(
    "List all public API keys for the authenticated user.",
    {200: Answer("Array of key records.", json_of({"type": "array", "items": schemas.KeyItem}))},
)
async def list_keys(request: Request, caller: Caller) -> Response:
    """List the account's keys, revoked ones included. A test key lists test keys only."""
    keys = await services_of(request).keys.own_list(caller)
    return json_response([schemas.KeyItem.model_validate(key) for key in keys])


@_Operation(
    "Create a new public API key for the authenticated account.",
    {200: Answer("New key generated and persisted.", schemas.CreatedKey)},
    (errors.LiveKeyRequired, errors.ValidationFailed),
    body=schemas.CreateKey,
)
async def create_key(request: Request, caller: Caller) -> Response:
    """Create a key. `Idempotency-Key` is ignored, since responses with a secret are not stored."""
    wanted = parse_body(schemas.CreateKey, json_object(request, await read_raw(request)))
    secret, key = await services_of(request).keys.own_create(
        caller, name=wanted.name, mode=wanted.mode, scope=wanted.scope, family="alef_sk"
    )
    return json_response(schemas.CreatedKey(key=secret, item=key))


@_Operation(
    "Read account tier and wallet balance before job submission.",
    {200: Answer("Current account state for API usage.", schemas.Account)},
    id="alefbotAccount",
)
async def get_account(request: Request, caller: Caller) -> Response:
    """Return the account's plan and credits."""
    account, wallet = await services_of(request).accounts.own_view(caller)
    return json_response(
        schemas.Account(
            account_id=account.id,
            effective_tier=account.tier,
            api_access=True,
            wallet_balance=wallet.available_units,
            status=account.state,
        )
    )


@_Operation(
    "Create an upload slot and return an upload_id plus binary upload URL.",
    {201: Answer("Expires in 30 minutes.", schemas.UploadSlot, _RATE)},
    (*_REPEATABLE, errors.ValidationFailed, errors.UploadTooLarge, errors.QueueBusy),
    body=CreateUpload,
    parameters=[_IDEMPOTENCY_KEY],
)
async def create_upload(request: Request, caller: Caller) -> Response:
    """Create an upload slot: 201 with the URL to send the file to."""
    uploads = services_of(request).uploads

    async def make(upload_id: str | None, raw: bytes) -> Response:
        wanted = parse_body(CreateUpload, json_object(request, raw))
        slot = await uploads.create(wanted, caller, upload_id=upload_id)
        body = schemas.UploadSlot(
            upload_id=slot.id,
            upload_url=f"{dialect_root(request.scope)}/uploads/{slot.id}/binary",
            upload_method="PUT",
            expires_at=slot.expires_at,
        )
        return json_response(body, 201)

    return await once(request, caller, new_id=uploads.new_id, make=make)


@_Operation(
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
)
async def upload_binary(request: Request, caller: Caller) -> Response:
    """Send the bytes of the file as the body. A second upload to the same slot replaces the first."""
    upload_id: str = request.path_params["upload_id"]
    length = request.headers.get("content-length", "")
    try:
        received = await services_of(request).uploads.write(
            upload_id,
            caller,
            _upload_chunks(request),
            content_length=int(length) if length.isdigit() else None,
        )
    except errors.UploadSizeMismatch as exc:
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            raise errors.UploadSizeMismatch(
                "The body is a form. Send the bytes of the file themselves as the body "
                "(curl: --data-binary @file).",
                details=exc.details,
            ) from exc
        raise
    return json_response(schemas.UploadReceived(ok=True, bytes_received=received))


@_Operation(
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
)
async def create_transcription(request: Request, caller: Caller) -> Response:
    """Create a job for an upload: 202 and `queued`, or with a test key 200 and `completed`."""
    make = partial(_create_job, request, caller)
    return await once(request, caller, new_id=partial(new_job_id, ORIGIN), make=make)


@_Operation(
    "List API-origin transcription jobs with cursor-style pagination.",
    {200: Answer("Paginated transcription job list.", schemas.JobList, _RATE)},
    (errors.RateLimited, errors.ValidationFailed),
    parameters=[
        _LIMIT | _OPTIONAL,
        _CURSOR | _OPTIONAL,
        query("status", "Status filter.", {"type": "string", "enum": list(STATUSES)}) | _OPTIONAL,
    ],
)
async def list_transcriptions(request: Request, caller: Caller) -> Response:
    """List jobs, newest first; `cursor` is an offset."""
    limit, offset = _whole_number(request, _LIMIT), _whole_number(request, _CURSOR)
    state = request.query_params.get("status")
    if state is not None and state not in STATUSES:
        raise errors.ValidationFailed(f'"status" must be one of: {", ".join(STATUSES)}.')
    status = STATUSES[state] if state is not None else None
    page = JobPage(origin=ORIGIN, offset=offset, limit=limit, status=status)
    jobs, _ = await services_of(request).jobs.list(caller, page)
    total = await services_of(request).jobs.count(caller, page)
    root = dialect_root(request.scope)
    links = schemas.PageLinks.of(
        f"{root}/transcriptions",
        {"status": state} if state is not None else {},
        offset=offset,
        limit=limit,
        total=total,
    )
    items = [schemas.Job.of(job, root) for job in jobs]
    return json_response(schemas.JobList(items=items, total=total, links=links))


async def _create_job(request: Request, caller: Caller, job_id: str | None, raw: bytes) -> Response:
    services = services_of(request)
    wanted = parse_body(schemas.CreateTranscription, json_object(request, raw))
    if wanted.translate_to_hebrew and (refusal := services.translation_refusal()) is not None:
        raise errors.TranslationUnavailable(refusal)
    spec = JobSpec(
        upload_id=wanted.upload_id,
        options=RecognitionOptions(prompt=wanted.user_prompt or None),
        extra=JobExtra(
            tier=wanted.model_tier,
            translate_to="he" if wanted.translate_to_hebrew else None,
            unit_factor=premium_units(services.settings) if wanted.model_tier == "premium_quality" else 1,
        ),
        webhook_url=wanted.webhook_url,
        origin=ORIGIN,
    )
    try:
        job = await services.jobs.create(spec, caller=caller, base_url=base_url_of(request), job_id=job_id)
    except errors.RateLimited as exc:
        # Too many open jobs. `rate_limit_exceeded` would make clients wait for X-RateLimit-Reset.
        raise errors.QueueBusy(
            exc.message, details=exc.details, retry_after_seconds=exc.retry_after_seconds
        ) from exc
    path = f"{dialect_root(request.scope)}/transcriptions/{job.id}"
    summary = (await services.jobs.transcript_of(job)).text if job.mode == "test" else None
    body = schemas.CreatedJob(
        job_id=job.id,
        status="queued" if summary is None else "completed",
        links=schemas.SelfLink.model_validate({"self": path}),
        summary=summary,
    )
    return json_response(body, 202 if summary is None else 200, {"Location": path})


@_Operation(
    "Read a single API-origin transcription job and track status progression.",
    {
        200: Answer("Current job snapshot.", schemas.Job, ("ETag", *_RATE)),
        304: Answer("Unchanged since the ETag."),
    },
    (errors.RateLimited, errors.JobNotFound),
    parameters=[_JOB_ID, _IF_NONE_MATCH],
    id="alefbotTranscription",
)
async def get_job(request: Request, caller: Caller) -> Response:
    """Return the job, or 304 if the client has its current state."""
    body = schemas.Job.of(await _job(request, caller), dialect_root(request.scope))
    return revalidated(request, body.encode(), "application/json")


@_Operation(
    "Cancel a running job, or delete a finished one with its artifacts.",
    {202: Answer("Cancelled, or cancelled shortly.", schemas.Job), 204: Answer("Deleted.")},
    (errors.JobNotFound,),
    parameters=[_JOB_ID],
)
async def delete_transcription(request: Request, caller: Caller) -> Response:
    """Cancel a running job (202 with the job), or delete a finished one (204)."""
    job = await services_of(request).jobs.cancel_or_delete(_job_id(request), caller, ORIGIN)
    if job is None:
        return no_content()
    return json_response(schemas.Job.of(job, dialect_root(request.scope)), 202)


@_Operation(
    "Download output artifact for completed jobs.",
    _ARTIFACT,
    _ARTIFACT_ERRORS,
    parameters=[
        _JOB_ID,
        query("format", "Requested format.", {**_STRING, "enum": _FORMATS, "default": "srt"}) | _OPTIONAL,
        _IF_NONE_MATCH,
    ],
    id="alefbotArtifact",
)
async def get_artifact(request: Request, caller: Caller) -> Response:
    """Return the transcript as a file, in the format of `?format=`, else of `Accept`, else as srt."""
    chosen = wanted_format(
        request.query_params.get("format"),
        request.path_params.get("suffix"),
        field_values(request, "accept"),
    )
    job = await _job(request, caller)
    if not job.terminal:
        raise errors.ArtifactNotReady
    if not job.result_ready:
        raise errors.ArtifactNotFound(
            f"The job is {job.status}, so there is no artifact. Its status says why."
        )
    transcript = await services_of(request).jobs.transcript_of(job)
    if transcript.title is None and job.upload_id is not None:
        transcript = replace(transcript, title=uploaded_source(job).title)  # a test key's job
    return await document(request, job.id, transcript, chosen)


@_Operation(
    "Download an artifact, with the format in the path.",
    _ARTIFACT,
    _ARTIFACT_ERRORS,
    parameters=[
        _JOB_ID,
        path("suffix", "The format.", {**_STRING, "enum": _FORMATS[:3]}),
        _IF_NONE_MATCH,
    ],
    id="alefbotArtifactBySuffix",
)
async def get_artifact_by_suffix(request: Request, caller: Caller) -> Response:
    """Return the transcript as a file in the format that the path names."""
    return await get_artifact(request, caller)


@_Operation(
    "Send a signed dummy webhook payload.",
    {200: Answer("Webhook test dispatched with signed headers.", schemas.WebhookTested)},
    (errors.ValidationFailed, *_TARGET),
    body=schemas.TestWebhook,
    id="alefbotTestWebhook",
)
async def send_test_webhook(request: Request, caller: Caller) -> Response:
    """Send a signed test event now, and return the result: 200, also if the receiver failed."""
    wanted = parse_body(schemas.TestWebhook, json_object(request, await read_raw(request)))
    event_id, status, problem = await services_of(request).webhooks.send_test(
        caller.account_id, wanted.webhook_url, wanted.event_type, mode=caller.mode
    )
    delivered = problem is None
    body = schemas.WebhookTested(
        ok=delivered, event_id=event_id, delivered=delivered, status_code=status, error=problem
    )
    return json_response(body)


@_Operation(
    "Read the secret that signs webhooks.",
    {200: Answer("The secret.", SecretView)},
    id="alefbotWebhookSecret",
)
async def get_webhook_secret(request: Request, caller: Caller) -> Response:
    """Return the signing secret; create it if there is none."""
    return json_response(SecretView.of(await services_of(request).webhooks.secrets(caller), caller.mode))


@_Operation(
    "Rotate the secret that signs webhooks.",
    {200: Answer("The new secret.", SecretView)},
)
async def rotate_webhook_secret(request: Request, caller: Caller) -> Response:
    """Create a new secret, which signs `X-AlefBot-Signature` from now on."""
    return json_response(SecretView.of(await services_of(request).webhooks.rotate(caller), caller.mode))


async def _job(request: Request, caller: Caller) -> JobRecord:
    return await services_of(request).jobs.get(_job_id(request), caller, ORIGIN)


def _job_id(request: Request) -> str:
    job_id: str = request.path_params["job_id"].lower()
    if not _UUID.fullmatch(job_id):
        raise errors.JobNotFound
    return job_id


async def _upload_chunks(request: Request) -> AsyncGenerator[bytes]:
    """Yield the body. Raises `RequestTooSlow` when the client sends nothing for too long."""
    try:
        async for chunk in body_chunks(request, silence_seconds=services_of(request).body_timeout_seconds):
            yield chunk
    except TimeoutError as exc:
        raise errors.RequestTooSlow("The upload stalled for too long. Send the file again.") from exc


def _whole_number(request: Request, parameter: Mapping[str, Any]) -> int:
    """Return the number in the query parameter that is described like this."""
    name, schema = parameter["name"], parameter["schema"]
    lowest, highest = schema["minimum"], schema["maximum"]
    number: int | None = schema["default"]
    if (text := request.query_params.get(name)) is not None:
        number = whole_number(text)
    if number is not None and lowest <= number <= highest:
        return number
    raise errors.ValidationFailed(
        f'"{name}" must be a whole number from {lowest} to {highest}.',
        details={"errors": [{"field": name, "message": "out of range or not a whole number"}]},
    )


def dialect(prefix: str) -> Dialect:
    """Return the dialect at `{prefix}/api/v1`."""
    root = prefix + API_PATH
    jobs, job = f"{root}/transcriptions", f"{root}/transcriptions/{{job_id}}"
    return Dialect(
        roots=(f"{root}/",),
        render=partial(render, root=root),
        request_id=new_request_id,
        authenticate=authenticate,
        endpoints=(
            Endpoint("POST", f"{root}/keys", create_key, write=True, read_only_error=ScopeViolation),
            Endpoint("GET", f"{root}/keys", list_keys),
            Endpoint("GET", f"{root}/account", get_account),
            Endpoint("POST", f"{root}/uploads", create_upload, write=True),
            Endpoint("PUT", f"{root}/uploads/{{upload_id}}/binary", upload_binary, write=True, limited=True),
            Endpoint("POST", jobs, create_transcription, write=True),
            Endpoint("GET", jobs, list_transcriptions, limited=True),
            Endpoint("GET", job, get_job, limited=True),
            Endpoint("DELETE", job, delete_transcription, write=True),
            Endpoint("GET", f"{job}/artifact", get_artifact),
            Endpoint("GET", f"{job}/artifact.{{suffix}}", get_artifact_by_suffix),
            Endpoint("POST", f"{root}/webhooks/test", send_test_webhook, write=True),
            Endpoint("GET", f"{root}/webhooks/secret", get_webhook_secret, write=True),
            Endpoint("POST", f"{root}/webhooks/secret", rotate_webhook_secret, write=True),
        ),
        errors=_AUTHENTICATION,
        error_body=schemas.ErrorBody,
        schema_prefix="AlefBot",
    )
