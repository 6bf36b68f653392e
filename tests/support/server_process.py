"""The real service as a process of its own, for tests that kill it, limit it and observe it from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import httpx
from sqlalchemy import update

from stenobird.accounts.keys import KeyService
from stenobird.demo import MODEL_DIR
from stenobird.storage.account_store import AccountStore
from stenobird.storage.engine import open_database, sqlite_url
from stenobird.storage.schema import jobs
from tests.support.databases import migrated_sqlite, run_apart
from tests.support.forked import ForkedProcess, run_command
from tests.support.free_port import accepts_connections, free_port
from tests.support.processes import descendants
from tests.support.until import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from stenobird.ports import KeyMode


@dataclass
class ServerProcess:
    """`stenobird serve` on loopback with the fixture model, allowed to fetch from loopback.

    The port stays the same across restarts, so that clients can come back. `arguments` may make it another
    command, which answers no `/readyz`: then start it with `wait=False`. `settings` are `STENOBIRD_*`
    without the prefix, `extra_environment` is anything else, SSL_CERT_FILE for example. `python`
    is the interpreter that has the package; this one's finds a migrated database at its first start. Output
    goes to `server.log` in the data folder. Use as a context manager.
    """

    data_dir: Path
    settings: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ("serve",)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | ForkedProcess | None = None
    extra_environment: dict[str, str] = field(default_factory=dict)
    python: str | Path = sys.executable

    @property
    def url(self) -> str:
        """Where the service listens, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of the process: no setting of the machine leaks in."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
        ours = {
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "DATA_DIR": str(self.data_dir),
            "ENGINE": "whisper",
            "MODEL": str(MODEL_DIR),
            "EGRESS_ALLOW": "127.0.0.0/8",
            "EGRESS_PORTS": "*",
            **self.settings,
        }
        return kept | self.extra_environment | {f"STENOBIRD_{name}": value for name, value in ours.items()}

    def command(self, *arguments: str, timeout_seconds: float = 180.0) -> str:
        """Run `stenobird …` with the same settings and return its standard output."""
        done = run_command(
            *arguments, env=self.environment, cwd=self.data_dir, timeout_seconds=timeout_seconds
        )
        if done.returncode != 0:
            raise RuntimeError(f"stenobird {' '.join(arguments)} failed:\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def create_key(self, *, mode: KeyMode = "live") -> str:
        """Make an API key of the operator's account in the service's database, and return it."""
        return run_apart(self._create_key(mode))

    async def _create_key(self, mode: KeyMode) -> str:
        url = self.settings.get("DATABASE_URL") or sqlite_url(self.data_dir)
        async with open_database(url) as database:
            secret, _ = await KeyService(AccountStore(database)).create(mode=mode)
            return secret

    def forget_deaths(self) -> None:
        """Let killed jobs be claimed at once, as after their first death: waits have tests of their own."""
        run_apart(self._forget_deaths())

    async def _forget_deaths(self) -> None:
        async with open_database(sqlite_url(self.data_dir)) as database, database.write() as connection:
            await connection.execute(update(jobs).values(interruptions=0))

    def start(self, *, wait: bool = True) -> None:
        """Start the process; with `wait`, return when it answers `/readyz` with 200."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.process = self.launch()
        if wait:
            self.wait_ready()

    def launch(self) -> subprocess.Popen[bytes] | ForkedProcess:
        """Start the process in its data folder, with its output in the log."""
        if self.python != sys.executable:
            return self.spawn([self.python, "-m", "stenobird", *self.arguments])
        if "DATABASE_URL" not in self.settings:
            migrated_sqlite(self.data_dir)
        log_path = self.data_dir / "server.log"
        return ForkedProcess.start(
            self.arguments, env=self.environment, cwd=self.data_dir, stdout=log_path, stderr=log_path
        )

    def spawn(self, command: Sequence[str | Path], **environment: str) -> subprocess.Popen[bytes]:
        """Start a command as the process, with these variables besides its own."""
        with (self.data_dir / "server.log").open("ab") as log:
            return subprocess.Popen(
                command,
                env=self.environment | environment,
                cwd=self.data_dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Return when the service is ready. Raises with the end of its log when it is not."""
        assert self.process is not None
        process = self.process
        with httpx.Client(base_url=self.url, timeout=180) as client:

            def ready() -> bool:
                if process.poll() is not None:
                    raise RuntimeError(f"the service did not become ready:\n{self.log()[-4000:]}")
                with contextlib.suppress(httpx.TransportError):
                    return accepts_connections(self.port) and client.get("/readyz").status_code == 200
                return False

            until(ready)

    def log(self) -> str:
        """Return what the process has printed."""
        return (self.data_dir / "server.log").read_text(errors="replace")

    def kill(self) -> None:
        """Kill the process with SIGKILL, as a power cut would: nothing in it can clean up."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def terminate(self, timeout_seconds: float = 180.0) -> int:
        """Ask the process to end and return its exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout_seconds)

    def children(self) -> Iterator[tuple[int, str]]:
        """Yield the process ids and command lines of all its descendants."""
        assert self.process is not None
        yield from descendants(self.process.pid)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
