"""Server-Sent Events over raw ASGI: one pre-encoded frame an event, and every way a stream can end.

    the job ends        the iterator stops after `done`           the body is finished
    the reader leaves   `http.disconnect` cancels the pump        the iterator is closed
    the reader stalls   the server aborts the connection after    then as if it had left
                        `send_timeout_seconds` (see server.py)
    the server stops    `OpenStreams.end_all` cancels the pump    the body is finished; readers resume by id
    the log can't be    the failure is logged                     the body is finished; readers resume by id
    read any more

Why not sse-starlette: docs/decisions/0004-own-sse-responder.md.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING

import structlog
from starlette.responses import Response

from stenobird.errors import InvalidRequest
from stenobird.web.middleware import DIRECT_SEND

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from starlette.types import Receive, Scope, Send

    from stenobird.ports import EventRow
    from stenobird.web.metrics import Metrics

RETRY_MILLISECONDS = 2000
"""How long a browser waits before it reconnects."""

# A comment, or a `retry` field, ends with its line. An empty line after it would make some parsers dispatch
# an empty event, since they look at the last id and not at the data.
_OPENING = b"retry: %d\n" % RETRY_MILLISECONDS
_PING = b": ping\n"

_log = structlog.get_logger("stenobird.web.sse")


def encode_event(row: EventRow) -> bytes:
    """Return the frame of an event: `id`, `event`, and `data` as it was committed, line by line."""
    data = row.data
    if "\n" in data or "\r" in data:
        data = "\ndata: ".join(data.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    return f"id: {row.seq}\nevent: {row.event}\ndata: {data}\n\n".encode()


def parse_event_id(value: str) -> int:
    """Return the sequence number that a reader says it has seen; an empty id means none.

    Raises `InvalidRequest` for anything that isn't an id of ours.
    """
    if value == "":
        return 0
    if not (value.isascii() and value.isdigit() and len(value) <= 15):
        raise InvalidRequest(
            "Last-Event-ID must be the id of an event of this transcript, a whole number. "
            "Leave it out to read from the start."
        )
    return int(value)


class OpenStreams:
    """The streams of this process that are open now, so that a shutdown can end them all."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self._pumps: set[asyncio.Task[None]] = set()
        self._ended = False

    def __len__(self) -> int:
        return len(self._pumps)

    @contextmanager
    def entered(self, pump: asyncio.Task[None]) -> Iterator[None]:
        """Count a stream for as long as the context lasts; it ends at once if all were told to end."""
        self._pumps.add(pump)
        self.metrics.sse_readers.inc()
        if self._ended:
            pump.cancel()
        try:
            yield
        finally:
            self._pumps.discard(pump)
            self.metrics.sse_readers.dec()

    def end_all(self) -> None:
        """End every open stream between two frames, and every one that opens later."""
        self._ended = True
        for pump in self._pumps:
            pump.cancel()

    async def end_all_when(self, shutting_down: asyncio.Event) -> None:
        """Wait for the event, then `end_all`."""
        await shutting_down.wait()
        self.end_all()


class EventStreamResponse(Response):
    """Sends events as they come. It owns the iterator and closes it, however the stream ends.

    Memory is bounded by one frame: the next event is asked for when the last one has been taken by the
    connection.
    """

    media_type = "text/event-stream"
    opening = _OPENING

    def __init__(self, events: AsyncGenerator[EventRow | None, None], streams: OpenStreams) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._events = events
        self._streams = streams

    def frame(self, row: EventRow) -> bytes:
        """Return the bytes of an event; none where this dialect has none for it."""
        return encode_event(row)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the stream until it ends in one of the ways above."""
        async with aclosing(self._events):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if scope["method"] != "HEAD":
                await self._run(receive, scope.get(DIRECT_SEND, send))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _run(self, receive: Receive, send: Send) -> None:
        async with asyncio.TaskGroup() as tasks:
            pump = tasks.create_task(self._pump(send))
            watch = tasks.create_task(_cancel_when_gone(receive, pump))
            with self._streams.entered(pump):
                await asyncio.wait((pump,))
            watch.cancel()

    async def _pump(self, send: Send) -> None:
        count = self._streams.metrics.sse_events.inc
        await send({"type": "http.response.body", "body": self.opening, "more_body": True})
        try:
            async for row in self._events:
                if row is None:
                    await send({"type": "http.response.body", "body": _PING, "more_body": True})
                else:
                    await send({"type": "http.response.body", "body": self.frame(row), "more_body": True})
                    count()
        except Exception:  # noqa: BLE001  # the head is sent: all that is left is a clean end
            _log.exception("The event log could not be read; the reader will reconnect.")


async def _cancel_when_gone(receive: Receive, pump: asyncio.Task[None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    pump.cancel()
