"""An upstream proxy on loopback that serves any host name, with certificates of its own authority.

Point `EGRESS_PROXY` at `ConnectProxy.url` and `SSL_CERT_FILE` at what `write_ca` wrote, and
`https://media.example/…` is served by a plain HTTP server on 127.0.0.1. Needs the `dev` extra (trustme).
"""

from __future__ import annotations

import base64
import ssl
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import anyio
import trustme
from anyio.streams.tls import TLSStream

from stenobird.egress.proxy import loopback_server

if TYPE_CHECKING:
    from pathlib import Path

    from anyio.abc import ByteStream

_GONE = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError, ssl.SSLError)


@dataclass(slots=True)
class _Route:
    address: tuple[str, int]
    tls: ssl.SSLContext | None


@dataclass(slots=True)
class ConnectProxy:
    """A CONNECT proxy on 127.0.0.1. Use it as an asynchronous context manager.

    `targets` lists every `host:port` that was asked for, in order. Names without a route get 502. With
    `credentials` (user, password) it answers 407 to those who do not send them.
    """

    credentials: tuple[str, str] | None = None
    targets: list[str] = field(default_factory=list)
    port: int = 0
    _ca: trustme.CA = field(default_factory=trustme.CA)
    _routes: dict[str, _Route] = field(default_factory=dict)
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def __aenter__(self) -> Self:
        self.port = await self._stack.enter_async_context(loopback_server(self._serve))
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    @property
    def url(self) -> str:
        """What `EGRESS_PROXY` is set to."""
        user = f"{self.credentials[0]}:{self.credentials[1]}@" if self.credentials else ""
        return f"http://{user}127.0.0.1:{self.port}"

    def route(self, host: str, port: int, *, certificate_name: str | None = None) -> None:
        """Serve the host name from a plain HTTP server on 127.0.0.1: https on port 443, http on others.

        The certificate bears `certificate_name`, the host's own name unless one is given.
        """
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._ca.issue_cert(certificate_name or host).configure_cert(context)
        self._routes[host] = _Route(("127.0.0.1", port), context)

    def write_ca(self, path: Path) -> Path:
        """Write the authority's certificate for `SSL_CERT_FILE`, and return the path."""
        self._ca.cert_pem.write_to_path(str(path))
        return path

    def client_context(self) -> ssl.SSLContext:
        """Return a context that trusts this authority only."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._ca.configure_trust(context)
        return context

    async def _serve(self, stream: ByteStream) -> None:
        async with stream:
            with suppress(*_GONE):
                await self._answer(stream)

    async def _answer(self, stream: ByteStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += await stream.receive()
        line, *headers = head.decode("latin-1").split("\r\n")
        method, target, _ = line.split(" ")
        if method != "CONNECT":
            await stream.send(b"HTTP/1.1 405 Only CONNECT\r\nContent-Length: 0\r\n\r\n")
            return
        self.targets.append(target)
        if self.credentials is not None:
            pair = base64.b64encode(":".join(self.credentials).encode()).decode("ascii")
            if f"proxy-authorization: basic {pair}".lower() not in [header.lower() for header in headers]:
                await stream.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return
        host, _, port = target.rpartition(":")
        route = self._routes.get(host)
        if route is None:
            await stream.send(b"HTTP/1.1 502 No route\r\nContent-Length: 0\r\n\r\n")
            return
        await stream.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        if port == "443" and route.tls is not None:
            stream = await TLSStream.wrap(
                stream, server_side=True, ssl_context=route.tls, standard_compatible=False
            )
        async with stream, await anyio.connect_tcp(*route.address) as server:
            await _relay(stream, server)


async def _relay(one: ByteStream, other: ByteStream) -> None:
    """Copy both ways until one side ends."""

    async def copy(source: ByteStream, target: ByteStream) -> None:
        with suppress(*_GONE):
            async for block in source:
                await target.send(block)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(copy, one, other)
        group.start_soon(copy, other, one)
