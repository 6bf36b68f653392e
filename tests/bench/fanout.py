"""What a delivery costs and how far readers lag: ours, a raw ASGI app on uvicorn, and sse-starlette.

Run as a program (`python -m tests.bench.fanout WHICH RATE EVENTS`), it serves a job's event stream: it prints
the stream's URL, and when it reads a line, commits that many events, so many a second.
"""

from __future__ import annotations

import asyncio
import json
import select
import socket
import subprocess
import sys
import tempfile
import time
from array import array
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any, Literal

import uvicorn

from stenobird.jobs.events import JobEvents
from stenobird.jobs.spec import JobSpec
from stenobird.logs import configure_logging
from stenobird.serving import run_loop
from stenobird.transcript import Segment
from tests.bench.processes import own_cpu_seconds
from tests.support.free_port import free_port
from tests.support.until import async_until
from tests.support.web_world import web_settings, web_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.types import ASGIApp, Receive, Scope, Send

Side = Literal["ours", "raw", "sse-starlette"]

TEXT = "Nothing in this sentence is worth a word, but it has to be sent to everyone. " * 10
WAIT_SECONDS = 60.0
CHUNK_BYTES = 1 << 18
_MARK = b"\nid: "


@dataclass(frozen=True, slots=True)
class FanOut:
    """One side's run. The lag of a delivery is the time since the first reader had the event."""

    delivered: int
    expected: int
    cpu_seconds: float
    p99_lag_seconds: float

    @property
    def microseconds(self) -> float:
        """Server CPU of one delivery."""
        return self.cpu_seconds / max(1, self.delivered) * 1e6


def fan_out(side: Side, *, readers: int, events: int, rate: float) -> FanOut:
    """Serve `events` to `readers`, a tenth of which never read, and return what the others saw."""
    with ExitStack() as stack:
        server = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "tests.bench.fanout", side, str(rate), str(events)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
        )
        stack.callback(server.kill)
        assert server.stdin is not None
        assert server.stdout is not None
        host, port, path = json.loads(server.stdout.readline())
        readers_open = Readers(stack, (host, port, path), readers)
        # Every reader has the event that is there at the start.
        if refused := readers_open.read(until=1):
            raise RuntimeError(f"{refused} of {readers} readers got nothing")
        readers_open.lags = array("d")
        cpu_began = own_cpu_seconds(server.pid)
        server.stdin.write("\n")
        server.stdin.flush()
        readers_open.read(until=1 + events)
        cpu = own_cpu_seconds(server.pid) - cpu_began
        lags = readers_open.lags
        return FanOut(len(lags), events * len(readers_open.seen), cpu, quantiles(lags, n=100)[-1])


class Readers:
    """Open streams, of which every tenth is never read."""

    def __init__(self, stack: ExitStack, address: tuple[str, int, str], count: int) -> None:
        self._poll = stack.enter_context(select.epoll())
        self._sockets: dict[int, socket.socket] = {}
        self._ends: dict[int, bytes] = {}
        self._first: dict[int, float] = {}
        self.seen: dict[int, int] = {}
        self.lags = array("d")
        host, port, path = address
        for number in range(count):
            connection = stack.enter_context(socket.socket())
            if number % 10 == 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((host, port))
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            if number % 10:
                connection.setblocking(False)  # noqa: FBT003  # positional only
                descriptor = connection.fileno()
                self._poll.register(descriptor, select.EPOLLIN)
                self._sockets[descriptor], self._ends[descriptor], self.seen[descriptor] = connection, b"", 0

    def read(self, *, until: int) -> int:
        """Read until each reader has so many events, or nothing has come for a while; return who has not."""
        waiting = len(self.seen)
        while waiting and (ready := self._poll.poll(WAIT_SECONDS)):
            for descriptor, _ in ready:
                data = self._sockets[descriptor].recv(CHUNK_BYTES)
                now = time.monotonic()
                if not data:
                    raise RuntimeError("the server closed a stream")
                count = self.seen[descriptor]
                total = count + (self._ends[descriptor] + data).count(_MARK)
                self._ends[descriptor] = data[1 - len(_MARK) :]
                self.lags.extend(now - self._first.setdefault(index, now) for index in range(count, total))
                self.seen[descriptor] = total
                waiting -= count < until <= total
        return waiting


# --- the servers --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Play:
    """What a server does: publishes `events` events, `rate` a second, when it reads a line."""

    rate: float
    events: int

    async def run(self, publish: Callable[[int], Awaitable[None]], address: tuple[str, int, str]) -> None:
        """Publish, then wait for the end of the process."""
        print(json.dumps(address), flush=True)  # noqa: T201  # read by `fan_out`
        await asyncio.to_thread(sys.stdin.readline)
        began = time.monotonic()
        for number in range(self.events):
            await asyncio.sleep(max(0.0, began + number / self.rate - time.monotonic()))
            await publish(number)
        await asyncio.Event().wait()


async def serve_ours(play: Play) -> None:
    """Serve the real web layer; each event is a commit of a worker."""
    settings = web_settings(max_queued=10, streams_per_address=100_000)
    configure_logging(settings)
    spec = JobSpec(audio_url="https://example.com/a.mp3")
    with tempfile.TemporaryDirectory(prefix="stenobird-bench-") as folder:
        async with web_world(Path(folder), settings) as world:
            job = await world.services.jobs.create(spec, caller=None, base_url="http://bench")
            assert await world.worker.start() == job.id
            host, _, port = world.url.removeprefix("http://").partition(":")
            # After its first two events, so that each reader starts with one, as at the others.
            path = f"/v1/transcripts/{job.id}/events?after=1"
            await play.run(lambda _: world.worker.say(job.id, TEXT), (host, int(port), path))


class Log:
    """The events of the other two: encoded already, with one event to wait for the next."""

    def __init__(self) -> None:
        self._events = JobEvents("tr_0123456789012345678901", "http://bench")
        self.rows: list[Any] = []
        self.news = asyncio.Event()

    def data(self, number: int) -> str:
        """Return the data of an event, as long as ours."""
        segment = Segment(float(number), number + 1.0, TEXT)
        return self._events.transcript(segment, number, language=None).data

    def add(self, row: Any) -> None:
        """Wake the readers for one more."""
        self.rows.append(row)
        self.news.set()
        self.news = asyncio.Event()

    async def pages(self) -> AsyncIterator[list[Any]]:
        """Yield whatever is due."""
        sent = 0
        while True:
            if sent == len(self.rows):
                await self.news.wait()
            page = self.rows[sent:]
            sent += len(page)
            yield page


async def serve_raw(play: Play) -> None:
    """Serve an app that does nothing but join the encoded events that are due into one write."""
    log = Log()

    def frame(number: int) -> bytes:
        return f"event: transcript\ndata: {log.data(number)}\nid: {number + 1}\n\n".encode()

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        sent = 0
        while True:
            if sent == len(log.rows):
                await log.news.wait()
            body, sent = b"".join(log.rows[sent:]), len(log.rows)
            await send({"type": "http.response.body", "body": body, "more_body": True})

    async def publish(number: int) -> None:
        log.add(frame(number + 1))

    log.add(frame(0))
    await _serve(app, play, publish)


async def serve_sse_starlette(play: Play) -> None:
    """Serve sse-starlette with a shared log and one event object for each event and reader."""
    from sse_starlette import EventSourceResponse, ServerSentEvent  # noqa: PLC0415  # it patches uvicorn
    from starlette.applications import Starlette  # noqa: PLC0415
    from starlette.routing import Route  # noqa: PLC0415

    log = Log()

    async def events() -> AsyncIterator[ServerSentEvent]:
        number = 0
        async for page in log.pages():
            for data in page:
                number += 1
                yield ServerSentEvent(data=data, event="transcript", id=str(number), sep="\n")

    async def endpoint(_: object) -> EventSourceResponse:
        return EventSourceResponse(events(), sep="\n")

    async def publish(number: int) -> None:
        log.add(log.data(number + 1))

    log.add(log.data(0))
    await _serve(Starlette(routes=[Route("/", endpoint)]), play, publish)


async def _serve(app: ASGIApp, play: Play, publish: Callable[[int], Awaitable[None]]) -> None:
    port = free_port()
    config = uvicorn.Config(app, port=port, log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve())
        await async_until(lambda: server.started)
        await play.run(publish, ("127.0.0.1", port, "/"))


SERVERS = {"ours": serve_ours, "raw": serve_raw, "sse-starlette": serve_sse_starlette}


if __name__ == "__main__":
    run_loop(SERVERS[sys.argv[1]](Play(float(sys.argv[2]), int(sys.argv[3]))))
