"""Runs `stenobird` commands in processes that need not import it first, which takes each a second."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_HERE = Path(__file__).parent


class ForkServer:
    """The program that forks, started when it is first needed; it ends with this process."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="stenobird-fork-")
        self._path = f"{self._folder.name}/socket"
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(self._path)
            listener.listen(64)
            self._program = subprocess.Popen(
                [sys.executable, "-P", _HERE / "fork_server.py", str(listener.fileno())],
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,
            )

    def connect(self) -> socket.socket:
        """Return a connection for one command."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.connect(self._path)
        return connection

    @property
    def program(self) -> str:
        """The path of a program that is `stenobird` to whoever starts it."""
        path = Path(self._folder.name, "stenobird")
        if not path.exists():
            command = f'"{sys.executable}" -I -S "{_HERE}/forked_command.py" "{self._path}"'
            path.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            path.chmod(0o755)
        return str(path)


@functools.cache
def fork_server() -> ForkServer:
    """Return this process's one."""
    return ForkServer()


@dataclass
class ForkedProcess:
    """A process that runs a `stenobird` command; what a `Popen` does, under the same names."""

    pid: int
    connection: socket.socket
    returncode: int | None = None

    @classmethod
    def start(
        cls, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdout: Path, stderr: Path
    ) -> ForkedProcess:
        """Start a command in a session of its own; its output is added to the two files."""
        connection = fork_server().connect()
        request = {"argv": list(arguments), "env": dict(env), "cwd": str(cwd)}
        with (
            Path(os.devnull).open("rb") as nothing,
            stdout.open("ab") as printed,
            stderr.open("ab") as errors,
        ):
            files = [nothing.fileno(), printed.fileno(), errors.fileno()]
            socket.send_fds(connection, [json.dumps(request).encode()], files)
        return cls(json.loads(connection.recv(16)), connection)

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal; `None` while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status when there is one. Raises `TimeoutExpired`."""
        if self.returncode is None:
            if not select.select([self.connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("stenobird", timeout or 0.0)
            self.returncode = int(json.loads(self.connection.recv(16)))
            self.connection.close()
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            self.connection.send(bytes([number]))

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def run_command(
    *arguments: str, env: Mapping[str, str], cwd: Path, timeout_seconds: float = 180.0
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; return its exit status and what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        printed, errors = Path(folder, "stdout"), Path(folder, "stderr")
        process = ForkedProcess.start(arguments, env=env, cwd=cwd, stdout=printed, stderr=errors)
        status = process.wait(timeout_seconds)
        return subprocess.CompletedProcess(arguments, status, printed.read_text(), errors.read_text())
