"""A loopback port for a server that will be started, and perhaps started again."""

from __future__ import annotations

import contextlib
import functools
import random
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@functools.cache
def _ports() -> Iterator[int]:
    """Yield ports in random order, each once a process."""
    ports = range(18_000, 32_000)
    return iter(random.sample(ports, len(ports)))


def free_port() -> int:
    """Return a loopback port that no other call returns on this machine until this process ends.

    The kernel gives outgoing connections ports from 32768 on; a server that restarts must find its own free.
    """
    for port in _ports():
        with socket.socket() as reserved, contextlib.suppress(OSError):
            reserved.bind(("127.0.0.1", port))
            # It never listens and stays open, so servers may take the port, since they reuse addresses.
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.detach()
            return port
    raise RuntimeError("No loopback port is free.")


def accepts_connections(port: int) -> bool:
    """Whether something listens on this loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
