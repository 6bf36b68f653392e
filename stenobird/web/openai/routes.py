"""`/v1/audio/transcriptions`, `/v1/audio/translations`, `/v1/models`: what the OpenAI SDKs call."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from starlette.responses import JSONResponse, Response

from stenobird.errors import (
    EngineUnavailable,
    IdempotencyInProgress,
    IdempotencyMismatch,
    QueueBusy,
    StenobirdError,
    TranscriptCancelled,
    TranscriptNotFound,
    UploadTooLarge,
)
from stenobird.jobs.service import new_job_id
from stenobird.uploads.schemas import MAX_FILENAME_CHARS, CreateUpload
from stenobird.web.idempotency import REPLAYED
from stenobird.web.openai.requests import read_audio_request
from stenobird.web.openai.schemas import (
    DONE_FRAME,
    AudioForm,
    Deltas,
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
from stenobird.web.openapi.operation import (
    CREATE_ERRORS,
    IDEMPOTENCY_KEY,
    JOB_ERRORS,
    TEXT,
    Answer,
    Operation,
    json_of,
    path,
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
    from stenobird.ports import Caller, EventRow, JobRecord
    from stenobird.web.openai.requests import AudioRequest
    from stenobird.web.services import Services

MAX_RECEIVING: Final = 8
"""How many bodies a process receives at once; each may fill a temporary file of the maximum size."""
BUSY_RETRY_SECONDS: Final = 5
CHUNK_BYTES: Final = 256 * 1024
MODEL: Final = "whisper-1"
"""What SDK code names most. Any model name is accepted: the service's own model does the work."""

_NO_STORE: Final = {"Cache-Control": "no-store"}


_TAG: Final = "OpenAI dialect"


async def create_audio_transcript(
    task: Literal["transcribe", "translate"], receiving: asyncio.Semaphore, request: Request, caller: Caller
) -> Response:
    """Return the transcript in the `response_format`, or a stream of its deltas.

    A disconnect or a shutdown cancels the job, so that nobody pays for text that was not delivered; the SDKs
    then repeat the request. With an `Idempotency-Key` the job continues, and the repeated request gets its
    text, see docs/decisions/0050. `receiving` bounds the number of bodies that are read at once.
    """
    services = services_of(request)
    if receiving.locked():
        raise QueueBusy(retry_after_seconds=BUSY_RETRY_SECONDS)
    async with (
        receiving,
        read_audio_request(request, task, max_file_bytes=services.settings.max_audio_bytes) as wanted,
    ):
        keyed = "idempotency-key" in request.headers
        if keyed:
            job, headers = await _create_once(request, services, caller, wanted)
        else:
            job, headers = await _create(request, services, caller, wanted), {}
    headers |= {**_NO_STORE, "X-Transcript-ID": job.id}
    # With a key the client can come back for the job, so the job is not tied to this connection.
    if keyed:
        events = services.jobs.stream(job.id, caller, 0)
    else:
        events = _cancelled_unless_done(services, job, caller)
        # Start the generator now: closing one that has not started would not cancel the job.
        await anext(events)
    if wanted.stream:
        stream = EventStreamResponse(job.id, events, streams_of(request), frame=Deltas().frame, opening=b"")
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
    request: Request, services: Services, caller: Caller, wanted: AudioRequest
) -> tuple[JobRecord, dict[str, str]]:
    """Return the job of the request's key, and the headers to add to the response.

    Only the job's id is stored, so that nothing of a deleted transcript remains. If that job has failed, was
    cancelled or is deleted, a new one is created.
    """

    async def make(job_id: str) -> Response:
        job = await _create(request, services, caller, wanted, job_id)
        return JSONResponse({"id": job.id}, 202)

    async def admit() -> None:
        """Do nothing: the request was counted before its body was read."""

    body = await wanted.fingerprint()
    while True:
        made = await services.idempotency.once(
            request, caller, body, new_id=new_job_id, admit=admit, make=make
        )
        replayed = REPLAYED in made.headers
        try:
            job = await services.jobs.get(json.loads(bytes(made.body))["id"], caller)
        except TranscriptNotFound:
            if not replayed:
                raise
        else:
            if not replayed:
                return job, {}
            if job.status not in {"failed", "cancelled"} and not job.cancel_requested:
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


async def _cancelled_unless_done(
    services: Services, job: JobRecord, caller: Caller
) -> AsyncGenerator[EventRow | None, None]:
    """Yield `None`, then the job's events. If reading ends before `done`, the job is cancelled."""
    ended = False
    try:
        yield None
        async with aclosing(services.jobs.stream(job.id, caller, 0)) as events:
            async for row in events:
                ended = row is not None and row.event == "done"
                yield row
    finally:
        # For a job that has ended, this would delete it.
        if not ended and not (await services.jobs.get(job.id, caller)).terminal:
            await services.jobs.cancel_or_delete(job.id, caller)


async def _wait_for_end(
    request: Request, services: Services, events: AsyncGenerator[EventRow | None, None]
) -> None:
    """Return when the events have ended. Raises `EngineUnavailable` if the service stops first."""
    failure: StenobirdError | None = None

    async def read() -> None:
        nonlocal failure
        try:
            async with aclosing(events):
                async for _ in events:
                    pass
        except StenobirdError as error:
            # Raised below, since the task group would wrap it.
            failure = error

    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read())
        others = [
            tasks.create_task(_disconnected(request)),
            tasks.create_task(services.shutting_down.wait()),
        ]
        await asyncio.wait((reading, *others), return_when=asyncio.FIRST_COMPLETED)
        finished = reading.done()
        for task in (reading, *others):
            task.cancel()
    if failure is not None:
        raise failure
    if not finished:
        raise EngineUnavailable(
            "The service is restarting. Send the request again.", retry_after_seconds=BUSY_RETRY_SECONDS
        )


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


# --- models -------------------------------------------------------------------------------------------------


@Operation(
    _TAG,
    "openaiModels",
    "List the models",
    {200: Answer("The one there is.", OpenAIModels)},
)
async def list_models(_request: Request, _caller: Caller | None) -> Response:
    """List the one model. A key is optional, but an invalid one is refused: this is how people test keys."""
    return json_response(OpenAIModels(object="list", data=[OpenAIModel.named(MODEL)]))


@Operation(
    _TAG,
    "openaiModel",
    "Describe a model",
    {200: Answer("Every name stands for the same one.", OpenAIModel)},
    parameters=[path("model", "Any name.")],
)
async def get_model(request: Request, _caller: Caller | None) -> Response:
    """Return the model under this name. Every name is the same model."""
    return json_response(OpenAIModel.named(request.path_params["model"]))


# --- the dialect --------------------------------------------------------------------------------------------


def _inline(model: type[Body]) -> dict[str, Any]:
    fields = model.model_json_schema()["properties"]
    shown = {
        name: {"const": row["const"]} if "const" in row else {"type": row["type"]}
        for name, row in fields.items()
    }
    return {"type": "object", "required": list(shown), "properties": shown}


_DELTA: Final = {
    "description": "Each event is data alone: JSON with a type or an error, or [DONE] at the end.",
    "type": "object",
    "required": ["data"],
    "properties": {
        "data": {
            "oneOf": [
                {
                    "type": "string",
                    "contentMediaType": "application/json",
                    "contentSchema": {"oneOf": [_inline(TextDelta), _inline(TextDone), OpenAIError]},
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
        **json_of(OpenAITranscription),
        **TEXT,
        "text/vtt": {"schema": {"type": "string"}},
        "text/event-stream": {"schema": _DELTA, "example": _stream_example()},
    }
    return Operation(
        _TAG,
        operation_id,
        summary,
        {200: Answer("In the response_format asked for, or streamed.", content, ("X-Transcript-ID",))},
        (
            *CREATE_ERRORS,
            UploadTooLarge,
            TranscriptCancelled,
            IdempotencyMismatch,
            IdempotencyInProgress,
            *JOB_ERRORS,
        ),
        description="Point an OpenAI SDK at /v1 of this service. The transcript is cancelled, unbilled, "
        "when the client hangs up before its end. With an Idempotency-Key it goes on instead: the same "
        "request, sent again within 24 hours, gets its words and is not billed anew.",
        parameters=[IDEMPOTENCY_KEY],
        body={
            "multipart/form-data": {"schema": AudioForm},
            **json_of(LinkedAudio, {"url": "https://example.com/audio-url"}),
        },
    )


def dialect() -> Dialect:
    """Return the dialect of the OpenAI SDKs."""
    receiving = asyncio.Semaphore(MAX_RECEIVING)
    transcribe = _audio("Transcribe a file or a link on one connection", "openaiTranscribe")
    translate = _audio("Write English, whatever is spoken", "openaiTranslate")
    transcriptions = transcribe(partial(create_audio_transcript, "transcribe", receiving))
    translations = translate(partial(create_audio_transcript, "translate", receiving))
    return Dialect(
        roots=("/v1/audio", "/v1/models"),
        render=render,
        endpoints=(
            Endpoint("POST", "/v1/audio/transcriptions", transcriptions, write=True, limited=True),
            Endpoint("POST", "/v1/audio/translations", translations, write=True, limited=True),
            Endpoint("GET", "/v1/models", list_models, key="optional"),
            Endpoint("GET", "/v1/models/{model}", get_model, key="optional"),
        ),
        error_body=OpenAIError,
    )
