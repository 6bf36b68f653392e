"""A throw-away Redis server for the contract tests, from the binary on this machine."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.support.free_port import accepts_connections
from tests.support.processes import ENDING_WITH_PARENT
from tests.support.until import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def redis_available() -> bool:
    """Whether `redis-server` can be found."""
    return shutil.which("redis-server") is not None


@contextlib.contextmanager
def running_redis(folder: Path, port: int) -> Iterator[str]:
    """Run a server without persistence; yield its URL."""
    server = subprocess.Popen(
        [
            *(*ENDING_WITH_PARENT, "redis-server", "--port", str(port), "--bind", "127.0.0.1"),
            *("--save", "", "--dir", str(folder)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: accepts_connections(port) or server.poll() is not None)
        if server.poll() is not None:
            raise RuntimeError("redis-server did not start")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait()
