"""A Hugging Face hub with one repository, on loopback."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPOSITORY = "someone/model"
COMMIT = "a" * 40


class FakeHub:
    """Serves one repository, `someone/model`. `go_on` lets the second half of `model.bin` through.

    The first downloads of a file are answered with `refusals`, each with its status.
    """

    def __init__(self, folder: Path) -> None:
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}
        self.go_on = threading.Event()
        self.served: list[str] = []
        self.refusals: list[int] = []

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
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
        elif path.startswith("/someone/model/resolve/") and request.command == "GET" and self.refusals:
            request.send_response(self.refusals.pop(0))
            request.send_header("Content-Length", "0")
            request.end_headers()
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
                self.go_on.wait(180)
            request.wfile.write(data[half:])


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def serve_hub(hub: FakeHub) -> Iterator[str]:
    """Serve it on loopback and yield its address, which `hub_environment` makes the hub."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hub.answer(self)

        do_HEAD = do_GET  # noqa: N815  # the name that http.server looks for

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            hub.go_on.set()
            server.shutdown()
            thread.join()


def hub_environment(url: str) -> dict[str, str]:
    """Return the variables that make the hub's client talk to `url`, directly."""
    return {"HF_ENDPOINT": url, "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1"}
