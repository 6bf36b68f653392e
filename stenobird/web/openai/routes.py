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
from stenobird.web.openai.errors import OpenAIError, render
from stenobird.web.openai.requests import read_wish
from stenobird.web.openai.schemas import (
    DONE_FRAME,
    AudioForm,
    Deltas,
    LinkedAudio,
    OpenAIModel,
    OpenAIModels,
    OpenAITranscription,
    TextDelta,
    TextDone,
    document,
    frame,
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
    from stenobird.web.openai.requests import AudioWish
    from stenobird.web.services import Services
    from stenobird.web.sse import OpenStreams

MAX_RECEIVING: Final = 8
"""Bodies taken at once by a process; each may fill a temporary file as large as an upload may be."""
BUSY_RETRY_SECONDS: Final = 5
CHUNK_BYTES: Final = 256 * 1024
MODEL: Final = "whisper-1"
"""What SDK code names most. Any model name is accepted: the service's own model does the work."""

_NO_STORE: Final = {"Cache-Control": "no-store"}


_TAG: Final = "OpenAI dialect"


async def create_audio_transcript(
    task: Literal["transcribe", "translate"], receiving: asyncio.Semaphore, request: Request, caller: Caller
) -> Response:
    """Answer with the transcript in the `response_format`, or with a stream of its deltas.

    The job lives as long as the connection: a client that hangs up, or a shutdown, cancels it, so that nobody
    pays for words that were never delivered; the SDKs then send the request again. With an `Idempotency-Key`
    the job continues, and the repeated request gets its words: see docs/decisions/0050. `receiving` bounds
    the bodies that are read at once.
    """
    services = services_of(request)
    if receiving.locked():
        raise QueueBusy(retry_after_seconds=BUSY_RETRY_SECONDS)
    async with (
        receiving,
        read_wish(request, task, max_file_bytes=services.settings.max_audio_bytes) as wish,
    ):
        keyed = "idempotency-key" in request.headers
        if keyed:
            job, headers = await _create_once(request, services, caller, wish)
        else:
            job, headers = await _create(request, services, caller, wish), {}
    headers |= {**_NO_STORE, "X-Transcript-ID": job.id}
    # Who sends a key comes back with it: the job may go on alone, and is there then.
    if keyed:
        events = services.jobs.stream(job.id, caller, 0)
    else:
        events = _cancelled_unless_done(services, job, caller)
        # Begun, since closing what never began does nothing: a shutdown may come before the first read.
        await anext(events)
    if wish.stream:
        return _DeltaStream(events, streams_of(request), headers)
    await _wait_for_end(request, services, events)
    job, transcript = await services.jobs.result(job.id, caller)
    body, media_type = await asyncio.to_thread(document, wish, job, transcript)
    return Response(body, headers={**headers, "Content-Type": media_type})


async def _create(
    request: Request,
    services: Services,
    caller: Caller,
    wish: AudioWish,
    job_id: str | None = None,
) -> JobRecord:
    create = wish.create
    if wish.file is not None:
        upload_id = await _store(services, caller, wish.file)
        create = create.model_copy(update={"upload_id": upload_id})
    return await services.jobs.create(
        create.spec("openai"), caller=caller, base_url=base_url_of(request), job_id=job_id
    )


async def _create_once(
    request: Request, services: Services, caller: Caller, wish: AudioWish
) -> tuple[JobRecord, dict[str, str]]:
    """Return the job of the request's key, and what the answer's headers say of it.

    What is kept is the job's id, not its words, so that nothing of a deleted transcript stays. A job that
    failed, was cancelled or is gone is no answer to repeat: then a new one is made.
    """

    async def make(job_id: str) -> Response:
        job = await _create(request, services, caller, wish, job_id)
        return JSONResponse({"id": job.id}, 202)

    async def admit() -> None:
        """Refuse nothing: the request was counted before its body was read."""

    body = await wish.fingerprint()
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
    """Yield `None`, then the job's events; however the reading ends before `done`, the job is cancelled."""
    ended = False
    try:
        yield None
        async with aclosing(services.jobs.stream(job.id, caller, 0)) as events:
            async for row in events:
                ended = row is not None and row.event == "done"
                yield row
    finally:
        # A job that has ended would be removed instead of cancelled.
        if not ended and not (await services.jobs.get(job.id, caller)).terminal:
            await services.jobs.cancel_or_delete(job.id, caller)


async def _wait_for_end(
    request: Request, services: Services, events: AsyncGenerator[EventRow | None, None]
) -> None:
    """Return when the events have ended. Raises `EngineUnavailable` when the service stops before."""
    failure: StenobirdError | None = None

    async def read() -> None:
        nonlocal failure
        try:
            async with aclosing(events):
                async for _ in events:
                    pass
        except StenobirdError as error:
            # Raised below: the task group would wrap it.
            failure = error

    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(read())
        others = [
            tasks.create_task(_gone(request)),
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


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _DeltaStream(EventStreamResponse):
    """The events as data-only frames, each with its `type`, and `[DONE]` at the end."""

    opening = b""

    def __init__(
        self,
        events: AsyncGenerator[EventRow | None, None],
        streams: OpenStreams,
        headers: dict[str, str],
    ) -> None:
        super().__init__(events, streams)
        self.headers.update(headers)
        self._deltas = Deltas()

    def frame(self, row: EventRow) -> bytes:
        """Return what the event is in this dialect."""
        return self._deltas.frame(row)


# --- models -------------------------------------------------------------------------------------------------


@Operation(
    _TAG,
    "openaiModels",
    "List the models",
    {200: Answer("The one there is.", OpenAIModels)},
)
async def list_models(_request: Request, _caller: Caller | None) -> Response:
    """List it. A key is not needed, but a wrong one is told: this is how people try theirs."""
    return json_response(OpenAIModels(object="list", data=[OpenAIModel.named(MODEL)]))


@Operation(
    _TAG,
    "openaiModel",
    "Describe a model",
    {200: Answer("Every name stands for the same one.", OpenAIModel)},
    parameters=[path("model", "Any name.")],
)
async def get_model(request: Request, _caller: Caller | None) -> Response:
    """Describe it: every name stands for the same model."""
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
