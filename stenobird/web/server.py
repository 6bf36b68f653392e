"""uvicorn, with bounds on request heads and stalled readers, and a shutdown that ends streams first."""

from __future__ import annotations

import asyncio
import fcntl
import math
import socket
import struct
import termios
import time
from array import array
from contextlib import asynccontextmanager, contextmanager, suppress
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast

import structlog
import uvicorn
from typing_extensions import override
from uvicorn.loops.auto import auto_loop_factory
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from stenobird.errors import HeadTooLarge, MalformedHTTP
from stenobird.web.middleware import DIRECT_SEND
from stenobird.web.routing import dialect_at

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from starlette.applications import Starlette
    from starlette.types import Send

    from stenobird.config import Settings
    from stenobird.errors import StenobirdError
    from stenobird.web.routing import Dialect

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers together. A larger head gets 431."""

HEAD_TIMEOUT_SECONDS = 30.0
"""How long a client may take to send the head of a request, from its first byte."""

LINGER_SECONDS = 2.0
"""How long the connection stays open after an early refusal, so that the client can read it."""

KEEP_ALIVE_SECONDS = 75
"""Longer than the 60 s of common proxies, so that the proxy closes idle connections first."""

_log = structlog.get_logger("stenobird.web.server")


class _Connection:
    """A transport that drops what is written after the client has gone, and sends a head with its body.

    asyncio would log a warning for every write, and a replay makes hundreds before it sees the disconnect.
    uvicorn writes a head and its body one after the other, and a write costs as much as all checks of a POST.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._head = b""

    def write(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        if self._head:
            data, self._head = self._head + data, b""
        elif data.startswith(b"HTTP/1.1 "):
            self._head = data
            self._loop.call_soon(self._flush)
            return
        self._transport.write(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def write_eof(self) -> None:
        self._flush()
        self._transport.write_eof()

    def _flush(self) -> None:
        head, self._head = self._head, b""
        if head and not self._transport.is_closing():
            self._transport.write(head)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedHTTPProtocol(HttpToolsProtocol):
    """HTTP/1.1 with three bounds: the size of a head, the time it takes, and how long a reader may stall.

    uvicorn waits forever for a client that stops reading. Here the connection is aborted when bytes are
    waiting and the client has acknowledged none for `send_timeout_seconds`: the bytes are dropped, and the
    application sees a disconnect. At most one ASGI message waits, since `send` waits for the previous one.

    Malformed HTTP, and HTTP/1.1 without exactly one Host, gets an error like any other, with a request id, in
    the dialect of the path if the path is known.
    """

    def __init__(
        self,
        *args: Any,
        send_timeout_seconds: float,
        head_timeout_seconds: float,
        dialects: Sequence[Dialect],
        update_date: Callable[[], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._send_timeout_seconds = send_timeout_seconds
        self._head_timeout_seconds = head_timeout_seconds
        self._dialects = dialects
        self._update_date = update_date
        self._stall_timer: asyncio.TimerHandle | None = None
        self._head_timer: asyncio.TimerHandle | None = None
        self._reading_head = False
        self._head_bytes = 0
        self._received = b""
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Set the bounds of a new connection."""
        super().connection_made(cast("asyncio.Transport", _Connection(transport, self.loop)))
        # Pause as soon as the kernel's buffer is full, so that "paused" means "the client is not reading".
        transport.set_write_buffer_limits(high=0)
        self._arm_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timers."""
        self._disarm_head_timer()
        self._disarm_stall_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Start the stall timer."""
        super().pause_writing()
        self._watch_reader(waiting_before=None)

    def resume_writing(self) -> None:
        """Stop the stall timer: everything has been written."""
        self._disarm_stall_timer()
        super().resume_writing()

    def _watch_reader(self, waiting_before: int | None) -> None:
        waiting = self._waiting_bytes()
        if waiting_before is not None and waiting >= waiting_before:
            _log.info("stalled_reader_dropped", seconds=self._send_timeout_seconds, waiting_bytes=waiting)
            # After a reset the kernel drops its buffer, too, instead of retransmitting it for minutes.
            self.transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            self.transport.abort()
            return
        self._stall_timer = self.loop.call_later(self._send_timeout_seconds, self._watch_reader, waiting)

    def _waiting_bytes(self) -> int:
        """Return the unacknowledged bytes in our buffer and the kernel's.

        The kernel's buffer counts because it accepts more only when much of it is free, which can take a
        slow reader longer than the timeout.
        """
        in_kernel = array("i", [0])
        with suppress(OSError):  # not supported on this platform
            fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, in_kernel)
        return self.transport.get_write_buffer_size() + in_kernel[0]

    def _disarm_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    # --- request heads

    def on_message_begin(self) -> None:
        """Start counting the bytes of a head."""
        super().on_message_begin()
        self._reading_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Stop counting: the head is complete. What follows a refused request is not run."""
        if self._refused:
            return
        self._reading_head = False
        self._disarm_head_timer()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            self.send_400_response("not exactly one Host header")
        else:
            self._update_date()
            super().on_headers_complete()
            # Starlette wraps `send` before any middleware of ours can see it.
            self.scope[DIRECT_SEND] = self.cycle.send  # type: ignore[literal-required]

    def on_body(self, body: bytes) -> None:
        """Pass on the body of a request that was not refused."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request that was not refused."""
        if not self._refused:
            super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Parse the data, refuse a head that is too large, and time one that is not complete."""
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
        elif self._head_timer is None:
            self._arm_head_timer()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser can't read. `msg` is uvicorn's own text."""
        if not self._refused:  # the parser goes on with what has arrived already
            _log.info("malformed_http", reason=msg)
            self._refuse(MalformedHTTP())

    def _refuse(self, error: StenobirdError) -> None:
        cycle = getattr(self, "cycle", None)  # None before the first request, which uvicorn's types hide
        if cycle is not None and not cycle.response_complete:
            # The body of a running request is broken, so its handler gets a disconnect.
            cycle.disconnected = True
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
                return
        # The parser stops at the first error, which may come before the path.
        target = getattr(self, "url", b"") or (self._received.split(b" ", 2)[1:2] or [b""])[0]
        dialect = dialect_at(self._dialects, target.partition(b"?")[0].decode("latin-1"))
        request_id = dialect.request_id("")
        code, document = dialect.render(error, request_id)
        status, body = HTTPStatus(code), document.encode()
        self.transport.write(
            f"HTTP/1.1 {status.value} {status.phrase}\r\n"
            f"x-request-id: {request_id}\r\ncontent-type: application/json\r\ncache-control: no-store\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
            + body
        )
        # If we closed at once, data that the client still sends would cause a reset, which may overtake the
        # response. So end our side, read for a moment, then abort.
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

    On SIGTERM, SIGINT or `should_exit` it first sets `shutting_down`, so that event streams end and their
    readers reconnect elsewhere. Then running requests get `Settings.grace_seconds`, and the app's lifespan
    ends. Without `stops_at_signals`, signals are left to whoever serves.
    """

    def __init__(
        self,
        app: Starlette,
        settings: Settings,
        shutting_down: asyncio.Event,
        *,
        stops_at_signals: bool = True,
        head_timeout_seconds: float = HEAD_TIMEOUT_SECONDS,
    ) -> None:
        protocol: Any = partial(
            BoundedHTTPProtocol,
            send_timeout_seconds=settings.send_timeout_seconds,
            head_timeout_seconds=head_timeout_seconds,
            dialects=app.state.dialects,
            update_date=self._update_date,
        )
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            http=protocol,
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
        self._stops_at_signals = stops_at_signals
        self._exit = asyncio.Event()
        self._date_second = 0
        super().__init__(config)
        self.listening = asyncio.Event()
        self._shutting_down = shutting_down

    @property
    def should_exit(self) -> bool:
        """Whether the server stops, or is to stop."""
        return self._exit.is_set()

    @should_exit.setter
    def should_exit(self, value: bool) -> None:
        if value:
            self._exit.set()
        else:
            self._exit.clear()

    @contextmanager
    @override
    def capture_signals(self) -> Iterator[None]:
        if not self._stops_at_signals:
            yield
            return
        with super().capture_signals():
            yield

    async def main_loop(self) -> None:
        """Wait for `should_exit`. uvicorn wakes up ten times a second, to see it and to update the date."""
        await self._exit.wait()

    def _update_date(self) -> None:
        """Set the Date header of the responses that begin in this second."""
        second = int(time.time())
        if second != self._date_second:
            self._date_second = second
            date = formatdate(second, usegmt=True).encode()
            self.server_state.default_headers = [(b"date", date), *self.config.encoded_headers]

    @property
    def url(self) -> str:
        """The address of the server, once `listening` is set."""
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the listening socket and set `listening`."""
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the event streams, then shut down as uvicorn does."""
        self._shutting_down.set()
        await super().shutdown(sockets)


def direct_write(send: Send) -> Callable[[bytes], bool]:
    """Return what writes an encoded chunk of a response's body, unless its connection is busy or gone.

    `send` is the server's own; for any other, nothing is written. No task has to await `send` then.
    """
    cycle = getattr(send, "__self__", None)

    def write(chunk: bytes) -> bool:
        if (
            not isinstance(cycle, RequestResponseCycle)
            or cycle.flow.write_paused
            or cycle.disconnected
            or not cycle.chunked_encoding
        ):
            return False
        cycle.transport.write(chunk)
        return True

    return write


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loop of a service: uvloop where it is installed, else asyncio's own."""
    return auto_loop_factory()


@asynccontextmanager
async def running(server: WebServer, sockets: list[socket.socket] | None = None) -> AsyncIterator[str]:
    """Serve while the context lasts, and yield the URL. Leaving it shuts the server down in order."""
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve(sockets))
        await server.listening.wait()
        try:
            yield server.url
        finally:
            # Also after an error, when the task group would cancel the server instead.
            server.should_exit = True
            await asyncio.wait((serving,))
