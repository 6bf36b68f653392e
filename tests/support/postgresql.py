"""A throw-away PostgreSQL server for the contract tests, from the binaries on this machine."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.free_port import accepts_connections, free_port
from tests.support.processes import ENDING_WITH_PARENT
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


@dataclass
class PostgreSQLServer:
    """A server on a loopback port, with its data in `folder`. PostgreSQL refuses to run as root."""

    folder: Path
    port: int
    identity: dict[str, Any]
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its SQLAlchemy URL, without a database."""
        return f"postgresql+asyncpg://stenobird@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return once it accepts connections."""
        options = f"-c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        log_path = self.folder / "log"
        with log_path.open("wb") as log:
            server = self.process = subprocess.Popen(
                [
                    *(*ENDING_WITH_PARENT, _program("postgres") or "postgres"),
                    *("-D", self.folder / "data", "-p", str(self.port)),
                    *options.split(),
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self.identity,
            )

        def ready() -> bool:
            if server.poll() is not None:
                raise RuntimeError(
                    f"PostgreSQL did not start: {log_path.read_text(errors='replace')[-2000:]}"
                )
            return b"ready to accept connections" in log_path.read_bytes() and accepts_connections(self.port)

        until(ready)

    def stop(self) -> None:
        """Stop it, and end its connections."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def postgresql_server() -> Iterator[PostgreSQLServer]:
    """Run a server on a free loopback port with data that goes away. Root runs it as `nobody`."""
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    identity = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    folder = Path(tempfile.mkdtemp(prefix="stenobird-postgresql-"))
    try:
        if user is not None:
            os.chown(folder, user.pw_uid, user.pw_gid)
        create = ["-D", folder / "data", "-U", "stenobird", "--auth=trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(
            [_program("initdb") or "initdb", *create],
            check=True,
            capture_output=True,
            cwd=folder,
            **identity,  # type: ignore[call-overload]  # the three are those of Popen
        )
        server = PostgreSQLServer(folder, free_port(), identity)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)


@contextmanager
def running_postgresql() -> Iterator[str]:
    """Run a server; yield its SQLAlchemy URL, without a database."""
    with postgresql_server() as server:
        yield server.url
