"""`/openapi.json`: OpenAPI 3.1 for every dialect, from the very schemas that read and write the bodies.

Each dialect has a table of operations (`stenobird_operations`, `alefbot_operations`); `document` joins them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import models_json_schema
from starlette.endpoints import HTTPEndpoint
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stenobird import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pydantic import BaseModel
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from stenobird.errors import StenobirdError

JSON: Final = "application/json"
_REF: Final = "#/components/schemas/{model}"


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


def document(dialects: Iterable[Dialect]) -> dict[str, Any]:
    """Return the OpenAPI document. Deterministic: the same code gives the same bytes."""
    dialects = tuple(dialects)
    schemas = _schemas(dialects)
    paths: dict[str, dict[str, Any]] = {}
    for dialect in dialects:
        for operation in dialect.operations:
            paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation, dialect)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stenobird",
            "version": __version__,
            "description": "URL in, events out: finds the audio behind any link and streams its transcript.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer", "description": "Bearer <api_key>"}
            },
        },
    }


def _schemas(dialects: Sequence[Dialect]) -> dict[str, Any]:
    asked: dict[type[BaseModel], str] = {}
    for dialect in dialects:
        if isinstance(dialect.error_schema, type):
            asked[dialect.error_schema] = "serialization"
        for operation in dialect.operations:
            if operation.body is not None:
                asked[operation.body] = "validation"
            for answer in operation.answers.values():
                if answer.model is not None:
                    asked[answer.model] = "serialization"
    pairs: Any = list(asked.items())
    _, definitions = models_json_schema(pairs, ref_template=_REF)
    schemas: dict[str, Any] = definitions.get("$defs", {})
    return dict(sorted(schemas.items()))


def _operation(operation: Operation, dialect: Dialect) -> dict[str, Any]:
    row: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
    }
    if operation.description:
        row["description"] = operation.description
    if operation.parameters:
        row["parameters"] = [dict(one) for one in operation.parameters]
    if operation.body is not None:
        row["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref(operation.body)}}}
    elif operation.raw_body is not None:
        row["requestBody"] = {"required": True, "content": dict(operation.raw_body)}
    row["responses"] = _responses(operation, dialect)
    row["security"] = [{"apiKey": []}] if operation.key else [{"apiKey": []}, {}]
    return row


def _responses(operation: Operation, dialect: Dialect) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, answer in operation.answers.items():
        row: dict[str, Any] = {"description": answer.description}
        if answer.model is not None:
            row["content"] = {JSON: {"schema": _ref(answer.model)}}
        elif answer.schema is not None:
            row["content"] = {media: {"schema": dict(answer.schema)} for media in answer.media}
        if answer.headers:
            row["headers"] = {name: {"schema": {"type": "string"}} for name in answer.headers}
        responses[str(status)] = row
    codes: dict[int, list[str]] = {}
    for error in operation.errors:
        code, status = dialect.told_as(error)
        codes.setdefault(status, []).append(code)
    shape = dialect.error_schema
    schema = _ref(shape) if isinstance(shape, type) else dict(shape)
    for status, names in sorted(codes.items()):
        described = ", ".join(f"`{name}`" for name in dict.fromkeys(names))
        responses[str(status)] = {"description": described, "content": {JSON: {"schema": schema}}}
    return dict(sorted(responses.items()))


def _ref(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF.format(model=model.__name__)}


def routes() -> list[BaseRoute]:
    """Return the routes of this module."""
    return [Route("/openapi.json", OpenAPI)]


class OpenAPI(HTTPEndpoint):
    """The description of the API for programs."""

    async def get(self, request: Request) -> Response:
        """Answer with the document."""
        headers = {"Cache-Control": "public, max-age=300", "Access-Control-Allow-Origin": "*"}
        return JSONResponse(request.app.state.openapi, headers=headers)
