"""A media server on loopback, for tests and the demo: ranges, validators, pacing, and faults on request.

It counts the bytes that it sent, and keeps its send buffers small, so that what it sent is close to what the
client took.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_REASONS = {200: "OK", 206: "Partial Content", 302: "Found", 416: "Range Not Satisfiable"}
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_PIECE_BYTES = 16 * 1024
_SEND_BUFFER_BYTES = 32 * 1024
_PACING_SECONDS = 0.02
_MAX_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class MediaRequest:
    """One request; `headers` has lower-case names, `number` counts from 1 within a path."""

    path: str
    headers: Mapping[str, str]
    number: int


@dataclass(slots=True)
class Resource:
    """What a path answers, and how badly.

    `body` is bytes or a file. `breaks_at` holds offsets at which the connection is reset, each used once; at
    `stalls_at` the answer stops without an end, at `pauses_at` until `go_on` is set. `declared_bytes`
    replaces the true length in the headers; `chunked` leaves it out. `endless` repeats the body forever.
    `bytes_per_second` paces answers. Requests with a range get `range_status`, if set, and else a 206 with
    `extent` as its `Content-Range`, if set.
    """

    body: bytes | Path = b""
    content_type: str = "audio/mpeg"
    etag: str | None = '"1"'
    ranges: bool = True
    range_status: int | None = None
    extent: str | None = "bytes {first}-{last}/{size}"
    status: int = 200
    redirect_to: str | None = None
    bytes_per_second: float | None = None
    breaks_at: list[int] = field(default_factory=list)
    stalls_at: int | None = None
    pauses_at: int | None = None
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    declared_bytes: int | None = None
    chunked: bool = False
    endless: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    def size(self) -> int:
        """Return the length of the body."""
        return self.body.stat().st_size if isinstance(self.body, Path) else len(self.body)

    def read(self, offset: int, size: int) -> bytes:
        """Return a piece of the body, around the end if it is endless."""
        if self.endless:
            offset %= self.size()
        if isinstance(self.body, Path):
            with self.body.open("rb") as file:
                file.seek(offset)
                return file.read(size)
        return self.body[offset : offset + size]


Handler: TypeAlias = "Callable[[MediaRequest], Resource]"


class MediaServer:
    """Serves `resources` by path (a value, or a function of the request), within `async with`.

    `sent_bytes` counts body bytes by path, `requests` are all requests in order.
    """

    def __init__(self, resources: Mapping[str, Resource | Handler] | None = None, *, port: int = 0) -> None:
        self.resources: dict[str, Resource | Handler] = dict(resources or {})
        self.requests: list[MediaRequest] = []
        self.sent_bytes: dict[str, int] = {}
        self.port = port
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        listener = socket.create_server(("127.0.0.1", self.port))
        # Accepted sockets inherit it; the kernel would otherwise buffer megabytes ahead of the client.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=_MAX_HEAD_BYTES)
        self.port = listener.getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        tasks = list(self._connections.values())
        for writer in self._connections:
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def ranges(self, path: str) -> list[str | None]:
        """Return the `Range` header of each request for a path, in order."""
        return [request.headers.get("range") for request in self.requests if request.path == path]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[writer] = task
        # Backpressure from the first byte: `drain` returns when the kernel has taken everything.
        writer.transport.set_write_buffer_limits(0)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
                while await self._answer(await reader.readuntil(b"\r\n\r\n"), reader, writer):
                    pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            del self._connections[writer]

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; return whether the connection can carry another."""
        first, *fields = head.decode("latin-1").split("\r\n")
        path = first.split(" ")[1]
        headers = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in fields if line)
        }
        number = 1 + sum(1 for earlier in self.requests if earlier.path == path)
        request = MediaRequest(path, headers, number)
        self.requests.append(request)
        answer = self.resources.get(path, Resource(status=404, body=b"not here", content_type="text/plain"))
        resource = answer if isinstance(answer, Resource) else answer(request)
        if resource.redirect_to is not None:
            lines = ["HTTP/1.1 302 Found", f"Location: {resource.redirect_to}", "Content-Length: 0", "", ""]
            writer.write("\r\n".join(lines).encode())
            await writer.drain()
            return True
        whole = await self._send(request, resource, writer)
        if resource.stalls_at is not None and not whole and not writer.is_closing():
            await reader.read(1)  # until the client goes away, or the server ends
        return whole

    async def _send(self, request: MediaRequest, resource: Resource, writer: asyncio.StreamWriter) -> bool:
        size = resource.size()
        status, start, end = resource.status, 0, size
        lines = [f"Content-Type: {resource.content_type}"]
        wanted = _RANGE.fullmatch(request.headers.get("range", ""))
        condition = request.headers.get("if-range")
        until_close = resource.chunked or resource.endless
        if wanted is not None and resource.range_status is not None:
            status, start, end = resource.range_status, 0, 0
        elif resource.ranges and status == 200 and not until_close:
            lines.append("Accept-Ranges: bytes")
            if wanted is not None and (condition is None or condition == resource.etag):
                start, end = int(wanted[1]), min(int(wanted[2]) + 1 if wanted[2] else size, size)
                status = 206 if start < size else 416
                start, end = (start, end) if start < size else (0, 0)
                total = resource.declared_bytes or size
                extent = f"bytes */{total}" if status == 416 else resource.extent
                if extent is not None:
                    extent = extent.format(first=start, last=end - 1, size=total)
                    lines.append(f"Content-Range: {extent}")
        if resource.etag is not None:
            lines.append(f"ETag: {resource.etag}")
        if not until_close:
            length = (
                end - start if status == 206 or resource.declared_bytes is None else resource.declared_bytes
            )
            lines.append(f"Content-Length: {length}")
        else:
            lines.append("Connection: close")
        lines += [f"{name}: {value}" for name, value in resource.headers.items()]
        reason = _REASONS.get(status, "Status")
        lines = [f"HTTP/1.1 {status} {reason}", *lines, "", ""]
        writer.write("\r\n".join(lines).encode("latin-1"))
        complete = await self._send_body(
            request.path, resource, writer, start, None if resource.endless else end
        )
        return complete and not until_close and resource.declared_bytes in {None, size}

    async def _send_body(
        self, path: str, resource: Resource, writer: asyncio.StreamWriter, start: int, end: int | None
    ) -> bool:
        """Send the body at its pace; return whether it was sent to its end."""
        loop = asyncio.get_running_loop()
        began, position = loop.time(), start
        rate = resource.bytes_per_second
        piece = _PIECE_BYTES if rate is None else max(1, min(_PIECE_BYTES, int(rate * _PACING_SECONDS)))
        while end is None or position < end:
            if position == resource.pauses_at:
                await resource.go_on.wait()
                resource.pauses_at = None
            stop = position + piece if end is None else min(position + piece, end)
            breaks = [at for at in resource.breaks_at if position <= at < stop]
            marks = [*breaks, resource.stalls_at, resource.pauses_at]
            stop = min([stop, *(at for at in marks if at is not None and position <= at)])
            if data := resource.read(position, stop - position):
                writer.write(data)
                await writer.drain()
                self.sent_bytes[path] = self.sent_bytes.get(path, 0) + len(data)
                position += len(data)
            if breaks and position == breaks[0] != resource.pauses_at:
                resource.breaks_at.remove(breaks[0])
                writer.transport.abort()
                return False
            if position == resource.stalls_at:
                return False
            if rate is not None:
                await asyncio.sleep(max(0.0, began + (position - start) / rate - loop.time()))
        await writer.drain()
        return True


class ThreadedMediaServer:
    """A `MediaServer` on a loop of its own, in a thread: for tests of other processes, and for the demo.

    A context manager that yields the server; change its resources only before the first request.
    """

    def __init__(self, resources: Mapping[str, Resource | Handler], *, port: int = 0) -> None:
        self._server = MediaServer(resources, port=port)
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="media server", daemon=True)

    def __enter__(self) -> MediaServer:
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure
        return self._server

    def __exit__(self, *exc_info: object) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def release(self, resource: Resource) -> None:
        """Let an answer that pauses go on, from any thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(resource.go_on.set)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as exc:  # noqa: BLE001  # raised where the start is awaited
            self._failure = exc
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._server:
            self._started.set()
            await self._stop.wait()
