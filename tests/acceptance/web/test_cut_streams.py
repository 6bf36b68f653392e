"""A stream that is cut at every byte reaches its readers whole: five clients, as the docs use them.

The bytes are those of the service's own writer. For each reader and each byte of the stream, the first
connection breaks off after that byte; what the reader asks for afterwards, it gets whole.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stenobird.ports import EventRow
from stenobird.web.probes import Metrics
from stenobird.web.sse import EventStreamResponse, OpenStreams, parse_event_id
from tests.support.browser import chromium, chromium_path
from tests.support.guides import blocks, file_block
from tests.support.node import node_packages, run_node

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from starlette.types import Message

    from stenobird.jobs.tail import Page

GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "event-streams.md"
ROWS = (
    EventRow(1, "status", '{"n":1}'),
    EventRow(2, "transcript", '{"n":2,"text":"é"}'),
    EventRow(3, "preview_locked", '{"n":3}'),
    EventRow(4, "done", '{"n":4}'),
)
WHOLE = [[row.event, json.loads(row.data)["n"]] for row in ROWS]
PAGE = """<!doctype html><script type="importmap">
{"imports": {"@microsoft/fetch-event-source": "/node/@microsoft/fetch-event-source/lib/esm/index.js"}}
</script>"""
FOLLOW_ALL = """
async ([url, count, module]) => {
  const { follow } = await import(module);
  return await Promise.all(Array.from({ length: count }, async (_, cut) => {
    const read = [];
    await follow(`${url}/${cut}`, null, (name, data) => read.push([name, data.n]));
    return read;
  }));
}
"""
NODE = "const all = %s; console.log(JSON.stringify(await all([process.argv[2], +process.argv[3], %s])));\n"
PLAIN = 'import { EventSource } from "eventsource";\n'


@cache
def recorded(after: int) -> bytes:
    """Return the chunks of the body that the service sends to a reader that has the event `after`."""

    async def events() -> AsyncGenerator[Page, None]:
        for row in ROWS[after:]:
            yield (row,)

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    response = EventStreamResponse("tr_1", events(), OpenStreams(Metrics()), opening=b"retry: 10\n")
    asyncio.run(response({"type": "http", "method": "GET", "headers": []}, receive, send))
    bodies = [message["body"] for message in sent if message["type"] == "http.response.body"]
    return b"".join(b"%x\r\n%b\r\n" % (len(body), body) for body in bodies if body) + b"0\r\n\r\n"


class CuttingServer(ThreadingHTTPServer):
    """Serves `/cut/READER/BYTES`: the first request of each gets so many bytes of the body, then the end."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: Counter[str] = Counter()
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: CuttingServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.close_connection = True
        if not self.path.startswith("/cut/"):
            self._file()
            return
        self.server.requests[self.path] += 1
        first = self.server.requests[self.path] == 1
        after = parse_event_id(self.headers.get("Last-Event-ID", ""))
        if after == len(ROWS):
            self.send_response(204)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.send_header("Connection", "close")
        self.end_headers()
        body = recorded(after)
        self.wfile.write(body[: int(self.path.rpartition("/")[2])] if first else body)

    def _file(self) -> None:
        name = self.path if self.path.endswith((".js", "/")) else f"{self.path}.js"
        if name.startswith("/node/"):
            content = (node_packages() / "node_modules" / name.removeprefix("/node/")).read_text()
        else:
            content = PAGE if name == "/" else _example(name.removeprefix("/"))
        self.send_response(200)
        self.send_header("Content-Type", "text/html" if name == "/" else "text/javascript")
        self.send_header("Content-Length", str(len(content.encode())))
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
        """Say nothing."""


def _example(name: str) -> str:
    return file_block(GUIDE, name)


@pytest.fixture(scope="module")
def server() -> Iterator[CuttingServer]:
    with CuttingServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def _check(server: CuttingServer, reader: str, read: list[list[list[Any]]]) -> None:
    wrong = {cut: events for cut, events in enumerate(read) if events != WHOLE}
    assert wrong == {}
    assert len(read) == len(recorded(0)) + 1
    # The cuts did happen: a reader came back unless `done` was there.
    assert sum(server.requests[f"/cut/{reader}/{cut}"] > 1 for cut in range(len(read))) > len(read) * 0.9


def test_the_recording_is_what_the_service_writes() -> None:
    body = b"".join(recorded(0).split(b"\r\n")[1::2])
    assert body.startswith(b'retry: 10\nevent: status\ndata: {"n":1}\nid: 1\n\n')
    assert recorded(0).count(b"\n\n\r\n") == len(ROWS)


@pytest.mark.parametrize(
    ("reader", "module"),
    [("fetch-event-source", "browser-with-key.js"), ("native", "browser.js")],
)
def test_readers_in_a_browser(server: CuttingServer, reader: str, module: str) -> None:
    path = chromium_path()
    if path is None:
        pytest.skip("NOT TESTED IN A BROWSER: Chromium is not installed")
    node_packages()
    with chromium(path) as browser:
        page = browser.new_page()
        page.goto(f"{server.url}/")
        arguments = [f"{server.url}/cut/{reader}", len(recorded(0)) + 1, f"/{module}"]
        _check(server, reader, page.evaluate(FOLLOW_ALL, arguments))


@pytest.mark.parametrize("reader", ["eventsource", "eventsource-client"])
def test_readers_in_node(server: CuttingServer, reader: str, tmp_path: Path) -> None:
    packages = node_packages()
    (tmp_path / "node_modules").symlink_to(packages / "node_modules")
    # The package `eventsource` is used like the one of browsers.
    examples = {"eventsource-client": _example("node.mjs"), "eventsource": PLAIN + _example("browser.js")}
    (tmp_path / "follow.mjs").write_text(examples[reader])
    script = tmp_path / "all.mjs"
    script.write_text(NODE % (FOLLOW_ALL.strip(), json.dumps((tmp_path / "follow.mjs").as_uri())))
    printed = run_node(script, f"{server.url}/cut/{reader}", str(len(recorded(0)) + 1))
    _check(server, reader, json.loads(printed))


def test_the_reader_in_python(server: CuttingServer) -> None:
    [example] = [block.text for block in blocks(GUIDE) if block.language == "python"]
    names: dict[str, Any] = {}
    exec(compile(example.replace("time.sleep(1)", "time.sleep(0.01)"), str(GUIDE), "exec"), names)  # ours

    def read(cut: int) -> list[list[Any]]:
        seen: list[list[Any]] = []
        url = f"{server.url}/cut/httpx-sse/{cut}"
        names["follow"](url, None, lambda name, data: seen.append([name, data["n"]]))
        return seen

    with ThreadPoolExecutor(16) as threads:
        _check(server, "httpx-sse", list(threads.map(read, range(len(recorded(0)) + 1))))
