"""Runs `stenobird` commands in processes that need not import it first, which takes each a second."""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ForkServer:
    """The program that forks, started when it is first needed; it ends with this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._program = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("fork_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, request: Mapping[str, Any]) -> Any:
        """Return the answer to a request."""
        assert self._program.stdin is not None
        assert self._program.stdout is not None
        with self._lock:
            self._program.stdin.write(json.dumps(request).encode() + b"\n")
            self._program.stdin.flush()
            return json.loads(self._program.stdout.readline())


@functools.cache
def fork_server() -> ForkServer:
    """Return this process's one."""
    return ForkServer()


@dataclass(frozen=True)
class ForkedProcess:
    """A process that runs a `stenobird` command; what a `Popen` does, under the same names."""

    pid: int

    @classmethod
    def start(
        cls, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdout: Path, stderr: Path
    ) -> ForkedProcess:
        """Start a command in a session of its own; its output is added to the two files."""
        stdout.touch()
        stderr.touch()
        request = {"argv": list(arguments), "env": dict(env), "cwd": str(cwd)}
        return cls(fork_server().ask({**request, "stdout": str(stdout), "stderr": str(stderr)}))

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; `None` while it runs."""
        status: int | None = fork_server().ask({"poll": self.pid})
        return status

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status when there is one. Raises `TimeoutExpired`."""
        status = self.poll()
        if status is None:
            # Until it is asked for, the fork server keeps what is left of the process, so the id is its own.
            handle = os.pidfd_open(self.pid)
            try:
                if not select.select([handle], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired("stenobird", timeout or 0.0)
            finally:
                os.close(handle)
            status = self.poll()
        assert status is not None
        return status

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def run_command(
    *arguments: str, env: Mapping[str, str], cwd: Path, timeout_seconds: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; return its exit status and what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        printed, errors = Path(folder, "stdout"), Path(folder, "stderr")
        process = ForkedProcess.start(arguments, env=env, cwd=cwd, stdout=printed, stderr=errors)
        status = process.wait(timeout_seconds)
        return subprocess.CompletedProcess(arguments, status, printed.read_text(), errors.read_text())
