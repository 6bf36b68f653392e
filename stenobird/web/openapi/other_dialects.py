"""The operations of the two dialects that clients of other services speak."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stenobird.errors import IdempotencyInProgress, IdempotencyMismatch, TranscriptCancelled, UploadTooLarge
from stenobird.web.openapi.parts import SCHEMAS, Answer, Operation, json_of, parameter, path, ref
from stenobird.web.openapi.stenobird_dialect import CREATE_ERRORS, JOB_ERRORS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from stenobird.web.openapi.table import Answer as TableAnswer
    from stenobird.web.openapi.table import Dialect

# --- OpenAI -------------------------------------------------------------------------------------------------

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


# --- uploads ------------------------------------------------------------------------------------------------

ALEFBOT_PREFIX: Final = "AlefBot"
"""Before the names of that dialect's schemas, some of which the flat one has too."""


def alefbot_models(table: Dialect) -> list[type[BaseModel]]:
    """Return the models that a dialect's table names."""
    shape = table.error_schema
    found: list[type[BaseModel]] = [shape] if isinstance(shape, type) else []
    for row in table.operations:
        found += [row.body] if row.body is not None else []
        found += [answer.model for answer in row.answers.values() if answer.model is not None]
    return list(dict.fromkeys(found))


def alefbot_operations(table: Dialect) -> Mapping[str, Mapping[str, Operation]]:
    """Return the operations of the uploads dialect by path and method."""
    paths: dict[str, dict[str, Operation]] = {}
    for row in table.operations:
        body = row.raw_body if row.body is None else json_of(ALEFBOT_PREFIX + row.body.__name__)
        paths.setdefault(row.path, {})[row.method.lower()] = Operation(
            row.summary,
            row.tag,
            row.name,
            {status: _answer(answer) for status, answer in row.answers.items()},
            row.errors,
            key="needed" if row.key else "optional",
            description=row.description,
            parameters=row.parameters,
            body=body,
            dialect="alefbot",
        )
    return paths


def _answer(row: TableAnswer) -> Answer:
    content: dict[str, Any] = {}
    if row.model is not None:
        content = json_of(ALEFBOT_PREFIX + row.model.__name__)
    elif row.schema is not None:
        schema = _prefixed(row.schema)
        content = {media: {"schema": schema} for media in row.media}
    return Answer(row.description, content, row.headers)


def _prefixed(value: Any) -> Any:
    """Return a schema whose references are to this dialect's names."""
    if isinstance(value, dict):
        return {key: _prefixed(item) for key, item in value.items()}
    if isinstance(value, str) and value.startswith(SCHEMAS):
        return SCHEMAS + ALEFBOT_PREFIX + value.removeprefix(SCHEMAS)
    return value
