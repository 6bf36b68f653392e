"""A loopback port for a server that will be started, and perhaps started again."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKERS = 16
"""Pytest's workers that have ports of their own."""


@functools.cache
def _ports() -> Iterator[int]:
    """Yield the ports of this process in random order, each once: pytest's workers have different ones."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = range(18_000 + worker % WORKERS, 32_000, WORKERS)
    return iter(random.sample(ports, len(ports)))


def free_port() -> int:
    """Return a loopback port that is free now, and that nothing else takes in the meantime.

    The kernel gives outgoing connections ports from 32768 on; a server that restarts must find its own free.
    """
    for port in _ports():
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("No loopback port is free.")


def accepts_connections(port: int) -> bool:
    """Whether something listens on this loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
