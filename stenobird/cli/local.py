"""What commands share: this machine's storage, a service inside the command, and a local file as a link."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
import time
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final, TypeVar

import httpx

from stenobird.bootstrap import open_services, open_storage
from stenobird.client import AsyncStenobirdClient
from stenobird.config import Settings
from stenobird.serving import SERVER_FILE, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from stenobird.bootstrap import Storage

_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_PIECE_BYTES: Final = 16 * 1024

T = TypeVar("T")


def with_storage(work: Callable[[Storage], Awaitable[T]]) -> T:
    """Return the result of `work`, run with the storage that the settings select."""

    async def run() -> T:
        async with open_storage(Settings()) as storage:
            return await work(storage)

    return asyncio.run(run())


@asynccontextmanager
async def local_service(settings: Settings, *, key_name: str) -> AsyncIterator[tuple[str, str]]:
    """Run a service on a free loopback port; yield its URL, and a key that is revoked at the end."""
    # Commands never translate, so the translation model is not loaded.
    ours = {"host": "127.0.0.1", "port": 0, "public_url": None, "translation_model": ""}
    settings = settings.model_copy(update=ours)
    async with open_services(settings) as services, serving(services) as url:
        secret, record = await services.keys.create(name=key_name)
        try:
            yield url, secret
        finally:
            await services.keys.revoke(record.id)


def local_client(url: str, *, api_key: str | None) -> AsyncStenobirdClient:
    """Return a client of a service on this machine that ignores the proxies of the environment."""
    return AsyncStenobirdClient(url, api_key=api_key, transport=httpx.AsyncHTTPTransport())


def running_service(settings: Settings) -> str | None:
    """Return the URL of the running service that owns this data folder, if there is one."""
    try:
        url: str = json.loads((settings.data_dir / SERVER_FILE).read_text())["url"]
        httpx.get(f"{url}/healthz", timeout=2.0, trust_env=False).raise_for_status()
    except (OSError, ValueError, KeyError, httpx.HTTPError):
        return None
    return url


@contextmanager
def serve_file(file: Path, url_path: str, *, bytes_per_second: float | None = None) -> Iterator[str]:
    """Serve `file` at `url_path` and yield its URL. Byte ranges work, and `bytes_per_second` sets a pace."""
    handler = partial(_FileRequest, file, url_path, bytes_per_second)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, name="file server", daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}{url_path}"
        finally:
            server.shutdown()
            thread.join()


class _FileRequest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(
        self, file: Path, url_path: str, bytes_per_second: float | None, *connection: object
    ) -> None:
        self._file, self._url_path, self._bytes_per_second = file, url_path, bytes_per_second
        super().__init__(*connection)  # type: ignore[arg-type]

    def do_GET(self) -> None:  # the name that http.server calls
        if self.path != self._url_path:
            self.send_error(404)
            return
        size = self._file.stat().st_size
        start, end = 0, size
        if wanted := _RANGE.fullmatch(self.headers.get("Range", "")):
            start, end = int(wanted[1]), min(int(wanted[2]) + 1 if wanted[2] else size, size)
        if start >= end and wanted is not None:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200 if wanted is None else 206)
        if wanted is not None:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(end - start))
        self.end_headers()
        with contextlib.suppress(OSError):  # the client closed the connection
            self._send(start, end)

    def _send(self, start: int, end: int) -> None:
        began, sent = time.monotonic(), 0
        with self._file.open("rb") as file:
            file.seek(start)
            while sent < end - start:
                piece = file.read(min(_PIECE_BYTES, end - start - sent))
                if not piece:
                    return
                self.wfile.write(piece)
                sent += len(piece)
                if self._bytes_per_second is not None:
                    time.sleep(max(0.0, began + sent / self._bytes_per_second - time.monotonic()))

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's own name
        """Log nothing: the command shows what happens."""
