"""What `/docs` shows of an OpenAPI document."""

from __future__ import annotations

from typing import Any

from stenobird.web.site.openapi_page import Field, operation_groups

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "paths": {
        "/v1/things/{id}": {
            "parameters": [{"$ref": "#/components/parameters/Id"}],
            "post": {
                "tags": ["Things"],
                "summary": "Change a thing",
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/Wish"},
                            "examples": {"one": {"value": {"name": "x"}}},
                        }
                    }
                },
                "responses": {"200": {"description": "The thing."}, "404": {"$ref": "#/components/nowhere"}},
            },
            "get": {"responses": {}},
        }
    },
    "components": {
        "parameters": {
            "Id": {
                "name": "id",
                "in": "path",
                "required": True,
                "schema": {"type": "string"},
                "description": "Which.",
            }
        },
        "schemas": {
            "Wish": {
                "type": "object",
                "required": ["name"],
                "properties": {
                    "name": {"type": "string", "description": "Its name."},
                    "count": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
                },
            }
        },
    },
}


def test_operations_are_grouped_by_tag_with_their_fields_and_answers() -> None:
    untagged, things = sorted(operation_groups(DOCUMENT), key=lambda group: group.name)

    assert (untagged.name, [one.method for one in untagged.operations]) == ("API", ["GET"])
    (change,) = things.operations
    assert (change.anchor, change.method, change.path) == ("post-v1-things-id", "POST", "/v1/things/{id}")
    assert change.fields == (
        Field("id", "path", "string", required=True, description="Which."),
        Field("name", "body", "string", required=True, description="Its name."),
        Field("count", "body", "integer or null", required=False, description=""),
    )
    assert change.responses == (("200", "The thing."), ("404", ""))
    assert change.example == '{\n  "name": "x"\n}'


def test_without_a_document_there_are_no_operations() -> None:
    assert operation_groups({}) == []
