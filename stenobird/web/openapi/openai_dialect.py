"""The operations of the dialect that the OpenAI SDKs speak."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stenobird.errors import IdempotencyInProgress, IdempotencyMismatch, TranscriptCancelled, UploadTooLarge
from stenobird.web.openapi.parts import Answer, Operation, json_of, parameter, path, ref
from stenobird.web.openapi.stenobird_dialect import CREATE_ERRORS, JOB_ERRORS

if TYPE_CHECKING:
    from collections.abc import Mapping

_DELTAS: Final = (
    'data: {"type":"transcript.text.delta","delta":"Hello and welcome"}\n\n'
    'data: {"type":"transcript.text.done","text":"Hello and welcome"}\n\n'
    "data: [DONE]\n\n"
)


def _said(kind: str, field: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", field],
        "properties": {"type": {"const": kind}, field: {"type": "string"}},
    }


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
                    "contentSchema": {
                        "oneOf": [
                            _said("transcript.text.delta", "delta"),
                            _said("transcript.text.done", "text"),
                            ref("OpenAIError"),
                        ]
                    },
                    "not": {"const": "[DONE]"},
                },
                {"const": "[DONE]"},
            ]
        }
    },
}


def openai_operations() -> Mapping[str, Mapping[str, Operation]]:
    """Return the operations of the OpenAI dialect by path and method."""
    tag = "OpenAI dialect"

    def audio(summary: str, operation_id: str) -> Operation:
        content: dict[str, Any] = {
            **json_of("OpenAITranscription"),
            "text/plain": {"schema": {"type": "string"}},
            "text/vtt": {"schema": {"type": "string"}},
            "text/event-stream": {"schema": _DELTA, "example": _DELTAS},
        }
        return Operation(
            summary,
            tag,
            operation_id,
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
            parameters=[parameter("IdempotencyKey")],
            body={
                "multipart/form-data": {"schema": ref("AudioForm")},
                "application/json": {
                    "schema": ref("LinkedAudio"),
                    "example": {"url": "https://example.com/audio-url"},
                },
            },
            dialect="openai",
        )

    return {
        "/v1/audio/transcriptions": {
            "post": audio("Transcribe a file or a link on one connection", "openaiTranscribe")
        },
        "/v1/audio/translations": {"post": audio("Write English, whatever is spoken", "openaiTranslate")},
        "/v1/models": {
            "get": Operation(
                "List the models",
                tag,
                "openaiModels",
                {200: Answer("The one there is.", json_of("OpenAIModels"))},
                key="optional",
                dialect="openai",
            )
        },
        "/v1/models/{model}": {
            "get": Operation(
                "Describe a model",
                tag,
                "openaiModel",
                {200: Answer("Every name stands for the same one.", json_of("OpenAIModel"))},
                key="optional",
                parameters=[path("model", "Any name.")],
                dialect="openai",
            )
        },
    }
