"""Stations and playlists that misbehave: bounded time and memory, a clear error, and nothing left behind."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from stenobird.errors import AudioContentTypeNotSupported, AudioUnreachable
from stenobird.media.decode import Block, DecoderLimits, decode, take_decoder
from stenobird.media.feed import AHEAD_BYTES, BEHIND_BYTES, Feed
from stenobird.media.station import Replayed, plays_in_real_time, split_titles, title_in
from stenobird.ports import SAMPLE_RATE, Gap, Title
from tests.support.media_server import Resource
from tests.support.media_world import QuickClock, limits_of
from tests.support.until import async_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from tests.support.media_server import MediaRequest
    from tests.support.media_world import MediaWorld

pytestmark = pytest.mark.anyio

ICY = {"icy-name": "A station"}


async def hear(
    world: MediaWorld, path: str, *, seconds: float = 20.0, kind: Any = "file"
) -> tuple[float, list[Gap], str | None]:
    """Return the seconds of audio, the gaps, and the warning at the end."""
    request = world.request(path, replace(limits_of(), live_samples=int(seconds * SAMPLE_RATE)))
    request = replace(request, source=replace(request.source, kind=kind, live=True))
    samples, gaps = 0, list[Gap]()
    async with world.opener.open(request) as stream:
        assert stream.live
        async for item in stream:
            if isinstance(item, Gap):
                gaps.append(item)
            elif not isinstance(item, Title):
                samples += len(item)
        return samples / SAMPLE_RATE, gaps, stream.warning


async def test_garbage_is_refused_at_once(world: MediaWorld) -> None:
    world.server.resources["/live"] = Resource(b"\x01garbage" * 1000, endless=True, headers=ICY)
    with pytest.raises(AudioContentTypeNotSupported, match="not audio"):
        await hear(world, "/live")
    assert len(world.server.requests) == 1


async def test_a_station_that_never_sends_audio_is_given_up(world: MediaWorld) -> None:
    world.server.resources["/live"] = Resource(b"", status=503)
    with pytest.raises(AudioUnreachable, match="503"):
        await hear(world, "/live")
    assert world.clock.monotonic() < 120
    world.server.resources["/closes"] = Resource(b"", endless=False, chunked=True, headers=ICY)
    with pytest.raises(AudioUnreachable, match="before it sent any audio"):
        await hear(world, "/closes")


async def test_a_station_that_stays_away_ends_the_transcript(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    sends = Resource(audio("mp3", seconds=12.0), chunked=True, headers=ICY)
    world.server.resources["/live"] = lambda request: sends if request.number == 1 else Resource(status=404)
    seconds, gaps, warning = await hear(world, "/live", seconds=3600)
    assert seconds == pytest.approx(12, abs=0.2)
    assert gaps == []
    assert warning is not None
    assert "no audio for 5 minutes" in warning
    assert 300 <= world.clock.monotonic() < 400


@pytest.mark.parametrize("place", ["/live", "/hls"])
async def test_a_redirect_to_a_private_address_is_refused_on_a_reconnect(
    world: MediaWorld, audio: Callable[..., bytes], place: str
) -> None:
    sends = Resource(audio("mp3", seconds=12.0), chunked=True, headers=ICY)
    elsewhere = Resource(redirect_to="http://127.0.0.2:8000/private")
    playlist = Resource(b"#EXTM3U\n#EXT-X-TARGETDURATION:12\n#EXTINF:12,\n/one.mp3\n")
    world.server.resources["/one.mp3"] = replace(sends, headers={})
    world.server.resources["/live"] = lambda request: sends if request.number == 1 else elsewhere
    world.server.resources["/hls"] = lambda request: playlist if request.number < 60 else elsewhere
    kind = "hls" if place == "/hls" else "file"
    seconds, _, warning = await hear(world, place, seconds=3600, kind=kind)
    assert seconds == pytest.approx(12, abs=0.2)
    assert warning is not None
    assert "not opened" in warning


async def test_a_format_that_changes_costs_a_reconnect(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    bodies = [audio("mp3", seconds=12.0), audio("aac", seconds=12.0), audio("opus", seconds=12.0)]

    def answer(request: MediaRequest) -> Resource:
        return Resource(bodies[(request.number - 1) % 3], chunked=True, headers=ICY)

    world.server.resources["/live"] = answer
    seconds, gaps, _ = await hear(world, "/live", seconds=30)
    assert seconds + sum(gap.samples for gap in gaps) / SAMPLE_RATE == pytest.approx(30)
    # However much each connection sends at once, they get rarer.
    assert 3 <= len(world.server.requests) <= 12


async def test_bytes_that_turn_into_garbage_end_as_a_stream_that_is_away(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    sends = Resource(audio("mp3", seconds=12.0), chunked=True, headers=ICY)
    garbage = Resource(b"\x01garbage" * 1000, endless=True, headers=ICY)
    world.server.resources["/live"] = lambda request: sends if request.number == 1 else garbage
    seconds, _, warning = await hear(world, "/live", seconds=3600)
    assert seconds == pytest.approx(12, abs=0.2)
    assert warning is not None


class Playlists:
    """A live playlist whose versions a test writes: sequence of the first segment, and how many."""

    def __init__(
        self, world: MediaWorld, segment: bytes, versions: list[tuple[int, int]], *, end: bool
    ) -> None:
        self.versions = versions
        self.end = end
        self.fetched: list[str] = []
        self.world = world
        self.segment = segment
        world.server.resources["/live.m3u8"] = self.playlist

    def playlist(self, request: MediaRequest) -> Resource:
        number = min(request.number, len(self.versions)) - 1
        first, count = self.versions[number]
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:4", f"#EXT-X-MEDIA-SEQUENCE:{first}"]
        for sequence in range(first, first + count):
            self.world.server.resources[f"/s{sequence}.mp3"] = self.serve(f"/s{sequence}.mp3")
            lines += ["#EXTINF:4,", f"/s{sequence}.mp3"]
        if self.end and request.number >= len(self.versions):
            lines.append("#EXT-X-ENDLIST")
        return Resource("\n".join(lines).encode(), content_type="application/vnd.apple.mpegurl")

    def serve(self, path: str) -> Callable[[MediaRequest], Resource]:
        def answer(_request: MediaRequest) -> Resource:
            self.fetched.append(path)
            return Resource(self.segment)

        return answer


@pytest.mark.parametrize(
    ("versions", "fetched", "missing_seconds"),
    [
        ([(100, 3), (100, 3), (101, 3), (101, 3), (100, 3), (102, 3)], [103, 104], 0),
        ([(100, 3), (101, 3), (106, 3)], [103, 106, 107, 108], 8),
        ([(100, 3), (101, 3), (0, 3), (1, 3), (2, 3)], [103, 3, 4], None),
        ([(100, 3), (101, 3), (90, 3), (90, 3), (102, 3)], [103, 104], 0),
    ],
    ids=["repeats", "moves on", "starts anew", "an old copy"],
)
async def test_a_live_playlist_is_followed_by_its_media_sequence(
    world: MediaWorld,
    audio: Callable[..., bytes],
    versions: list[tuple[int, int]],
    fetched: list[int],
    missing_seconds: int | None,
) -> None:
    lists = Playlists(world, audio("mp3", seconds=4.0), versions, end=True)
    seconds, gaps, warning = await hear(world, "/live.m3u8", seconds=3600, kind="hls")
    assert lists.fetched == [f"/s{sequence}.mp3" for sequence in fetched]
    assert seconds == pytest.approx(4 * len(fetched), abs=0.3 * len(fetched))
    assert warning is None
    if missing_seconds is not None:
        assert sum(gap.samples for gap in gaps) == missing_seconds * SAMPLE_RATE


async def test_a_playlist_that_never_changes_ends_as_a_stream_that_is_away(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    Playlists(world, audio("mp3", seconds=4.0), [(100, 3)], end=False)
    seconds, gaps, warning = await hear(world, "/live.m3u8", seconds=3600, kind="hls")
    assert (round(seconds), gaps) == (4, [])
    assert warning is not None
    assert "no audio for 5 minutes" in warning


async def test_segments_that_are_gone_are_a_gap(world: MediaWorld, audio: Callable[..., bytes]) -> None:
    lists = Playlists(world, audio("mp3", seconds=4.0), [(100, 3), (101, 3), (102, 3), (103, 3)], end=True)
    serve = lists.serve
    lists.serve = lambda path: serve(path) if path != "/s104.mp3" else lambda _request: Resource(status=404)  # type: ignore[method-assign]  # one segment is missing
    seconds, gaps, _ = await hear(world, "/live.m3u8", seconds=3600, kind="hls")
    assert round(seconds) == 8
    assert [(gap.samples, gap.reason) for gap in gaps] == [(4 * SAMPLE_RATE, "expired")]


@pytest.mark.parametrize(
    ("versions", "fetched", "gap_seconds"),
    [
        ([(100, 6)] * 3, [103, 104, 105], 0.25),  # sample 224,000 is 2 s into 103; a little is given up
        ([(105, 6)] * 3, [105, 106, 107, 108, 109, 110], 6.0),
        ([(110, 6)] * 3, [110, 111, 112, 113, 114, 115], 26.0),
        ([(2, 2), (3, 2), (3, 2)], [4], None),
    ],
    ids=["listed", "just gone", "long gone", "counts anew"],
)
async def test_a_takeover_goes_on_by_the_media_sequence(
    world: MediaWorld,
    audio: Callable[..., bytes],
    *,
    versions: list[tuple[int, int]],
    fetched: list[int],
    gap_seconds: float | None,
) -> None:
    """The worker before had committed 14 s; it has read 102, whose first sample is that of second 8."""
    lists = Playlists(world, audio("mp3", seconds=4.0), versions, end=True)
    first, count = versions[0]
    seconds = (first + count - 102) * 4.0 + 8.0 if first >= 100 else 30.0
    known = {"sequence": 102, "sample": 8 * SAMPLE_RATE}
    limits = replace(limits_of(), live_samples=3600 * SAMPLE_RATE)
    request = world.request("/live.m3u8", limits, start_sample=14 * SAMPLE_RATE, fingerprint=known)
    source = replace(request.source, kind="hls", live=True, at=world.clock.time() - seconds)
    reached, gaps = 14 * SAMPLE_RATE, list[tuple[int, Gap]]()
    async with world.opener.open(replace(request, source=source)) as stream:
        async for item in stream:
            if isinstance(item, Gap):
                gaps.append((reached, item))
            reached += 0 if isinstance(item, Title) else item.samples if isinstance(item, Gap) else len(item)
        assert stream.fingerprint["sequence"] == fetched[-1]
    assert lists.fetched == [f"/s{sequence}.mp3" for sequence in fetched]
    [(start, gap)] = gaps
    assert (start, gap.reason) == (14 * SAMPLE_RATE, "restarted")
    if gap_seconds is not None:
        assert gap.samples == gap_seconds * SAMPLE_RATE
        assert reached / SAMPLE_RATE == pytest.approx(seconds, abs=0.3)


async def test_a_worker_keeps_where_a_playlist_has_what_it_has_not_committed(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    Playlists(world, audio("mp3", seconds=4.0), [(100, 3), (101, 3), (106, 3)], end=True)
    request = world.request("/live.m3u8", limits_of())
    request = replace(request, source=replace(request.source, kind="hls"))
    async with world.opener.open(request) as stream:
        kept = [stream.fingerprint async for _ in stream]
    # 103, four seconds, then 8 s that are gone, and 106 to 108.
    for place in kept:
        seconds = {103: 0.0, 106: 12.0, 107: 16.0, 108: 20.0}[place["sequence"]]
        assert place["sample"] / SAMPLE_RATE == pytest.approx(seconds, abs=0.4)
    assert kept[-1]["sequence"] == 108


async def test_a_playlist_that_is_behind_waits_for_its_reader(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    """A takeover after three minutes: all that is listed is heard, by a reader that comes late."""
    Playlists(world, audio("mp3", seconds=4.0), [(100, 45)], end=True)
    at = world.clock.time() - 180.0
    request = world.request(
        "/live.m3u8",
        replace(limits_of(), live_samples=3600 * SAMPLE_RATE),
        start_sample=SAMPLE_RATE,
        fingerprint={"sequence": 100, "sample": 0},
    )
    request = replace(request, source=replace(request.source, kind="hls", live=True, at=at))
    heard, gaps = 0, list[Gap]()
    async with world.opener.open(request) as stream:
        await async_until(lambda: stream._queued > 60 * SAMPLE_RATE)  # type: ignore[attr-defined]  # not of the port
        async for item in stream:
            if isinstance(item, Gap):
                gaps.append(item)
            elif not isinstance(item, Title):
                heard += len(item)
    assert [(gap.samples, gap.reason) for gap in gaps] == [(SAMPLE_RATE // 4, "restarted")]
    # An encoder adds some samples to each segment.
    assert heard / SAMPLE_RATE == pytest.approx(180 - 1.25, rel=0.02)


@pytest.mark.parametrize("kind", ["file", "hls"])
async def test_bytes_that_are_no_audio_are_a_gap_that_says_so(
    world: MediaWorld, audio: Callable[..., bytes], kind: str
) -> None:
    """A station that sends a page in between, and a playlist with a segment that is one."""
    page = b"<html><body>On air again soon.</body></html>" * 200
    sends = Resource(audio("mp3", seconds=12.0), chunked=True, headers=ICY)
    world.server.resources["/live"] = lambda request: (
        Resource(page, chunked=True, headers=ICY) if request.number == 2 else sends
    )
    lists = Playlists(world, audio("mp3", seconds=4.0), [(100, 1), (101, 1), (101, 5)], end=True)
    serve = lists.serve
    lists.serve = lambda path: serve(path) if path != "/s102.mp3" else lambda _request: Resource(page)  # type: ignore[method-assign]  # one segment is a page
    path, seconds = ("/live", 12.4) if kind == "file" else ("/live.m3u8", 20.0)
    heard, gaps, _ = await hear(world, path, seconds=seconds, kind=kind)
    assert {gap.reason for gap in gaps} == {"undecodable"}
    assert heard + sum(gap.samples for gap in gaps) / SAMPLE_RATE == pytest.approx(seconds, abs=0.3)


# --- the parts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("piece", [1, 7, 100, 4096])
async def test_titles_are_taken_out_wherever_the_bytes_are_cut(piece: int) -> None:
    audio = bytes(range(256)) * 8
    title = b"StreamTitle='A song; by \xc3\xa9'';StreamUrl='';"
    block = bytes([-(-len(title) // 16)]) + title.ljust(-(-len(title) // 16) * 16, b"\0")
    stream = b"".join(audio[at : at + 512] + (block if at == 512 else b"\0") for at in range(0, 2048, 512))

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(stream), piece):
            yield stream[at : at + piece]

    items = [item async for item in split_titles(pieces(), 512)]
    assert b"".join(item for item in items if isinstance(item, bytes)) == audio
    assert [item.text for item in items if isinstance(item, Title)] == ["A song; by é'"]


@pytest.mark.parametrize(
    ("block", "title"),
    [
        (b"StreamTitle='\xe9t\xe9';\0\0", "été"),
        (b"StreamTitle='';StreamUrl='x';", None),
        (b"StreamTitle='a" + b"b" * 4000 + b"';", "a" + "b" * 299),
        (b"\xff\x00 nonsense", None),
    ],
)
def test_a_title_is_text_of_a_bounded_length(block: bytes, title: str | None) -> None:
    assert title_in(block) == title


class Dripping:
    """A `DecoderInput` that has 256 bytes more each time the decoder lacks some."""

    stitched = False
    total_bytes: int | None = None

    def __init__(self, data: bytes) -> None:
        self.data, self.front = data, 0

    def complete_path(self) -> Path | None:
        return None

    async def read(self, offset: int, size: int) -> bytes:
        while offset >= self.front:
            self.front += 256
        return self.data[offset : min(offset + size, self.front)]


@pytest.mark.parametrize("skipped_bytes", [0, 5001], ids=["whole frames", "mid-frame"])
@pytest.mark.parametrize(
    ("name", "bit_rate", "most_seconds"),
    [("mp3", 64_000, 2.0), ("mp3", 128_000, 2.0), ("aac", 64_000, 2.0), ("opus", 48_000, 1.0)],
)
async def test_the_first_samples_need_few_bytes(
    audio: Callable[..., bytes], name: str, bit_rate: int, most_seconds: float, skipped_bytes: int
) -> None:
    """Live audio comes at the pace at which it plays: what the decoder reads ahead is a delay."""
    data = audio(name, seconds=12.0, bit_rate=bit_rate)
    if name == "opus":
        skipped_bytes = 0  # stations send the headers of Ogg first
    source = Dripping(data[skipped_bytes:])
    child = await take_decoder(source, DecoderLimits(), None, skip=0, stop=None, most=1 << 40, block=4000)
    async with aclosing(child), aclosing(decode(child, source, 30.0)) as messages:
        async for message in messages:
            if isinstance(message, Block):
                break
    assert source.front <= most_seconds * len(data) / 12.0


async def test_a_feed_forgets_what_was_read_and_waits_for_its_decoder() -> None:
    feed = Feed(stitched=False)
    written = 0

    async def write() -> None:
        nonlocal written
        for _ in range(400):
            await feed.write(bytes(16_384))
            written += 16_384
        feed.end()

    writing = asyncio.create_task(write())
    offset = 0
    while data := await feed.read(offset, 32_768):
        offset += len(data)
        assert written - offset <= AHEAD_BYTES + 65_536
        assert len(feed._data) <= AHEAD_BYTES + 2 * BEHIND_BYTES
    await writing
    assert offset == 400 * 16_384
    assert await feed.read(0, 10) == b""


class Paced:
    """An answer without a length; `clock` moves with each block."""

    offset, status = 0, 200
    end: int | None = None
    total_bytes: int | None = None
    headers: Mapping[str, str] = {}
    final_url = "http://x.example/a"

    def __init__(self, blocks: list[tuple[float, bytes]], clock: QuickClock) -> None:
        self.blocks, self.clock = blocks, clock

    async def body(self) -> AsyncIterator[bytes]:
        for seconds, block in self.blocks:
            await self.clock.sleep(seconds)
            yield block

    async def aclose(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("pace", "live"),
    [
        ([(0.25, 4_000)] * 200, True),  # 128 kbit/s, as it plays
        ([(0.0, 160_000), *[(0.25, 4_000)] * 200], True),  # what servers send at once first
        ([(0.25, 8_000)] * 200, False),  # twice as fast: a recording over a slow line
        ([(0.01, 60_000)] * 60, False),
        ([(0.25, 4_000)] * 20, False),  # it ends
    ],
)
async def test_audio_without_a_length_is_live_if_it_arrives_as_it_plays(
    audio: Callable[..., bytes], pace: list[tuple[float, int]], *, live: bool
) -> None:
    body = audio("mp3", seconds=120.0, bit_rate=128_000)
    clock, at, blocks = QuickClock(), 0, list[tuple[float, bytes]]()
    for seconds, size in pace:
        blocks.append((seconds, body[at : at + size]))
        at += size
    opened = Replayed(Paced(blocks, clock))
    assert await plays_in_real_time(opened, clock) is live
    assert b"".join([block async for block in opened.body()]) == body[:at]
