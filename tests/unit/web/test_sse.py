"""The event stream response without a server: every way a stream can end, and the bytes of a frame."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from httpx_sse._decoders import SSEDecoder, SSELineDecoder
from hypothesis import given
from hypothesis import strategies as st

from stenobird.errors import InvalidRequest
from stenobird.ports import EventRow
from stenobird.web.probes import Metrics
from stenobird.web.sse import EventStreamResponse, OpenStreams, encode_event, parse_event_id

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Message, Scope

    from stenobird.jobs.tail import Page

SCOPE: Scope = {"type": "http", "method": "GET", "headers": []}


@given(st.integers(1, 10**9), st.sampled_from(["status", "transcript", "done"]), st.text())
def test_an_independent_parser_reads_back_what_was_encoded(seq: int, event: str, data: str) -> None:
    lines, decoder = SSELineDecoder(), SSEDecoder()
    text = encode_event(EventRow(seq, event, data)).decode()
    [read] = [found for line in lines.decode(text) if (found := decoder.decode(line)) is not None]
    assert (read.id, read.event) == (str(seq), event)
    assert read.data == data.replace("\r\n", "\n").replace("\r", "\n")


def test_the_frame_of_an_event() -> None:
    assert encode_event(EventRow(7, "done", '{"id":"tr_1"}')) == (
        b'event: done\ndata: {"id":"tr_1"}\nid: 7\n\n'
    )


@pytest.mark.parametrize(("text", "value"), [("", 0), ("0", 0), ("17", 17), ("007", 7)])
def test_an_event_id_is_a_whole_number(text: str, value: int) -> None:
    assert parse_event_id(text) == value


@pytest.mark.parametrize("text", ["-1", "+1", " 1", "1e3", "²", "\u0661", "one", "1" * 16])
def test_any_other_event_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_event_id(text)


class Reader:
    """The ASGI side of a reader: receives messages, and disconnects or stalls on demand."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.left = asyncio.Event()
        self.taken = asyncio.Condition()
        self.stalled = asyncio.Event()
        self.stalled.set()

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.stalled.wait()
        self.messages.append(message)
        async with self.taken:
            self.taken.notify_all()

    async def has_taken(self, count: int) -> None:
        async with self.taken:
            await self.taken.wait_for(lambda: len(self.messages) >= count)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    @property
    def finished(self) -> bool:
        return self.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


class Events:
    """Two events, then what `then` does; records how it was closed."""

    def __init__(self, then: Any = None) -> None:
        self.then = then
        self.closed = False

    async def stream(self) -> AsyncGenerator[Page, None]:
        try:
            yield (EventRow(1, "status", "{}"),)
            yield (EventRow(2, "status", "{}"),)
            if self.then is not None:
                await self.then()
        finally:
            self.closed = True


async def for_ever() -> None:
    await asyncio.Event().wait()


@pytest.mark.anyio
class TestEnds:
    async def test_the_job_ends(self) -> None:
        reader, events, streams = Reader(), Events(), OpenStreams(Metrics())
        await EventStreamResponse("tr_1", events.stream(), streams)(SCOPE, reader.receive, reader.send)
        assert reader.body.count(b"event: ") == 2
        assert reader.finished
        assert events.closed
        assert len(streams) == 0

    async def test_the_reader_leaves(self) -> None:
        reader, events, streams = Reader(), Events(for_ever), OpenStreams(Metrics())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                EventStreamResponse("tr_1", events.stream(), streams)(SCOPE, reader.receive, reader.send)
            )
            await reader.has_taken(4)
            assert len(streams) == 1
            reader.left.set()
        assert events.closed
        assert len(streams) == 0

    async def test_the_server_stops(self) -> None:
        reader, events, streams = Reader(), Events(for_ever), OpenStreams(Metrics())
        shutting_down = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(streams.end_all_when(shutting_down))
            tasks.create_task(
                EventStreamResponse("tr_1", events.stream(), streams)(SCOPE, reader.receive, reader.send)
            )
            await reader.has_taken(4)
            shutting_down.set()
        assert events.closed
        assert reader.finished

    async def test_the_server_stops_while_the_reader_stalls(self) -> None:
        reader, events, streams = Reader(), Events(for_ever), OpenStreams(Metrics())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(
                EventStreamResponse("tr_1", events.stream(), streams)(SCOPE, reader.receive, reader.send)
            )
            await reader.has_taken(2)
            reader.stalled.clear()
            await asyncio.sleep(0)
            streams.end_all()
            await asyncio.sleep(0)
            reader.stalled.set()
        assert events.closed
        assert reader.finished

    async def test_the_request_is_cancelled(self) -> None:
        reader, events, streams = Reader(), Events(for_ever), OpenStreams(Metrics())
        async with asyncio.TaskGroup() as tasks:
            request = tasks.create_task(
                EventStreamResponse("tr_1", events.stream(), streams)(SCOPE, reader.receive, reader.send)
            )
            await reader.has_taken(4)
            request.cancel()
        assert events.closed
        assert len(streams) == 0

    async def test_the_log_breaks(self) -> None:
        async def break_down() -> None:
            raise ConnectionError

        reader, events, streams = Reader(), Events(break_down), OpenStreams(Metrics())
        await EventStreamResponse("tr_1", events.stream(), streams)(SCOPE, reader.receive, reader.send)
        assert reader.body.count(b"event: ") == 2
        assert reader.finished

    async def test_a_stream_opened_after_the_end_of_all_sends_nothing(self) -> None:
        reader, events, streams = Reader(), Events(for_ever), OpenStreams(Metrics())
        streams.end_all()
        await EventStreamResponse("tr_1", events.stream(), streams)(SCOPE, reader.receive, reader.send)
        assert b"event: " not in reader.body
        assert reader.finished

    async def test_head_sends_no_body_and_reads_nothing(self) -> None:
        reader, events, streams = Reader(), Events(for_ever), OpenStreams(Metrics())
        scope = {**SCOPE, "method": "HEAD"}
        await EventStreamResponse("tr_1", events.stream(), streams)(scope, reader.receive, reader.send)
        assert reader.body == b""
        assert len(reader.messages) == 2
