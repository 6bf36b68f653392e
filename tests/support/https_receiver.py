"""A webhook receiver on loopback, by https with an authority of its own, for services in other processes.

Give the service `environment` (`ServerProcess.extra_environment`), so that it trusts the authority. Needs the
`dev` extra (trustme).
"""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self

import httpx
import trustme

from tests.support.free_port import free_port

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

WAIT_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Received:
    """One POST as it came; `headers` has lower-case names."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    answered: int

    @property
    def event_id(self) -> str:
        """What tells events apart, and attempts at the same one not."""
        return self.headers["webhook-id"]


@dataclass
class HTTPSReceiver:
    """Answers every POST with `status` and `headers`, which a test may change. Use as a context manager.

    With `forward_to` it is the https in front of a plain receiver, whose answers it gives. While `go_on` is
    cleared, requests wait. `down` and `up` close and open the port, which stays the same.
    `most_at_once` is how many POSTs of one event there were at the same time, at most.
    """

    folder: Path
    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    forward_to: str | None = None
    port: int = field(default_factory=free_port)
    go_on: threading.Event = field(default_factory=threading.Event)
    received: list[Received] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """The event ids of all POSTs, those that wait for an answer among them."""
    most_at_once: int = 0

    def __post_init__(self) -> None:
        self.go_on.set()
        self._changed = threading.Condition()
        self._under_way: Counter[str] = Counter()
        authority = trustme.CA()
        self._authority_path = self.folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self._authority_path))
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(self._tls)
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a service needs to trust this receiver."""
        return {"SSL_CERT_FILE": str(self._authority_path)}

    def url(self, path: str = "/hook") -> str:
        """Return the https URL of a path."""
        return f"https://127.0.0.1:{self.port}{path}"

    def wait(self, count: int = 1, *, path: str | None = None) -> list[Received]:
        """Return what was received, at the path if one is given, once there are `count`."""
        with self._changed:
            there = self._changed.wait_for(lambda: len(self._at(path)) >= count, WAIT_SECONDS)
            assert there, f"{len(self._at(path))} of {count} webhooks within {WAIT_SECONDS:g} s"
            return self._at(path)

    def wait_asked(self, count: int = 1) -> list[str]:
        """Return the event ids of all requests, answered or not, once there are `count`."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= count, WAIT_SECONDS)
            return list(self.asked)

    def down(self) -> None:
        """Close the port: connections are refused."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = None

    def up(self) -> None:
        """Open the port."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
                """Say nothing."""

        self._server = _Server(("127.0.0.1", self.port), Handler)
        self._server.socket = self._tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="receiver")
        self._thread.start()

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.go_on.set()
        self.down()

    def _at(self, path: str | None) -> list[Received]:
        return [one for one in self.received if path is None or one.path == path]

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        headers = {name.lower(): value for name, value in handler.headers.items()}
        body = handler.rfile.read(int(headers.get("content-length", "0")))
        event_id = headers.get("webhook-id", "")
        with self._changed:
            self.asked.append(event_id)
            self._under_way[event_id] += 1
            self.most_at_once = max(self.most_at_once, self._under_way[event_id])
            self._changed.notify_all()
        self.go_on.wait(WAIT_SECONDS)
        status = self.status
        if self.forward_to is not None:
            plain = httpx.post(self.forward_to, content=body, headers=headers, trust_env=False)
            status = plain.status_code
        with self._changed:
            self._under_way[event_id] -= 1
            self.received.append(Received(handler.path, headers, body, status))
            self._changed.notify_all()
        # The client may have been killed meanwhile.
        with suppress(OSError):
            handler.send_response(status)
            for name, value in self.headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", "0")
            handler.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: clients of these tests are killed on purpose."""
