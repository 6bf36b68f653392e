"""The handlers of the AlefBot dialect; `operations` has their addresses."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from stenobird.errors import (
    ArtifactNotFound,
    ArtifactNotReady,
    JobNotFound,
    QueueBusy,
    RateLimited,
    TranslationUnavailable,
    UploadSizeMismatch,
    ValidationFailed,
)
from stenobird.jobs.service import new_job_id
from stenobird.jobs.spec import JobSpec, Upload, uploaded_source
from stenobird.ports import JobPage, RecognitionOptions
from stenobird.speech import premium_units
from stenobird.uploads.schemas import CreateUpload
from stenobird.web.alefbot import schemas
from stenobird.web.alefbot.artifacts import wanted_format
from stenobird.web.alefbot.errors import dialect_root
from stenobird.web.alefbot.requests import once, read_raw, standing_of
from stenobird.web.alefbot.schemas import STATUSES, parse_body
from stenobird.web.representations import attachment, field_values, json_response, revalidated
from stenobird.web.requests import (
    base_url_of,
    body_chunks,
    json_object,
    services_of,
    whole_number,
)
from stenobird.webhooks.schemas import SecretView

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request

    from stenobird.ports import Caller, JobRecord

DEFAULT_PAGE: Final = 20
MAX_PAGE: Final = 100
MAX_CURSOR: Final = 10**9
ORIGIN: Final = "alefbot"
"""The origin of jobs created here."""

_NO_STORE = {"Cache-Control": "no-store"}


async def list_keys(request: Request, caller: Caller) -> Response:
    """List them."""
    keys = await services_of(request).keys.own_list(caller)
    return json_response([schemas.KeyItem.model_validate(key) for key in keys])


async def create_key(request: Request, caller: Caller) -> Response:
    """Make one. Not idempotent: an answer with a secret is not stored."""
    wish = parse_body(schemas.CreateKey, json_object(request, await read_raw(request)))
    secret, key = await services_of(request).keys.own_create(
        caller, name=wish.name, mode=wish.mode, scope=wish.scope, family="alef_sk"
    )
    return json_response(schemas.CreatedKey(key=secret, item=key))


async def get_account(request: Request, caller: Caller) -> Response:
    """Answer with its plan and its credits."""
    standing = standing_of(request)
    return json_response(
        schemas.Account(
            account_id=caller.account_id,
            effective_tier=standing.tier,
            api_access=True,
            wallet_balance=standing.available_units,
            status=standing.state,
        )
    )


async def create_upload(request: Request, caller: Caller) -> Response:
    """Make one: 201 and where its bytes go."""
    return await once(
        request,
        caller,
        new_id=services_of(request).uploads.new_id,
        make=lambda upload_id, raw: _create_upload(request, caller, raw, upload_id),
    )


async def _create_upload(request: Request, caller: Caller, raw: bytes, upload_id: str) -> Response:
    wish = parse_body(CreateUpload, json_object(request, raw))
    slot = await services_of(request).uploads.create(wish, caller, upload_id=upload_id)
    body = schemas.UploadSlot(
        upload_id=slot.id,
        upload_url=f"{dialect_root(request.scope)}/uploads/{slot.id}/binary",
        upload_method="PUT",
        expires_at=slot.expires_at,
    )
    return json_response(body, 201)


async def receive_upload(request: Request, caller: Caller) -> Response:
    """Take them, straight into the store."""
    upload_id: str = request.path_params["upload_id"]
    length = request.headers.get("content-length", "")
    try:
        received = await services_of(request).uploads.write(
            upload_id,
            caller,
            _upload_chunks(request),
            content_length=int(length) if length.isdigit() else None,
        )
    except UploadSizeMismatch as exc:
        if request.headers.get("content-type", "").lower().startswith("multipart/"):
            raise UploadSizeMismatch(
                "The body is a form. Send the bytes of the file themselves as the body "
                "(curl: --data-binary @file).",
                details=exc.details,
            ) from exc
        raise
    return json_response(schemas.UploadReceived(ok=True, bytes_received=received))


async def create_job(request: Request, caller: Caller) -> Response:
    """Make one of an upload: 202 and queued, or 200 and completed for a test key."""
    return await once(
        request,
        caller,
        new_id=lambda: new_job_id(ORIGIN),
        make=lambda job_id, raw: _create_job(request, caller, raw, job_id),
    )


async def list_jobs(request: Request, caller: Caller) -> Response:
    """List them, newest first, by offset."""
    query = request.query_params
    limit = _whole_number(query.get("limit"), "limit", default=DEFAULT_PAGE, lowest=1, highest=MAX_PAGE)
    offset = _whole_number(query.get("cursor"), "cursor", default=0, lowest=0, highest=MAX_CURSOR)
    state = query.get("status")
    if state is not None and state not in STATUSES:
        raise ValidationFailed(f'"status" must be one of: {", ".join(STATUSES)}.')
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


async def _create_job(request: Request, caller: Caller, raw: bytes, job_id: str) -> Response:
    services = services_of(request)
    wish = parse_body(schemas.CreateTranscription, json_object(request, raw))
    if wish.translate_to_hebrew and (refusal := services.translation_refusal()) is not None:
        raise TranslationUnavailable(refusal)
    spec = JobSpec(
        source=Upload(wish.upload_id),
        options=RecognitionOptions(prompt=wish.user_prompt or None),
        tier=wish.model_tier,
        translate_to="he" if wish.translate_to_hebrew else None,
        unit_factor=premium_units(services.settings) if wish.model_tier == "premium_quality" else 1,
        webhook_url=wish.webhook_url,
        origin=ORIGIN,
    )
    try:
        job = await services.jobs.create(spec, caller=caller, base_url=base_url_of(request), job_id=job_id)
    except RateLimited as exc:
        # Too many jobs under way. This dialect's code for it would send clients to X-RateLimit-Reset.
        raise QueueBusy(
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


async def get_job(request: Request, caller: Caller) -> Response:
    """Answer with the job as it stands, or 304 where the client has it already."""
    body = schemas.Job.of(await _job(request, caller), dialect_root(request.scope))
    return revalidated(request, body.encode(), "application/json")


async def delete_job(request: Request, caller: Caller) -> Response:
    """Cancel a job under way (202, as it stands then), or remove a finished one (204)."""
    job = await services_of(request).jobs.cancel_or_delete(_job_id(request), caller, ORIGIN)
    if job is None:
        return Response(status_code=204, headers=_NO_STORE)
    return json_response(schemas.Job.of(job, dialect_root(request.scope)), 202)


async def get_artifact(request: Request, caller: Caller) -> Response:
    """Answer with the whole file."""
    wanted = wanted_format(
        request.query_params.get("format"),
        request.path_params.get("suffix"),
        field_values(request, "accept"),
    )
    job = await _job(request, caller)
    if not job.terminal:
        raise ArtifactNotReady
    if not job.result_ready:
        raise ArtifactNotFound(f"The job is {job.status}, so there is no artifact. Its status says why.")
    transcript = await services_of(request).jobs.transcript_of(job)
    if transcript.title is None and job.upload_id is not None:
        transcript = replace(transcript, title=uploaded_source(job).title)  # a test key's job
    # Hours of text take a while to lay out; the event loop has streams to serve meanwhile.
    document = await asyncio.to_thread(wanted.encode, transcript)
    response = revalidated(request, document, wanted.media_type)
    response.headers["Content-Disposition"] = attachment(job.id, transcript.title, wanted.name)
    return response


async def send_test_webhook(request: Request, caller: Caller) -> Response:
    """Send a signed dummy event now, and say what came of it: 200 also when the receiver failed."""
    wish = parse_body(schemas.TestWebhook, json_object(request, await read_raw(request)))
    sent = await services_of(request).webhook_sender.send_test(
        caller.account_id, wish.webhook_url, wish.event_type, mode=caller.mode
    )
    return json_response(schemas.WebhookTested.model_validate(sent))


async def get_webhook_secret(request: Request, caller: Caller) -> Response:
    """Return the secret. The account gets one now if it has none."""
    return json_response(SecretView.of(await services_of(request).webhooks.secrets(caller), caller.mode))


async def rotate_webhook_secret(request: Request, caller: Caller) -> Response:
    """Make a new secret. From now on `X-AlefBot-Signature` is made with it."""
    return json_response(SecretView.of(await services_of(request).webhooks.rotate(caller), caller.mode))


async def _job(request: Request, caller: Caller) -> JobRecord:
    return await services_of(request).jobs.get(_job_id(request), caller, ORIGIN)


def _job_id(request: Request) -> str:
    sent: str = request.path_params["job_id"]
    try:
        job_id = str(uuid.UUID(sent))
    except ValueError as exc:
        raise JobNotFound from exc
    if job_id != sent.lower():
        # In braces, without hyphens: Python reads them, but no answer of ours has such an id.
        raise JobNotFound
    return job_id


async def _upload_chunks(request: Request) -> AsyncGenerator[bytes]:
    """Yield the body. Raises `UploadSizeMismatch` when the client sends nothing for too long."""
    try:
        async for chunk in body_chunks(request, silence_seconds=services_of(request).body_timeout_seconds):
            yield chunk
    except TimeoutError as exc:
        raise UploadSizeMismatch("The upload stalled for too long. Send the file again.") from exc


def _whole_number(text: str | None, name: str, *, default: int, lowest: int, highest: int) -> int:
    if text is None:
        return default
    number = whole_number(text)
    if number is not None and lowest <= number <= highest:
        return number
    raise ValidationFailed(
        f'"{name}" must be a whole number from {lowest} to {highest}.',
        details={"errors": [{"field": name, "message": "out of range or not a whole number"}]},
    )
