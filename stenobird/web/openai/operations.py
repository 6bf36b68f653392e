"""The endpoints of the OpenAI dialect and their description."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from stenobird.errors import IdempotencyInProgress, IdempotencyMismatch, TranscriptCancelled, UploadTooLarge
from stenobird.web.openai.errors import OpenAIError, render
from stenobird.web.openai.routes import MAX_RECEIVING, create_audio_transcript, get_model, list_models
from stenobird.web.openai.schemas import (
    DONE_FRAME,
    AudioForm,
    LinkedAudio,
    OpenAIModel,
    OpenAIModels,
    OpenAITranscription,
    TextDelta,
    TextDone,
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
from stenobird.web.routing import Dialect, Endpoint

if TYPE_CHECKING:
    from stenobird.bodies import Body

_TAG: Final = "OpenAI dialect"


def dialect() -> Dialect:
    """Return the dialect of the OpenAI SDKs."""
    receiving = asyncio.Semaphore(MAX_RECEIVING)
    transcribe = partial(create_audio_transcript, "transcribe", receiving)
    translate = partial(create_audio_transcript, "translate", receiving)
    return Dialect(
        roots=("/v1/audio", "/v1/models"),
        render=render,
        error_body=OpenAIError,
        endpoints=(
            Endpoint(
                "POST",
                "/v1/audio/transcriptions",
                transcribe,
                write=True,
                limited=True,
                doc=_audio("Transcribe a file or a link on one connection", "openaiTranscribe"),
            ),
            Endpoint(
                "POST",
                "/v1/audio/translations",
                translate,
                write=True,
                limited=True,
                doc=_audio("Write English, whatever is spoken", "openaiTranslate"),
            ),
            Endpoint(
                "GET",
                "/v1/models",
                list_models,
                key="optional",
                doc=Operation(
                    _TAG,
                    "openaiModels",
                    "List the models",
                    {200: Answer("The one there is.", OpenAIModels)},
                ),
            ),
            Endpoint(
                "GET",
                "/v1/models/{model}",
                get_model,
                key="optional",
                doc=Operation(
                    _TAG,
                    "openaiModel",
                    "Describe a model",
                    {200: Answer("Every name stands for the same one.", OpenAIModel)},
                    parameters=[path("model", "Any name.")],
                ),
            ),
        ),
    )


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
