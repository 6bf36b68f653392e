"""The OpenAI dialect on the real service: what the SDK receives, and what the document promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from stenobird.demo import CLIP_PATH, CLIP_TEXT_PATH, word_error_rate
from tests.support.openapi import served_schema
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator

CHECKS: list[Any] = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
URL = "https://example.com/audio-url"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """The real service, worker and fixture model included."""
    with ServerProcess(tmp_path_factory.mktemp("service") / "data") as process:
        yield process


@pytest.fixture(scope="module")
def live_key(server: ServerProcess) -> str:
    """A key of a paying account."""
    return server.create_key()


@pytest.fixture
def sdk(server: ServerProcess, live_key: str) -> Iterator[openai.OpenAI]:
    """The SDK, unchanged except for its base URL."""
    with openai.OpenAI(api_key=live_key, base_url=f"{server.url}/v1", max_retries=0) as client:
        yield client


def test_a_file_is_transcribed(sdk: openai.OpenAI) -> None:
    with CLIP_PATH.open("rb") as file:
        answer = sdk.audio.transcriptions.create(model="whisper-1", file=file)
    assert word_error_rate(CLIP_TEXT_PATH.read_text(), answer.text) < 0.2


def test_stream_and_verbose_json_have_the_same_text_with_word_times(
    sdk: openai.OpenAI, server: ServerProcess, live_key: str
) -> None:
    stream = sdk.audio.transcriptions.create(model="whisper-1", file=CLIP_PATH, stream=True)
    events: list[Any] = list(stream)
    assert {event.type for event in events[:-1]} == {"transcript.text.delta"}
    assert events[-1].type == "transcript.text.done"
    assert "".join(event.delta for event in events[:-1]) == events[-1].text

    verbose = sdk.audio.transcriptions.create(
        model="whisper-1",
        file=CLIP_PATH,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )
    assert verbose.text == events[-1].text.strip()
    assert verbose.words is not None
    assert verbose.segments is not None
    assert " ".join(word.word for word in verbose.words).split() == verbose.text.split()
    starts = [word.start for word in verbose.words]
    assert starts == sorted(starts)
    assert all(word.start <= word.end <= verbose.duration + 0.1 for word in verbose.words)
    assert verbose.language == "english"

    usage = httpx.get(f"{server.url}/v1/usage", headers={"Authorization": f"Bearer {live_key}"}).json()
    assert usage["total"]["jobs"] >= 2
    assert usage["total"]["billable_minutes"] == usage["total"]["jobs"]


def test_a_file_without_audio_is_refused(sdk: openai.OpenAI) -> None:
    with pytest.raises(openai.UnprocessableEntityError) as caught:
        sdk.audio.transcriptions.create(model="whisper-1", file=("a.mp3", b"no audio at all" * 100))
    assert caught.value.code in {"audio_content_type_not_supported", "transcription_failed"}


def test_responses_for_a_real_transcript_are_as_documented(server: ServerProcess) -> None:
    headers = {"Authorization": f"Bearer {server.create_key(mode='test')}"}
    schema = served_schema(server.url)

    def call(path: str, method: str = "GET", **parts: Any) -> Any:
        case = schema[path][method].Case(**parts)
        response = case.call(headers=headers, timeout=180)
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
    streamed = {"url": URL, "stream": True}
    deltas = call("/v1/audio/transcriptions", "POST", body=streamed, media_type="application/json")
    assert deltas.text.endswith("data: [DONE]\n\n")
    assert len(call("/v1/transcripts").json()["transcripts"]) >= 7
    assert call("/v1/transcripts/{id}", "DELETE", **one).status_code == 204
    assert call("/v1/transcripts/{id}", **one).status_code == 404
