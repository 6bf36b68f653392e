"""The OpenAPI document: valid, complete, and the one that is checked in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from click.testing import CliRunner
from httpx_sse import EventSource
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]
from openapi_spec_validator import validate

import stenobird
from stenobird.cli import main
from stenobird.jobs.events import EVENTS, JobEvents, SpeakerLabel
from stenobird.transcript import Segment, Word
from stenobird.web import probes
from stenobird.web.app import api_document, dialects
from stenobird.web.openapi.document import as_text
from stenobird.web.site import skill_files

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP = Path(stenobird.__file__).parent.parent


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return api_document()


def _validator(document: dict[str, Any], schema: Any) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": document["components"]})


def test_document_is_valid_openapi_3_1(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1.")
    validate(document)


def test_checked_in_document_is_this_one(document: dict[str, Any]) -> None:
    assert (TOP / "openapi.json").read_text() == as_text(document), (
        "openapi.json is out of date. Run: stenobird openapi -o openapi.json"
    )


def test_command_prints_writes_and_checks_it(document: dict[str, Any], tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["openapi"]).output == as_text(document)
    file = tmp_path / "openapi.json"
    assert CliRunner().invoke(main, ["openapi", "-o", str(file)]).exit_code == 0
    assert CliRunner().invoke(main, ["openapi", "--check", str(file)]).exit_code == 0
    file.write_text("{}")
    refused = CliRunner().invoke(main, ["openapi", "--check", str(file)])
    assert refused.exit_code == 1
    assert "out of date" in refused.output


def test_every_address_of_the_api_is_in_it(document: dict[str, Any]) -> None:
    served = {endpoint.path for dialect in dialects() for endpoint in dialect.endpoints}
    served |= {endpoint.path for endpoint in (*probes.ENDPOINTS, probes.OPENAPI, *skill_files.ENDPOINTS)}
    assert {path.replace(":path}", "}") for path in served} == set(document["paths"])


def test_every_operation_has_a_summary_answers_and_no_default(document: dict[str, Any]) -> None:
    ids = []
    for path, methods in document["paths"].items():
        for operation in methods.values():
            ids.append(operation["operationId"])
            assert operation["summary"], path
            assert operation["description"].endswith((".", "`")), path
            assert "default" not in operation["responses"]
            assert any(status.startswith("2") for status in operation["responses"])
    assert len(ids) == len(set(ids))


def test_examples_of_errors_fit_their_schemas_and_name_their_codes(document: dict[str, Any]) -> None:
    seen = 0
    for methods in document["paths"].values():
        for operation in methods.values():
            for answer in operation["responses"].values():
                content = answer.get("content", {}).get("application/json", {})
                validator = _validator(document, content.get("schema", {}))
                for code, example in content.get("examples", {}).items():
                    validator.validate(example["value"])
                    assert f"`{code}`" in answer["description"]
                    seen += 1
    assert seen > 100


def _contents(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield operation, media type and content of every body and good answer."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            bodies = [operation.get("requestBody", {})]
            bodies += [row for status, row in operation["responses"].items() if status.startswith("2")]
            for body in bodies:
                for media, content in body.get("content", {}).items():
                    yield f"{method} {path}", media, content


def test_every_json_body_and_answer_has_an_example(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    without = set()
    for operation, media, content in _contents(document):
        schema = content["schema"]
        schema = schema.get("items", schema)
        name = schema.get("$ref", "").rpartition("/")[2]
        if (
            media == "application/json"
            and "example" not in content
            and not schemas.get(name, {}).get("examples")
        ):
            without.add(operation)
    # What Stripe sends is Stripe's to describe; the document can't be an example of itself.
    assert without == {"post /v1/billing/webhook", "get /openapi.json"}


def test_examples_of_schemas_fit_them_and_name_no_field_that_is_not_theirs(document: dict[str, Any]) -> None:
    named = set()
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", []):
            _validator(document, schema).validate(example)
            unknown = example.keys() - schema["properties"].keys()
            assert not unknown or schema.get("additionalProperties") is True, (name, unknown)
            named.add(name)
    assert len(named) == 47


def test_examples_of_bodies_and_answers_fit_their_schemas(document: dict[str, Any]) -> None:
    seen = 0
    for _, media, content in _contents(document):
        if media == "application/json" and "example" in content:
            _validator(document, content["schema"]).validate(content["example"])
            seen += 1
    assert seen >= 5


def test_examples_of_streams_are_what_their_schemas_say(document: dict[str, Any]) -> None:
    seen = []
    for operation, media, content in _contents(document):
        if media != "text/event-stream":
            continue
        assert content["schema"]["type"] == "string"
        event_schema = content["schema"]["contentSchema"]
        validator = _validator(document, event_schema)
        stream = httpx.Response(200, headers={"Content-Type": media}, text=content["example"])
        frames = list(EventSource(stream).iter_sse())
        for frame in frames:
            row = {"data": frame.data}
            if frame.id:
                row |= {"event": frame.event, "id": frame.id}
            validator.validate(row)
            if frame.data != "[DONE]":
                _validator(document, _content_schema(event_schema, frame.event)).validate(
                    json.loads(frame.data)
                )
        seen.append((operation, len(frames)))
    assert [operation for operation, _ in seen] == [
        "get /v1/transcripts/{id}/events",
        "post /v1/audio/transcriptions",
        "post /v1/audio/translations",
    ]
    assert all(frames >= 3 for _, frames in seen)


def _content_schema(schema: dict[str, Any], event: str) -> Any:
    """Return the schema of an event's data, which validators take for a note only."""
    if "oneOf" not in schema:
        return schema["properties"]["data"]["oneOf"][0]["contentSchema"]
    rows = [row["properties"] for row in schema["oneOf"] if row["properties"]["event"]["const"] == event]
    return rows[0]["data"]["contentSchema"]


def test_events_are_described_as_they_are_sent(document: dict[str, Any]) -> None:
    events = JobEvents("tr_123", "https://stenobird.com")
    word = Word(0.0, 1.0, "Hello", 0.9)
    sent = {
        "status": events.status("queued", "validating_url"),
        "transcript": events.transcript(Segment(0.0, 1.0, "Hello", (word,)), 0, language="en"),
        "speakers": events.speakers([SpeakerLabel.of(0, 1, overlap=True, words=[2])], final=True),
        "preview_locked": events.preview_locked(),
        "error": events.error({"error": "unsupported_url", "message": "No."}),
        "done": events.done("completed", billable_minutes=1),
    }
    stream = document["paths"]["/v1/transcripts/{id}/events"]["get"]["responses"]["200"]["content"]
    described = {
        row["properties"]["event"]["const"]: row["properties"]["data"]["contentSchema"]
        for row in stream["text/event-stream"]["schema"]["contentSchema"]["oneOf"]
    }
    assert described.keys() == sent.keys() == {model.event for model in EVENTS}
    for name, event in sent.items():
        _validator(document, described[name]).validate(json.loads(event.data))


def test_each_schema_has_its_name_as_title_and_no_request_field_a_default(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert {name: schema["title"] for name, schema in schemas.items()} == {name: name for name in schemas}
    with_defaults = {
        name
        for methods in document["paths"].values()
        for operation in methods.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
        if (name := content["schema"].get("$ref", "").rpartition("/")[2])
        and any("default" in field for field in schemas[name]["properties"].values())
    }
    assert with_defaults == set()
    assert schemas["CreateTranscript"]["properties"]["task"]["description"].endswith("Default: transcribe.")


def test_rate_limited_is_documented_where_requests_are_counted(document: dict[str, Any]) -> None:
    counted = [endpoint for dialect in dialects() for endpoint in dialect.endpoints if endpoint.limited]
    assert len(counted) > 5
    for endpoint in counted:
        answers = document["paths"][endpoint.path][endpoint.method.lower()]["responses"]
        assert "rate_limit" in answers["429"]["description"], endpoint.path


def test_segments_of_results_have_a_language(document: dict[str, Any]) -> None:
    segment = document["components"]["schemas"]["ResultSegment"]
    assert "language" in segment["properties"]
    assert "language" not in segment["required"]


def test_prefix_moves_the_uploads_dialect() -> None:
    paths = api_document("http://127.0.0.1:8000", "/x")["paths"]
    assert "/x/api/v1/uploads" in paths
    assert "/api/v1/uploads" not in paths


def test_what_webhooks_send_is_described(document: dict[str, Any]) -> None:
    [sent] = document["webhooks"].values()
    names = {row["name"]: row["required"] for row in sent["post"]["parameters"]}
    assert [name for name, required in names.items() if required] == [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    ]
    assert {"X-AlefBot-Timestamp", "X-AlefBot-Signature"} <= names.keys()
    event = document["components"]["schemas"]["WebhookEvent"]
    assert event["required"] == ["event_id", "event_type", "job_id", "status", "created_at"]
    [example] = event["examples"]
    Draft202012Validator(event).validate(example)
