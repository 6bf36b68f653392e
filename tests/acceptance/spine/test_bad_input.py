"""Bad input gets its code and a remedy, alike over POST, stream, status and result."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from stenobird.demo import CLIP_PATH
from tests.support.free_port import free_port
from tests.support.http_reader import EventReader
from tests.support.media_server import Resource
from tests.support.server_process import ServerProcess
from tests.support.speech import write_audio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.media_server import MediaServer

PAGE = b"<!doctype html><html><head><title>An essay</title></head><body><p>Only words here.</p></body></html>"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service with tight limits."""
    limits = {"MAX_AUDIO_BYTES": "300000", "MAX_AUDIO_SECONDS": "30"}
    with ServerProcess(tmp_path_factory.mktemp("service") / "data", limits) as process:
        yield process


def failure(reader: EventReader, audio_url: str) -> dict[str, Any]:
    """Post, read to the end, and return the error body; asserts that every view tells the same story."""
    job = reader.create(audio_url)
    events = list(reader.events(job["id"]))
    assert [event.event for event in events[-2:]] == ["error", "done"]
    error, done = events[-2].body, events[-1].body
    assert (done["status"], done["terminal"], done["result_ready"]) == ("failed", True, False)
    assert done["error"] == error["error"]
    status = reader.http.get(f"/v1/transcripts/{job['id']}").json()
    assert (status["status"], status["terminal"], status["result_ready"]) == ("failed", True, False)
    answer = reader.http.get(f"/v1/transcripts/{job['id']}/result")
    assert answer.status_code == 422
    body: dict[str, Any] = answer.json()
    assert {name: error[name] for name in body} == body
    assert body["message"]
    return body


def test_failures_found_after_the_post_say_so_everywhere(
    reader: EventReader, media: MediaServer, tmp_path: Path, clips: Path
) -> None:
    clip = CLIP_PATH.read_bytes()
    media.resources["/missing.mp3"] = Resource(b"not here", status=404, content_type="text/plain")
    media.resources["/missing"] = Resource(b"not here", status=404, content_type="text/plain")
    media.resources["/essay"] = Resource(PAGE, content_type="text/html; charset=utf-8")
    media.resources["/noise.mp3"] = Resource(bytes(range(7, 256)) * 300)
    media.resources["/empty.mp3"] = Resource(b"")
    media.resources["/large.mp3"] = Resource(clip)
    media.resources["/long.mp3"] = Resource(clip[:280_000])
    cases = {
        "http://nowhere.invalid/episode": "audio_source_unreachable",
        "http://nowhere.invalid/episode.mp3": "audio_unreachable",
        f"http://127.0.0.1:{free_port()}/episode": "audio_source_unreachable",
        media.url("/missing"): "audio_source_unreachable",
        media.url("/missing.mp3"): "audio_unreachable",
        media.url("/essay"): "audio_source_not_found",
        media.url("/noise.mp3"): "audio_content_type_not_supported",
        media.url("/empty.mp3"): "audio_content_type_not_supported",
        media.url("/large.mp3"): "audio_too_large",
        media.url("/long.mp3"): "audio_too_large",
    }
    assert {url: failure(reader, url)["error"] for url in cases} == cases


def test_silence_is_a_transcript_without_words(
    reader: EventReader, media: MediaServer, tmp_path: Path
) -> None:
    import numpy as np  # noqa: PLC0415  # for this test only

    write_audio(tmp_path / "silence.mp3", [np.zeros(16_000, np.int16)] * 20)
    media.resources["/silence.mp3"] = Resource(tmp_path / "silence.mp3")
    job = reader.create(media.url("/silence.mp3"))
    events = list(reader.events(job["id"]))
    assert events[-1].body["status"] == "completed"
    result = reader.result(job["id"])
    assert (result["text"], result["segments"]) == ("", [])
    assert result["duration_seconds"] == pytest.approx(20.0, abs=0.1)


def test_truncated_media_is_completed_with_a_warning(reader: EventReader, media: MediaServer) -> None:
    media.resources["/cut.mp3"] = Resource(CLIP_PATH.read_bytes()[:120_001], declared_bytes=200_000)
    job = reader.create(media.url("/cut.mp3"))
    events = list(reader.events(job["id"]))
    assert events[-1].body["status"] == "completed"
    assert reader.result(job["id"])["text"]
    assert events[-1].body["warning"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"audio", "invalid_request"),
        (b"[]", "invalid_request"),
        (b"{}", "invalid_request"),
        (b'{"audio_url": 7}', "invalid_request"),
        (b'{"audio_url": "not a url"}', "invalid_url"),
        (b'{"audio_url": "ftp://example.com/a.mp3"}', "invalid_url"),
        (b'{"audio_url": "http://169.254.169.254/latest/meta-data/"}', "invalid_url"),
        (b'{"audio_url": "http://10.0.0.1/"}', "invalid_url"),
        (b'{"audio_url": "feed://10.0.0.1/feed.xml"}', "invalid_url"),
        (b'{"audio_url": "podcast:file:///etc/passwd"}', "invalid_url"),
    ],
)
def test_requests_that_can_not_be_served_are_refused_at_once(
    server: ServerProcess, content: bytes, code: str
) -> None:
    answer = httpx.post(
        f"{server.url}/v1/transcripts", content=content, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    body = answer.json()
    assert body["error"] == code
    assert len(body["message"]) > 20
    assert ("accepted_url_examples" in body) == (code == "invalid_url")


def test_keys_guard_every_endpoint_of_a_full_job(
    server: ServerProcess, reader: EventReader, media: MediaServer
) -> None:
    media.resources["/short.mp3"] = Resource(CLIP_PATH.read_bytes()[:200_000])
    job = reader.create(media.url("/short.mp3"))
    list(reader.events(job["id"]))
    revoked = json.loads(server.command("keys", "create", "--json"))
    server.command("keys", "revoke", revoked["id"])

    def codes(key: str | None) -> set[tuple[int, str]]:
        found = set()
        with EventReader(server.url, key) as other:
            for path in ("", "/events", "/result"):
                answer = other.http.get(f"/v1/transcripts/{job['id']}{path}")
                found.add((answer.status_code, answer.json()["error"]))
            answer = other.http.delete(f"/v1/transcripts/{job['id']}")
            found.add((answer.status_code, answer.json()["error"]))
        return found

    assert codes(None) == {(401, "missing_api_key")}
    assert codes("sb_live_" + "x" * 36) == {(401, "invalid_api_key")}
    assert codes(revoked["key"]) == {(401, "invalid_api_key")}


def test_an_unknown_id_is_not_found(reader: EventReader) -> None:
    answer = reader.http.get("/v1/transcripts/tr_0000000000000000000000")
    assert (answer.status_code, answer.json()["error"]) == (404, "transcript_not_found")
