"""Child processes from the service's side: how each one starts, and how it ends on every way out.

    service ──socket pair──► child: fd 0 and fd 1, its own session, an environment without secrets
            ◄──────────────  last argument: the service's process id, for `confine.confine`

The kernel kills a child when the thread that started it ends. Children are therefore started on the thread of
the event loop, which outlives them, and never in an executor's thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO


STDERR_TAIL_BYTES = 2000


class ChildProcess:
    """A child and our end of its socket. Its owner calls `aclose`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self.reader = reader
        self.writer = writer

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        cwd: str | Path | None = None,
        stdin: BinaryIO | None = None,
        stderr: int | None = asyncio.subprocess.DEVNULL,
    ) -> Self:
        """Start `command PARENT_PID` with exactly this environment. Raises `OSError`.

        Its stdin and stdout are one end of a socket pair; with `stdin`, it reads that file instead. It has a
        session of its own, so that Ctrl-C on a terminal reaches only the service, which ends its children in
        its own order. `stderr=None` passes on ours; with
        `stderr=PIPE`, see `stderr_tail`.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                reader, writer = await asyncio.open_connection(sock=ours)
            except BaseException:
                ours.close()
                raise
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    str(os.getpid()),
                    stdin=theirs.fileno() if stdin is None else stdin,
                    stdout=theirs.fileno(),
                    stderr=stderr,
                    env=dict(environment),
                    cwd=cwd,
                    start_new_session=True,
                )
            except BaseException:
                writer.close()
                raise
        return cls(process, reader, writer)

    def send(self, data: bytes, *descriptors: int) -> None:
        """Send a few bytes with copies of descriptors, once all written before is out. Raises `OSError`."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as ours:
            socket.send_fds(ours, [data], descriptors)

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; `None` while the child runs."""
        return self._process.returncode

    def kill(self) -> None:
        """Kill the child and whatever it has started; fine if it has ended."""
        # Not `Process.kill`: it polls first, and may so reap the child before asyncio's own watcher does.
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Return the exit status once the child has ended."""
        return await self._process.wait()

    async def stderr_tail(self) -> str:
        """Return the end of what a child with `stderr=PIPE` wrote there; call it once the child has ended.

        Nobody reads before: a child that writes more than some 100 KB blocks, until its owner kills it.
        """
        assert self._process.stderr is not None
        return (await self._process.stderr.read())[-STDERR_TAIL_BYTES:].decode(errors="replace").strip()

    async def aclose(self) -> None:
        """Kill and reap the child, even if cancelled, and close the socket. Safe to call twice."""
        self.kill()
        self.writer.close()
        reaping = asyncio.ensure_future(self.wait())
        try:
            await asyncio.shield(reaping)
        except asyncio.CancelledError:
            await reaping
            raise
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()
