"""What `/docs` shows of an OpenAPI document."""

from __future__ import annotations

from typing import Any

from stenobird.web.openapi.document import operation_groups

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "paths": {
        "/v1/things/{id}": {
            "post": {
                "tags": ["Things"],
                "summary": "Change a thing",
                "description": "It is another thing then.",
                "parameters": [{"$ref": "#/components/parameters/Id"}],
                "requestBody": {
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/Wish"},
                            "example": {"name": "x"},
                        }
                    }
                },
                "responses": {"200": {"description": "The thing."}, "404": {"description": "None."}},
            },
            "get": {"tags": ["Others"], "summary": "Look", "description": "", "responses": {}},
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
    groups = operation_groups(DOCUMENT)

    assert [one["method"] for one in groups.pop("Others")] == ["GET"]
    ((change,),) = groups.values()
    assert (change["anchor"], change["method"]) == ("post-v1-things-id", "POST")
    assert change["path"] == "/v1/things/{id}"
    assert [tuple(field.values()) for field in change["fields"]] == [
        ("id", "path", "string", True, "Which."),
        ("name", "body", "string", True, "Its name."),
        ("count", "body", "integer or null", False, ""),
    ]
    assert list(change["responses"].items()) == [("200", "The thing."), ("404", "None.")]
    assert change["example"] == '{\n  "name": "x"\n}'
