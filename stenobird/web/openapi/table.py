"""How a dialect of its own lists its operations, errors and models for the OpenAPI document."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

    from stenobird.errors import StenobirdError

JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Answer:
    """One response: JSON of a model, bytes of other media types, or nothing. `schema` overrides `model`."""

    description: str
    model: type[BaseModel] | None = None
    schema: Mapping[str, Any] | None = None
    media: Sequence[str] = (JSON,)
    headers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `errors` are what it may raise; `body` is the JSON it takes."""

    method: str
    path: str
    tag: str
    name: str
    summary: str
    answers: Mapping[int, Answer]
    errors: Sequence[type[StenobirdError]] = ()
    body: type[BaseModel] | None = None
    raw_body: Mapping[str, Any] | None = None
    parameters: Sequence[Mapping[str, Any]] = ()
    key: bool = True
    description: str = ""


@dataclass(frozen=True, slots=True)
class Dialect:
    """The operations of a dialect, the shape of its errors, and how an error is called there."""

    operations: Sequence[Operation]
    error_schema: Mapping[str, Any] | type[BaseModel]
    told: Mapping[type[StenobirdError], tuple[str, int]] = field(default_factory=dict)

    def told_as(self, error: type[StenobirdError]) -> tuple[str, int]:
        """Return code and status of an error in this dialect."""
        return self.told.get(error, (error.code, error.http_status))


def parameter(name: str, where: str, schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    """Return a parameter object; path parameters are required, the others are not."""
    return {
        "name": name,
        "in": where,
        "required": where == "path",
        "description": description,
        "schema": dict(schema),
    }
