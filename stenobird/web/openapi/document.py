"""Puts the document together: operations, components, and the schemas of every model they name."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic.json_schema import models_json_schema

from stenobird import __version__
from stenobird.accounts.schemas import CreatedKeyView, CreateKey, KeyView
from stenobird.billing.schemas import BillingView, CapWish, EmailWish
from stenobird.jobs import events
from stenobird.jobs import schemas as jobs
from stenobird.web.alefbot import operations as alefbot
from stenobird.web.openapi import schemas as flat
from stenobird.web.openapi.examples import examples
from stenobird.web.openapi.openai_dialect import openai_operations
from stenobird.web.openapi.stenobird_dialect import operations
from stenobird.web.openapi.webhooks import sent_webhooks, webhook_operations
from stenobird.webhooks.schemas import DeliveryPage, DeliveryView, SecretView, WebhookEvent

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from stenobird.web.openapi.parts import Operation

PUBLIC_ADDRESS: Final = "https://stenobird.com"
"""The server that the document names where it is not served by one."""

_DESCRIPTION: Final = """\
URL in, events out: send any public link with audio behind it, and read the words as Server-Sent Events that
can be replayed and resumed.

1. `POST /v1/transcripts`.
2. Read `events_url` until `event: done` with `"terminal": true`.
3. If `"result_ready": true`, fetch `result_url`.
4. On `409 transcript_not_ready` and `429 queue_busy`, wait `retry_after_seconds` and try again.

Without an API key a transcript is a free preview of 15 seconds.
"""

_FLAT_MODELS: Final[tuple[type[BaseModel], ...]] = (
    jobs.CreateTranscript,
    jobs.TranscriptStatus,
    jobs.TranscriptList,
    jobs.TranscriptResult,
    jobs.ShareLinks,
    jobs.ShareLink,
    flat.FlatError,
    events.StatusEvent,
    events.TranscriptEvent,
    events.PreviewLockedEvent,
    events.ErrorEvent,
    events.DoneEvent,
    CreateKey,
    KeyView,
    CreatedKeyView,
    flat.KeyList,
    flat.RotatedKey,
    flat.AccountBody,
    flat.AccountDeleted,
    flat.UsageBody,
    DeliveryPage,
    DeliveryView,
    SecretView,
    WebhookEvent,
    BillingView,
    CapWish,
    EmailWish,
    flat.CheckoutStarted,
    flat.PortalLink,
    flat.Message,
    flat.EventReceived,
    flat.AudioForm,
    flat.LinkedAudio,
    flat.OpenAITranscription,
    flat.OpenAIModel,
    flat.OpenAIModels,
    flat.OpenAIError,
    flat.HealthBody,
    flat.ReadyBody,
)
_PARAMETERS: Final[dict[str, Any]] = {
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": {"type": "string", "maxLength": 255},
        "description": "A request that is sent again with the same key and body makes nothing again.",
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "schema": {"type": "string"},
        "description": "ETag of what you have; 304 if it is still that.",
    },
    "Share": {
        "name": "share",
        "in": "query",
        "schema": {"type": "string"},
        "description": "Token of a share link, instead of a key.",
    },
}


def _header(description: str, kind: str = "string") -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}


_HEADERS: Final[dict[str, Any]] = {
    "X-Request-ID": _header("Id of this request: the one you sent, or a new one."),
    "Location": _header("Address of what was made."),
    "ETag": _header("Changes with the document."),
    "Retry-After": _header("Seconds to wait before the next try.", "integer"),
    "WWW-Authenticate": _header("Bearer."),
    "X-Transcript-ID": _header("Id of the transcript, tr_…"),
    "X-RateLimit-Limit": _header("Requests a minute.", "integer"),
    "X-RateLimit-Remaining": _header("Requests left in this minute.", "integer"),
    "X-RateLimit-Reset": _header("When the minute ends, in epoch seconds.", "integer"),
}


@functools.lru_cache(maxsize=8)
def openapi_document(*, server_url: str = PUBLIC_ADDRESS, api_prefix: str = "") -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of this version, with `server_url` as its server.

    `api_prefix` goes before `/api/v1`. The order of everything is fixed, so equal versions make equal bytes.
    Calls with equal arguments share one document, which nobody may change.
    """
    paths: dict[str, Mapping[str, Operation]] = {
        **operations(),
        **webhook_operations(),
        **openai_operations(),
        **alefbot.alefbot_operations(api_prefix),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stenobird",
            "summary": "Audio transcripts from public URLs.",
            "description": _DESCRIPTION,
            "version": __version__,
        },
        "servers": [{"url": server_url}],
        "tags": [
            {"name": "Transcripts", "description": "URL in, events out."},
            {"name": "Account", "description": "Keys, account and usage."},
            {"name": "Billing", "description": "Buying and paying."},
            {"name": "OpenAI dialect", "description": "What the OpenAI SDKs call."},
            {"name": alefbot.TAG, "description": "Send a file, get a job, fetch its artifact."},
            {"name": "Service", "description": "For operators, machines and agents."},
        ],
        "paths": {
            path: {method: operation.to_json() for method, operation in methods.items()}
            for path, methods in paths.items()
        },
        "webhooks": sent_webhooks(),
        "components": {
            "securitySchemes": {
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, sb_live_… or sb_test_…, as Authorization: Bearer <api_key>.",
                }
            },
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "schemas": _with_examples(
                {
                    **_schemas(_FLAT_MODELS),
                    **_schemas(alefbot.MODELS, prefix=alefbot.SCHEMA_PREFIX),
                }
            ),
        },
    }


def _schemas(models: Sequence[type[BaseModel]], *, prefix: str = "") -> dict[str, Any]:
    """Return the schemas of the models and of all they consist of, their names prefixed."""
    mode: Literal["validation"] = "validation"
    names = {model.__name__ for model in models}
    _, found = models_json_schema(
        [(model, mode) for model in models], ref_template=f"#/components/schemas/{prefix}{{model}}"
    )
    definitions = found["$defs"]
    missing = names - definitions.keys()
    # Two models of one name get other names, and references would lead nowhere.
    assert not missing, f"two models are called {missing}"
    if jobs.CreateTranscript in models:
        one_of_them = [{"required": ["audio_url"]}, {"required": ["upload_id"]}]
        definitions[jobs.CreateTranscript.__name__]["anyOf"] = one_of_them
    return {f"{prefix}{name}": schema for name, schema in sorted(definitions.items())}


def _with_examples(schemas: dict[str, Any]) -> dict[str, Any]:
    found = examples(alefbot.SCHEMA_PREFIX)
    return {
        name: schema if name not in found or "examples" in schema else {**schema, "examples": [found[name]]}
        for name, schema in schemas.items()
    }


def as_text(document: Mapping[str, Any]) -> str:
    """Return the document as it is checked in: indented, ending with a line feed."""
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"
