"""uvicorn, with the bounds it lacks and a shutdown that ends the event streams first."""

from __future__ import annotations

import asyncio
import fcntl
import json
import math
import socket
import struct
import termios
from array import array
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stenobird.errors import HeadTooLarge, MalformedHTTP
from stenobird.web.routing import dialect_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.applications import Starlette

    from stenobird.config import Settings
    from stenobird.errors import StenobirdError
    from stenobird.web.routing import Dialect

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers together; more is answered with 431."""

HEAD_TIMEOUT_SECONDS = 30.0
"""Time a client has to send the head of a request, counted from its first byte."""

LINGER_SECONDS = 2.0
"""Time a client that was refused in mid-sentence has to read why."""

KEEP_ALIVE_SECONDS = 75
"""Longer than the 60 s for which proxies keep idle connections, so that they close them first."""

_log = structlog.get_logger("stenobird.web.server")


class _Config(uvicorn.Config):
    send_timeout_seconds: float
    head_timeout_seconds: float
    dialects: Sequence[Dialect]


class BoundedHTTPProtocol(HttpToolsProtocol):
    """HTTP/1.1 with three bounds: the size of a head, the time it takes, and a reader that stopped reading.

    uvicorn waits for such a reader for ever. Here a connection whose client has taken no byte for
    `send_timeout_seconds`, while bytes wait for it, is aborted: the waiting bytes are thrown away, the
    application sees a disconnect. What waits is at most one ASGI message, since `send` waits for the last.

    What is no HTTP is answered as any other error is, with an id and in the dialect of the address, as far as
    that can be told.
    """

    def __init__(self, config: uvicorn.Config, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        assert isinstance(config, _Config)
        self._send_timeout_seconds = config.send_timeout_seconds
        self._head_timeout_seconds = config.head_timeout_seconds
        self._dialects = config.dialects
        self._stall_timer: asyncio.TimerHandle | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._reading_head = False
        self._head_bytes = 0
        self._received = b""
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Set the bounds on a new connection."""
        super().connection_made(transport)
        # Pause as soon as the kernel takes no more, so that "paused" means "the client is not reading".
        transport.set_write_buffer_limits(high=0)
        self._arm_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection and its timers."""
        self._disarm_head_timer()
        self._disarm_stall_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start to watch a client that takes no more."""
        super().pause_writing()
        self._watch_reader(waiting_before=None)

    def resume_writing(self) -> None:
        """Stop watching: everything written has been taken."""
        self._disarm_stall_timer()
        super().resume_writing()

    def _watch_reader(self, waiting_before: int | None) -> None:
        waiting = self._waiting_bytes()
        if waiting_before is not None and waiting >= waiting_before:
            _log.info("reader dropped: it took no byte", seconds=self._send_timeout_seconds, waiting=waiting)
            # With a reset the kernel drops its own megabytes too, instead of offering them for minutes.
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            self.transport.abort()
            return
        self._stall_timer = self.loop.call_later(self._send_timeout_seconds, self._watch_reader, waiting)

    def _waiting_bytes(self) -> int:
        """Return the bytes that the client's side has not acknowledged, ours and the kernel's.

        The kernel's count, because it asks for more only when a good part of its megabytes is free, which
        takes a slow reader longer than the timeout.
        """
        in_kernel = array("i", [0])
        with suppress(OSError):  # a platform without the count; ours alone must do
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, in_kernel)
        return self.transport.get_write_buffer_size() + in_kernel[0]

    def _disarm_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    # --- the head of a request

    def on_message_begin(self) -> None:
        """Start to count the bytes and seconds of a head."""
        super().on_message_begin()
        self._reading_head = True
        self._head_bytes = 0
        if self._head_timer is None:
            self._arm_head_timer()

    def on_headers_complete(self) -> None:
        """Stop counting: the head is whole."""
        self._reading_head = False
        self._disarm_head_timer()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Parse what came, and refuse a head that grows without end."""
        if self._refused:
            return
        self._received = data
        super().data_received(data)
        self._received = b""
        if not self._reading_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HeadTooLarge())

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser refused. `msg` is uvicorn's, which says less."""
        _log.info("not a valid HTTP request", reason=msg)
        self._refuse(MalformedHTTP())

    def _refuse(self, error: StenobirdError) -> None:
        cycle = getattr(self, "cycle", None)  # None before the first request, which uvicorn's types hide
        if cycle is not None and not cycle.response_complete:
            # The body of a request in flight is broken. Whoever answers it is told that the client has gone.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        # The parser stops where it first objects, which may be before the address.
        target = getattr(self, "url", b"") or (self._received.split(b" ", 2)[1:2] or [b""])[0]
        dialect = dialect_at(self._dialects, target.partition(b"?")[0].decode("latin-1"))
        request_id = dialect.request_id("")
        code, document = dialect.render(error, request_id)
        status, body = HTTPStatus(code), json.dumps(document).encode()
        self.transport.write(
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            f"x-request-id: {request_id}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
            + body
        )
        # Closed at once, what the client still sends would be answered by a reset, and that may overtake the
        # answer. So it is told that nothing more comes, heard out for a moment, and cut off then.
        self._refused, self._reading_head = True, False
        self._disarm_head_timer()
        self._head_timer = self.loop.call_later(LINGER_SECONDS, self.transport.abort)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _arm_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self._head_timeout_seconds, self.transport.abort)

    def _disarm_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class WebServer(uvicorn.Server):
    """The HTTP server of one process.

    On SIGTERM, SIGINT or `should_exit` it sets `shutting_down` before it waits for connections to close, so
    that event streams end and their readers resume elsewhere; requests in flight get
    `Settings.grace_seconds`; then the app's lifespan ends.
    """

    def __init__(
        self,
        app: Starlette,
        settings: Settings,
        shutting_down: asyncio.Event,
        *,
        head_timeout_seconds: float = HEAD_TIMEOUT_SECONDS,
    ) -> None:
        config = _Config(
            app,
            host=settings.host,
            port=settings.port,
            http=BoundedHTTPProtocol,
            ws="none",
            lifespan="on",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            forwarded_allow_ips=settings.trusted_proxies,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=math.ceil(settings.grace_seconds),
        )
        config.send_timeout_seconds = settings.send_timeout_seconds
        config.head_timeout_seconds = head_timeout_seconds
        config.dialects = app.state.dialects
        super().__init__(config)
        self.listening = asyncio.Event()
        self._shutting_down = shutting_down

    @property
    def url(self) -> str:
        """Where the server listens; meaningful once `listening` is set."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the listening socket and say so."""
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the event streams, then do as uvicorn does."""
        self._shutting_down.set()
        await super().shutdown(sockets)


@asynccontextmanager
async def running(server: WebServer, sockets: list[socket.socket] | None = None) -> AsyncIterator[str]:
    """Serve while the context lasts, and yield the URL; leaving it shuts the server down in order."""
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve(sockets))
        await server.listening.wait()
        try:
            yield server.url
        finally:
            # Also after an error: the group would cancel the server in the middle of its connections.
            server.should_exit = True
            await asyncio.wait((serving,))
