"""Names to addresses: the port, and the resolver of the operating system behind it."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.egress.addresses import IPAddress

_THREADS = 8


class Resolver(Protocol):
    """Looks a host name up, once per call; nothing is cached, so every new connection is judged anew."""

    async def resolve(self, host: str, port: int) -> Sequence[IPAddress]:
        """Return every address of the name, the preferred first. Raises `OSError` when there is none."""

    async def aclose(self) -> None:
        """Free what the resolver holds."""


class SystemResolver:
    """`getaddrinfo` on at most eight threads; look-ups beyond that wait, within their caller's timeout.

    A thread that is stuck in a look-up ends with the system's own resolver timeout; nobody waits for it here.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="stenobird-dns")

    async def resolve(self, host: str, port: int) -> Sequence[IPAddress]:
        """Return every address that the system knows for the name, in its order of preference (RFC 6724)."""
        loop = asyncio.get_running_loop()
        try:
            texts = await loop.run_in_executor(self._threads, _look_up, host, port)
        except UnicodeError as exc:
            raise socket.gaierror(socket.EAI_NONAME, "The name can't be looked up") from exc
        return [ipaddress.ip_address(text) for text in texts]

    async def aclose(self) -> None:
        """Drop the look-ups that have not started."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> list[str]:
    return [str(row[4][0]) for row in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
