"""How many POSTs a second are answered: ours, and bare Starlette with aiosqlite and one durable insert.

Run as a program (`python -m tests.bench.posts SIDE FOLDER`), it serves one of them: it prints its address and
the headers of a request, and ends when its input does.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

import aiosqlite
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from stenobird.logs import configure_logging
from stenobird.serving import run_loop
from tests.bench.processes import own_cpu_seconds
from tests.support.free_port import free_port
from tests.support.until import async_until
from tests.support.web_world import web_settings, web_world

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

Side = Literal["ours", "bare"]

PATH = "/v1/transcripts"
BODY = json.dumps({"audio_url": "https://example.com/a.mp3"}).encode()
WARM_UP = 20


@dataclass(frozen=True, slots=True)
class Served:
    """One side in a process of its own."""

    pid: int
    folder: Path
    host: str
    port: int
    headers: dict[str, str]


@contextmanager
def served(side: Side, *, flush_seconds: float | None = None) -> Iterator[Served]:
    """Serve one side while the context lasts. Jobs of ours only queue.

    With `flush_seconds`, each flush of a file takes so long instead of the disk's time. Needs a C compiler.
    """
    with tempfile.TemporaryDirectory(prefix="stenobird-bench-") as folder:
        command = [sys.executable, "-m", "tests.bench.posts", side, folder]
        environment = dict(os.environ)
        if flush_seconds is not None:
            environment["LD_PRELOAD"] = str(_slow_flush(Path(folder), flush_seconds))
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        with subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=null, text=True, env=environment
        ) as server:
            try:
                assert server.stdout is not None
                yield Served(server.pid, Path(folder), *json.loads(server.stdout.readline()))
            finally:
                server.kill()


def _slow_flush(folder: Path, seconds: float) -> Path:
    """Build a library that only waits where a program flushes a file."""
    library = folder / "slow_flush.so"
    wait = f"{{ struct timespec t = {{0, {round(seconds * 1e9)}}}; return nanosleep(&t, 0); }}"
    source = f"#include <time.h>\nint fsync(int file) {wait}\nint fdatasync(int file) {wait}\n"
    command = ["cc", "-shared", "-fPIC", "-x", "c", "-o", str(library), "-"]
    subprocess.run(command, input=source, text=True, check=True)
    return library


@dataclass(frozen=True, slots=True)
class Posts:
    """One side's run."""

    a_second: float
    median_seconds: float
    cpu_seconds: float
    """Of one POST, in the server."""


def post(server: Served, *, clients: int, requests: int) -> Posts:
    """Send so many POSTs from so many connections, each as soon as the last one is answered."""
    asyncio.run(_post(server, clients, WARM_UP))
    cpu_began, began = own_cpu_seconds(server.pid), time.monotonic()
    latencies = asyncio.run(_post(server, clients, requests))
    seconds = time.monotonic() - began
    cpu = own_cpu_seconds(server.pid) - cpu_began
    return Posts(requests / seconds, median(latencies), cpu / requests)


async def _post(server: Served, clients: int, requests: int) -> list[float]:
    """Return how long each request took. Raises `RuntimeError` for any answer but a 202."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in server.headers.items()).encode()
    request = b"POST %s HTTP/1.1\r\nHost: bench\r\n%s" % (PATH.encode(), headers)
    request += b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
    left = requests
    latencies: list[float] = []

    async def client() -> None:
        nonlocal left
        reader, writer = await asyncio.open_connection(server.host, server.port)
        while left > 0:
            left -= 1
            began = time.monotonic()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 202 "):
                raise RuntimeError(f"the answer was {head!r}")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]))
            latencies.append(time.monotonic() - began)
        writer.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(client())
    return latencies


async def serve_ours(folder: Path) -> None:
    """Serve the real web layer without a worker."""
    many = 10**9
    settings = web_settings(max_queued=many, jobs_per_account=many, premium_requests_per_minute=many)
    configure_logging(settings)
    async with web_world(folder, settings) as world:
        headers = await world.key(await world.account())
        host, _, port = world.url.removeprefix("http://").partition(":")
        await _announce(host, int(port), headers)


async def serve_bare(folder: Path) -> None:
    """Serve the least that stores what was sent before it answers."""
    async with aiosqlite.connect(folder / "bare.db", isolation_level=None) as database:
        await database.execute("PRAGMA journal_mode=WAL")
        await database.execute("PRAGMA synchronous=FULL")
        await database.execute("CREATE TABLE jobs (id INTEGER PRIMARY KEY, body TEXT)")

        async def create(request: Request) -> JSONResponse:
            body: dict[str, Any] = await request.json()
            cursor = await database.execute("INSERT INTO jobs (body) VALUES (?)", (json.dumps(body),))
            return JSONResponse({"id": cursor.lastrowid}, 202)

        app = Starlette(routes=[Route(PATH, create, methods=["POST"])])
        port = free_port()
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, access_log=False))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(server.serve())
            await async_until(lambda: server.started)
            await _announce("127.0.0.1", port, {})


async def _announce(host: str, port: int, headers: dict[str, str]) -> None:
    print(json.dumps([host, port, headers]), flush=True)  # noqa: T201  # read by `served`
    await asyncio.to_thread(sys.stdin.readline)


if __name__ == "__main__":
    run_loop({"ours": serve_ours, "bare": serve_bare}[sys.argv[1]](Path(sys.argv[2])))
