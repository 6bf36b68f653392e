"""Live audio from a station on loopback: what is received, what is missing, and when it was on air."""

from __future__ import annotations

import asyncio
import ipaddress
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stenobird.egress.client import EgressClient
from stenobird.egress.policy import EgressPolicy
from stenobird.media.opener import MediaOpener
from stenobird.media.spool import SpoolFolder
from stenobird.ports import SAMPLE_RATE, AudioRequest, Gap, Title
from stenobird.sources import AudioSource
from tests.support.media_world import limits_of
from tests.support.radio import TICK_SECONDS, Programme, Radio, ScaledClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path
    from typing import Any

    from stenobird.ports import PCM

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SPEED = 1.0
"""Faster, a busy machine's delays of a third of a second would count for more than the times may be off."""
POLICY = EgressPolicy(allow=[ipaddress.ip_network("127.0.0.1/32")], ports=None)


@dataclass
class Heard:
    """What a live stream gave: its audio with silence in the gaps, and everything else."""

    pcm: PCM
    gaps: list[tuple[float, Gap]]
    titles: list[str]
    at: float
    warning: str | None


@dataclass
class World:
    radio: Radio
    clock: ScaledClock
    opener: MediaOpener

    @property
    def delay_seconds(self) -> float:
        """How late anything may have arrived because the machine was busy: when it began, and at a break."""
        return 2 * max(0.0, self.radio.longest_tick_seconds - TICK_SECONDS * SPEED)

    async def hear(self, path: str, *, seconds: float, start: float = 0.0, at: float | None = None) -> Heard:
        url = self.radio.url(path)
        kind: Any = "hls" if path.endswith("m3u8") else "file"
        source = AudioSource(url, url, url, "direct", "a test", kind=kind, live=at is not None, at=at)
        limits = replace(limits_of(), live_samples=int(seconds * SAMPLE_RATE))
        request = AudioRequest("tr_1", source, limits, start_sample=int(start * SAMPLE_RATE))
        parts: list[PCM] = []
        gaps, titles, reached = list[tuple[float, Gap]](), list[str](), request.start_sample
        async with self.opener.open(request) as stream:
            assert stream.live
            async for item in stream:
                if isinstance(item, Title):
                    titles.append(item.text)
                    continue
                if isinstance(item, Gap):
                    gaps.append((reached / SAMPLE_RATE, item))
                    item = np.zeros(item.samples, np.int16)  # noqa: PLW2901  # heard as silence
                parts.append(item)
                reached += len(item)
            assert stream.at is not None
            return Heard(np.concatenate(parts), gaps, titles, stream.at, stream.warning)


@pytest.fixture(scope="module")
def programme() -> Programme:
    return Programme(100.0, origin=0.0)


@asynccontextmanager
async def a_world(tmp_path: Path, programme: Programme, **changes: Any) -> AsyncIterator[World]:
    clock = ScaledClock(SPEED)
    programme.origin = clock.time() - 1000.0
    async with Radio(programme, clock, **changes) as radio, EgressClient(POLICY) as client:
        opener = MediaOpener(client, SpoolFolder(tmp_path / "spool", quota_bytes=1 << 30), clock)
        yield World(radio, clock, opener)


def offset_seconds(heard: PCM, first: float, programme: Programme, at: float) -> float:
    """Return how late a loud part of what was heard is, by its correlation with what was on air."""
    # Where it is loudest: silence is alike everywhere.
    starts = np.arange(first, first + 3.0, 0.25)
    loud = [
        np.square(heard[int(at * SAMPLE_RATE) :][: 2 * SAMPLE_RATE].astype(np.float64)).sum() for at in starts
    ]
    first = float(starts[int(np.argmax(loud))])
    position = int(first * SAMPLE_RATE)
    probe = heard[position : position + 2 * SAMPLE_RATE].astype(np.float64)
    frame = programme.frame_at(at + first - 2.0)
    reference = programme.decoded(frame, frame + 166).astype(np.float64)
    size = len(reference) + len(probe)
    product = np.fft.irfft(np.fft.rfft(reference, size) * np.conj(np.fft.rfft(probe, size)), size)
    lag = int(np.argmax(product[: len(reference) - len(probe)]))
    started = programme.origin + frame * 0.036 + lag / SAMPLE_RATE
    return at + first - started


async def test_times_stay_those_of_the_source_through_outages(tmp_path: Path, programme: Programme) -> None:
    paths = ("/icecast", "/shoutcast", "/plain", "/hls/index.m3u8")
    async with a_world(tmp_path, programme) as world:
        now = world.clock.time()
        world.radio.outages = [(now + 14, now + 15)]
        world.radio.stalls = [(now + 24, now + 27)]
        heard = dict(
            zip(paths, await asyncio.gather(*(world.hear(path, seconds=32) for path in paths)), strict=True)
        )
    for path, one in heard.items():
        assert len(one.pcm) == 32 * SAMPLE_RATE
        for position in (1.0, 28.0):
            offset = offset_seconds(one.pcm, position, programme, one.at)
            assert abs(offset) < 0.5 + world.delay_seconds, path
    assert heard.pop("/hls/index.m3u8").gaps == []
    for one in heard.values():
        assert {gap.reason for _, gap in one.gaps} == {"disconnected"}
        assert one.gaps
    assert heard["/icecast"].titles == ["A station"]


async def test_a_worker_that_takes_over_goes_on_at_the_present(tmp_path: Path, programme: Programme) -> None:
    """Where the dates of a playlist show what was transcribed, it goes on there as long as that is listed."""
    async with a_world(tmp_path, programme) as world:
        at = world.clock.time() - 60.0
        station = await world.hear("/icecast", seconds=70, start=20.0, at=at)
        (start, gap), *others = station.gaps
        assert (start, gap.reason, others) == (20.0, "restarted", [])
        offset = offset_seconds(station.pcm, gap.samples / SAMPLE_RATE + 1, programme, at + 20)
        assert abs(offset) < 0.5 + world.delay_seconds
        at = world.clock.time() - 60.0
        show = await world.hear("/hls/index.m3u8", seconds=60, start=50.0, at=at)
        assert [(start, gap.samples) for start, gap in show.gaps] == [(50.0, SAMPLE_RATE // 4)]
        assert abs(offset_seconds(show.pcm, 3.0, programme, at + 50)) < 0.1
