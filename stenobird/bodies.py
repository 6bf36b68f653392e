"""What the models of response bodies share: how one becomes JSON, and how it writes times and numbers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

_T = TypeVar("_T")


def utc_text(seconds: float, timespec: str = "milliseconds") -> str:
    """Return epoch seconds as ISO 8601 in UTC with `Z`: `2026-01-31T12:00:00.000Z`."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


Timestamp: TypeAlias = Annotated[
    float, PlainSerializer(utc_text), WithJsonSchema({"format": "date-time", "type": "string"})
]
"""Epoch seconds, as records hold them; written with `utc_text`."""

Number: TypeAlias = Annotated[int | float, WithJsonSchema({"type": "number"})]
"""A number that is written as it is: 2 as `2`, not as `2.0`."""

Omittable: TypeAlias = Annotated[_T | None, Field(exclude_if=lambda value: value is None)]
"""A field that is left out of the body where it is `None`; other optional fields are written as null."""


class Body(BaseModel):
    """A response body. It can be made from any object that has attributes of the same names."""

    model_config = ConfigDict(frozen=True, from_attributes=True, serialize_by_alias=True)

    def encode(self) -> bytes:
        """Return the body as compact JSON, its fields in the order in which the model declares them."""
        return self.model_dump_json().encode()
