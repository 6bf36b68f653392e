"""The AlefBot dialect on the real service: transcripts, the memory of large uploads, the reference page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.browser import chromium, chromium_path, visitor
from tests.support.server_process import ServerProcess
from tests.support.until import until

if TYPE_CHECKING:
    from collections.abc import Iterator

MB = 1024 * 1024
LARGE_BYTES = 200 * MB
RSS_GROWTH_BYTES = 64 * MB


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A running service with its own data folder."""
    folder = tmp_path_factory.mktemp("service")
    with ServerProcess(folder / "data", {"PREMIUM_REQUESTS_PER_MINUTE": "1000"}) as process:
        yield process


@pytest.fixture
def api(server: ServerProcess) -> Iterator[httpx.Client]:
    """A client with a live key."""
    with httpx.Client(base_url=f"{server.url}/api/v1", trust_env=False, timeout=180) as client:
        client.headers["Authorization"] = f"Bearer {server.create_key()}"
        yield client


def send(api: httpx.Client, name: str, data: bytes) -> str:
    slot = {"filename": name, "content_type": "audio/mpeg", "size_bytes": len(data)}
    upload_id: str = api.post("/uploads", json=slot).json()["upload_id"]
    api.put(f"/uploads/{upload_id}/binary", content=data).raise_for_status()
    return upload_id


def ended(api: httpx.Client, job_id: str) -> dict[str, object]:
    def end() -> dict[str, object] | None:
        body: dict[str, object] = api.get(f"/transcriptions/{job_id}").json()
        return None if body["status"] in {"pending", "processing"} else body

    return until(end)


def test_an_upload_is_transcribed(api: httpx.Client, clips: Path) -> None:
    upload_id = send(api, "interview.mp3", (clips / "short.mp3").read_bytes())
    job_id = api.post("/transcriptions", json={"upload_id": upload_id}).json()["job_id"]

    body = ended(api, job_id)

    assert body["status"] == "completed"
    assert body["credits_used"] == 1
    assert body["media_duration_seconds"] == pytest.approx(21, abs=1)
    text = api.get(f"/transcriptions/{job_id}/artifact.txt").text
    spoken = (clips / "short.txt").read_text().lower().split()
    heard = text.lower().split()
    assert sum(word in heard for word in spoken[:10]) >= 8, text


def test_an_upload_through_v1_streams_its_words(
    api: httpx.Client, server: ServerProcess, clips: Path
) -> None:
    upload_id = send(api, "interview.mp3", (clips / "short.mp3").read_bytes())
    made = api.post(f"{server.url}/v1/transcripts", json={"upload_id": upload_id}).json()

    events = api.get(made["events_url"]).text

    stages = [line for line in events.splitlines() if line.startswith("event: ")]
    assert stages.count("event: transcript") >= 1
    assert stages[-1] == "event: done"
    result = api.get(made["result_url"]).json()
    assert result["status"] == "completed"
    assert result["source"]["technique"] == "upload"
    assert result["source"]["title"] == "interview"


def test_bytes_without_audio_fail_with_a_reason(api: httpx.Client) -> None:
    job_id = api.post(
        "/transcriptions", json={"upload_id": send(api, "a.mp3", b"not audio at all. " * 1000)}
    ).json()["job_id"]

    body = ended(api, job_id)

    assert body["status"] == "failed"
    assert body["error"] == {
        "code": "audio_content_type_not_supported",
        "message": body["error"]["message"],  # type: ignore[index]
    }
    assert "What was uploaded is not audio" in str(body["error"])
    assert body["credits_used"] is None


def peak_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def test_a_large_upload_does_not_fill_the_memory(api: httpx.Client, server: ServerProcess) -> None:
    """Peak RSS is the maximum of the whole process, so its growth bounds the memory of the upload."""
    assert server.process is not None
    send(api, "warm.bin", bytes(MB))
    slot = {"filename": "large.bin", "content_type": "audio/mpeg", "size_bytes": LARGE_BYTES}
    upload_id = api.post("/uploads", json=slot).json()["upload_id"]
    before = peak_bytes(server.process.pid)

    piece = bytes(MB)
    answer = api.put(f"/uploads/{upload_id}/binary", content=(piece for _ in range(LARGE_BYTES // MB)))

    assert answer.json() == {"ok": True, "bytes_received": LARGE_BYTES}
    assert peak_bytes(server.process.pid) - before <= RSS_GROWTH_BYTES


def test_the_reference_page_shows_every_operation_and_calls_no_other_site(server: ServerProcess) -> None:
    path = chromium_path()
    if path is None:
        pytest.skip("PAGE NOT TESTED: no Chromium here; install the package chromium-headless-shell")
    document = httpx.get(f"{server.url}/openapi.json", trust_env=False).json()
    # It shows the webhooks, too.
    described = [*document["paths"].values(), *document["webhooks"].values()]
    operations = sum(len(item) for item in described)

    with chromium(path) as browser, visitor(browser, server.url) as one:
        page = one.open("/developers/api-reference")
        page.locator(".opblock").first.wait_for()

        assert page.locator(".opblock").count() == operations
        assert one.foreign_requests() == []
