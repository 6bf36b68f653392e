"""The live service against its own OpenAPI document: what is sent at random is answered as documented."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from stenobird.testing.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKS: list[Any] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
URL = "https://example.com/audio-url"
EXAMPLES = 6
NOT_SET_UP = {"billing_unavailable", "translation_unavailable"}
"""What this service answers 503 for: it sells nothing and has no translator."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The real service, worker included."""
    with ServerProcess(tmp_path_factory.mktemp("service") / "data") as process:
        yield process


def test_answers_about_a_real_transcript_are_as_documented(server: ServerProcess) -> None:
    headers = {"Authorization": f"Bearer {server.create_key('--mode', 'test')}"}
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")

    def call(path: str, method: str = "GET", **parts: Any) -> Any:
        case = schema[path][method].Case(**parts)
        response = case.call(headers=headers, timeout=20)
        case.validate_response(response, checks=CHECKS)
        return response

    created = call("/v1/transcripts", "POST", body={"audio_url": URL}, media_type="application/json")
    assert created.status_code == 202
    one: dict[str, Any] = {"path_parameters": {"id": created.json()["id"]}}
    # The events of a test job end by themselves.
    assert "event: done" in call("/v1/transcripts/{id}/events", **one).text
    assert call("/v1/transcripts/{id}", **one).json()["status"] == "completed"
    for name in ("json", "txt", "srt", "vtt", "docx"):
        assert call("/v1/transcripts/{id}/result", **one, query={"format": name}).status_code == 200
    for response_format in ("json", "verbose_json", "text", "srt", "vtt"):
        body = {"url": URL, "response_format": response_format}
        said = call("/v1/audio/transcriptions", "POST", body=body, media_type="application/json")
        assert said.status_code == 200
    assert len(call("/v1/transcripts").json()["transcripts"]) >= 6
    assert call("/v1/transcripts/{id}", "DELETE", **one).status_code == 204
    assert call("/v1/transcripts/{id}", **one).status_code == 404


# After the other one, since it uses up what the account may ask in a minute.
def test_answers_to_random_requests_are_as_documented(server: ServerProcess) -> None:
    # A test key: jobs end at once, without network; nothing of an account can be deleted with it.
    key = server.create_key("--mode", "test")
    headers = {"Authorization": f"Bearer {key}"}
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    problems: list[str] = []
    seen: set[int] = set()
    for found in schema.get_all_operations():
        assert isinstance(found, Ok)
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            try:
                _hold_against_document(operation.as_strategy(generation_mode=mode), headers, seen)
            except hypothesis.errors.Unsatisfiable:
                # Some operations take nothing that could be wrong.
                assert mode is GenerationMode.NEGATIVE
            except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001  # all of them at once, below
                problems.append(f"{operation.label}: {error}")
    assert not problems, "\n\n".join(problems)
    assert {200, 201, 400, 404} <= seen


def _hold_against_document(cases: Any, headers: dict[str, str], seen: set[int]) -> None:
    @hypothesis.given(case=cases)
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def check(case: Any) -> None:
        response = case.call(headers=headers, timeout=20)
        seen.add(response.status_code)
        case.validate_response(response, checks=CHECKS)
        if response.status_code >= 500:
            said = response.json()
            code = said["error"] if isinstance(said["error"], str) else said["error"]["code"]
            assert (response.status_code, code in NOT_SET_UP) == (503, True), said

    check()
