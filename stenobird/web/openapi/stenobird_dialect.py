"""The operations of the flat dialect: transcripts, keys, account, usage, billing, the service itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from stenobird.errors import (
    AudioContentTypeNotSupported,
    AudioSourceNotFound,
    AudioSourceUnreachable,
    AudioTooLarge,
    AudioUnreachable,
    BillingFailed,
    BillingUnavailable,
    DirectoryLookupFailed,
    EngineUnavailable,
    ExtractorUnavailable,
    IdempotencyInProgress,
    IdempotencyMismatch,
    InsufficientCredits,
    InvalidRequest,
    InvalidSignature,
    InvalidURL,
    InvalidWebhookURL,
    KeyNotFound,
    LiveKeyRequired,
    MissingAPIKey,
    NotFound,
    QueueBusy,
    RateLimited,
    ReadOnlyKey,
    TranscriptCancelled,
    TranscriptionFailed,
    TranscriptNotFound,
    TranscriptNotReady,
    UnsupportedURL,
    UploadNotAvailable,
    UploadNotFound,
    UploadSlotExpired,
    WebhookRequiresAPIKey,
    WebhookTargetForbidden,
)
from stenobird.formats import FORMATS
from stenobird.web.openapi.parts import Answer, Operation, header, json_of, parameter, path, query, ref

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stenobird.errors import StenobirdError

JOB_ERRORS: Final[tuple[type[StenobirdError], ...]] = (
    UnsupportedURL,
    AudioUnreachable,
    AudioSourceNotFound,
    AudioSourceUnreachable,
    DirectoryLookupFailed,
    ExtractorUnavailable,
    AudioContentTypeNotSupported,
    AudioTooLarge,
    TranscriptionFailed,
)
"""What ends a transcript, found out after `POST`."""

CREATE_ERRORS: Final[tuple[type[StenobirdError], ...]] = (
    InvalidRequest,
    InvalidURL,
    BillingFailed,
    InsufficientCredits,
    ReadOnlyKey,
    QueueBusy,
    RateLimited,
    EngineUnavailable,
)

EVENTS: Final = {
    "status": "StatusEvent",
    "transcript": "TranscriptEvent",
    "preview_locked": "PreviewLockedEvent",
    "error": "ErrorEvent",
    "done": "DoneEvent",
}
"""The schema of each event's data."""

_STREAM_EXAMPLE: Final = (
    "retry: 2000\n"
    "id: 1\nevent: status\n"
    'data: {"id":"tr_123","status":"queued","stage":"validating_url","terminal":false,"result_ready":false,'
    '"status_url":"https://stenobird.com/v1/transcripts/tr_123",'
    '"events_url":"https://stenobird.com/v1/transcripts/tr_123/events",'
    '"result_url":"https://stenobird.com/v1/transcripts/tr_123/result","retry_after_seconds":2}\n\n'
    "id: 7\nevent: transcript\n"
    'data: {"id":"tr_123","status":"transcribing","stage":"transcribing","text":"Hello and welcome to...",'
    '"chunk_index":0,"start":0.5,"end":3.2,"language":"en"}\n\n'
    "id: 8\nevent: preview_locked\n"
    'data: {"id":"tr_123","status":"preview_complete","terminal":true,"result_ready":true,'
    '"message":"Preview ended. Add an API key to get the full transcript.",'
    '"upgrade_url":"https://stenobird.com/pricing"}\n\n'
    "id: 9\nevent: done\n"
    'data: {"id":"tr_123","status":"preview_complete","terminal":true,"result_ready":true,'
    '"result_url":"https://stenobird.com/v1/transcripts/tr_123/result"}\n\n'
)

_STREAM: Final[dict[str, Any]] = {
    "text/event-stream": {
        "schema": {
            "description": "Each event of the stream. Ids are integers, counted from 1. First come status…, "
            "then transcript…, preview_locked or error where due, and done. Texts, once streamed, "
            "are never revised.",
            "oneOf": [
                {
                    "type": "object",
                    "required": ["id", "event", "data"],
                    "properties": {
                        "id": {"type": "string"},
                        "event": {"const": name},
                        "data": {
                            "type": "string",
                            "contentMediaType": "application/json",
                            "contentSchema": ref(schema),
                        },
                        "retry": {"type": "integer"},
                    },
                }
                for name, schema in EVENTS.items()
            ],
        },
        "example": _STREAM_EXAMPLE,
    }
}

_ID: Final = path("id", "Id of the transcript, tr_…")
_KEY_ID: Final = path("id", "Id of the key.")
_REVALIDATE: Final = parameter("IfNoneMatch")
_SHARE: Final = parameter("Share")


def operations() -> Mapping[str, Mapping[str, Operation]]:
    """Return the operations by path and method."""
    return {**_transcripts(), **_sharing(), **_account(), **_billing(), **_service()}


def _transcripts() -> dict[str, dict[str, Operation]]:
    tag = "Transcripts"
    documents = {
        entry.media_type.partition(";")[0]: {
            "schema": {"type": "string"}
            if entry.name != "docx"
            else {"type": "string", "contentMediaType": entry.media_type}
        }
        for entry in FORMATS.values()
        if entry.name != "json"
    }
    return {
        "/v1/transcripts": {
            "post": Operation(
                "Create a transcript",
                tag,
                "createTranscript",
                {202: Answer("Queued.", json_of("TranscriptStatus"), ("Location",))},
                (
                    *CREATE_ERRORS,
                    WebhookRequiresAPIKey,
                    InvalidWebhookURL,
                    WebhookTargetForbidden,
                    MissingAPIKey,
                    UploadNotFound,
                    UploadNotAvailable,
                    IdempotencyMismatch,
                    IdempotencyInProgress,
                    UploadSlotExpired,
                ),
                key="optional",
                description="Without an API key this is a free preview of 15 seconds. What needs the network "
                "is found out afterwards, and told by the events.",
                parameters=[parameter("IdempotencyKey")],
                body={
                    "application/json": {
                        "schema": ref("CreateTranscript"),
                        "example": {"audio_url": "https://example.com/audio-url"},
                    }
                },
            ),
            "get": Operation(
                "List your transcripts, newest first",
                tag,
                "listTranscripts",
                {200: Answer("A page.", json_of("TranscriptList"))},
                (InvalidRequest,),
                parameters=[
                    query("limit", {"type": "integer", "minimum": 1, "maximum": 100}, "At most 100."),
                    query("cursor", {"type": "string"}, "next_cursor of the page before."),
                ],
            ),
        },
        "/v1/transcripts/{id}": {
            "get": Operation(
                "Look at a transcript",
                tag,
                "getTranscript",
                {
                    200: Answer("As it stands.", json_of("TranscriptStatus"), ("ETag",)),
                    304: Answer("As you know it.", headers=("ETag",)),
                },
                (TranscriptNotFound, MissingAPIKey),
                key="optional",
                parameters=[_ID, _SHARE, _REVALIDATE],
            ),
            "delete": Operation(
                "Cancel a transcript under way, or remove a finished one",
                tag,
                "deleteTranscript",
                {
                    202: Answer("Cancelled, or about to be.", json_of("TranscriptStatus")),
                    204: Answer("Removed."),
                },
                (TranscriptNotFound, MissingAPIKey, ReadOnlyKey),
                key="optional",
                parameters=[_ID],
            ),
        },
        "/v1/transcripts/{id}/events": {
            "get": Operation(
                "Stream the events of a transcript",
                tag,
                "streamTranscript",
                {
                    200: Answer("Events, until done.", _STREAM),
                    204: Answer("You have seen the last event: do not reconnect."),
                },
                (InvalidRequest, TranscriptNotFound, MissingAPIKey),
                key="optional",
                description="A reconnect with Last-Event-ID continues after that event; nothing is lost or "
                "repeated.",
                parameters=[
                    _ID,
                    _SHARE,
                    header("Last-Event-ID", {"type": "string"}, "Id of the last event seen."),
                    query("last_event_id", {"type": "string"}, "The same, where no header can be sent."),
                    query("after", {"type": "string"}, "The same."),
                ],
            )
        },
        "/v1/transcripts/{id}/result": {
            "get": Operation(
                "Fetch what was said",
                tag,
                "getResult",
                {
                    200: Answer("The transcript.", {**json_of("TranscriptResult"), **documents}, ("ETag",)),
                    304: Answer("As you know it.", headers=("ETag",)),
                },
                (
                    InvalidRequest,
                    TranscriptNotFound,
                    MissingAPIKey,
                    TranscriptNotReady,
                    TranscriptCancelled,
                    *JOB_ERRORS,
                ),
                key="optional",
                parameters=[
                    _ID,
                    _SHARE,
                    _REVALIDATE,
                    query(
                        "format",
                        {"type": "string", "enum": list(FORMATS)},
                        "Counts before the header Accept; json where neither says.",
                    ),
                ],
            )
        },
    }


def _sharing() -> dict[str, dict[str, Operation]]:
    errors = (TranscriptNotFound, ReadOnlyKey, InvalidRequest)
    return {
        "/v1/transcripts/{id}/share": {
            "get": Operation(
                "Count the share links",
                "Transcripts",
                "countShareLinks",
                {200: Answer("How many there are.", json_of("ShareLinks"))},
                errors,
                parameters=[_ID],
            ),
            "post": Operation(
                "Make a link that opens this transcript for reading",
                "Transcripts",
                "createShareLink",
                {201: Answer("The link; its token is shown only here.", json_of("ShareLink"))},
                errors,
                parameters=[_ID],
            ),
            "delete": Operation(
                "Revoke every share link",
                "Transcripts",
                "revokeShareLinks",
                {204: Answer("There are none now.")},
                errors,
                parameters=[_ID],
            ),
        }
    }


def _account() -> dict[str, dict[str, Operation]]:
    tag = "Account"
    denied = (ReadOnlyKey, LiveKeyRequired)
    return {
        "/v1/keys": {
            "get": Operation(
                "List your keys", tag, "listKeys", {200: Answer("Oldest first.", json_of("KeyList"))}
            ),
            "post": Operation(
                "Make a key",
                tag,
                "createKey",
                {201: Answer("The key, shown only here.", json_of("CreatedKeyView"))},
                (InvalidRequest, *denied),
                body={"application/json": {"schema": ref("CreateKey"), "example": {"name": "laptop"}}},
                body_required=False,
            ),
        },
        "/v1/keys/{id}": {
            "delete": Operation(
                "Revoke a key",
                tag,
                "revokeKey",
                {204: Answer("It is refused from now on.")},
                (KeyNotFound, *denied),
                parameters=[_KEY_ID],
            )
        },
        "/v1/keys/{id}/rotate": {
            "post": Operation(
                "Replace a key",
                tag,
                "rotateKey",
                {201: Answer("The new key, shown only here.", json_of("RotatedKey"))},
                (KeyNotFound, *denied),
                parameters=[_KEY_ID],
            )
        },
        "/v1/account": {
            "get": Operation(
                "Look at your account", tag, "getAccount", {200: Answer("It.", json_of("AccountBody"))}
            ),
            "delete": Operation(
                "Delete your account and its data",
                tag,
                "deleteAccount",
                {200: Answer("Deleted.", json_of("AccountDeleted"))},
                denied,
            ),
        },
        "/v1/usage": {
            "get": Operation(
                "See what was used",
                tag,
                "getUsage",
                {200: Answer("The ledger.", json_of("UsageBody"))},
                (InvalidRequest,),
                parameters=[
                    query("from", {"type": "string", "format": "date"}, "First day, UTC."),
                    query("to", {"type": "string", "format": "date"}, "Last day, UTC; today if left out."),
                    query("limit", {"type": "integer", "minimum": 1, "maximum": 1000}, "Jobs a page."),
                    query("cursor", {"type": "string"}, "next_cursor of the page before."),
                ],
            )
        },
    }


def _billing() -> dict[str, dict[str, Operation]]:
    tag = "Billing"
    email = {"application/json": {"schema": ref("EmailWish"), "example": {"email": "you@example.com"}}}
    return {
        "/v1/billing": {
            "get": Operation(
                "See your plan and this week's minutes",
                tag,
                "getBilling",
                {200: Answer("As it stands.", json_of("BillingView"))},
                (BillingUnavailable,),
            )
        },
        "/v1/billing/checkout": {
            "post": Operation(
                "Begin to buy a key",
                tag,
                "startCheckout",
                {200: Answer("Where the buyer goes.", json_of("CheckoutStarted"))},
                (InvalidRequest, MissingAPIKey, LiveKeyRequired, ReadOnlyKey, QueueBusy, BillingUnavailable),
                key="optional",
                body=email,
            )
        },
        "/v1/billing/portal": {
            "post": Operation(
                "Get a link to Stripe's page for your account",
                tag,
                "openPortal",
                {200: Answer("A short-lived link.", json_of("PortalLink"))},
                (InvalidRequest, ReadOnlyKey, LiveKeyRequired, BillingUnavailable),
            )
        },
        "/v1/billing/spending-cap": {
            "put": Operation(
                "Set or lift your spending cap",
                tag,
                "setSpendingCap",
                {200: Answer("As it stands now.", json_of("BillingView"))},
                (InvalidRequest, ReadOnlyKey, LiveKeyRequired, BillingUnavailable),
                body={"application/json": {"schema": ref("CapWish"), "example": {"minutes_per_week": 600}}},
            )
        },
        "/v1/billing/recover": {
            "post": Operation(
                "Ask for a new key by mail",
                tag,
                "recoverKey",
                {202: Answer("The same answer whoever asks.", json_of("Message"))},
                (InvalidRequest, QueueBusy, BillingUnavailable),
                key="none",
                body=email,
            )
        },
        "/v1/billing/webhook": {
            "post": Operation(
                "Take an event from Stripe",
                tag,
                "stripeWebhook",
                {200: Answer("Stored.", json_of("EventReceived"))},
                (InvalidRequest, InvalidSignature, BillingUnavailable),
                key="none",
                parameters=[header("Stripe-Signature", {"type": "string"}, "Of the raw body.")],
                body={"application/json": {"schema": {"type": "object"}}},
            )
        },
    }


def _service() -> dict[str, dict[str, Operation]]:
    tag = "Service"
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "/healthz": {
            "get": Operation(
                "Is the process alive",
                tag,
                "health",
                {200: Answer("Yes.", json_of("HealthBody"))},
                key="none",
            )
        },
        "/readyz": {
            "get": Operation(
                "Should requests be sent here",
                tag,
                "ready",
                {
                    200: Answer("Yes.", json_of("ReadyBody")),
                    503: Answer("No, and why.", json_of("ReadyBody")),
                },
                key="none",
            )
        },
        "/metrics": {
            "get": Operation(
                "Metrics for Prometheus", tag, "metrics", {200: Answer("Them.", text)}, key="none"
            )
        },
        "/openapi.json": {
            "get": Operation(
                "This document",
                tag,
                "openapi",
                {200: Answer("It.", {"application/json": {"schema": {"type": "object"}}})},
                key="none",
            )
        },
        "/llms.txt": {
            "get": Operation("How agents use this", tag, "llms", {200: Answer("Text.", text)}, key="none")
        },
        "/skills/stenobird-transcribe/{name}": {
            "get": Operation(
                "A file of the agent skill",
                tag,
                "skillFile",
                {
                    200: Answer(
                        "The file, with this service's address.",
                        {**text, "text/markdown": {"schema": {"type": "string"}}},
                    )
                },
                (NotFound,),
                key="none",
                parameters=[path("name", "install.sh, SHA256SUMS, SKILL.md or scripts/transcribe.sh.")],
            )
        },
    }
