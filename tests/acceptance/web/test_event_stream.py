"""`/events` over real sockets: reading a stream, disconnecting, and resuming."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import httpx
import pytest
from httpx_sse import EventSource

from stenobird.errors import StorageUnavailable, TranscriptionFailed
from stenobird.ports import EventRow
from stenobird.web.app import create_app
from stenobird.web.server import BoundedHTTPProtocol, WebServer, running
from stenobird.web.sse import OpenStreams
from tests.support.until import async_until
from tests.support.web_world import (
    MeasuredStreams,
    measured_world,
    open_world_services,
    web_settings,
    web_world,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from starlette.types import Scope

    from stenobird.jobs.tail import Page, Take
    from tests.support.web_world import WebWorld

pytestmark = pytest.mark.anyio

Seen = tuple[int, str, str]
NARROW_BYTES = 4096
"""What a narrow connection receives before it is read."""


async def create(world: WebWorld, http: httpx.AsyncClient) -> str:
    answer = await http.post("/v1/transcripts", json={"audio_url": "https://example.com/a.mp3"})
    job_id: str = answer.json()["id"]
    assert await world.worker.start() == job_id
    return job_id


@asynccontextmanager
async def events(
    http: httpx.AsyncClient, job_id: str, after: int | None = None
) -> AsyncIterator[AsyncGenerator[Seen, None]]:
    """Open a stream and yield its events, parsed by an independent SSE parser."""
    headers = {} if after is None else {"Last-Event-ID": str(after)}
    async with http.stream("GET", f"/v1/transcripts/{job_id}/events", headers=headers) as response:
        assert response.status_code == 200

        async def read() -> AsyncGenerator[Seen, None]:
            async with aclosing(EventSource(response).aiter_sse()) as source:
                async for event in source:
                    yield (int(event.id), event.event, event.data)

        async with aclosing(read()) as seen:
            yield seen


async def committed(world: WebWorld, job_id: str) -> list[Seen]:
    return [(row.seq, row.event, row.data) for row in await world.store.events_after(job_id, 0)]


async def test_events_come_as_they_are_committed(world: WebWorld, http: httpx.AsyncClient) -> None:
    job_id = await create(world, http)
    async with events(http, job_id) as stream:
        assert [(await anext(stream))[:2], (await anext(stream))[:2]] == [(1, "status"), (2, "status")]
        for number, text in enumerate(("Hello.", " More.", " And more.")):
            await world.worker.say(job_id, text)
            assert (await anext(stream))[:2] == (3 + number, "transcript")
        await world.worker.complete(job_id)
        assert [event async for _, event, _ in stream] == ["preview_locked", "done"]


async def test_an_idle_connection_gets_events_without_its_task(
    world: WebWorld, http: httpx.AsyncClient
) -> None:
    streams = world.streams
    taken: list[bool] = []

    def taker(scope: Scope) -> Take:
        take = OpenStreams.taker(streams, scope)

        def watched(page: Page) -> bool:
            taken.append(take(page))
            return taken[-1]

        return watched

    streams.taker = taker  # type: ignore[method-assign]
    job_id = await create(world, http)
    async with events(http, job_id) as stream:
        seen = [await anext(stream), await anext(stream)]
        for text in ("Hello.", " More.", " And more."):
            await world.worker.say(job_id, text)
            seen.append(await anext(stream))
    assert seen == await committed(world, job_id)
    # The first page may have been there before the reader waited.
    assert taken[-3:] == [True] * 3


async def test_the_frames_are_event_data_id(world: WebWorld, http: httpx.AsyncClient) -> None:
    job_id = await create(world, http)
    await world.worker.say(job_id, "Zwei Wörter\u2028und שלום.")
    await world.worker.complete(job_id)
    answer = await http.get(f"/v1/transcripts/{job_id}/events")
    rows = await committed(world, job_id)
    assert answer.text == "retry: 2000\n" + "".join(
        f"event: {event}\ndata: {data}\nid: {seq}\n\n" for seq, event, data in rows
    )
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-accel-buffering"] == "no"


async def test_a_reader_that_reconnects_after_every_event_misses_nothing(
    world: WebWorld, http: httpx.AsyncClient
) -> None:
    job_id = await create(world, http)

    async def restless() -> list[Seen]:
        seen: list[Seen] = []
        while not seen or seen[-1][1] != "done":
            async with events(http, job_id, seen[-1][0] if seen else None) as stream:
                seen.append(await anext(stream))
        return seen

    async def steady() -> list[Seen]:
        async with events(http, job_id) as stream:
            return [event async for event in stream]

    async with asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(restless()), tasks.create_task(steady()), tasks.create_task(restless())]
        await world.worker.say(job_id, *(f" Sentence {number}." for number in range(20)))
        await world.worker.complete(job_id)
    log = await committed(world, job_id)
    assert [seq for seq, _, _ in log] == list(range(1, 25))
    assert [reader.result() for reader in readers] == [log] * 3


async def test_after_the_last_event_the_response_is_204(world: WebWorld, http: httpx.AsyncClient) -> None:
    job_id = await create(world, http)
    await world.worker.complete(job_id)
    last = (await committed(world, job_id))[-1][0]
    answer = await http.get(f"/v1/transcripts/{job_id}/events", headers={"Last-Event-ID": str(last)})
    assert (answer.status_code, answer.content) == (204, b"")


async def test_last_event_id_as_a_parameter_yields_to_the_header(
    world: WebWorld, http: httpx.AsyncClient
) -> None:
    job_id = await create(world, http)
    await world.worker.complete(job_id)
    log = await committed(world, job_id)
    url = f"/v1/transcripts/{job_id}/events"
    for query, headers, first in (
        ("?after=1", {}, 2),
        ("?last_event_id=2", {}, 3),
        ("?after=1", {"Last-Event-ID": "3"}, 4),
        ("", {"Last-Event-ID": ""}, 1),
        ("", {"Last-Event-ID": "0"}, 1),
    ):
        answer = await http.get(url + query, headers=headers)
        assert answer.text.split("\n")[3] == f"id: {first}"
        assert answer.text.count("\nevent: ") == len(log) - first + 1


async def test_an_invalid_event_id_is_refused(
    world: WebWorld, http: httpx.AsyncClient, subtests: pytest.Subtests
) -> None:
    url = f"/v1/transcripts/{await create(world, http)}/events"
    for wrong in ("-1", "1.5", "abc", "\u0663", "9" * 30, "0x1", "1 2", "99"):
        with subtests.test(wrong=wrong):
            for answer in (
                await http.get(url, headers=[(b"Last-Event-ID", wrong.encode())]),
                await http.get(url, params={"after": wrong}),
            ):
                assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
                assert "Last-Event-ID" in answer.json()["message"]


async def test_a_failed_job_ends_with_error_and_done(world: WebWorld, http: httpx.AsyncClient) -> None:
    job_id = await create(world, http)
    async with events(http, job_id, 2) as stream:
        await world.worker.fail(job_id, TranscriptionFailed())
        seen = [event async for _, event, _ in stream]
    assert seen == ["error", "done"]


async def test_a_deleted_job_ends_its_streams(world: WebWorld, http: httpx.AsyncClient) -> None:
    job_id = await create(world, http)
    async with events(http, job_id) as stream:
        await anext(stream)
        await http.delete(f"/v1/transcripts/{job_id}")
        await world.worker.end_cancelled(job_id)
        assert [event async for _, event, _ in stream] == ["status", "done"]


# --- streams made to measure --------------------------------------------------------------------------------


class Quiet(MeasuredStreams):
    """One event, then nothing forever."""

    async def items(self, after: int) -> AsyncGenerator[EventRow | None, None]:
        yield EventRow(after + 1, "status", "{}")
        await asyncio.Event().wait()


class Pinging(MeasuredStreams):
    """Pings between two events."""

    async def items(self, after: int) -> AsyncGenerator[EventRow | None, None]:
        yield EventRow(after + 1, "status", '{"n":1}')
        for _ in range(3):
            yield None
        yield EventRow(after + 2, "done", '{"n":2}')


class Endless(MeasuredStreams):
    """Large events, as fast as they are read."""

    data = '"' + "x" * 50_000 + '"'

    async def items(self, after: int) -> AsyncGenerator[EventRow | None, None]:
        for seq in count(after + 1):
            yield EventRow(seq, "transcript", self.data)
            await asyncio.sleep(0)


async def read_to_the_end(connection: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(connection, 65536):
        pass


class Broken(MeasuredStreams):
    """An event, then a log that can't be read."""

    async def items(self, after: int) -> AsyncGenerator[EventRow | None, None]:
        yield EventRow(after + 1, "status", "{}")
        raise StorageUnavailable


async def test_pings_are_not_events() -> None:
    async with measured_world(Pinging()) as (url, services), httpx.AsyncClient(base_url=url) as http:
        async with events(http, MeasuredStreams.job_id) as stream:
            assert [seen async for seen in stream] == [(1, "status", '{"n":1}'), (2, "done", '{"n":2}')]
        text = (await http.get(f"/v1/transcripts/{MeasuredStreams.job_id}/events")).text
        assert text.count(": ping\n") == 3
        assert services.metrics.registry.get_sample_value("stenobird_sse_events_total") == 4


async def test_a_silent_job_is_pinged(tmp_path: Path) -> None:
    async with (
        web_world(tmp_path, web_settings(sse_ping_seconds=0.05)) as world,
        httpx.AsyncClient(base_url=world.url) as http,
    ):
        job_id = await create(world, http)
        async with http.stream("GET", f"/v1/transcripts/{job_id}/events?after=2") as response:
            received = ""
            async for text in response.aiter_text():
                received += text
                if received.count(": ping\n") == 3:
                    break
    assert received == "retry: 2000\n: ping\n: ping\n: ping\n"


async def test_a_reader_that_disconnects_ends_its_stream_at_once() -> None:
    jobs = Quiet()
    async with measured_world(jobs) as (url, services), httpx.AsyncClient(base_url=url) as http:
        async with events(http, jobs.job_id) as stream:
            await anext(stream)
            assert jobs.open == 1
            assert services.metrics.registry.get_sample_value("stenobird_sse_readers") == 1
        await jobs.wait_until_open(0)
    assert services.metrics.registry.get_sample_value("stenobird_sse_readers") == 0


@asynccontextmanager
async def narrow_connection(url: str, job_id: str) -> AsyncIterator[socket.socket]:
    """Request a stream over a connection with a receive buffer of a few kilobytes."""
    host, _, port = url.removeprefix("http://").partition(":")
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
        connection.setblocking(False)  # noqa: FBT003  # positional only
        await loop.sock_connect(connection, (host, int(port)))
        request = f"GET /v1/transcripts/{job_id}/events HTTP/1.1\r\nHost: x\r\n\r\n"
        await loop.sock_sendall(connection, request.encode())
        yield connection


async def test_a_stalled_reader_is_dropped_and_uses_bounded_memory() -> None:
    jobs = Endless()
    settings = web_settings(send_timeout_seconds=0.5)
    async with measured_world(jobs, settings) as (url, _), narrow_connection(url, jobs.job_id) as stalled:
        await jobs.wait_until_open(1)
        await jobs.wait_until_open(0)
        # What was sent fits into the kernel's two socket buffers, a few megabytes; no queue grew.
        assert jobs.taken * len(jobs.data) < 16 * 2**20
        with pytest.raises(ConnectionResetError):
            await read_to_the_end(stalled)


async def test_a_slow_reader_is_not_dropped_while_it_reads() -> None:
    jobs = Endless()
    async with open_world_services(web_settings(send_timeout_seconds=3600.0)) as opened:
        server = WebServer(create_app(replace(opened, jobs=jobs)), opened.settings, opened.shutting_down)
        async with running(server) as url, narrow_connection(url, jobs.job_id) as slow:
            taken: list[int] = []

            # When the kernel's buffers are full, the server waits for the reader.
            def at_rest() -> bool:
                taken.append(jobs.taken)
                return taken[-5:] == [jobs.taken] * 5

            await async_until(at_rest)
            [protocol] = server.server_state.connections
            assert isinstance(protocol, BoundedHTTPProtocol)
            for _ in range(5):
                await read(slow, 5 * NARROW_BYTES)
                pass_timeout(protocol)
            await asyncio.sleep(0)
            assert jobs.open == 1

            # One that does not read between two timeouts is dropped.
            pass_timeout(protocol)
            await jobs.wait_until_open(0)


def pass_timeout(protocol: BoundedHTTPProtocol) -> None:
    """Let the time pass for which the server waits for a reader."""
    assert protocol._stall_timer is not None
    protocol._stall_timer._run()


async def read(connection: socket.socket, size: int) -> None:
    """Read so many bytes, or a few more."""
    while size > 0:
        received = await asyncio.get_running_loop().sock_recv(connection, NARROW_BYTES)
        assert received != b""
        size -= len(received)


async def test_an_unreadable_log_ends_the_stream_cleanly_for_a_retry() -> None:
    async with measured_world(Broken()) as (url, _), httpx.AsyncClient(base_url=url) as http:
        for after in (0, 1, 2):
            async with events(http, MeasuredStreams.job_id, after) as stream:
                assert [seen async for seen in stream] == [(after + 1, "status", "{}")]


async def test_shutdown_ends_the_streams_and_readers_resume_elsewhere(tmp_path: Path) -> None:
    seen: list[Seen] = []
    async with web_world(tmp_path) as world, httpx.AsyncClient(base_url=world.url) as http:
        job_id = await create(world, http)
        async with events(http, job_id) as stream:
            seen += [await anext(stream), await anext(stream)]
            world.server.should_exit = True
            seen += [event async for event in stream]
        lease = world.worker
    async with web_world(tmp_path) as world, httpx.AsyncClient(base_url=world.url) as http:
        lease.store, lease.wakeups = world.store, world.worker.wakeups
        await lease.say(job_id, "After the restart.")
        await lease.complete(job_id)
        async with events(http, job_id, seen[-1][0]) as stream:
            seen += [event async for event in stream]
        assert seen == await committed(world, job_id)


async def test_a_stream_that_opens_during_shutdown_ends_at_once() -> None:
    jobs = Quiet()
    async with measured_world(jobs) as (url, services), httpx.AsyncClient(base_url=url) as http:
        services.shutting_down.set()
        async with events(http, jobs.job_id) as stream:
            assert len([seen async for seen in stream]) <= 1


class Broadcast(MeasuredStreams):
    """Waits for the start signal, then sends ten events."""

    def __init__(self) -> None:
        super().__init__()
        self.gun = asyncio.Event()

    async def items(self, after: int) -> AsyncGenerator[EventRow | None, None]:
        await self.gun.wait()
        for seq in range(after + 1, after + 11):
            yield EventRow(seq, "transcript", f'{{"text":"word {seq}"}}')


async def test_a_thousand_readers_get_every_event() -> None:
    jobs = Broadcast()
    readers = 1000
    async with measured_world(jobs, web_settings(streams_per_address=readers)) as (url, _):
        host, _, port = url.removeprefix("http://").partition(":")
        request = (
            f"GET /v1/transcripts/{jobs.job_id}/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ).encode()
        opened = asyncio.Semaphore(100)

        async def read() -> bytes:
            async with opened:
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(request)
                await reader.readuntil(b"\r\n\r\n")
            body = await reader.read()
            writer.close()
            return body

        async with asyncio.TaskGroup() as tasks:
            reading = [tasks.create_task(read()) for _ in range(readers)]
            await jobs.wait_until_open(readers)
            jobs.gun.set()
        bodies = {task.result() for task in reading}
    assert len(bodies) == 1
    assert bodies.pop().count(b"event: transcript\n") == 10


class LongReplay(MeasuredStreams):
    """A long log, which is read without waiting for anything."""

    async def items(self, after: int) -> AsyncGenerator[EventRow | None, None]:
        for seq in range(after + 1, 20_000):
            yield EventRow(seq, "transcript", '{"text":"word"}')
            if seq % 200 == 0:
                await asyncio.sleep(0)


async def test_readers_that_leave_during_a_replay_leave_no_warnings(caplog: pytest.LogCaptureFixture) -> None:
    jobs = LongReplay()
    async with measured_world(jobs) as (url, _):
        host, _, port = url.removeprefix("http://").rpartition(":")
        for _ in range(5):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /v1/transcripts/tr_measured/events HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"id: 100\n")
            # Close with a reset, as a client does that was killed.
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            await jobs.wait_until_open(0)
    assert [record.message for record in caplog.records if record.name == "asyncio"] == []
