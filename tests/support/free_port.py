"""A loopback port for a server that will be started, and perhaps started again."""

from __future__ import annotations

import contextlib
import random
import socket


def free_port() -> int:
    """Return a loopback port that is free now, and that no outgoing connection takes in the meantime.

    The kernel gives outgoing connections ports from 32768 on; a server that restarts must find its own free.
    """
    for port in random.sample(range(18_000, 32_000), 200):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("None of 200 loopback ports is free.")


def accepts_connections(port: int) -> bool:
    """Whether something listens on this loopback port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
