"""The addresses of the second dialect."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from starlette.endpoints import HTTPEndpoint
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stenobird.bodies import utc_text
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
from stenobird.uploads.schemas import CreateUpload
from stenobird.web.alefbot.artifacts import wanted_format
from stenobird.web.alefbot.bodies import STATUSES, job_body, key_item, page_links
from stenobird.web.alefbot.errors import ScopeViolation, dialect_root
from stenobird.web.alefbot.requests import decode_json, dialect_of, endpoint, once, read_raw, standing_of
from stenobird.web.alefbot.schemas import CreateKey, CreateTranscription, TestWebhook, parse_body
from stenobird.web.representations import attachment, field_values, revalidated
from stenobird.web.requests import base_url_of, services_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from stenobird.ports import Caller, JobRecord

DEFAULT_PAGE: Final = 20
MAX_PAGE: Final = 100
MAX_CURSOR: Final = 10**9
ORIGIN: Final = "alefbot"
"""What the jobs of this API have as their origin."""

_NO_STORE = {"Cache-Control": "no-store"}


def routes(prefix: str) -> list[BaseRoute]:
    """Return the dialect's routes below `{prefix}/api/v1`."""
    root = f"{prefix}/api/v1"
    job = f"{root}/transcriptions/{{job_id}}"
    return [
        Route(f"{root}/keys", Keys),
        Route(f"{root}/account", Account),
        Route(f"{root}/uploads", Uploads),
        Route(f"{root}/uploads/{{upload_id}}/binary", Binary),
        Route(f"{root}/transcriptions", Transcriptions),
        Route(job, Transcription),
        Route(f"{job}/artifact", Artifact),
        Route(f"{job}/artifact.{{suffix}}", Artifact),
        Route(f"{root}/webhooks/test", WebhookTest),
    ]


class Keys(HTTPEndpoint):
    """The keys of the account."""

    @endpoint()
    async def get(self, request: Request, caller: Caller) -> Response:
        """List them."""
        keys = await dialect_of(request).keys.own_list(caller)
        return JSONResponse([key_item(key) for key in keys], headers=_NO_STORE)

    @endpoint(write=True, violation=ScopeViolation)
    async def post(self, request: Request, caller: Caller) -> Response:
        """Make one. Not idempotent: an answer with a secret is not stored."""
        wish = parse_body(CreateKey, decode_json(await read_raw(request)))
        secret, key = await dialect_of(request).keys.own_create(
            caller, name=wish.name, mode=wish.mode, scope=wish.scope, family="alef_sk"
        )
        return JSONResponse({"key": secret, "item": key_item(key)}, headers=_NO_STORE)


class Account(HTTPEndpoint):
    """The account of the key."""

    @endpoint()
    async def get(self, request: Request, caller: Caller) -> Response:
        """Answer with its plan and its credits."""
        standing = standing_of(request)
        body = {
            "account_id": caller.account_id,
            "effective_tier": standing.tier,
            "api_access": True,
            "wallet_balance": standing.available_units,
            "status": standing.state,
        }
        return JSONResponse(body, headers=_NO_STORE)


class Uploads(HTTPEndpoint):
    """Upload slots."""

    @endpoint(write=True)
    async def post(self, request: Request, caller: Caller) -> Response:
        """Make one: 201 and where its bytes go."""
        return await once(
            request,
            caller,
            new_id=dialect_of(request).uploads.new_id,
            make=lambda upload_id, raw: self._create(request, caller, raw, upload_id),
        )

    async def _create(self, request: Request, caller: Caller, raw: bytes, upload_id: str) -> Response:
        wish = parse_body(CreateUpload, decode_json(raw))
        slot = await dialect_of(request).uploads.create(wish, caller, upload_id=upload_id)
        body = {
            "upload_id": slot.id,
            "upload_url": f"{dialect_root(request.scope)}/uploads/{slot.id}/binary",
            "upload_method": "PUT",
            "expires_at": utc_text(slot.expires_at),
        }
        return JSONResponse(body, 201, _NO_STORE)


class Binary(HTTPEndpoint):
    """The bytes of an upload slot."""

    @endpoint(write=True, limited=True)
    async def put(self, request: Request, caller: Caller) -> Response:
        """Take them, straight into the store."""
        upload_id: str = request.path_params["upload_id"]
        length = request.headers.get("content-length", "")
        try:
            received = await dialect_of(request).uploads.write(
                upload_id,
                caller,
                _unstalled(request),
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
        return JSONResponse({"ok": True, "bytes_received": received}, headers=_NO_STORE)


class Transcriptions(HTTPEndpoint):
    """The jobs of the account that were made here."""

    @endpoint(write=True)
    async def post(self, request: Request, caller: Caller) -> Response:
        """Make one of an upload: 202 and queued, or 200 and completed for a test key."""
        return await once(
            request,
            caller,
            new_id=lambda: new_job_id(ORIGIN),
            make=lambda job_id, raw: self._create(request, caller, raw, job_id),
        )

    async def _create(self, request: Request, caller: Caller, raw: bytes, job_id: str) -> Response:
        dialect = dialect_of(request)
        wish = parse_body(CreateTranscription, decode_json(raw))
        if wish.translate_to_hebrew and (refusal := dialect.translation_refusal()) is not None:
            raise TranslationUnavailable(refusal)
        spec = JobSpec(
            source=Upload(wish.upload_id),
            options=RecognitionOptions(prompt=wish.user_prompt or None),
            tier=wish.model_tier,
            translate_to="he" if wish.translate_to_hebrew else None,
            unit_factor=dialect.premium_units if wish.model_tier == "premium_quality" else 1,
            webhook_url=wish.webhook_url,
            origin=ORIGIN,
        )
        try:
            job = await dialect.jobs.create(spec, caller=caller, base_url=base_url_of(request), job_id=job_id)
        except RateLimited as exc:
            # Too many jobs under way. This dialect's code for it would send clients to X-RateLimit-Reset.
            raise QueueBusy(
                exc.message, details=exc.details, retry_after_seconds=exc.retry_after_seconds
            ) from exc
        path = f"{dialect_root(request.scope)}/transcriptions/{job.id}"
        headers = {**_NO_STORE, "Location": path}
        body: dict[str, Any] = {"job_id": job.id, "status": "queued", "links": {"self": path}}
        if job.mode != "test":
            return JSONResponse(body, 202, headers)
        transcript = await dialect.jobs.transcript_of(job)
        return JSONResponse(body | {"status": "completed", "summary": transcript.text}, 200, headers)

    @endpoint(limited=True)
    async def get(self, request: Request, caller: Caller) -> Response:
        """List them, newest first, by offset."""
        query = request.query_params
        limit = _whole_number(query.get("limit"), "limit", default=DEFAULT_PAGE, lowest=1, highest=MAX_PAGE)
        offset = _whole_number(query.get("cursor"), "cursor", default=0, lowest=0, highest=MAX_CURSOR)
        state = query.get("status")
        if state is not None and state not in STATUSES:
            raise ValidationFailed(f'"status" must be one of: {", ".join(STATUSES)}.')
        status = STATUSES[state] if state is not None else None
        page = JobPage(origin=ORIGIN, offset=offset, limit=limit, status=status)
        jobs, _ = await dialect_of(request).jobs.list(caller, page)
        total = await dialect_of(request).jobs.count(caller, page)
        root = dialect_root(request.scope)
        links = page_links(
            f"{root}/transcriptions",
            {"status": state} if state is not None else {},
            offset=offset,
            limit=limit,
            total=total,
        )
        body = {"items": [job_body(job, root) for job in jobs], "total": total, "links": links}
        return JSONResponse(body, headers=_NO_STORE)


class Transcription(HTTPEndpoint):
    """One job."""

    @endpoint(limited=True)
    async def get(self, request: Request, caller: Caller) -> Response:
        """Answer with the job as it stands, or 304 where the client has it already."""
        body = job_body(await _job(request, caller), dialect_root(request.scope))
        document = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        return revalidated(request, document, "application/json")

    @endpoint(write=True)
    async def delete(self, request: Request, caller: Caller) -> Response:
        """Cancel a job under way (202, as it stands then), or remove a finished one (204)."""
        job = await dialect_of(request).jobs.cancel_or_delete(_job_id(request), caller, ORIGIN)
        if job is None:
            return Response(status_code=204, headers=_NO_STORE)
        return JSONResponse(job_body(job, dialect_root(request.scope)), 202, _NO_STORE)


class Artifact(HTTPEndpoint):
    """What a job heard, as a file."""

    @endpoint()
    async def get(self, request: Request, caller: Caller) -> Response:
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
        transcript = await dialect_of(request).jobs.transcript_of(job)
        if transcript.title is None and job.upload_id is not None:
            transcript = replace(transcript, title=uploaded_source(job).title)  # a test key's job
        # Hours of text take a while to lay out; the event loop has streams to serve meanwhile.
        document = await asyncio.to_thread(wanted.encode, transcript)
        response = revalidated(request, document, wanted.media_type)
        response.headers["Content-Disposition"] = attachment(job.id, transcript.title, wanted.name)
        return response


class WebhookTest(HTTPEndpoint):
    """A way to try a webhook receiver."""

    @endpoint(write=True)
    async def post(self, request: Request, caller: Caller) -> Response:
        """Send a signed dummy event now, and say what came of it: 200 also when the receiver failed."""
        wish = parse_body(TestWebhook, decode_json(await read_raw(request)))
        sent = await dialect_of(request).webhooks.send_test(
            caller.account_id, wish.webhook_url, wish.event_type, mode=caller.mode
        )
        body = {
            "ok": sent.delivered,
            "event_id": sent.event_id,
            "delivered": sent.delivered,
            "status_code": sent.status_code,
            "error": sent.error,
        }
        return JSONResponse(body, headers=_NO_STORE)


async def _job(request: Request, caller: Caller) -> JobRecord:
    return await dialect_of(request).jobs.get(_job_id(request), caller, ORIGIN)


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


async def _unstalled(request: Request) -> AsyncGenerator[bytes]:
    """Yield the body; a client that sends nothing for too long has sent less than it said."""
    patience = services_of(request).body_timeout_seconds
    chunks = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(patience):
                chunk = await anext(chunks, None)
        except TimeoutError as exc:
            raise UploadSizeMismatch("The upload stood still for too long. Send the file again.") from exc
        if chunk is None:
            return
        if chunk:
            yield chunk


def _whole_number(text: str | None, name: str, *, default: int, lowest: int, highest: int) -> int:
    if text is None:
        return default
    if text.isascii() and text.isdigit() and len(text) <= 10 and lowest <= int(text) <= highest:
        return int(text)
    raise ValidationFailed(
        f'"{name}" must be a whole number from {lowest} to {highest}.',
        details={"errors": [{"field": name, "message": "out of range or not a whole number"}]},
    )
