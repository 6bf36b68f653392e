"""How an operation is written down: its answers, its errors by status, its parameters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from stenobird.errors import InvalidAPIKey, MissingAPIKey, StorageUnavailable
from stenobird.web.alefbot.errors import code_of, dialect_body
from stenobird.web.openai.errors import error_object

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stenobird.errors import StenobirdError

Dialect = Literal["flat", "openai", "alefbot"]

_ERROR_SCHEMAS: dict[Dialect, str] = {
    "flat": "FlatError",
    "openai": "OpenAIError",
    "alefbot": "AlefBotErrorBody",
}
SCHEMAS = "#/components/schemas/"
"""Where references to schemas begin."""
_REQUEST_ID = "req_0adf4f750ef34d58ab"


def ref(name: str) -> dict[str, str]:
    """Return a reference to a schema."""
    return {"$ref": SCHEMAS + name}


def json_of(name: str) -> dict[str, Any]:
    """Return the content of a JSON answer or body."""
    return {"application/json": {"schema": ref(name)}}


def query(name: str, schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    """Return a query parameter that may be left out."""
    return {"name": name, "in": "query", "schema": dict(schema), "description": description}


def header(name: str, schema: Mapping[str, Any], description: str) -> dict[str, Any]:
    """Return a request header that may be left out."""
    return {"name": name, "in": "header", "schema": dict(schema), "description": description}


def path(name: str, description: str) -> dict[str, Any]:
    """Return a path parameter."""
    return {
        "name": name,
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": description,
    }


def parameter(name: str) -> dict[str, str]:
    """Return a reference to a shared parameter."""
    return {"$ref": f"#/components/parameters/{name}"}


@dataclass(frozen=True, slots=True)
class Answer:
    """A good answer: its content by media type, and the names of shared headers."""

    description: str
    content: Mapping[str, Any] = field(default_factory=dict)
    headers: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `key` says whether an API key is needed; its errors are added then."""

    summary: str
    tag: str
    id: str
    answers: Mapping[int, Answer]
    errors: Sequence[type[StenobirdError]] = ()
    key: Literal["needed", "optional", "none"] = "needed"
    description: str = ""
    parameters: Sequence[Mapping[str, Any]] = ()
    body: Mapping[str, Any] | None = None
    body_required: bool = True
    dialect: Dialect = "flat"

    def to_json(self) -> dict[str, Any]:
        """Return the operation object."""
        row: dict[str, Any] = {"tags": [self.tag], "summary": self.summary, "operationId": self.id}
        if self.description:
            row["description"] = self.description
        if self.parameters:
            row["parameters"] = [dict(one) for one in self.parameters]
        if self.body is not None:
            row["requestBody"] = {"required": self.body_required, "content": dict(self.body)}
        row["responses"] = {**self._good(), **self._bad()}
        if self.key != "none":
            row["security"] = [{"apiKey": []}] if self.key == "needed" else [{}, {"apiKey": []}]
        else:
            row["security"] = []
        return row

    def _good(self) -> dict[str, Any]:
        shared = ["X-Request-ID"]
        rows = {}
        for status, answer in self.answers.items():
            row: dict[str, Any] = {"description": answer.description}
            names = [*shared, *answer.headers]
            row["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
            if answer.content:
                row["content"] = dict(answer.content)
            rows[str(status)] = row
        return rows

    def _bad(self) -> dict[str, Any]:
        errors = list(self.errors)
        if self.key == "needed" and MissingAPIKey not in errors:
            errors.append(MissingAPIKey)
        if self.key != "none":
            errors.append(InvalidAPIKey)
        if self.tag != "Service":
            errors.append(StorageUnavailable)
        by_status: dict[int, dict[str, StenobirdError]] = {}
        for kind in errors:
            error = kind(retry_after_seconds=5 if kind.retryable else None)
            code, status = code_of(error) if self.dialect == "alefbot" else (kind.code, kind.http_status)
            by_status.setdefault(status, {})[code] = error
        return {str(status): self._refusal(status, found) for status, found in sorted(by_status.items())}

    def _refusal(self, status: int, errors: Mapping[str, StenobirdError]) -> dict[str, Any]:
        examples = {code: {"value": self._error_body(error, status)} for code, error in errors.items()}
        row: dict[str, Any] = {
            "description": ", ".join(f"`{code}`" for code in errors),
            "content": {
                "application/json": {
                    "schema": ref(_ERROR_SCHEMAS[self.dialect]),
                    "examples": examples,
                }
            },
        }
        names = ["X-Request-ID"]
        if any(error.retry_after_seconds is not None for error in errors.values()):
            names.append("Retry-After")
        if status == 401:
            names.append("WWW-Authenticate")
        row["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}
        return row

    def _error_body(self, error: StenobirdError, status: int) -> dict[str, Any]:
        match self.dialect:
            case "openai":
                return error_object(error.body(), status)
            case "alefbot":
                return dialect_body(error, _REQUEST_ID)
            case "flat":
                return error.body()
