"""A station on loopback that plays the bundled clip: Icecast, Shoutcast, endless plain HTTP, live HLS.

What is on air depends on the clock alone. With a `ScaledClock` a day passes as fast as the test wants, and
processes that are given the same origin and speed share the time. So for each moment it is known which
sentence was spoken, whatever was received of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import av
import numpy as np
from typing_extensions import override

import stenobird.demo
from stenobird.ports import Clock
from tests.support.speech import LongSpeech, load_sentences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stenobird.ports import PCM
    from tests.support.speech import Placed

FRAME_BYTES = 288
FRAME_SECONDS = 0.036
"""MPEG frames of 576 samples at 16 kHz and 64 kbit/s, all of one size."""
META_INTERVAL = 8192
SEGMENT_FRAMES = 150
SEGMENT_SECONDS = SEGMENT_FRAMES * FRAME_SECONDS
"""5.4 s."""
WINDOW_SEGMENTS = 5
TICK_SECONDS = 0.02


class ScaledClock(Clock):
    """The machine's clock, `speed` times as fast since `origin` (epoch seconds)."""

    def __init__(self, speed: float = 1.0, origin: float | None = None) -> None:
        self.speed = speed
        self.origin = time.time() if origin is None else origin

    @override
    def time(self) -> float:
        return self.origin + (time.time() - self.origin) * self.speed

    @override
    def monotonic(self) -> float:
        return self.time()

    @override
    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)


class Programme:
    """Sentences of the bundled clip, at least `seconds` of them, played again and again from `origin` on."""

    def __init__(self, seconds: float, *, origin: float, seed: int = 1) -> None:
        clip = Path(stenobird.demo.__file__).with_name("clip.mp3")
        speech = LongSpeech(load_sentences(clip), seconds, seed=seed)
        self.origin = origin
        self.sentences: tuple[Placed, ...] = tuple(speech.placed())
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "programme.mp3"
            speech.write(path)
            data = path.read_bytes()
        start = data.index(b"\xff\xf3")
        first = data[start : start + FRAME_BYTES]
        if b"Info" in first or b"Xing" in first:
            start += FRAME_BYTES
        self._frames = data[start : start + (len(data) - start) // FRAME_BYTES * FRAME_BYTES]
        self.frame_count = len(self._frames) // FRAME_BYTES
        self.seconds = self.frame_count * FRAME_SECONDS

    def frame_at(self, moment: float) -> int:
        """Return the number of the frame on air at a moment; it counts on over repetitions."""
        return int((moment - self.origin) / FRAME_SECONDS)

    def frames(self, first: int, last: int) -> bytes:
        """Return frames `first` to `last` (not included)."""
        parts = []
        while first < last:
            at = first % self.frame_count
            count = min(last - first, self.frame_count - at)
            parts.append(self._frames[at * FRAME_BYTES : (at + count) * FRAME_BYTES])
            first += count
        return b"".join(parts)

    def decoded(self, first: int, last: int) -> PCM:
        """Return the samples of frames `first` to `last` (not included), 576 each."""
        with av.open(io.BytesIO(self.frames(first, last)), "r", format="mp3") as container:
            blocks = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
        return (np.concatenate(blocks) * 32767).clip(-32768, 32767).astype(np.int16)

    def on_air(self, first: float, last: float) -> Iterator[tuple[float, float, str]]:
        """Yield start, end (epoch seconds) and text of the sentences spoken wholly between two moments."""
        loop = int((first - self.origin) // self.seconds)
        while (base := self.origin + loop * self.seconds) < last:
            for sentence in self.sentences:
                if first <= base + sentence.start and base + sentence.end <= last:
                    yield base + sentence.start, base + sentence.end, sentence.text
            loop += 1


@dataclass
class Radio:
    """The station: `/icecast`, `/shoutcast`, `/plain`, `/hls/index.m3u8`, `/station.m3u`, `/station.pls`.

    Connections are cut, and refused, during the `outages` (pairs of epoch seconds). Of HLS, playlists and
    segments are refused then. `burst_seconds` of what was on air before are sent at once, as Icecast does.
    `title` is sent to clients that ask for it. `redirects` sends clients of a path elsewhere. `stalls` are
    times during which connections stay open and nothing is sent; what was on air then is lost if
    `stall_drops`, else it is sent afterwards. `ended` ends the HLS playlist and all answers.
    `longest_tick_seconds` is how long a busy machine has kept a connection waiting.
    """

    programme: Programme
    clock: Clock
    port: int = 0
    outages: list[tuple[float, float]] = field(default_factory=list)
    stalls: list[tuple[float, float]] = field(default_factory=list)
    stall_drops: bool = True
    burst_seconds: float = 0.0
    title: str = "A station"
    dates: bool = True
    first_sequence: int = 0
    discontinuities: set[int] = field(default_factory=set)
    redirects: dict[str, str] = field(default_factory=dict)
    ended: bool = False
    longest_tick_seconds: float = 0.0
    connections: int = 0
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        self.disconnect()
        await self._server.wait_closed()

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return f"http://127.0.0.1:{self.port}{path}"

    def disconnect(self) -> None:
        """Cut every connection now."""
        for writer in list(self._writers):
            writer.transport.abort()

    @property
    def is_down(self) -> bool:
        """Whether there is an outage now."""
        return _within(self.outages, self.clock.time())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                path = lines[0].split(" ")[1]
                pairs = (line.partition(":") for line in lines[1:] if line)
                headers = {name.lower(): value.strip() for name, _, value in pairs}
                self.requests.append((path, headers))
                if not self.is_down:
                    await self._answer(path, headers, writer)
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        if path in self.redirects:
            writer.write(
                f"HTTP/1.1 302 Found\r\nLocation: {self.redirects[path]}\r\nContent-Length: 0\r\n"
                "Connection: close\r\n\r\n".encode()
            )
        elif path in {"/icecast", "/shoutcast", "/plain"}:
            await self._stream(path, headers.get("icy-metadata") == "1" and path != "/plain", writer)
        elif path == "/station.m3u":
            _whole(
                writer, f"#EXTM3U\n#EXTINF:-1,A station\n{self.url('/icecast')}\n".encode(), "audio/x-mpegurl"
            )
        elif path == "/station.pls":
            entries = [f"File{n}={self.url(mount)}" for n, mount in enumerate(("/shoutcast", "/icecast"), 1)]
            text = "\n".join(["[playlist]", "NumberOfEntries=2", *entries, "Version=2", ""])
            _whole(writer, text.encode(), "audio/x-scpls")
        elif path == "/hls/index.m3u8":
            _whole(writer, self.playlist().encode(), "application/vnd.apple.mpegurl")
        elif path.startswith("/hls/"):
            number = int(path.removeprefix("/hls/").removesuffix(".mp3"))
            first = number * SEGMENT_FRAMES
            listed = self._newest_segment() - 2 * WINDOW_SEGMENTS <= number <= self._newest_segment()
            if listed:
                _whole(writer, self.programme.frames(first, first + SEGMENT_FRAMES), "audio/mpeg")
            else:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()

    def _newest_segment(self) -> int:
        return self.programme.frame_at(self.clock.time()) // SEGMENT_FRAMES - 1

    def playlist(self) -> str:
        """Return the playlist as it is now: the last segments that are whole."""
        newest = self._newest_segment()
        first = max(0, newest + 1 - WINDOW_SEGMENTS)
        lines = [
            "#EXTM3U",
            "#EXT-X-VERSION:3",
            "#EXT-X-TARGETDURATION:6",
            f"#EXT-X-MEDIA-SEQUENCE:{first - self.first_sequence}",
        ]
        for number in range(first, newest + 1):
            if number in self.discontinuities:
                lines.append("#EXT-X-DISCONTINUITY")
            if self.dates:
                moment = self.programme.origin + number * SEGMENT_SECONDS
                whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
                lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{whole}.{int(moment % 1 * 1000):03}Z")
            lines += [f"#EXTINF:{SEGMENT_SECONDS:.3f},", f"{number}.mp3"]
        if self.ended:
            lines.append("#EXT-X-ENDLIST")
        return "\n".join([*lines, ""])

    async def _stream(self, path: str, titled: bool, writer: asyncio.StreamWriter) -> None:  # noqa: FBT001
        self.connections += 1
        icy = "icy-name: A station\r\nicy-br: 64\r\n" + (
            f"icy-metaint: {META_INTERVAL}\r\n" if titled else ""
        )
        head = {
            "/icecast": f"HTTP/1.0 200 OK\r\nContent-Type: audio/mpeg\r\n{icy}\r\n",
            "/shoutcast": f"ICY 200 OK\r\ncontent-type:audio/mpeg\r\n{icy}\r\n",
            "/plain": "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n",
        }[path]
        writer.write(head.encode())
        sent = self.programme.frame_at(self.clock.time() - self.burst_seconds)
        until_title, told = META_INTERVAL, ""
        while not self.is_down and not self.ended:
            now = self.programme.frame_at(self.clock.time())
            stalled = _within(self.stalls, self.clock.time())
            if stalled and self.stall_drops:
                sent = now
            data = b"" if stalled else self.programme.frames(sent, now)
            sent = sent if stalled else now
            out = bytearray()
            while titled and len(data) >= until_title:
                out += data[:until_title]
                data = data[until_title:]
                until_title = META_INTERVAL
                text = f"StreamTitle='{self.title}';".encode() if self.title != told else b""
                told = self.title
                out += bytes([-(-len(text) // 16)]) + text.ljust(-(-len(text) // 16) * 16, b"\0")
            until_title -= len(data) if titled else 0
            out += data
            if out:
                writer.write(b"%x\r\n%b\r\n" % (len(out), bytes(out)) if path == "/plain" else bytes(out))
                await writer.drain()
            before = self.clock.time()
            await asyncio.sleep(TICK_SECONDS)
            self.longest_tick_seconds = max(self.longest_tick_seconds, self.clock.time() - before)
        if self.ended and path == "/plain":
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        elif not self.ended:
            writer.transport.abort()


def _within(spans: list[tuple[float, float]], moment: float) -> bool:
    return any(start <= moment < end for start, end in spans)


def _whole(writer: asyncio.StreamWriter, body: bytes, content_type: str) -> None:
    writer.write(
        f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n".encode()
    )
    writer.write(body)
