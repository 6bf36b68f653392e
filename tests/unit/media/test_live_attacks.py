"""Stations that send next to nothing, and stations that send without end: time and memory are bounded."""

from __future__ import annotations

import asyncio
import tracemalloc
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpcore
import pytest

from stenobird.egress.policy import PublicURL
from stenobird.egress.response import EgressResponse
from stenobird.errors import AudioUnreachable, JobError, TranscriptionFailed
from stenobird.media.live import SILENT_SECONDS
from stenobird.media.opener import MediaOpener
from stenobird.media.spool import SpoolFolder
from stenobird.media.station import STATION_LIMITS
from stenobird.ports import SAMPLE_RATE, Gap, Title
from tests.support.media_world import QuickClock, limits_of
from tests.support.raw_server import open_server
from tests.support.until import async_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from pathlib import Path

    from anyio.abc import SocketStream

    from stenobird.egress.client import RequestOptions
    from stenobird.media.live import LiveStream
    from tests.support.media_world import MediaWorld
    from tests.support.raw_server import RawRequest

pytestmark = pytest.mark.anyio

AUDIO_SECONDS = 12.0


# --- next to nothing ----------------------------------------------------------------------------------------


@dataclass
class SlowWire:
    """A client whose server is in memory. Time passes only while a response waits for that server.

    After `audio`, which the first connection has, one byte comes each `seconds_per_byte`, or nothing.
    """

    clock: QuickClock
    audio: bytes
    seconds_per_byte: float | None
    icy: bool
    connections: int = 0
    bodies_open: int = 0
    stream: LiveStream | None = None

    async def open(self, url: str, options: RequestOptions) -> EgressResponse:
        self.connections += 1
        headers = [(b"icy-name", b"A station")] if self.icy else [(b"transfer-encoding", b"chunked")]
        return EgressResponse(
            httpcore.Response(
                200, headers=headers, content=self.body(self.audio if self.connections == 1 else b"")
            ),
            PublicURL("http", urlsplit(url).hostname or "", 80, "/live"),
            redirects=(),
            byte_range=None,
            # How long nothing may come is a limit in real time.
            limits=replace(options.limits, idle_seconds=0.01),
            deadline=None,
            monotonic=self.clock.monotonic,
        )

    async def body(self, audio: bytes) -> AsyncGenerator[bytes]:
        self.bodies_open += 1
        try:
            if audio:
                yield audio
                await async_until(self.decoded)
            while self.seconds_per_byte is not None:
                await self.clock.sleep(self.seconds_per_byte)
                yield b"\xff"
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await self.clock.sleep(STATION_LIMITS.idle_seconds)
            raise
        finally:
            self.bodies_open -= 1

    def decoded(self) -> bool:
        assert self.stream is not None
        return self.stream._received >= (AUDIO_SECONDS - 1) * SAMPLE_RATE


async def hear(wire: SlowWire, folder: Path, world: MediaWorld) -> tuple[float, str | None]:
    """Return the seconds of audio, and the warning at the end."""
    request = world.request(
        "http://radio.example/live", replace(limits_of(), live_samples=3600 * SAMPLE_RATE)
    )
    request = replace(request, source=replace(request.source, live=True))
    opener = MediaOpener(wire, SpoolFolder(folder, quota_bytes=1 << 30), wire.clock)  # type: ignore[arg-type]
    samples = 0
    async with opener.open(request) as stream:
        wire.stream = stream  # type: ignore[assignment]
        async for item in stream:
            if not isinstance(item, Gap | Title):
                samples += len(item)
        return samples / SAMPLE_RATE, stream.warning


@pytest.mark.parametrize("icy", [True, False], ids=["a station", "endless audio"])
@pytest.mark.parametrize("seconds_per_byte", [1.0, None], ids=["a byte a second", "silence"])
async def test_a_connection_that_gives_no_audio_from_the_start_fails_within_two_minutes(
    world: MediaWorld, tmp_path: Path, seconds_per_byte: float | None, *, icy: bool
) -> None:
    wire = SlowWire(QuickClock(), b"", seconds_per_byte, icy)
    with pytest.raises((AudioUnreachable, TranscriptionFailed)) as failure:
        await hear(wire, tmp_path / "spools", world)
    assert "Try again later" in str(failure.value) or "no audio for 30 s" in str(failure.value)
    assert wire.clock.monotonic() < 120
    assert (wire.connections <= 4, wire.bodies_open) == (True, 0)


@pytest.mark.parametrize("seconds_per_byte", [1.0, None], ids=["a byte a second", "silence"])
async def test_a_stream_that_stops_giving_audio_ends_the_transcript(
    world: MediaWorld, tmp_path: Path, audio: Callable[..., bytes], seconds_per_byte: float | None
) -> None:
    wire = SlowWire(QuickClock(), audio("mp3", seconds=AUDIO_SECONDS), seconds_per_byte, icy=True)
    seconds, warning = await hear(wire, tmp_path / "spools", world)
    assert seconds == pytest.approx(AUDIO_SECONDS, abs=0.2)
    assert warning is not None
    assert "no audio for 5 minutes" in warning
    assert 300 <= wire.clock.monotonic() < 400
    assert (wire.connections <= 20, wire.bodies_open) == (True, 0)


# --- without end --------------------------------------------------------------------------------------------

MAX_PEAK_BYTES = 12 * 1024 * 1024
"""Of what Python has allocated at once: a segment or a playlist, twice, and the window of the feed."""
PIECE = 64 * 1024
SECONDS_PER_PIECE = 0.1
MAX_SENT_BYTES = 2 * PIECE * SILENT_SECONDS / SECONDS_PER_PIECE
"""What may be received until a connection without audio is given up."""


@asynccontextmanager
async def attacker(
    world: MediaWorld, head: bytes, endless: bytes, titled: bytes = b""
) -> AsyncIterator[tuple[str, list[int]]]:
    """Yield a URL whose answer is `head`, then `endless` again and again, and how much each one has sent."""
    sent: list[int] = []
    piece = endless * (PIECE // len(endless))

    async def attack(_request: RawRequest, stream: SocketStream) -> None:
        sent.append(0)
        await stream.send(head)
        while True:
            await stream.send(piece)
            sent[-1] += len(piece)
            await world.clock.sleep(SECONDS_PER_PIECE)

    async with open_server(attack) as server:
        yield server.url("/live"), sent


async def peak_of(world: MediaWorld, url: str, *, seconds: float, kind: Any = "file") -> tuple[int, float]:
    """Read the stream; return the most that Python had allocated meanwhile, and the seconds of audio."""
    request = world.request(url, replace(limits_of(), live_samples=int(seconds * SAMPLE_RATE)))
    request = replace(request, source=replace(request.source, kind=kind, live=True))
    samples = 0
    tracemalloc.start()
    try:
        async with world.opener.open(request) as stream:
            async for item in stream:
                samples += len(item) if not isinstance(item, Gap | Title) else 0
    except JobError:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak, samples / SAMPLE_RATE


MP3 = b"HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\nicy-name: A station\r\n"


async def test_an_endless_header_is_not_kept(world: MediaWorld) -> None:
    async with attacker(world, MP3 + b"icy-notice: ", b"n") as (url, sent):
        peak, seconds = await peak_of(world, url, seconds=60)
    assert seconds == 0
    assert max(sent) < 4 * 1024 * 1024
    assert peak < MAX_PEAK_BYTES


async def test_an_endless_playlist_is_not_kept(world: MediaWorld) -> None:
    head = b"HTTP/1.0 200 OK\r\nContent-Type: application/vnd.apple.mpegurl\r\n\r\n"
    head += b"#EXTM3U\n#EXT-X-TARGETDURATION:4\n"
    async with attacker(world, head, b"#EXTINF:4,\nhttp://radio.example/a\n") as (url, sent):
        peak, seconds = await peak_of(world, url, seconds=60, kind="hls")
    assert seconds == 0
    assert max(sent) < 8 * 1024 * 1024
    assert peak < MAX_PEAK_BYTES


async def test_titles_without_end_are_not_kept(world: MediaWorld) -> None:
    title = b"\xff" + b"StreamTitle='".ljust(4070, b"t") + b"';".ljust(10, b"\0")
    async with attacker(world, MP3 + b"icy-metaint: 1\r\n\r\n", b"\xff" + title) as (url, sent):
        peak, seconds = await peak_of(world, url, seconds=60)
    assert seconds == 0
    assert (max(sent) < MAX_SENT_BYTES, len(sent) <= 4) == (True, True)
    assert peak < MAX_PEAK_BYTES


@pytest.mark.parametrize(
    "flood", [b"\x01garbage", b"\xff\xfb\x90\x64garbage!"], ids=["noise", "false frames"]
)
async def test_a_flood_of_garbage_behind_audio_is_not_kept(
    world: MediaWorld, audio: Callable[..., bytes], flood: bytes
) -> None:
    head = MP3 + b"\r\n" + audio("mp3", seconds=AUDIO_SECONDS)
    async with attacker(world, head, flood) as (url, sent):
        peak, seconds = await peak_of(world, url, seconds=60)
    assert seconds > AUDIO_SECONDS
    assert max(sent) < MAX_SENT_BYTES
    assert peak < MAX_PEAK_BYTES
