"""`stenobird.client` against the running server, also over an unreliable network."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import httpx
import pytest

from stenobird.client import (
    AsyncStenobirdClient,
    DoneEvent,
    ErrorEvent,
    Event,
    PreviewLockedEvent,
    RetryPolicy,
    StatusEvent,
    StenobirdClient,
    TranscriptEvent,
    TranscriptOptions,
)
from stenobird.errors import (
    AudioSourceNotFound,
    InvalidAPIKey,
    InvalidRequest,
    InvalidURL,
    MissingAPIKey,
    TranscriptCancelled,
)
from tests.support.free_port import free_port
from tests.support.until import async_until
from tests.support.web_world import web_settings, web_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from stenobird.client import Result
    from tests.support.web_world import WebWorld

pytestmark = pytest.mark.anyio

URL = "https://example.com/episode"
TEXTS = tuple(f" Sentence number {number}." for number in range(12))
TEXT = "".join(TEXTS)
PATIENT = RetryPolicy(max_tries=50, first_delay_seconds=0.01, max_delay_seconds=0.05)


async def log(world: WebWorld, job_id: str) -> list[tuple[int | None, str]]:
    return [(row.seq, row.event) for row in await world.store.events_after(job_id, 0)]


def seen(events: list[Event]) -> list[tuple[int | None, str]]:
    return [(event.id, event.type) for event in events]


class Cut(httpx.AsyncByteStream):
    """A body that breaks off after its first event."""

    def __init__(self, whole: httpx.AsyncByteStream) -> None:
        self._whole = whole

    async def __aiter__(self) -> AsyncIterator[bytes]:
        received = b""
        async for part in self._whole:
            received += part
            if (end := received.find(b"\n\n")) >= 0:
                yield received[: end + 2]
                raise httpx.ReadError("cut")
        yield received

    async def aclose(self) -> None:
        await self._whole.aclose()


class SyncCut(httpx.SyncByteStream):
    """`Cut` for the synchronous client."""

    def __init__(self, whole: httpx.SyncByteStream) -> None:
        self._whole = whole

    def __iter__(self) -> Iterator[bytes]:
        received = b""
        for part in self._whole:
            received += part
            if (end := received.find(b"\n\n")) >= 0:
                yield received[: end + 2]
                raise httpx.ReadError("cut")
        yield received

    def close(self) -> None:
        self._whole.close()


class CuttingTransport(httpx.AsyncHTTPTransport):
    """A network that cuts every event stream after its first event."""

    streams = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await super().handle_async_request(request)
        if request.url.path.endswith("/events"):
            self.streams += 1
            assert isinstance(response.stream, httpx.AsyncByteStream)
            response.stream = Cut(response.stream)
        return response


class SyncCuttingTransport(httpx.HTTPTransport):
    """`CuttingTransport` for the synchronous client."""

    streams = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = super().handle_request(request)
        if request.url.path.endswith("/events"):
            self.streams += 1
            assert isinstance(response.stream, httpx.SyncByteStream)
            response.stream = SyncCut(response.stream)
        return response


class BlockingTransport(httpx.AsyncHTTPTransport):
    """A proxy that blocks event streams."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return httpx.Response(200, html="<p>Your stream is being scanned.</p>")
        return await super().handle_async_request(request)


async def test_transcribe_shows_events_as_they_come_and_returns_the_text(world: WebWorld) -> None:
    events: list[Event] = []
    async with AsyncStenobirdClient(world.url) as client, asyncio.TaskGroup() as tasks:
        playing = tasks.create_task(world.worker.carry_out(*TEXTS))
        result = await client.transcribe(URL, on_event=events.append)
    assert seen(events) == await log(world, playing.result())
    assert [type(event) for event in events] == [
        StatusEvent,
        StatusEvent,
        *[TranscriptEvent] * len(TEXTS),
        PreviewLockedEvent,
        DoneEvent,
    ]
    assert "".join(event.text for event in events if isinstance(event, TranscriptEvent)) == TEXT
    assert result.text == TEXT
    assert (result.status, result.mode, result.engine) == ("preview_complete", "preview", "played")
    assert result.transcript.segments[1].text == TEXTS[1]


async def test_the_synchronous_client_does_the_same(world: WebWorld) -> None:
    events: list[Event] = []
    secret, _ = await world.keys.create()

    def transcribe() -> Result:
        with StenobirdClient(world.url, api_key=secret) as client:
            return client.transcribe(URL, on_event=events.append)

    async with asyncio.TaskGroup() as tasks:
        playing = tasks.create_task(world.worker.carry_out(*TEXTS))
        transcribing = tasks.create_task(asyncio.to_thread(transcribe))
    assert seen(events) == await log(world, playing.result())
    assert transcribing.result().text == TEXT
    assert (transcribing.result().mode, transcribing.result().billable_minutes) == ("full", 1)


async def test_a_connection_that_breaks_at_every_event_loses_and_repeats_nothing(world: WebWorld) -> None:
    transport = CuttingTransport()
    events: list[Event] = []
    async with (
        AsyncStenobirdClient(world.url, transport=transport, policy=PATIENT) as client,
        asyncio.TaskGroup() as tasks,
    ):
        playing = tasks.create_task(world.worker.carry_out(*TEXTS))
        result = await client.transcribe(URL, on_event=events.append)
    expected = await log(world, playing.result())
    assert seen(events) == expected
    assert transport.streams == len(expected)
    assert result.text == TEXT


async def test_the_synchronous_client_reconnects_at_every_event_too(world: WebWorld) -> None:
    transport = SyncCuttingTransport()

    def stream() -> list[Event]:
        with StenobirdClient(world.url, transport=transport, policy=PATIENT) as client:
            return list(client.stream(URL))

    async with asyncio.TaskGroup() as tasks:
        playing = tasks.create_task(world.worker.carry_out(*TEXTS))
        streaming = tasks.create_task(asyncio.to_thread(stream))
    expected = await log(world, playing.result())
    assert seen(streaming.result()) == expected
    assert transport.streams == len(expected)


async def test_the_client_waits_through_a_restart_of_the_service(tmp_path: Path) -> None:
    settings = web_settings(port=free_port())
    events: list[Event] = []
    async with (
        AsyncStenobirdClient(f"http://127.0.0.1:{settings.port}", policy=PATIENT) as client,
        web_world(tmp_path, settings) as world,
        aclosing(client.stream(URL)) as stream,
    ):
        events.append(await anext(stream))
        worker = world.worker
        job_id = await worker.start()
        events.append(await anext(stream))
        async with asyncio.TaskGroup() as tasks:
            following = tasks.create_task(collect(client.resume(job_id, events[-1].id or 0)))
            await world.worker.say(job_id, TEXTS[0])
            events.append(await anext(stream))
            # Both readers have an open stream now; the server shuts down.
            world.server.should_exit = True
            await world.services.shutting_down.wait()
            async with web_world(tmp_path, web_settings(port=settings.port)) as second:
                worker.store, worker.wakeups = second.store, second.worker.wakeups
                await worker.say(job_id, *TEXTS[1:])
                await worker.complete(job_id)
                events += [event async for event in stream]
                await following
                expected = await log(second, job_id)
    assert seen(events) == expected
    assert seen(following.result()) == expected[2:]


async def collect(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


async def test_the_client_polls_when_streams_are_blocked(world: WebWorld) -> None:
    events: list[Event] = []
    waits: list[float] = []

    async def wait(seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    async with (
        AsyncStenobirdClient(world.url, transport=BlockingTransport(), sleep=wait) as client,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(world.worker.carry_out(*TEXTS))
        result = await client.transcribe(URL, on_event=events.append)
    assert result.text == TEXT
    assert "".join(event.text for event in events if isinstance(event, TranscriptEvent)) == TEXT
    assert isinstance(events[-1], DoneEvent)
    assert all(seconds == 2 for seconds in waits[2:])


async def test_a_failed_job_raises_its_error(world: WebWorld) -> None:
    async def fail() -> None:
        await world.worker.fail(await world.worker.start_next(), AudioSourceNotFound("Nothing was found."))

    async with AsyncStenobirdClient(world.url) as client:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            with pytest.raises(AudioSourceNotFound, match=r"^Nothing was found\.$"):
                await client.transcribe(URL)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            events = await collect(client.stream(URL))
    assert isinstance(events[-2], ErrorEvent)
    assert isinstance(events[-2].error, AudioSourceNotFound)
    assert isinstance(events[-1], DoneEvent)


async def test_refusals_raise_the_error_of_their_code(world: WebWorld) -> None:
    async with AsyncStenobirdClient(world.url) as client:
        with pytest.raises(InvalidURL):
            await client.transcribe("ftp://example.com")
    async with AsyncStenobirdClient(world.url, api_key="sb_live_wrong") as client:
        with pytest.raises(InvalidAPIKey):
            await client.transcribe(URL)


async def test_the_client_waits_for_a_full_queue(tmp_path: Path) -> None:
    async with web_world(tmp_path, web_settings(max_queued=1)) as world:
        waits: list[float] = []

        async def make_room(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 3:
                await world.worker.carry_out("First.")

        async with AsyncStenobirdClient(world.url, sleep=make_room) as client:
            await client.create(URL)
            second = await client.create(URL)
        assert second.status == "queued"
        assert len(waits) == 3
        assert all(seconds >= 1 for seconds in waits)


async def test_names_of_speakers_are_in_the_result_and_its_documents(tmp_path: Path) -> None:
    async with web_world(tmp_path, web_settings(speaker_model="auto")) as world:
        secret, _ = await world.keys.create()
        async with AsyncStenobirdClient(world.url, api_key=secret) as client:
            job = await client.create(URL, TranscriptOptions(speakers=True))
            await world.worker.carry_out("One.", " Two.")
            named = await client.name_speakers(job.id, {"Speaker 1": "Ada"})
            assert named.body["speaker_names"] == {"Speaker 1": "Ada"}
            result = (await client.result(job.id)).transcript
            assert [segment.speaker for segment in result.segments] == ["Speaker 1", "Speaker 2"]
            assert result.speaker_names == {"Speaker 1": "Ada"}
            assert await client.document(job.id, "txt") == b"Ada: One.\n\nSpeaker 2: Two.\n"
            with pytest.raises(InvalidRequest, match="Speaker 9"):
                await client.name_speakers(job.id, {"Speaker 9": "Ada"})
        async with AsyncStenobirdClient(world.url) as stranger:
            with pytest.raises(MissingAPIKey):
                await stranger.name_speakers(job.id, {"Speaker 1": "Eve"})


async def test_resume_status_document_and_cancel(world: WebWorld) -> None:
    async with AsyncStenobirdClient(world.url) as client:
        job = await client.create(URL, TranscriptOptions(language="en", word_timestamps=True))
        await world.worker.carry_out("One.", " Two.")
        assert [event.id for event in await collect(client.resume(job.id, 3))] == [4, 5, 6]
        assert await collect(client.resume(job.id, 6)) == []
        assert (await client.status(job.id)).result_ready
        assert b"00:00:01,000 --> 00:00:02,000\nTwo.\n" in await client.document(job.id, "srt")
        assert await client.cancel(job.id) is None
        running = await client.create(URL)
        cancelled = await client.cancel(running.id)
        assert cancelled is not None
        assert cancelled.status == "cancelled"
        with pytest.raises(TranscriptCancelled):
            await client.result(running.id)


async def test_live_audio_is_stopped_and_its_gaps_and_titles_are_typed(world: WebWorld) -> None:
    async with AsyncStenobirdClient(world.url) as service:
        job = await service.create(URL, TranscriptOptions(max_minutes=5))
        await world.worker.start()
        await world.worker.go_live(job.id)
        await world.worker.play(job.id, "News at Nine")
        await world.worker.say(job.id, "On air.")
        await world.worker.miss(job.id, 6.25)
        stopped = await service.stop(job.id)
        assert (stopped.terminal, stopped.body["stop_requested"]) == (False, True)
        await world.worker.complete(job.id)
        events = [event async for event in service.resume(job.id)]
    stages = {event.stage: event for event in events if isinstance(event, StatusEvent)}
    assert stages["transcribing"].live
    assert stages["now_playing"].title == "News at Nine"
    gap = stages["stream_gap"]
    assert (gap.start, gap.seconds, gap.reason) == (1.0, 6.25, "disconnected")


async def test_leaving_a_stream_early_closes_its_connection(world: WebWorld) -> None:
    async with AsyncStenobirdClient(world.url) as client:
        async with aclosing(client.stream(URL)) as events:
            await anext(events)
        registry = world.services.metrics.registry
        await async_until(lambda: not registry.get_sample_value("stenobird_sse_readers"))
