"""Server-Sent Events over raw ASGI: one write for all that is due, and every way a stream can end.

    job ends             the iterator stops after `done`          the body is finished
    reader disconnects   `http.disconnect` cancels the pump       the iterator is closed
    reader stalls        the server aborts the connection after   as for a disconnect
                         `send_timeout_seconds` (see server.py)
    server stops         `OpenStreams.end_all` cancels the pump   the body is finished; readers resume by id
    log is unreadable    the failure is logged                    the body is finished; readers resume by id

Why not sse-starlette: docs/decisions/0004-own-sse-responder.md.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING

import structlog
from starlette.responses import Response

from stenobird.errors import InvalidRequest, RateLimited, StorageUnavailable
from stenobird.web.limits import client_network
from stenobird.web.middleware import DIRECT_SEND
from stenobird.web.server import direct_write

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

    from starlette.types import Receive, Scope, Send

    from stenobird.jobs.tail import Page, Take
    from stenobird.ports import Caller, EventRow
    from stenobird.web.probes import Metrics

RETRY_SECONDS = 30
"""How long a client that has too many streams open should wait."""

RETRY_MILLISECONDS = 2000
"""How long a browser waits before it reconnects."""

# No empty line after a comment or a `retry` field: some parsers would dispatch an empty event, since they
# check the last id instead of the data.
_OPENING = b"retry: %d\n" % RETRY_MILLISECONDS
_PING = b": ping\n"

_log = structlog.get_logger("stenobird.web.sse")


def encode_event(row: EventRow) -> bytes:
    """Return the frame of an event: `event`, one `data` field for each line of its data, then `id`.

    `id` comes last because some clients store it as soon as they read it: after a cut in mid-frame they
    would resume behind an event that they never saw.
    """
    data = row.data
    if "\n" in data or "\r" in data:
        data = "\ndata: ".join(data.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    return f"event: {row.event}\ndata: {data}\nid: {row.seq}\n\n".encode()


def encode(page: Page) -> bytes:
    """Return the frames of a page."""
    return b"".join(map(encode_event, page))


def parse_event_id(value: str) -> int:
    """Return the sequence number in a `Last-Event-ID`, 0 for an empty one. Raises `InvalidRequest`."""
    if value == "":
        return 0
    if not (value.isascii() and value.isdigit() and len(value) <= 15):
        raise InvalidRequest(
            "Last-Event-ID must be the id of an event of this transcript, a whole number. "
            "Leave it out to read from the start."
        )
    return int(value)


class OpenStreams:
    """The open streams of this process, which a shutdown ends.

    Of those that are read with an API key, at most `per_key` are open for each; of the others, at most
    `per_address` for each client.
    """

    def __init__(self, metrics: Metrics, *, per_key: int = 1000, per_address: int = 100) -> None:
        self.metrics = metrics
        self._per_key = per_key
        self._per_address = per_address
        self._by_reader: Counter[str] = Counter()
        self._pumps: set[asyncio.Task[None]] = set()
        self._ended = False
        self._encoded: tuple[Page | None, bytes] = None, b""
        self._unreported = 0
        """Events that are not yet in the metrics, whose lock is not for every event and reader."""

    def __len__(self) -> int:
        return len(self._pumps)

    @contextmanager
    def entered(self, pump: asyncio.Task[None]) -> Iterator[None]:
        """Register a stream while the context lasts. After `end_all` it is ended at once."""
        self._pumps.add(pump)
        self.metrics.sse_readers.inc()
        if self._ended:
            pump.cancel()
        try:
            yield
        finally:
            self._pumps.discard(pump)
            self.metrics.sse_readers.dec()

    def taker(self, scope: Scope) -> Take:
        """Return what writes a page to the connection of a request at once, if the connection is idle.

        That is cheaper than waking the reader's task. The encoded page is kept, since the readers of a job
        get it one after the other.
        """
        write = direct_write(scope[DIRECT_SEND])

        def take(page: Page) -> bool:
            if page is not self._encoded[0]:
                body = encode(page) if page else _PING
                self._encoded = page, b"%x\r\n%s\r\n" % (len(body), body)
            taken = write(self._encoded[1])
            if taken:
                if not self._unreported:
                    asyncio.get_running_loop().call_soon(self._report)
                self._unreported += len(page)
            return taken

        return take

    def _report(self) -> None:
        self.metrics.sse_events.inc(self._unreported)
        self._unreported = 0

    @contextmanager
    def counted(self, caller: Caller | None, address: str | None) -> Iterator[None]:
        """Count a stream for the caller's key, else for the address. Raises `RateLimited`."""
        if caller is not None:
            reader, limit, kind = caller.api_key_id, self._per_key, "API key"
        else:
            reader, limit, kind = client_network(address), self._per_address, "client address"
        if self._by_reader[reader] >= limit:
            raise RateLimited(
                f"{limit} event streams are open already for this {kind}. Close some, or poll the status.",
                retry_after_seconds=RETRY_SECONDS,
            )
        self._by_reader[reader] += 1
        try:
            yield
        finally:
            self._by_reader[reader] -= 1
            if not self._by_reader[reader]:
                del self._by_reader[reader]

    def end_all(self) -> None:
        """End all open streams between two frames, and all that open later."""
        self._ended = True
        for pump in self._pumps:
            pump.cancel()

    async def end_all_when(self, shutting_down: asyncio.Event) -> None:
        """Wait for the event, then `end_all`."""
        await shutting_down.wait()
        self.end_all()


class EventStreamResponse(Response):
    """Sends the events of a job as they arrive. It owns the iterator and closes it, however the stream ends.

    It holds one page at a time: it reads the next one when the connection has taken the last one. `encode`
    returns the bytes of a page, and `opening` is sent first. The stream counts for `caller`, or for the
    client's address; it raises `RateLimited` before it sends anything.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        job_id: str,
        events: AsyncGenerator[Page, None],
        streams: OpenStreams,
        *,
        encode: Callable[[Page], bytes] = encode,
        opening: bytes = _OPENING,
        caller: Caller | None = None,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._job_id = job_id
        self._events = events
        self._streams = streams
        self._encode = encode
        self._opening = opening
        self._caller = caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it ends in one of the ways in the module docstring."""
        address = scope["client"][0] if scope.get("client") else None
        async with aclosing(self._events):
            with self._streams.counted(self._caller, address):
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                if scope["method"] != "HEAD":
                    await self._run(receive, scope.get(DIRECT_SEND, send))
                await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _run(self, receive: Receive, send: Send) -> None:
        async with asyncio.TaskGroup() as tasks:
            pump = tasks.create_task(self._pump(send))
            watch = tasks.create_task(_cancel_on_disconnect(receive, pump))
            with self._streams.entered(pump):
                await asyncio.wait((pump,))
            watch.cancel()

    async def _pump(self, send: Send) -> None:
        count = self._streams.metrics.sse_events.inc
        await send({"type": "http.response.body", "body": self._opening, "more_body": True})
        try:
            async for page in self._events:
                body = self._encode(page) if page else _PING
                await send({"type": "http.response.body", "body": body, "more_body": True})
                count(len(page))
        except StorageUnavailable:
            pass
        except Exception:  # noqa: BLE001  # the response has started, so only a clean end is left
            _log.exception("event_log_unreadable", job_id=self._job_id)


async def _cancel_on_disconnect(receive: Receive, pump: asyncio.Task[None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    pump.cancel()
