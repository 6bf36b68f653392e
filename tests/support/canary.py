"""A server that must never be reached: it counts connections."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio

from stenobird.egress.proxy import loopback_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import SocketStream


class Canary:
    """A listener on loopback. `hits` counts the connections that were accepted."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self.hits = 0

    async def settle(self) -> int:
        """Return `hits` once every connection made before this call has been counted.

        The accept queue is in order of arrival: a connection of our own, once counted, comes after all
        others.
        """
        reader = await anyio.connect_tcp(self.host, self.port)
        async with reader:
            await reader.receive(1)
        self.hits -= 1
        return self.hits

    async def _count(self, stream: SocketStream) -> None:
        async with stream:
            self.hits += 1
            with suppress(anyio.BrokenResourceError):
                await stream.send(b"!")


@asynccontextmanager
async def open_canary(host: str = "127.0.0.1") -> AsyncIterator[Canary]:
    """Yield a canary on a free port of a loopback address; it answers each connection with one byte."""
    canary = Canary(host, 0)
    async with loopback_server(canary._count, host=host) as canary.port:  # the same module
        yield canary
