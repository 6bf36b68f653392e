"""`translate_to_hebrew` on the real service, with fixture speech and a translation model with known words."""

from __future__ import annotations

import io
import os
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docx
import httpx
import pytest

from tests.support.guides import Session
from tests.support.server_process import ServerProcess
from tests.support.translation_model import spell, write_translation_model
from tests.support.until import until

if TYPE_CHECKING:
    from collections.abc import Iterator

CUE = re.compile(r"(\d+)\n(\S+ --> \S+)\n((?:.+\n)+)")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A running service with a translator."""
    folder = tmp_path_factory.mktemp("service")
    write_translation_model(folder / "model")
    settings = {"TRANSLATION_MODEL": str(folder / "model"), "PREMIUM_REQUESTS_PER_MINUTE": "1000"}
    with ServerProcess(folder / "data", settings) as process:
        yield process


@pytest.fixture(scope="module")
def api(server: ServerProcess) -> Iterator[httpx.Client]:
    """A client with a live key."""
    with httpx.Client(base_url=f"{server.url}/api/v1", trust_env=False, timeout=180) as client:
        client.headers["Authorization"] = f"Bearer {server.create_key()}"
        yield client


def send(api: httpx.Client, data: bytes) -> str:
    slot = {"filename": "talk.mp3", "content_type": "audio/mpeg", "size_bytes": len(data)}
    upload_id: str = api.post("/uploads", json=slot).json()["upload_id"]
    api.put(f"/uploads/{upload_id}/binary", content=data).raise_for_status()
    return upload_id


def start(api: httpx.Client, clip: Path, **wishes: Any) -> str:
    body = {"upload_id": send(api, clip.read_bytes()), **wishes}
    job_id: str = api.post("/transcriptions", json=body).raise_for_status().json()["job_id"]
    return job_id


def ended(api: httpx.Client, job_id: str) -> dict[str, Any]:
    def end() -> dict[str, Any] | None:
        body: dict[str, Any] = api.get(f"/transcriptions/{job_id}").json()
        return None if body["status"] in {"pending", "processing"} else body

    return until(end)


def artifact(api: httpx.Client, job_id: str, suffix: str) -> httpx.Response:
    return api.get(f"/transcriptions/{job_id}/artifact.{suffix}").raise_for_status()


def cues(srt: str) -> list[tuple[str, str, str]]:
    return CUE.findall(srt.replace("\r\n", "\n") + "\n")


@pytest.fixture(scope="module")
def plain(api: httpx.Client, clips: Path) -> str:
    """The subtitles of the same clip in the spoken language."""
    job_id = start(api, clips / "short.mp3", translate_to_hebrew=False)
    assert ended(api, job_id)["analysis"]["language"] == "en"
    return artifact(api, job_id, "srt").text


def test_the_artifacts_are_translated_and_keep_their_times(
    api: httpx.Client, clips: Path, plain: str
) -> None:
    job_id = start(api, clips / "short.mp3", translate_to_hebrew=True)

    body = ended(api, job_id)

    assert (body["status"], body["credits_used"]) == ("completed", 1)
    assert body["analysis"]["language"] == "en", "what was detected in the audio, not what the text is in"
    spoken, said = cues(plain), cues(artifact(api, job_id, "srt").text)
    assert len(said) >= 3
    assert [(number, times) for number, times, _ in said] == [(number, times) for number, times, _ in spoken]
    assert [text.split() for _, _, text in said] == [spell(text).split() for _, _, text in spoken]
    assert spell(spoken[0][2].split()[0]) in artifact(api, job_id, "txt").text
    document = docx.Document(io.BytesIO(artifact(api, job_id, "docx").content))
    hebrew = [p for p in document.paragraphs if any("א" <= char <= "ת" for char in p.text)]
    assert hebrew
    assert all(p._p.pPr is not None and p._p.pPr.find("{*}bidi") is not None for p in hebrew)
    assert all(any(run.font.rtl for run in p.runs) for p in hebrew)
    assert document.core_properties.language == "he"


def test_a_translator_killed_again_and_again_changes_nothing(
    api: httpx.Client, server: ServerProcess, clips: Path, plain: str
) -> None:
    job_id = start(api, clips / "short.mp3", translate_to_hebrew=True)
    killed: set[int] = set()
    while api.get(f"/transcriptions/{job_id}").json()["status"] in {"pending", "processing"}:
        hosts = {pid for pid, line in server.children() if "stenobird.translation.host_child" in line}
        for pid in hosts - killed if len(killed) < 3 else ():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            killed.add(pid)

    assert killed
    assert ended(api, job_id)["status"] == "completed"
    said = [text.split() for _, _, text in cues(artifact(api, job_id, "srt").text)]
    assert said == [spell(text).split() for _, _, text in cues(plain)]


def test_a_test_key_gets_the_sample_text_in_hebrew(api: httpx.Client, clips: Path) -> None:
    key = api.post("/keys", json={"name": "tests", "mode": "test"}).raise_for_status().json()["key"]
    with httpx.Client(base_url=api.base_url, trust_env=False, timeout=180) as tests:
        tests.headers["Authorization"] = f"Bearer {key}"

        job_id = start(tests, clips / "short.mp3", translate_to_hebrew=True)

        body = ended(tests, job_id)
        assert (body["status"], body["credits_used"], body["analysis"]["language"]) == ("completed", 0, "he")
        assert any("א" <= char <= "ת" for char in artifact(tests, job_id, "srt").text)


def test_one_upload_can_be_transcribed_and_translated(api: httpx.Client, clips: Path) -> None:
    upload_id = send(api, (clips / "short.mp3").read_bytes())
    texts = []
    for wish in (True, False):
        made = api.post("/transcriptions", json={"upload_id": upload_id, "translate_to_hebrew": wish}).json()
        ended(api, made["job_id"])
        texts.append(artifact(api, made["job_id"], "txt").text)

    assert texts[0] != texts[1]
    assert any("א" <= char <= "ת" for char in texts[0])
    assert not any("א" <= char <= "ת" for char in texts[1])


def test_the_guide(api: httpx.Client, server: ServerProcess, clips: Path, tmp_path: Path) -> None:
    guide = Path(__file__).parents[3] / "docs" / "how-to" / "translation.md"
    (tmp_path / "talk.mp3").symlink_to(clips / "short.mp3")
    key = api.headers["Authorization"].removeprefix("Bearer ")
    values = {"http://127.0.0.1:8000": server.url, "alef_sk_live_…": key}

    with Session(tmp_path, server.environment, values) as session:
        printed = list(session.run_all(guide).values())

    assert "translator" in printed[0]
    assert len(cues((tmp_path / "talk.he.srt").read_text())) >= 3


def test_a_missing_model_is_refused_at_once(tmp_path: Path, clips: Path) -> None:
    settings = {"TRANSLATION_MODEL": str(tmp_path / "nothing")}
    with (
        ServerProcess(tmp_path / "data", settings) as process,
        httpx.Client(base_url=f"{process.url}/api/v1", trust_env=False, timeout=180) as api,
    ):
        api.headers["Authorization"] = f"Bearer {process.create_key()}"
        upload_id = send(api, (clips / "short.mp3").read_bytes())

        def failed() -> bool:
            health = httpx.get(f"{process.url}/healthz", trust_env=False).json()
            return bool(health["translator"]["state"] == "failed")

        until(failed)

        refused = api.post("/transcriptions", json={"upload_id": upload_id, "translate_to_hebrew": True})
        taken = api.post("/transcriptions", json={"upload_id": upload_id})

        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "translation_unavailable")
        assert "STENOBIRD_TRANSLATION_MODEL" in refused.json()["error"]["message"]
        assert taken.status_code == 202
        assert api.get("/transcriptions").json()["total"] == 1
