"""The download of a model, from a hub on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from stenobird.clock import SystemClock
from stenobird.errors import EngineUnavailable
from stenobird.speech import SpeechSettings, WhisperRecognizer, open_recognizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

pytestmark = pytest.mark.anyio

COMMIT = "a" * 40


class Hub:
    """Serves one repository, `someone/model`. `go_on` lets the second half of `model.bin` through."""

    def __init__(self, folder: Path) -> None:
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.go_on = threading.Event()
        self.served: list[str] = []

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        self.served.append(path)
        if path == "/api/models/someone/model/revision/main":
            self._send(request, json.dumps({"id": "someone/model", "sha": COMMIT}).encode())
        elif path == f"/api/models/someone/model/tree/{COMMIT}":
            rows = [
                {"type": "file", "oid": _hash(data), "size": len(data), "path": name}
                for name, data in self.files.items()
            ]
            self._send(request, json.dumps(rows).encode())
        elif path.startswith("/someone/model/resolve/") and path.rpartition("/")[2] in self.files:
            self._send(request, self.files[path.rpartition("/")[2]])
        else:
            request.send_response(404)
            request.send_header("X-Error-Code", "RepoNotFound")
            request.send_header("Content-Length", "0")
            request.end_headers()

    def _send(self, request: BaseHTTPRequestHandler, data: bytes) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.send_header("ETag", f'"{_hash(data)}"')
        request.send_header("X-Repo-Commit", COMMIT)
        request.end_headers()
        if request.command == "GET":
            half = len(data) // 2 if request.path.endswith("model.bin") else 0
            request.wfile.write(data[:half])
            if half:
                self.go_on.wait(30)
            request.wfile.write(data[half:])


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def serve(hub: Hub) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.answer(self)

        do_HEAD = do_GET  # noqa: N815  # the name that http.server looks for

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            hub.go_on.set()
            server.shutdown()
            thread.join()


def open_from_hub(
    monkeypatch: pytest.MonkeyPatch, url: str, cache: Path, *, model: str = "someone/model"
) -> AbstractAsyncContextManager[WhisperRecognizer]:
    for name, value in {"HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    settings = SpeechSettings(engine="whisper", model=model, device="cpu", cache_dir=cache)
    return open_recognizer(settings, clock=SystemClock())


async def test_a_model_is_downloaded_once_and_its_progress_shows(
    fixture_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = Hub(fixture_model)
    with serve(hub) as url:
        async with open_from_hub(monkeypatch, url, tmp_path) as recognizer:
            while recognizer.status()["state"] != "downloading":  # noqa: ASYNC110  # bounded by the timeout
                await asyncio.sleep(0.005)
            assert 0 < recognizer.status()["progress"] <= 1
            assert not await recognizer.ready()
            hub.go_on.set()
            await recognizer.loaded()
            assert recognizer.model == "someone/model"
            assert recognizer.status()["fixture"] is False
        downloads = len(hub.served)
        async with open_from_hub(monkeypatch, url, tmp_path) as recognizer:
            await recognizer.loaded()

    assert len(hub.served) == downloads


async def test_a_name_that_the_hub_does_not_know_is_told(
    fixture_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(Hub(fixture_model)) as url:
        async with open_from_hub(monkeypatch, url, tmp_path, model="someone/else") as recognizer:
            with pytest.raises(EngineUnavailable, match="check the name in STENOBIRD_MODEL"):
                await recognizer.loaded()


async def test_a_hub_out_of_reach_is_told(
    fixture_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(Hub(fixture_model)) as url:
        pass
    async with open_from_hub(monkeypatch, url, tmp_path) as recognizer:
        with pytest.raises(EngineUnavailable, match="Hugging Face can't be reached"):
            await recognizer.loaded()
