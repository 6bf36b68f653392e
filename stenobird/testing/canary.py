"""A server that nothing may ever reach: it counts who does."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import anyio
from anyio.abc import SocketAttribute

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
    """Yield a canary on a free port of a loopback address; it answers one byte to whoever connects."""
    listener = await anyio.create_tcp_listener(
        local_host=host, local_port=0, family=socket.AddressFamily.AF_INET
    )
    canary = Canary(host, listener.extra(SocketAttribute.local_port))  # noqa: S610  # anyio's, not Django's
    failure: Exception | None = None
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, canary._count)  # noqa: SLF001  # the same module
        try:
            yield canary
        except Exception as exc:  # noqa: BLE001  # raised again below, outside the group, which would wrap it
            failure = exc
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
