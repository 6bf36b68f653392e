"""`/v1/audio/transcriptions`, `/v1/audio/translations`, `/v1/models`: what the OpenAI SDKs call."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from starlette.responses import JSONResponse, Response

from stenobird import errors
from stenobird.jobs.service import new_job_id
from stenobird.uploads import MAX_FILENAME_CHARS, CreateUpload
from stenobird.web.idempotency import REPLAYED
from stenobird.web.openai.requests import Retries, read_audio_request
from stenobird.web.openai.schemas import (
    DONE_FRAME,
    MODEL,
    AudioForm,
    Deltas,
    DiarizedSegment,
    DiarizedTranscription,
    LinkedAudio,
    OpenAIError,
    OpenAIModel,
    OpenAIModels,
    OpenAITranscription,
    TextDelta,
    TextDone,
    document,
    frame,
    render,
)
from stenobird.web.openapi import (
    CREATE_ERRORS,
    IDEMPOTENCY_KEY,
    JOB_ERRORS,
    TEXT,
    Answer,
    Operation,
    json_of,
    path,
    stream_of,
)
from stenobird.web.representations import json_response
from stenobird.web.requests import base_url_of, services_of, streams_of
from stenobird.web.routing import Dialect, Endpoint
from stenobird.web.sse import EventStreamResponse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.datastructures import UploadFile
    from starlette.requests import Request

    from stenobird.bodies import Body
    from stenobird.jobs.tail import Page
    from stenobird.ports import Caller, JobRecord
    from stenobird.web.openai.requests import AudioRequest, SharedJob
    from stenobird.web.services import Services

MAX_RECEIVING: Final = 8
"""How many bodies a process receives at once; each may fill a temporary file of the maximum size."""
BUSY_RETRY_SECONDS: Final = 5
CHUNK_BYTES: Final = 256 * 1024

_TEXT_AND_USAGE: Final = {
    "text": "Hello and welcome to the show.",
    "usage": {"type": "duration", "seconds": 72},
}
_NO_STORE: Final = {"Cache-Control": "no-store"}
_Operation = partial(Operation, "OpenAI dialect")


async def create_audio_transcript(
    task: Literal["transcribe", "translate"],
    receiving: asyncio.Semaphore,
    retries: Retries,
    request: Request,
    caller: Caller,
) -> Response:
    """Return the transcript in the `response_format`, or a stream of its deltas.

    If the client disconnects, the job continues for `Settings.openai_retry_seconds`, in which a repeated
    request joins it, and is then cancelled, so that nobody pays for text that was not delivered. A shutdown
    cancels it at once. With an `Idempotency-Key` it always continues, see docs/decisions/0050. `receiving`
    bounds the number of bodies that are read at once.
    """
    services = services_of(request)
    if receiving.locked():
        raise errors.QueueBusy(retry_after_seconds=BUSY_RETRY_SECONDS)
    async with (
        receiving,
        read_audio_request(request, task, max_file_bytes=services.settings.max_audio_bytes) as wanted,
    ):
        fingerprint = await wanted.fingerprint()
        if "idempotency-key" in request.headers:
            job, headers = await _create_once(request, services, caller, wanted, fingerprint)
            events = services.jobs.stream(job.id, caller, 0)
        else:
            leave = AsyncExitStack()
            held = await leave.enter_async_context(
                retries.joined(
                    json.dumps([caller.account_id, caller.mode]).encode() + fingerprint,
                    usable=partial(_has_text, services, caller),
                    create=partial(_create, request, services, caller, wanted),
                    cancel=partial(_cancel, services, caller),
                    stopping=services.shutting_down,
                    grace_seconds=services.settings.openai_retry_seconds,
                )
            )
            job, headers = held.job, {}
            events = _events_until_done(services, caller, held, leave)
            # Start the generator now: closing one that has not started would not leave the job.
            await anext(events)
    headers |= {**_NO_STORE, "X-Transcript-ID": job.id}
    if wanted.stream:
        deltas = Deltas(diarized=wanted.response_format == "diarized_json")
        stream = EventStreamResponse(
            job.id, events, streams_of(request), encode=deltas.encode, opening=b"", caller=caller
        )
        stream.headers.update(headers)
        return stream
    await _wait_for_end(request, services, events)
    job, transcript = await services.jobs.result(job.id, caller)
    body, media_type = await asyncio.to_thread(document, wanted, job, transcript)
    return Response(body, headers={**headers, "Content-Type": media_type})


async def _create(
    request: Request,
    services: Services,
    caller: Caller,
    wanted: AudioRequest,
    job_id: str | None = None,
) -> JobRecord:
    create = wanted.create
    if wanted.file is not None:
        upload_id = await _store(services, caller, wanted.file)
        create = create.model_copy(update={"upload_id": upload_id})
    return await services.jobs.create(
        create.spec("openai"), caller=caller, base_url=base_url_of(request), job_id=job_id
    )


async def _create_once(
    request: Request, services: Services, caller: Caller, wanted: AudioRequest, fingerprint: bytes
) -> tuple[JobRecord, dict[str, str]]:
    """Return the job of the request's key, and the headers to add to the response.

    Only the job's id is stored, so that nothing of a deleted transcript remains. If that job has failed, was
    cancelled or is deleted, a new one is created.
    """

    async def make(job_id: str | None) -> Response:
        job = await _create(request, services, caller, wanted, job_id)
        return JSONResponse({"id": job.id}, 202)

    while True:
        made = await services.idempotency.once(request, caller, fingerprint, new_id=new_job_id, make=make)
        replayed = REPLAYED in made.headers
        try:
            job = await services.jobs.get(json.loads(bytes(made.body))["id"], caller)
        except errors.TranscriptNotFound:
            if not replayed:
                raise
        else:
            if not replayed:
                return job, {}
            if await _has_text(services, caller, job):
                return job, {REPLAYED: "true"}
        await services.idempotency.withdraw(request, caller, made)


async def _store(services: Services, caller: Caller, file: UploadFile) -> str:
    uploads = services.uploads
    slot = await uploads.create(
        CreateUpload(
            filename=(file.filename or "audio")[-MAX_FILENAME_CHARS:],
            content_type=(file.content_type or "application/octet-stream")[:255],
            size_bytes=file.size or 0,
        ),
        caller,
    )
    await uploads.write(slot.id, caller, _chunks(file), content_length=file.size)
    return slot.id


async def _chunks(file: UploadFile) -> AsyncGenerator[bytes]:
    while chunk := await file.read(CHUNK_BYTES):
        yield chunk


# --- until the job ends -------------------------------------------------------------------------------------


async def _events_until_done(
    services: Services, caller: Caller, held: SharedJob, leave: AsyncExitStack
) -> AsyncGenerator[Page, None]:
    """Yield a ping, then the events of a shared job, which is left at the end."""
    async with leave:
        yield ()
        async with aclosing(services.jobs.stream(held.job.id, caller, 0)) as events:
            async for page in events:
                held.ended |= bool(page) and page[-1].event == "done"
                yield page


async def _has_text(services: Services, caller: Caller, made: JobRecord) -> bool:
    """Return whether a job has a text or will have one: it did not fail, and was not cancelled or deleted."""
    try:
        job = await services.jobs.get(made.id, caller)
    except errors.TranscriptNotFound:
        return False
    return job.status not in {"failed", "cancelled"} and not job.cancel_requested


async def _cancel(services: Services, caller: Caller, made: JobRecord) -> None:
    # For a job that has ended, this would delete it.
    if not (await services.jobs.get(made.id, caller)).terminal:
        await services.jobs.cancel_or_delete(made.id, caller)


async def _wait_for_end(request: Request, services: Services, events: AsyncGenerator[Page, None]) -> None:
    """Return when the events have ended. Raises `EngineUnavailable` if the service stops first."""

    async def read() -> errors.StenobirdError | None:
        try:
            async with aclosing(events):
                async for _ in events:
                    pass
        except errors.StenobirdError as error:
            return error  # raised below, since the task group would wrap it
        return None

    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read())
        disconnected = tasks.create_task(_disconnected(request))
        stopping = tasks.create_task(services.shutting_down.wait())
        running = (reading, disconnected, stopping)
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        finished = reading.done()
        for task in running:
            task.cancel()
    if not finished:
        raise errors.EngineUnavailable(
            "The service is restarting. Send the request again.", retry_after_seconds=BUSY_RETRY_SECONDS
        )
    if (failure := reading.result()) is not None:
        raise failure


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


# --- models -------------------------------------------------------------------------------------------------


@_Operation(
    "List the models",
    {200: Answer("A list with one model.", OpenAIModels)},
    id="openaiModels",
)
async def list_models(_request: Request, _caller: Caller | None) -> Response:
    """List the one model. A key is optional; an invalid one is refused, so this can test a key."""
    return json_response(OpenAIModels(object="list", data=[OpenAIModel.model_validate(MODEL)]))


@_Operation(
    "Get a model",
    {200: Answer("The model, under this name.", OpenAIModel)},
    (errors.NotFound,),  # no name, or one with a line break
    parameters=[path("model", "Any name.")],
    id="openaiModel",
)
async def get_model(request: Request, _caller: Caller | None) -> Response:
    """Return the model under this name, which may have slashes. Every name is the same model."""
    name = request.path_params["model"]
    if not name:
        raise errors.NotFound
    return json_response(OpenAIModel.model_validate(MODEL | {"id": name}))


# --- the dialect --------------------------------------------------------------------------------------------


def _inline(model: type[Body]) -> dict[str, Any]:
    fields = model.model_json_schema()["properties"]
    shown = {
        name: {"const": row["const"]} if "const" in row else {"type": row["type"]}
        for name, row in fields.items()
    }
    return {"type": "object", "required": list(shown), "properties": shown}


_DELTA: Final = {
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "oneOf": [
                {
                    "type": "string",
                    "contentMediaType": "application/json",
                    "contentSchema": {
                        "oneOf": [
                            _inline(TextDelta),
                            _inline(DiarizedSegment),
                            _inline(TextDone),
                            OpenAIError,
                        ]
                    },
                    "not": {"const": "[DONE]"},
                },
                {"const": "[DONE]"},
            ]
        }
    },
}


def _stream_example() -> str:
    delta = TextDelta(type="transcript.text.delta", delta="Hello and welcome")
    done = TextDone(type="transcript.text.done", text="Hello and welcome")
    return (frame(delta) + frame(done) + DONE_FRAME).decode()


def _audio(summary: str, operation_id: str) -> Operation:
    content = {
        **json_of({"anyOf": [OpenAITranscription, DiarizedTranscription]}, _TEXT_AND_USAGE),
        **TEXT,
        "text/vtt": {"schema": {"type": "string"}},
        **stream_of(
            "Server-Sent Events with data only: JSON with a type or an error, and [DONE] at the end.",
            _DELTA,
            _stream_example(),
        ),
    }
    return _Operation(
        summary,
        {200: Answer("The transcript in the `response_format`, or a stream.", content, ("X-Transcript-ID",))},
        (
            *CREATE_ERRORS,
            errors.UploadTooLarge,
            errors.TranscriptCancelled,
            errors.IdempotencyMismatch,
            errors.IdempotencyInProgress,
            *JOB_ERRORS,
        ),
        id=operation_id,
        description="Point an OpenAI SDK at /v1 of this service. If the client disconnects before the end, a "
        "retry with the same key, audio and options within two minutes continues with the same transcript; "
        "without one it is cancelled and not billed. With an Idempotency-Key it is not cancelled: the same "
        "request gets its text within 24 hours, and is not billed again.",
        parameters=[IDEMPOTENCY_KEY],
        body={
            "multipart/form-data": {"schema": AudioForm},
            **json_of(LinkedAudio, {"url": "https://example.com/audio-url"}),
        },
    )


def dialect() -> Dialect:
    """Return the dialect of the OpenAI SDKs."""
    receiving, retries = asyncio.Semaphore(MAX_RECEIVING), Retries()
    transcribe = _audio("Transcribe a file or a link", "openaiTranscribe")
    translate = _audio("Translate a file or a link to English", "openaiTranslate")
    transcriptions = transcribe(partial(create_audio_transcript, "transcribe", receiving, retries))
    translations = translate(partial(create_audio_transcript, "translate", receiving, retries))
    return Dialect(
        roots=("/v1/audio/", "/v1/models/"),
        render=render,
        endpoints=(
            Endpoint("POST", "/v1/audio/transcriptions", transcriptions, write=True, limited=True),
            Endpoint("POST", "/v1/audio/translations", translations, write=True, limited=True),
            Endpoint("GET", "/v1/models", list_models, key="optional"),
            Endpoint("GET", "/v1/models/{model:path}", get_model, key="optional"),
        ),
        error_body=OpenAIError,
    )
