"""The OpenAPI document, derived from the endpoints and from the models that read and write bodies.

This module describes one handler: its answers, its own errors, its parameters; `document` puts the
descriptions together.

A model class stands for its schema wherever a schema is expected; `document` puts a reference in its place.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from stenobird import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pydantic import BaseModel

    Content: TypeAlias = type[BaseModel] | Mapping[str, Any] | None
    """A model for JSON, or the content by media type."""


_Handler = TypeVar("_Handler", bound="Callable[..., Any]")


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful response; `headers` names those it has besides `X-Request-ID`."""

    description: str
    content: Content = None
    headers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """What the OpenAPI document says of an endpoint. It decorates the handler.

    `errors` are those of the handler. The document adds those of the dialect, of the API key and its scope.
    `needs_key` marks a handler that refuses requests without a key, although its endpoint doesn't. The
    description is the docstring of the handler, unless `description` is set, and `operationId` its name, with
    the dialect's prefix, unless `id` is.
    """

    tag: str
    summary: str
    answers: Mapping[int, Answer]
    errors: Sequence[type[errors.StenobirdError]] = ()
    _: KW_ONLY
    id: str = ""
    description: str = ""
    parameters: Sequence[Mapping[str, Any]] = ()
    body: Content = None
    body_required: bool = True
    needs_key: bool = False

    def __call__(self, handler: _Handler) -> _Handler:
        """Describe a handler: `Endpoint.operation` finds it there."""
        vars(handler)["operation"] = self
        return handler


def json_of(schema: type[BaseModel] | Mapping[str, Any], example: Any = None) -> dict[str, Any]:
    """Return JSON content."""
    shown = {} if example is None else {"example": example}
    return {"application/json": {"schema": schema, **shown}}


def stream_of(description: str, event: Mapping[str, Any], example: str) -> dict[str, Any]:
    """Return an event stream as content. Its schema is a string; `contentSchema` is that of one event."""
    schema = {
        "type": "string",
        "description": f"{description} contentSchema describes one event.",
        "contentMediaType": "text/event-stream",
        "contentSchema": event,
    }
    return {"text/event-stream": {"schema": schema, "example": example}}


def _parameter(
    place: str, name: str, description: str, schema: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    row: dict[str, Any] = {"name": name, "in": place, "required": True}
    if place != "path":
        del row["required"]
    return {**row, "schema": schema or {"type": "string"}, "description": description}


path = partial(_parameter, "path")
"""Return a path parameter: `path(name, description, schema)`, a string unless `schema` says otherwise."""
query = partial(_parameter, "query")
"""Return an optional query parameter."""
header = partial(_parameter, "header")
"""Return an optional request header."""


def page_of(rows: str, maximum: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the query parameters of a list with pages; `rows` describes `limit`."""
    return (
        query("limit", rows, {"type": "integer", "minimum": 1, "maximum": maximum}),
        query("cursor", "next_cursor of the previous page."),
    )


SERVICE: Final = "Service"
"""The tag of endpoints that work without the database."""
TEXT: Final = {"text/plain": {"schema": {"type": "string"}}}
"""Plain text as content."""
IDEMPOTENCY_KEY: Final = {"$ref": "#/components/parameters/IdempotencyKey"}
IF_NONE_MATCH: Final = {"$ref": "#/components/parameters/IfNoneMatch"}
SHARE: Final = {"$ref": "#/components/parameters/Share"}

JOB_ERRORS: Final = (
    errors.UnsupportedURL,
    errors.AudioUnreachable,
    errors.AudioSourceNotFound,
    errors.AudioSourceUnreachable,
    errors.DirectoryLookupFailed,
    errors.ExtractorUnavailable,
    errors.AudioContentTypeNotSupported,
    errors.AudioTooLarge,
    errors.TranscriptionFailed,
)
"""The errors that end a job after it was created."""
CREATE_ERRORS: Final = (
    errors.InvalidRequest,
    errors.InvalidURL,
    errors.BillingFailed,
    errors.InsufficientCredits,
    errors.ReadOnlyKey,
    errors.QueueBusy,
    errors.RateLimited,
    errors.EngineUnavailable,
)
"""The errors that every request for a transcript can get."""
