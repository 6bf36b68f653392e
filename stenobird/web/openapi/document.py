"""Writes the OpenAPI document from the app's endpoints and their models, and groups it for `/docs`."""

from __future__ import annotations

import json
import re
from inspect import getdoc
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from typing_extensions import override

from stenobird import __version__
from stenobird.bodies import RequestBody
from stenobird.errors import (
    CompressedRequest,
    InvalidAPIKey,
    InvalidSignature,
    MissingAPIKey,
    RateLimited,
    StorageUnavailable,
)
from stenobird.web.openapi import SERVICE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from stenobird.errors import StenobirdError
    from stenobird.web.openapi import Content, Operation
    from stenobird.web.routing import Dialect, Endpoint

PUBLIC_ADDRESS: Final = "https://stenobird.com"
"""The server named in files of the repository; a service that returns them names itself."""

_DESCRIPTION: Final = """\
URL in, events out: send any public link with audio behind it, and read the words as Server-Sent Events that
can be replayed and resumed.

1. `POST /v1/transcripts`.
2. Read `events_url` until `event: done` with `"terminal": true`.
3. If `"result_ready": true`, fetch `result_url`.
4. On `409 transcript_not_ready` and `429 queue_busy`, wait `retry_after_seconds` and try again.

Without an API key a transcript is a free preview of 15 seconds.
"""
_TAGS: Final = {
    "Transcripts": "URL in, events out.",
    "Account": "Keys, account and usage.",
    "Billing": "Checkout, plan and spending cap.",
    "OpenAI dialect": "The routes that the OpenAI SDKs call.",
    "AlefBot dialect": "Upload a file, create a job, download its artifact.",
    SERVICE: "For operators, machines and agents.",
}
_PARAMETERS: Final[Mapping[str, Any]] = {
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "schema": {"type": "string", "maxLength": 255},
        "description": "Repeating a request with the same key and body creates nothing a second time.",
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "schema": {"type": "string"},
        "description": "ETag of the client's copy; the response is 304 if it is current.",
    },
    "Share": {
        "name": "share",
        "in": "query",
        "schema": {"type": "string"},
        "description": "Token of a share link, instead of a key.",
    },
}
_HEADERS: Final[Mapping[str, tuple[str, str]]] = {
    "X-Request-ID": ("string", "Id of this request: the one that was sent, or a new one."),
    "Location": ("string", "Address of the new resource."),
    "ETag": ("string", "Changes with the document."),
    "Retry-After": ("integer", "Seconds to wait before the next attempt."),
    "WWW-Authenticate": ("string", "Bearer."),
    "X-Transcript-ID": ("string", "Id of the transcript, tr_…"),
    "X-RateLimit-Limit": ("integer", "Requests per minute."),
    "X-RateLimit-Remaining": ("integer", "Requests left in this minute."),
    "X-RateLimit-Reset": ("integer", "When the minute ends, in epoch seconds."),
}
_REQUEST_ID: Final = "req_0adf4f750ef34d58ab"

_Models: TypeAlias = "dict[str, type[BaseModel]]"
"""The models that the operations of one dialect refer to, by their names."""


def openapi_document(
    apis: Sequence[tuple[Dialect, Iterable[Endpoint]]],
    webhooks: Mapping[str, Any],
    *,
    server_url: str = PUBLIC_ADDRESS,
) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of this version, with `server_url` as its server.

    `apis` are the endpoints with the dialect that renders their errors, `webhooks` the requests that the
    service sends. The order of everything is fixed, so a version always makes the same bytes.
    """
    paths: dict[str, dict[str, Any]] = {}
    models: dict[str, _Models] = {"": {}}
    for dialect, endpoints in apis:
        prefix = dialect.schema_prefix
        own = models.setdefault(prefix, {})
        for endpoint in endpoints:
            if (doc := endpoint.operation) is not None:
                path = endpoint.path.replace(":path}", "}")
                row = _refer(_operation(doc, endpoint, dialect), prefix, own)
                paths.setdefault(path, {})[endpoint.method.lower()] = row
    webhooks = _refer(webhooks, "", models[""])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stenobird",
            "summary": "Audio transcripts from public URLs.",
            "description": _DESCRIPTION,
            "version": __version__,
            "license": {"name": "MIT", "identifier": "MIT"},
            "contact": {"name": "Stenobird", "url": PUBLIC_ADDRESS},
        },
        "servers": [{"url": server_url}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": paths,
        "webhooks": webhooks,
        "components": {
            "securitySchemes": {
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, sb_live_… or sb_test_…, as Authorization: Bearer <api_key>.",
                }
            },
            "parameters": dict(_PARAMETERS),
            "headers": {
                name: {"description": text, "schema": {"type": kind}}
                for name, (kind, text) in _HEADERS.items()
            },
            "schemas": {
                name: schema
                for prefix, own in models.items()
                for name, schema in _definitions(prefix, own).items()
            },
        },
    }


def as_text(document: Mapping[str, Any]) -> str:
    """Return the document as it is checked in: indented, ending with a line feed."""
    return json.dumps(document, ensure_ascii=False, indent=2) + "\n"


# --- operations ---------------------------------------------------------------------------------------------


def _operation(doc: Operation, endpoint: Endpoint, dialect: Dialect) -> dict[str, Any]:
    row: dict[str, Any] = {
        "tags": [doc.tag],
        "summary": doc.summary,
        "operationId": doc.id or _id(endpoint, dialect),
        "description": _markdown(doc.description or getdoc(endpoint.handler) or ""),
    }
    if doc.parameters:
        row["parameters"] = list(doc.parameters)
    if doc.body is not None:
        row["requestBody"] = {"required": doc.body_required, "content": _content(doc.body)}
    row["responses"] = {}
    for status, answer in doc.answers.items():
        response = {"description": answer.description, "headers": _headers(*answer.headers)}
        if answer.content is not None:
            response["content"] = _content(answer.content)
        row["responses"][str(status)] = response
    row["responses"] |= _errors(doc, endpoint, dialect)
    by_key: dict[str, list[str]] = {"apiKey": []}
    key = "needed" if doc.needs_key else endpoint.key
    row["security"] = {"needed": [by_key], "none": []}.get(key, [{}, by_key])
    return row


def _id(endpoint: Endpoint, dialect: Dialect) -> str:
    """Return the name of the handler in camel case, after the prefix of the dialect."""
    first, *rest = filter(None, (dialect.schema_prefix.lower(), *endpoint.handler.__name__.split("_")))
    return first + "".join(map(str.capitalize, rest))


def _markdown(text: str) -> str:
    """Return a docstring with each paragraph on one line."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _content(content: Content) -> Mapping[str, Any]:
    return {"application/json": {"schema": content}} if isinstance(content, type) else dict(content or {})


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-ID", *names)}


def _errors(doc: Operation, endpoint: Endpoint, dialect: Dialect) -> dict[str, Any]:
    """Return the error responses by status, in the order in which the errors are checked."""
    kinds = [
        *dialect.errors,
        *((endpoint.read_only_error,) if endpoint.write else ()),
        *doc.errors,
        *((MissingAPIKey,) if endpoint.key == "needed" or doc.needs_key else ()),
        *((InvalidAPIKey,) if endpoint.key != "none" else ()),
        *((CompressedRequest,) if _is_json(doc) else ()),
        *((StorageUnavailable,) if doc.tag != SERVICE else ()),
        *((RateLimited,) if endpoint.limited else ()),
    ]
    by_status: dict[int, list[tuple[StenobirdError, Any]]] = {}
    for kind in dict.fromkeys(kinds):
        error = kind(retry_after_seconds=5 if kind.retryable else None)
        status, body = dialect.render(error, _REQUEST_ID)
        by_status.setdefault(status, []).append((error, body.model_dump()))
    return {str(status): _refusal(dialect, status, found) for status, found in sorted(by_status.items())}


def _is_json(doc: Operation) -> bool:
    """Return whether the handler reads a JSON body; Stripe's is checked as raw bytes."""
    return "application/json" in _content(doc.body) and InvalidSignature not in doc.errors


def _refusal(dialect: Dialect, status: int, found: Sequence[tuple[StenobirdError, Any]]) -> dict[str, Any]:
    examples = {_code(body["error"]): {"value": body} for _, body in found}
    waits = any(error.retry_after_seconds is not None for error, _ in found)
    headers = (*(("Retry-After",) if waits else ()), *(("WWW-Authenticate",) if status == 401 else ()))
    return {
        "description": ", ".join(f"`{code}`" for code in examples),
        "content": {"application/json": {"schema": dialect.error_body, "examples": examples}},
        "headers": _headers(*headers),
    }


def _code(error: str | Mapping[str, Any]) -> str:
    return error if isinstance(error, str) else str(error["code"])


# --- schemas ------------------------------------------------------------------------------------------------


class _SchemaGenerator(GenerateJsonSchema):
    """Sorts the keys of schemas, but keeps the order of fields, also in examples."""

    @override
    def sort(self, value: Any, parent_key: str | None = None) -> Any:
        if isinstance(value, list):
            return [self.sort(item, parent_key) for item in value]
        if not isinstance(value, dict):
            return value
        names = list(value)
        if parent_key != "properties":
            names.sort(key=lambda name: (name == "examples" and "properties" in value, name))
        return {
            name: value[name] if name in {"example", "examples"} else self.sort(value[name], name)
            for name in names
        }


def _refer(value: Any, prefix: str, models: _Models) -> Any:
    """Return a copy of a JSON value that has a reference in place of each model class; add it to `models`."""
    if isinstance(value, type) and issubclass(value, BaseModel):
        assert models.setdefault(value.__name__, value) is value, f"two models have the name {value.__name__}"
        return {"$ref": f"#/components/schemas/{prefix}{value.__name__}"}
    if isinstance(value, dict):
        return {name: _refer(item, prefix, models) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_refer(item, prefix, models) for item in value]
    return value


def _definitions(prefix: str, models: _Models) -> dict[str, Any]:
    """Return the schemas of the models, and of the models they consist of, by name."""
    inputs: list[tuple[type[BaseModel], Literal["validation", "serialization"]]] = [
        (model, "validation" if issubclass(model, RequestBody) else "serialization")
        for model in models.values()
    ]
    template = f"#/components/schemas/{prefix}{{model}}"
    _, found = models_json_schema(inputs, ref_template=template, schema_generator=_SchemaGenerator)
    schemas: dict[str, Any] = found["$defs"]
    # Pydantic gives two models of the same name longer names, which no reference has.
    assert models.keys() <= schemas.keys(), f"two models have the name {models.keys() - schemas.keys()}"
    for model, mode in inputs:
        if mode == "validation":
            _say_defaults(schemas[model.__name__]["properties"])
    # Generators name classes by the title, so it is unique too.
    return {f"{prefix}{name}": schemas[name] | {"title": f"{prefix}{name}"} for name in sorted(schemas)}


def _say_defaults(properties: Mapping[str, dict[str, Any]]) -> None:
    """Move the defaults of a request's fields to their descriptions.

    Generators take a field with a default for one that is always there, and make clients send it.
    """
    for schema in properties.values():
        default = schema.pop("default", None)
        if default is not None:
            shown = default if isinstance(default, str) else json.dumps(default)
            schema["description"] = f"{schema.get('description', '')} Default: {shown}.".strip()


METHODS: Final = ("get", "post", "put", "delete")


def operation_groups(document: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the operations of a document of this module by their tag, as docs.html reads them.

    `anchor` is the id of an operation on the page.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, item in document["paths"].items():
        for method in filter(item.get, METHODS):
            row = item[method]
            content = row.get("requestBody", {}).get("content", {})
            body: Mapping[str, Any] = content.get("application/json") or next(iter(content.values()), {})
            shown = {
                "anchor": re.sub(r"[^a-z0-9]+", "-", f"{method} {path}").strip("-"),
                "method": method.upper(),
                "path": path,
                "summary": row["summary"],
                "description": row["description"],
                "fields": list(_fields(document, row.get("parameters", ()), body.get("schema", {}))),
                "responses": {status: answer["description"] for status, answer in row["responses"].items()},
                "example": json.dumps(body["example"], indent=2, ensure_ascii=False)
                if "example" in body
                else "",
            }
            groups.setdefault(row["tags"][0], []).append(shown)
    return groups


def _fields(
    document: Mapping[str, Any], parameters: Iterable[Mapping[str, Any]], schema: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the parameters, then the fields of the body."""

    def field(name: str, where: str, one: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
        kind = one.get("type") or " or ".join(kind["type"] for kind in one["anyOf"] if "type" in kind)
        text = one.get("description", "")
        return {"name": name, "where": where, "kind": kind, "required": required, "description": text}

    for one in (_target(document, parameter) for parameter in parameters):
        described = one["schema"] | {"description": one["description"]}
        yield field(one["name"], one["in"], described, required=one.get("required", False))
    body = _target(document, schema)
    for name, one in body.get("properties", {}).items():
        yield field(name, "body", one, required=name in body.get("required", ()))


def _target(document: Mapping[str, Any], value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the target of a reference to a component, or the value if it is none."""
    if "$ref" not in value:
        return value
    kind, name = value["$ref"].removeprefix("#/components/").split("/")
    found: Mapping[str, Any] = document["components"][kind][name]
    return found
