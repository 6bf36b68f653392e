"""Stations over plain HTTP: Icecast, Shoutcast, and any audio without an end; and how to recognise them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from stenobird.containers import Frame, audio_frame, frames_start
from stenobird.egress.client import RequestOptions
from stenobird.egress.response import FetchLimits
from stenobird.errors import EgressError
from stenobird.media.feed import MAX_TITLE_CHARACTERS, Stretch
from stenobird.media.intake import WITH_AUDIO, UnusableStatus
from stenobird.ports import OpenedMedia, Title

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping

    from stenobird.egress.client import EgressClient, EgressResponse
    from stenobird.ports import Clock
    from stenobird.sources import AudioSource

STATION_LIMITS: Final = FetchLimits(headers_seconds=20.0, idle_seconds=20.0, min_bytes_per_second=256.0)
"""Speech at 8 kbit/s is 1000 bytes a second; nothing that can be decoded is less than these."""
HEAD_BYTES: Final = 16 * 1024

_TITLE = re.compile(rb"StreamTitle='(.*?)';(?:\s*\w+=|\s*\x00*$)", re.DOTALL)


def is_station(headers: Mapping[str, str], total_bytes: int | None) -> bool:
    """Return whether a response is a station's: it has `icy-*` headers and no length."""
    return total_bytes is None and any(name.startswith("icy-") for name in headers)


async def split_titles(stream: AsyncIterator[bytes], interval: int) -> AsyncGenerator[bytes | Title]:
    """Yield the audio, and each title at its place, of a stream that has one every `interval` bytes."""
    audio_left = interval
    block: bytes | None = None
    block_bytes = 0
    async for data in stream:
        at = 0
        while at < len(data):
            if audio_left > 0:
                audio = data[at : at + audio_left]
                at += len(audio)
                audio_left -= len(audio)
                yield audio
            elif block is None:
                block, block_bytes = b"", 16 * data[at]
                at += 1
            else:
                part = data[at : at + block_bytes - len(block)]
                block += part
                at += len(part)
            if block is not None and len(block) >= block_bytes:
                if title := title_in(block):
                    yield Title(title)
                block, audio_left = None, interval


def title_in(block: bytes) -> str | None:
    """Return the title in a block of ICY metadata."""
    found = _TITLE.match(block)
    if found is None:
        return None
    try:
        text = found[1].decode()
    except UnicodeDecodeError:
        text = found[1].decode("latin-1")
    return " ".join(text.replace("\x00", " ").split())[:MAX_TITLE_CHARACTERS] or None


class Station:
    """Opens connections to a station, each of them a stretch of audio.

    Each passes the egress policy anew, from the address that was found on: a station may redirect to another
    server any time. An ordinary server that ends its answer as announced has nothing more to send, and one
    that starts again with the same bytes sends a recording: both end the stream.
    """

    def __init__(self, client: EgressClient, source: AudioSource) -> None:
        self._client = client
        self._source = source
        self._ended = False
        self._head: bytes | None = None

    async def next_stretch(self, reached: float | None) -> Stretch | None:
        """Connect; see `live.LiveOrigin`."""
        del reached
        if self._ended:
            return None
        response = await self._client.open(
            self._source.media_url,
            RequestOptions(
                headers={**self._source.request_headers, "Icy-MetaData": "1"},
                referer=self._source.page_url,
                limits=STATION_LIMITS,
            ),
        )
        if response.status not in WITH_AUDIO:
            await response.aclose()
            raise UnusableStatus(response.status)
        try:
            if not is_station(response.headers, response.total_bytes):
                head = await response.peek(HEAD_BYTES)
                self._ended = head == self._head
                self._head = self._head or head
        except BaseException:
            await response.aclose()
            raise
        if self._ended:
            await response.aclose()
            return None
        return Stretch(self._body(response), "disconnected")

    async def _body(self, response: EgressResponse) -> AsyncGenerator[bytes | Title]:
        interval = response.headers.get("icy-metaint", "").split(",")[0].strip()
        has_titles = interval.isascii() and interval.isdigit() and int(interval) > 0
        body = response.body()
        async with response:
            async for item in split_titles(body, int(interval)) if has_titles else body:
                yield item
        chunked = "chunked" in response.headers.get("transfer-encoding", "").lower()
        if response.total_bytes is not None or (
            chunked and not is_station(response.headers, response.total_bytes)
        ):
            self._ended = True


# --- streams that don't say that they are live --------------------------------------------------------------

PROBE_SECONDS: Final = 10.0
"""How long the pace of an answer without a length is watched."""
BURST_SECONDS: Final = 30.0
"""Servers send so much at once before they send at the pace of the clock."""
FASTEST_LIVE: Final = 1.5
"""Seconds of audio a second; a recording that is sent as fast as the line allows is faster."""
MAX_PROBE_BYTES: Final = 4 * 1024 * 1024
UNKNOWN_BYTES_PER_SECOND: Final = 64 * 1024
"""For formats whose rate the first bytes don't show: 512 kbit/s, more than any lossy stream."""


@dataclass
class Replayed(OpenedMedia):
    """An open response, of which the first part was read already."""

    opened: OpenedMedia
    blocks: list[bytes] = field(default_factory=list)
    rest: AsyncIterator[bytes] | None = None
    failure: EgressError | None = None
    """Why it broke off while it was read."""

    def __post_init__(self) -> None:
        self.offset, self.end, self.status = self.opened.offset, self.opened.end, self.opened.status
        self.headers, self.final_url = self.opened.headers, self.opened.final_url
        self.total_bytes = self.opened.total_bytes

    async def body(self) -> AsyncGenerator[bytes]:
        """Yield what was read, then the rest."""
        while self.blocks:
            yield self.blocks.pop(0)
        if self.rest is not None:
            async for block in self.rest:
                yield block
        if self.failure is not None:
            raise self.failure

    async def aclose(self) -> None:
        """Close the response."""
        self.blocks.clear()
        await self.opened.aclose()


async def plays_in_real_time(opened: Replayed, clock: Clock) -> bool:
    """Return whether an answer without a length and an end arrives at the pace at which it plays.

    Reads at most `PROBE_SECONDS` and `MAX_PROBE_BYTES`, which stay in `opened`. An answer that ends is a
    recording, as is one that is sent faster than it plays once servers have sent what they send at once.
    """
    rest = opened.rest = aiter(opened.opened.body())
    started = clock.monotonic()
    size, rate = 0, None
    early_size, early_seconds = 0, 0.0
    try:
        async for block in rest:
            opened.blocks.append(block)
            size += len(block)
            if rate is None and size >= HEAD_BYTES:
                rate = _bytes_per_second(b"".join(opened.blocks)[: 4 * HEAD_BYTES])
            seconds = clock.monotonic() - started
            played = size / (rate or UNKNOWN_BYTES_PER_SECOND)
            if played > BURST_SECONDS + FASTEST_LIVE * seconds or size > MAX_PROBE_BYTES:
                return False
            if seconds <= PROBE_SECONDS / 3:
                early_size, early_seconds = size, seconds
            if seconds >= PROBE_SECONDS:
                late = (size - early_size) / (rate or UNKNOWN_BYTES_PER_SECOND)
                return late <= FASTEST_LIVE * (seconds - early_seconds)
    except EgressError as exc:
        opened.failure = exc  # the download resumes from there
    return False


def _bytes_per_second(head: bytes) -> float | None:
    """Return the rate of MPEG or ADTS frames: that of the first dozens, as it may vary."""
    found = frames_start(head, within=len(head) // 2)
    if found is None:
        return None
    at, seconds = found[1], 0.0
    frame: Frame | None
    while (frame := audio_frame(head[at : at + 6])) is not None and at + frame.length <= len(head):
        seconds += frame.samples / frame.sample_rate
        at += frame.length
    return (at - found[1]) / seconds if seconds else None
