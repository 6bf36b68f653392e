"""What `/docs` shows of the OpenAPI document: its operations by tag, with references resolved."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

METHODS: Final = ("get", "post", "put", "patch", "delete")


def operation_groups(document: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the operations of an OpenAPI 3.1 document by their first tag, as docs.html reads them."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, item in document.get("paths", {}).items():
        for method in METHODS:
            row = item.get(method)
            if row is None:
                continue
            tag = (row.get("tags") or ["API"])[0]
            groups.setdefault(tag, []).append(_operation(document, path, method, item, row))
    return groups


def _operation(
    document: Mapping[str, Any], path: str, method: str, item: Mapping[str, Any], row: Mapping[str, Any]
) -> dict[str, Any]:
    """Return one method of one path. `anchor` is its id on the page."""
    parameters = [
        _resolve(document, one) for one in [*item.get("parameters", ()), *row.get("parameters", ())]
    ]
    fields = [
        {
            "name": one["name"],
            "where": one["in"],
            "kind": _kind(_resolve(document, one.get("schema", {}))),
            "required": bool(one.get("required")),
            "description": one.get("description", ""),
        }
        for one in parameters
    ]
    content = _resolve(document, row.get("requestBody", {})).get("content", {})
    body: Mapping[str, Any] = content.get("application/json") or next(iter(content.values()), {})
    schema = _resolve(document, body.get("schema", {}))
    required = set(schema.get("required", ()))
    for name, given in schema.get("properties", {}).items():
        one = _resolve(document, given)
        text = given.get("description") or one.get("description", "")
        field = {"name": name, "where": "body", "kind": _kind(one), "required": name in required}
        fields.append(field | {"description": text})
    responses = {
        status: _resolve(document, answer).get("description", "")
        for status, answer in row.get("responses", {}).items()
    }
    return {
        "anchor": re.sub(r"[^a-z0-9]+", "-", f"{method} {path}".lower()).strip("-"),
        "method": method.upper(),
        "path": path,
        "summary": row.get("summary", ""),
        "description": row.get("description", ""),
        "fields": fields,
        "responses": responses,
        "example": _example(body),
    }


def _resolve(document: Mapping[str, Any], value: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the target of a local `$ref`, or an empty object if there is none."""
    reference = value.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#/"):
        return value
    found: Any = document
    for part in reference[2:].split("/"):
        found = found.get(part.replace("~1", "/").replace("~0", "~"), {})
    return found if isinstance(found, dict) and "$ref" not in found else {}


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(map(str, kind))
    if kind is None:
        kinds = [str(one["type"]) for one in schema.get("anyOf", ()) if "type" in one]
        return " or ".join(kinds)
    return str(kind)


def _example(body: Mapping[str, Any]) -> str:
    examples = body.get("examples")
    value = body.get("example")
    if value is None and isinstance(examples, dict):
        value = next((one.get("value") for one in examples.values()), None)
    return json.dumps(value, indent=2, ensure_ascii=False) if value is not None else ""
