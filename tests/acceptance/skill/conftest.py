"""A served skill, a home folder, and a proxy that cuts connections."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.support.web_world import WebWorld, web_settings, web_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path


@pytest.fixture
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WebWorld]:
    """A live server, with a worker that the test plays."""
    async with web_world(tmp_path_factory.mktemp("service"), web_settings(speaker_model="auto")) as world:
        yield world


@pytest.fixture
async def api_key(world: WebWorld) -> str:
    """A key of a paying account."""
    secret, _ = await world.keys.create()
    return secret


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home folder."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@dataclass(frozen=True)
class Ran:
    """How a shell command ended."""

    status: int
    out: str
    err: str


@dataclass
class Shell:
    """Runs a shell in a folder with an environment that has nothing of this machine's but PATH."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    program: Sequence[str] = ("sh",)

    def tree(self) -> list[str]:
        """Return every path below the home folder."""
        return sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*"))

    async def __call__(self, *arguments: str, stdin: bytes = b"") -> Ran:
        """Run it to its end."""
        process = await self.start(*arguments)
        out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        """Start it, its three streams piped."""
        return await asyncio.create_subprocess_exec(
            *self.program,
            *arguments,
            cwd=self.home,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home), **self.environment},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=_as_from_a_terminal,
        )


def _as_from_a_terminal() -> None:
    """Undo what `nohup` or `&` did to the tests: a shell can't trap what it was started to ignore."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture
def shell(home: Path) -> Shell:
    """A shell at home."""
    return Shell(home)


@dataclass
class CuttingProxy:
    """Forwards connections to the service; cuts those whose request has `path` in it.

    Each number in `cuts` is how many bytes of an answer get through before its connection is cut; when they
    are used up, everything gets through.
    """

    port: int
    path: bytes
    cuts: list[int]
    url: str = ""
    made: int = 0
    busy: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when an answer said 429."""
    connections: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[CuttingProxy]:
        """Listen while the context lasts."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self
        for connection in self.connections:
            connection.cancel()
        if self.connections:
            await asyncio.wait(self.connections)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        there, back = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            back.write(head)
            allowed = self.cuts.pop(0) if self.cuts and self.path in head else None
            async with asyncio.TaskGroup() as tasks:
                up = tasks.create_task(_forward(reader, back))
                down = tasks.create_task(self._back(there, writer, allowed))
                await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
                up.cancel()
                down.cancel()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            back.close()
            self.connections.discard(task)

    async def _back(
        self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, allowed: int | None
    ) -> None:
        while chunk := await there.read(4096):
            if chunk.startswith(b"HTTP/1.1 429 "):
                self.busy.set()
            if allowed is not None and len(chunk) >= allowed:
                writer.write(chunk[:allowed])
                await writer.drain()
                self.made += 1
                return
            if allowed is not None:
                allowed -= len(chunk)
            writer.write(chunk)
            await writer.drain()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(4096):
        writer.write(chunk)
        await writer.drain()
    # A client that has sent all it has to say still listens.
    await asyncio.Event().wait()


@pytest.fixture
def cutting() -> Callable[[WebWorld, bytes, list[int]], CuttingProxy]:
    """Make a proxy in front of a live server."""
    return lambda world, path, cuts: CuttingProxy(int(world.url.rpartition(":")[2]), path, cuts)
