"""An HTTP server on loopback that answers with exactly the bytes a test writes, valid or not."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import anyio

from stenobird.egress.proxy import loopback_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from anyio.abc import SocketStream

    Handler: TypeAlias = Callable[["RawRequest", SocketStream], Awaitable[None]]
    """Writes the answer to the stream; may close it, else another request may follow."""

_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)


@dataclass(frozen=True, slots=True)
class RawRequest:
    """One request as it was received; `headers` has lower-case names."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class RawServer:
    """`requests` and `connections` say what reached the server, in order."""

    port: int
    handler: Handler
    requests: list[RawRequest] = field(default_factory=list)
    connections: int = 0

    def url(self, target: str = "/", *, host: str = "127.0.0.1") -> str:
        """Return the http URL of a path on this server."""
        return f"http://{host}:{self.port}{target}"

    @property
    def targets(self) -> list[str]:
        """The paths that were asked for, in order."""
        return [request.target for request in self.requests]

    async def _serve(self, stream: SocketStream) -> None:
        self.connections += 1
        async with stream:
            with suppress(*_GONE):
                buffer = b""
                while True:
                    request, buffer = await _read_request(stream, buffer)
                    self.requests.append(request)
                    await self.handler(request, stream)


def answer(status: int = 200, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """Return a whole, correct HTTP/1.1 answer; `headers` may override the Content-Length."""
    fields = {"Content-Length": str(len(body)), **(headers or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Scripted\r\n{lines}\r\n".encode() + body


@asynccontextmanager
async def open_server(handler: Handler) -> AsyncIterator[RawServer]:
    """Yield a server on a free port of 127.0.0.1. An error in the handler ends the test with that error."""
    server = RawServer(0, handler)
    async with loopback_server(server._serve) as server.port:  # the same module
        yield server


async def _read_request(stream: SocketStream, buffer: bytes) -> tuple[RawRequest, bytes]:
    while b"\r\n\r\n" not in buffer:
        buffer += await stream.receive()
    head, _, rest = buffer.partition(b"\r\n\r\n")
    line, *rows = head.decode("latin-1").split("\r\n")
    method, target, _ = line.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (row.partition(":") for row in rows)}
    length = int(headers.get("content-length", "0"))
    while len(rest) < length:
        rest += await stream.receive()
    return RawRequest(method, target, headers, rest[:length]), rest[length:]
