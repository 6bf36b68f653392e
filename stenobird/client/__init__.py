"""The Python client of a Stenobird service, synchronous and asynchronous.

    with StenobirdClient("https://stenobird.example", api_key=key) as client:
        result = client.transcribe("https://example.com/episode", on_event=print)

The protocol is implemented once, in `flow`; the two clients do its I/O. Errors are those of
`stenobird.errors`, so `except AudioSourceNotFound` means the same here as on the server; `ServiceUnreachable`
and `ServiceError` exist in the client only.
"""

from __future__ import annotations

from stenobird.client.clients import AsyncStenobirdClient, StenobirdClient
from stenobird.client.flow import RetryPolicy, TranscriptOptions
from stenobird.client.model import (
    DoneEvent,
    ErrorEvent,
    Event,
    Job,
    PreviewLockedEvent,
    Result,
    ServiceError,
    ServiceUnreachable,
    StatusEvent,
    TranscriptEvent,
)

__all__ = [
    "AsyncStenobirdClient",
    "DoneEvent",
    "ErrorEvent",
    "Event",
    "Job",
    "PreviewLockedEvent",
    "Result",
    "RetryPolicy",
    "ServiceError",
    "ServiceUnreachable",
    "StatusEvent",
    "StenobirdClient",
    "TranscriptEvent",
    "TranscriptOptions",
]
