"""A loopback proxy for a child that makes its own requests (yt-dlp), with the same policy and a byte cap.

    child ── CONNECT host:443 ──► checked, connected ──► bytes in both directions (TLS)
    child ── GET http://host/ ──► checked, sent by EgressClient, no redirects ──► response, chunked

Every request needs the job's token. A connection of the child ends with its tunnel or its only response, when
it is idle or out of time, when the job's bytes are used up, or when its grant has ended.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import re
import secrets
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Self

import anyio
from anyio.abc import SocketAttribute

from stenobird.egress.client import RequestOptions
from stenobird.egress.response import FetchLimits
from stenobird.egress.transport import translated
from stenobird.errors import DestinationForbidden, EgressError, InvalidURL

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator

    from anyio.abc import SocketStream

    from stenobird.egress.client import EgressClient
    from stenobird.egress.response import EgressResponse

MAX_HEAD_BYTES = 32 * 1024
MAX_REQUEST_BODY_BYTES = 1024 * 1024
_BLOCK_BYTES = 64 * 1024
_HEAD_SECONDS = 15.0
_REQUEST_LINE = re.compile(r"([A-Z]{1,16}) (\S+) HTTP/1\.[01]")
_CONNECT_TARGET = re.compile(r"[^/?#\\]+:[0-9]{1,5}")
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
_NOT_FORWARDED = frozenset({
    "connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer",
    "transfer-encoding", "upgrade",
})  # fmt: skip


@asynccontextmanager
async def loopback_server(
    handle: Callable[[SocketStream], Awaitable[None]], *, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """Serve on a free port and yield it. `handle` gets each connection and closes it. All end with the block.

    An error of the block is raised as it is, an error of `handle` in an exception group.
    """
    # Without a family: with one, the call fails on a machine that has only loopback addresses.
    listener = await anyio.create_tcp_listener(local_host=host, local_port=0)
    failure: Exception | None = None
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        try:
            yield listener.extra(SocketAttribute.local_port)  # noqa: S610  # anyio's, not Django's
        except Exception as exc:  # noqa: BLE001  # raised again below, outside the group, which would wrap it
            failure = exc
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure


@dataclass(slots=True)
class Grant:
    """The right of one child to transfer bytes through the proxy, at its `url`, which has the token."""

    url: str
    token: str
    byte_cap: int
    used_bytes: int = 0

    def take(self, size: int) -> bool:
        """Count the bytes; return whether they may pass."""
        self.used_bytes += size
        return self.used_bytes <= self.byte_cap


@dataclass(frozen=True, slots=True)
class _Head:
    method: str
    target: str
    headers: dict[str, str]
    rest: bytes


class _Refused(Exception):  # a response to the child, not an error of the service
    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


class EgressProxy:
    """The proxy, on 127.0.0.1 and a free port. Use it as an asynchronous context manager.

    It uses the policy, resolver and upstream proxy of its `EgressClient`, which must outlive it. At most
    `max_connections` are served at once; a further one gets 503. A connection ends after `idle_seconds`
    without a byte from the server, and after `total_seconds`.
    """

    def __init__(
        self,
        client: EgressClient,
        *,
        idle_seconds: float = 30.0,
        total_seconds: float = 300.0,
        max_connections: int = 64,
    ) -> None:
        self._client = client
        self._idle_seconds = idle_seconds
        self._total_seconds = total_seconds
        self._free_connections = max_connections
        self._grants: dict[str, Grant] = {}
        self._stack = AsyncExitStack()
        self.port = 0

    async def __aenter__(self) -> Self:
        self.port = await self._stack.enter_async_context(loopback_server(self._serve))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    @contextmanager
    def granted(self, byte_cap: int) -> Iterator[Grant]:
        """Let a child transfer this many bytes, both directions together, until the block ends.

        Connections that are open then end with their next byte.
        """
        name, token = secrets.token_hex(8), secrets.token_urlsafe(24)
        grant = Grant(f"http://{name}:{token}@127.0.0.1:{self.port}", token, byte_cap)
        self._grants[name] = grant
        try:
            yield grant
        finally:
            del self._grants[name]
            grant.byte_cap = -1

    async def _serve(self, stream: SocketStream) -> None:
        async with stream:
            # The child may end at any time, which breaks its connections.
            with suppress(
                anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, TimeoutError
            ):
                if self._free_connections <= 0:
                    await _send_refusal(stream, _Refused(503, "Too many connections at once."))
                    return
                self._free_connections -= 1
                try:
                    async with asyncio.timeout(self._total_seconds):
                        await self._answer(stream)
                finally:
                    self._free_connections += 1

    async def _answer(self, stream: SocketStream) -> None:
        try:
            async with asyncio.timeout(_HEAD_SECONDS):
                head = await _read_head(stream)
            grant = self._authorize(head)
            if head.method == "CONNECT":
                await self._tunnel(stream, head, grant)
            else:
                await self._forward(stream, head, grant)
        except _Refused as refusal:
            await _send_refusal(stream, refusal)
        except (DestinationForbidden, InvalidURL) as exc:
            await _send_refusal(stream, _Refused(403, exc.message))
        except EgressError as exc:
            await _send_refusal(stream, _Refused(502, exc.message))

    def _authorize(self, head: _Head) -> Grant:
        scheme, _, value = head.headers.get("proxy-authorization", "").partition(" ")
        user, token = "", ""
        if scheme.lower() == "basic":
            with suppress(binascii.Error, UnicodeDecodeError):
                user, _, token = base64.b64decode(value.strip(), validate=True).decode().partition(":")
        grant = self._grants.get(user)
        expected = grant.token if grant is not None else secrets.token_urlsafe(24)
        if not hmac.compare_digest(expected.encode(), token.encode()) or grant is None:
            raise _Refused(407, "This proxy serves one job's extractor only.")
        if not grant.take(0):
            raise _Refused(403, "The job has used up its bytes.")
        return grant

    async def _tunnel(self, stream: SocketStream, head: _Head, grant: Grant) -> None:
        if _CONNECT_TARGET.fullmatch(head.target) is None:
            raise _Refused(400, "CONNECT needs a host and a port.")
        url = self._client.policy.check_url(f"https://{head.target}/")
        server = await self._client.dialer.connect(url.host, url.port, seconds=FetchLimits().connect_seconds)
        try:
            await stream.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            if head.rest:
                if not grant.take(len(head.rest)):
                    return
                await server.write(head.rest, self._idle_seconds)
            async with anyio.create_task_group() as group:

                async def copy(
                    blocks: AsyncIterable[bytes], send: Callable[[bytes], Awaitable[None]]
                ) -> None:
                    """Copy one side's bytes until it stops sending, then end the tunnel."""
                    broken = (EgressError, anyio.BrokenResourceError, anyio.ClosedResourceError)
                    with suppress(*broken), translated("the server"):
                        async for block in blocks:
                            if not grant.take(len(block)):
                                break
                            await send(block)
                    group.cancel_scope.cancel()

                async def received() -> AsyncIterator[bytes]:
                    while block := await server.read(_BLOCK_BYTES, self._idle_seconds):
                        yield block

                group.start_soon(copy, stream, lambda block: server.write(block, self._idle_seconds))
                group.start_soon(copy, received(), stream.send)
        finally:
            with anyio.CancelScope(shield=True):
                await server.aclose()

    async def _forward(self, stream: SocketStream, head: _Head, grant: Grant) -> None:
        if not head.target.lower().startswith("http://"):
            raise _Refused(400, "Send an absolute http:// URL, or CONNECT for https.")
        async with asyncio.timeout(_HEAD_SECONDS):
            content = await _read_content(stream, head)
        if not grant.take(len(content or b"")):
            raise _Refused(403, "The job has used up its bytes.")
        headers = {
            name: value
            for name, value in head.headers.items()
            if name not in _NOT_FORWARDED and name != "proxy-authorization"
        }
        response = await self._client.open(
            head.target,
            RequestOptions(
                method=head.method,
                headers=headers,
                content=content,
                decode="gzip" in headers.get("accept-encoding", ""),
                browser_retry=False,
                follow_redirects=False,
                limits=FetchLimits(idle_seconds=self._idle_seconds, total_seconds=self._total_seconds),
            ),
        )
        async with response:
            await stream.send(_answer_head(response))
            if head.method != "HEAD":
                with suppress(EgressError):
                    # Ending without the last chunk tells the child that the response is incomplete.
                    await _send_chunks(stream, response, grant)


async def _send_chunks(stream: SocketStream, response: EgressResponse, grant: Grant) -> None:
    async for block in response.body():
        if not grant.take(len(block)):
            return
        await stream.send(b"%x\r\n%b\r\n" % (len(block), block))
    if response.status not in {204, 304}:
        await stream.send(b"0\r\n\r\n")


def _answer_head(response: EgressResponse) -> bytes:
    dropped = _NOT_FORWARDED | {"content-encoding", "content-length"}
    lines = [f"HTTP/1.1 {response.status} {_reason(response.status)}", "connection: close"]
    lines += [f"{name}: {value}" for name, value in response.header_pairs if name not in dropped]
    if response.status not in {204, 304}:
        lines.append("transfer-encoding: chunked")
    # The same bytes that the server sent: values in UTF-8 were decoded as such.
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _read_head(stream: SocketStream) -> _Head:
    data = b""
    while b"\r\n\r\n" not in data:
        if len(data) > MAX_HEAD_BYTES:
            raise _Refused(431, f"The request's head is larger than {MAX_HEAD_BYTES} bytes.")
        data += await stream.receive()
    head, _, rest = data.partition(b"\r\n\r\n")
    line, *rows = head.decode("latin-1").split("\r\n")
    request = _REQUEST_LINE.fullmatch(line)
    headers: dict[str, str] = {}
    for row in rows:
        header = _HEADER.fullmatch(row)
        if header is None:
            raise _Refused(400, "The request has a malformed header.")
        headers[header[1].lower()] = header[2]
    if request is None:
        raise _Refused(400, "The request line is malformed.")
    return _Head(request[1], request[2], headers, rest)


async def _read_content(stream: SocketStream, head: _Head) -> bytes | None:
    if "transfer-encoding" in head.headers:
        raise _Refused(411, "Send the request's body with a Content-Length.")
    length = head.headers.get("content-length")
    if length is None:
        return None
    if not (
        length.isascii() and length.isdigit() and len(length) <= 9 and int(length) <= MAX_REQUEST_BODY_BYTES
    ):
        raise _Refused(413, f"The request's body is larger than {MAX_REQUEST_BODY_BYTES} bytes.")
    data = head.rest
    while len(data) < int(length):
        data += await stream.receive()
    return data[: int(length)]


async def _send_refusal(stream: SocketStream, refusal: _Refused) -> None:
    body = f"{refusal.message}\n".encode()
    ask = "Proxy-Authenticate: Basic\r\n" if refusal.status == 407 else ""
    head = (
        f"HTTP/1.1 {refusal.status} {_reason(refusal.status)}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\n{ask}Connection: close\r\n\r\n"
    )
    await stream.send(head.encode("ascii") + body)


def _reason(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
