"""The parent's end of one model host: starting the child, frames over its socket, and its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from stenobird.inference.frames import PREFIX, BrokenFrame, Header, lengths, pack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

_PASSED_ON = frozenset({"PATH", "HOME", "USER", "LANG", "TMPDIR", "XDG_CACHE_HOME", "LD_LIBRARY_PATH"})
_PASSED_ON_PREFIXES = (
    *("PYTHON", "VIRTUAL_ENV", "LC_", "HF_", "CUDA_", "NVIDIA_", "CT2_"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_", "REQUESTS_CA_", "CURL_CA_"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)


def host_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what the host may see: no secrets of ours, no allocator tunables, one thread a library.

    The hub's variables and proxies stay: model downloads are the operator's own connections. ONNX Runtime's
    official builds report to Microsoft from the moment they are imported, under an identifier that they keep
    in HOME; only this variable keeps all of it from happening.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return kept | threads | {"TOKENIZERS_PARALLELISM": "false", "ORT_DISABLE_TELEMETRY": "1"}


class HostProcess:
    """A running model host. Sends are ordered; only one task receives."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    async def send(self, header: Header, payload: bytes = b"") -> None:
        """Send one frame; waits while the host is slow to take it. A dead host is noticed by `receive`."""
        with suppress(ConnectionError):
            self._writer.write(pack(header, payload))
            await self._writer.drain()

    async def receive(self) -> tuple[Header, bytes] | None:
        """Return the next frame, or `None` when the host has gone or does not speak the protocol."""
        try:
            header_bytes, payload_bytes = lengths(await self._reader.readexactly(PREFIX.size))
            header = json.loads(await self._reader.readexactly(header_bytes))
            return header, await self._reader.readexactly(payload_bytes)
        except (asyncio.IncompleteReadError, ConnectionError, BrokenFrame, ValueError):
            return None

    def kill(self) -> None:
        """End the host now; fine if it has ended."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Return its exit status, negative for a signal, once it has ended."""
        return await self._process.wait()

    async def aclose(self) -> None:
        """Kill and reap the host, and close the socket."""
        self.kill()
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()
        await self._process.wait()


@asynccontextmanager
async def start_host(command: Sequence[str]) -> AsyncIterator[HostProcess]:
    """Start `command FD PARENT_PID` with one end of a socket pair; the host is dead when this ends.

    It gets a session of its own, so that Ctrl-C on the terminal reaches only us, and we drain. Raises
    `OSError` when it can't be started.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            ours.setblocking(False)  # noqa: FBT003  # the socket module's own signature
            reader, writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                str(theirs.fileno()),
                str(os.getpid()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=host_environment(os.environ),
                start_new_session=True,
            )
        except BaseException:
            writer.close()
            raise
    host = HostProcess(process, reader, writer)
    try:
        yield host
    finally:
        await host.aclose()
