"""Decoder children as processes: started, ended on every way out, and one kept ready for the next job."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_COMMAND = ("-I", "-c", "from stenobird.media.decoder_child import main; main()")
# Not `-m`: a main module is compiled anew at each start.
_KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH", "SYSTEMROOT")


@dataclass(frozen=True, slots=True)
class DecoderLimits:
    """What one decoder child may use. `memory_bytes` comes on top of its libraries' address space."""

    memory_bytes: int = 256 * 1024**2
    cpu_seconds: int = 1800
    stall_seconds: float = 30.0


@dataclass(slots=True)
class DecoderChild:
    """One child and our end of its socket. Whoever holds it closes it."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    handle: int | None

    @classmethod
    async def start(
        cls, limits: DecoderLimits, job: dict[str, Any] | None, path: Path | None = None
    ) -> DecoderChild:
        """Start a child for the job; without one, it gets ready and waits for the job on its socket.

        With `path`, it reads that file in place; else it asks for bytes on the socket.
        """
        told = {
            "parent": os.getpid(),
            "memory_bytes": limits.memory_bytes,
            "cpu_seconds": limits.cpu_seconds,
            **(job or {}),
        }
        with contextlib.ExitStack() as stack:
            ours, theirs = socket.socketpair()
            stack.callback(theirs.close)
            on_failure = stack.enter_context(contextlib.ExitStack())
            on_failure.callback(ours.close)
            source = theirs.fileno() if path is None else stack.enter_context(path.open("rb")).fileno()
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *_COMMAND,
                json.dumps(told),
                stdin=source,
                stdout=theirs.fileno(),
                stderr=asyncio.subprocess.DEVNULL,
                env={name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ},
                cwd="/",
                # Ctrl-C on a terminal ends the service, which then ends its children in its own order.
                start_new_session=True,
            )
            handle: int | None = None
            if sys.platform == "linux":
                # asyncio's kill() polls first and so may reap the child before its own watcher does.
                with contextlib.suppress(ProcessLookupError):
                    handle = os.pidfd_open(process.pid)
            try:
                reader, writer = await asyncio.open_connection(sock=ours)
            except BaseException:
                _kill(process, handle)
                raise
            on_failure.pop_all()
        return cls(process, reader, writer, handle)

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self.process.pid if self.process.returncode is None else None

    def kill(self) -> None:
        """End it at once."""
        _kill(self.process, self.handle)

    async def aclose(self) -> None:
        """End it, and wait until it is gone."""
        self.writer.close()
        self.kill()
        await self.process.wait()
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()


def _kill(process: asyncio.subprocess.Process, handle: int | None) -> None:
    with contextlib.suppress(ProcessLookupError):
        if handle is not None:
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        else:
            process.kill()


class SpareDecoder:
    """At most one child that has loaded its libraries and waits in its cage: 0.1 s less to the first word.

    Use it as a context manager; leaving it ends the child. It is for one job, like any other.
    """

    def __init__(self, limits: DecoderLimits) -> None:
        self._limits = limits
        self._child: DecoderChild | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._refilling = False
        self._started = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._tasks = await asyncio.TaskGroup().__aenter__()
        self.refill_soon()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        tasks, self._tasks = self._tasks, None
        try:
            if tasks is not None:
                await tasks.__aexit__(None, None, None)
        finally:
            if self._child is not None:
                await self._child.aclose()

    def take(self) -> DecoderChild | None:
        """Return the child, whose owner the caller becomes; `None` if there is none or it has died."""
        child = self._child
        if child is None or child.pid is None:
            return None
        self._child = None
        self._started.clear()
        return child

    async def started(self) -> int:
        """Wait until there is a child; return its process id."""
        await self._started.wait()
        assert self._child is not None
        return self._child.process.pid

    def refill_soon(self) -> None:
        """See to it that there is a child again; fine at any time."""
        ready = self._child is not None and self._child.pid is not None
        if self._tasks is not None and not ready and not self._refilling:
            self._refilling = True
            self._tasks.create_task(self._refill(), name="spare decoder")

    async def _refill(self) -> None:
        try:
            dead, self._child = self._child, None
            self._started.clear()
            if dead is not None:
                await dead.aclose()
            # Where no process can be started, jobs find that out for themselves.
            with contextlib.suppress(OSError):
                self._child = await DecoderChild.start(self._limits, None)
                self._started.set()
        finally:
            self._refilling = False
