"""What request and response bodies share: reading, encoding, times, numbers, and the cursors of lists.

Lists are newest first; a cursor names the last row of a page, and is opaque to clients.
"""

from __future__ import annotations

import base64
import binascii
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, ValidationError, WithJsonSchema

from stenobird.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

_T = TypeVar("_T")


def utc_text(seconds: float, timespec: str = "milliseconds") -> str:
    """Return epoch seconds as ISO 8601 in UTC with `Z`: `2026-01-31T12:00:00.000Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


Timestamp: TypeAlias = Annotated[
    float, PlainSerializer(utc_text), WithJsonSchema({"format": "date-time", "type": "string"})
]
"""Epoch seconds, as in records; written with `utc_text`."""

Number: TypeAlias = Annotated[int | float, WithJsonSchema({"type": "number"})]
"""A number that keeps its form: 2 is written as `2`, not as `2.0`."""

Omittable: TypeAlias = Annotated[_T | None, Field(exclude_if=lambda value: value is None)]
"""A field that is left out of a body while it is `None`. Other optional fields are written as null."""


def example(fields: Mapping[str, Any]) -> ConfigDict:
    """Return the configuration of a model with this example in its schema."""
    return ConfigDict(json_schema_extra={"examples": [dict(fields)]})


class Body(BaseModel):
    """A response body. `model_validate` makes it from any object with attributes of the same names."""

    model_config = ConfigDict(frozen=True, from_attributes=True, serialize_by_alias=True)

    @classmethod
    def same_fields(cls, record: object) -> dict[str, Any]:
        """Return the attributes of a record that have the names of this body's fields."""
        return {name: getattr(record, name) for name in cls.model_fields if hasattr(record, name)}

    def encode(self) -> bytes:
        """Return the body as compact JSON, its fields in the order in which the model declares them."""
        return self.model_dump_json().encode()


class RequestBody(BaseModel):
    """A request body. Unknown fields are ignored, and types are not converted."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    @classmethod
    def parse(cls, body: object) -> Self:
        """Return the request in a decoded JSON body. Raises `InvalidRequest`, which names the wrong field."""
        try:
            return cls.model_validate(body)
        except ValidationError as exc:
            problem: Any = exc.errors(include_url=False, include_input=False)[0]
            name = str(problem["loc"][0]) if problem["loc"] else "body"
            reason = str(problem["msg"]).removeprefix("Value error, ")
            reason = reason[:1].lower() + reason[1:]
            raise InvalidRequest(f'"{name}" is not valid: {reason}.', details={"field": name}) from exc


def write_cursor(created_at: float, row_id: str) -> str:
    """Return the cursor of the page after the row of this time (epoch seconds) and id."""
    return base64.urlsafe_b64encode(f"{created_at!r} {row_id}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[float, str]:
    """Return the time and id of a cursor. Raises `InvalidRequest` unless `write_cursor` made it."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        created_at, _, row_id = text.partition(" ")
        before = float(created_at)
        if math.isfinite(before) and "\0" not in row_id:
            return before, row_id
    except (binascii.Error, UnicodeError, ValueError):
        pass  # the error is raised below
    raise InvalidRequest('"cursor" must be the next_cursor of an earlier page.', details={"field": "cursor"})
