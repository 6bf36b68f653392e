"""`stenobird health`, which a container's health check runs."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from stenobird.cli import main
from tests.support.free_port import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def answering(bodies: dict[str, tuple[int, bytes]]) -> Iterator[int]:
    """Answer these paths on a loopback port; yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = bodies[self.path]
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


ALIVE = (200, b'{"status": "ok"}')


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_live_service_exits_with_0(host: str) -> None:
    with answering({"/healthz": ALIVE}) as port:
        environment = {"STENOBIRD_HOST": host, "STENOBIRD_PORT": str(port)}
        result = CliRunner().invoke(main, ["health"], env=environment)
    assert (result.exit_code, result.output) == (0, '{"status": "ok"}\n')


def test_an_unready_service_exits_with_0_unless_readiness_is_requested() -> None:
    reasons = b'{"ready": false, "reasons": ["The speech engine is loading"]}'
    with answering({"/healthz": ALIVE, "/readyz": (503, reasons)}) as port:
        alive = CliRunner().invoke(main, ["health", "--port", str(port)])
        ready = CliRunner().invoke(main, ["health", "--ready", "--port", str(port)])
    assert alive.exit_code == 0
    assert (ready.exit_code, "speech engine is loading" in ready.output) == (1, True)


def test_no_service_exits_with_1() -> None:
    port = free_port()
    result = CliRunner().invoke(main, ["health", "--port", str(port)])
    assert result.exit_code == 1
    assert f"Nothing answers on 127.0.0.1:{port}" in result.output


def test_another_service_on_the_port_is_reported() -> None:
    with answering({"/healthz": (404, b"<html>")}) as port:
        result = CliRunner().invoke(main, ["health", "--port", str(port)])
    assert (result.exit_code, result.output) == (1, "The server that answers there is not Stenobird.\n")
