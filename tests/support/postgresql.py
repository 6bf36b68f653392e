"""A throw-away PostgreSQL server for the contract tests, from the binaries on this machine."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.free_port import accepts_connections
from tests.support.until import until

if TYPE_CHECKING:
    from collections.abc import Iterator


def postgresql_available() -> bool:
    """Whether `initdb` and `postgres` can be found."""
    return _program("initdb") is not None and _program("postgres") is not None


def _program(name: str) -> str | None:
    # Debian keeps the server's programs out of PATH.
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return shutil.which(name) or next((str(f / name) for f in folders if (f / name).exists()), None)


@contextmanager
def running_postgresql() -> Iterator[str]:
    """Run a server on a free loopback port with data that goes away; yield its SQLAlchemy URL, no database.

    PostgreSQL refuses to run as root, so root runs it as `nobody`.
    """
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="stenobird-postgresql-"))
    try:
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        data = folder / "data"
        identity = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        subprocess.run(
            [
                _program("initdb") or "initdb",
                "-D",
                data,
                "-U",
                "stenobird",
                "--auth=trust",
                "--no-sync",
                "-E",
                "UTF8",
            ],
            check=True,
            capture_output=True,
            cwd=folder,
            **identity,  # type: ignore[call-overload]  # the three are those of Popen
        )
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(
                [_program("postgres") or "postgres", "-D", data, "-p", str(port), *options.split()],
                stdout=log,
                stderr=log,
                cwd=folder,
                **identity,  # type: ignore[call-overload]
            )
        try:
            _wait_for(server, port, folder / "log")
            yield f"postgresql+asyncpg://stenobird@127.0.0.1:{port}"
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)


def _wait_for(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    def ready() -> bool:
        if server.poll() is not None:
            raise RuntimeError(f"PostgreSQL did not start: {log.read_text(errors='replace')[-2000:]}")
        return b"ready to accept connections" in log.read_bytes() and accepts_connections(port)

    until(ready)
