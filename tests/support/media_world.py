"""A media opener whose only public internet is 127.0.0.1, with the server that its files come from."""

from __future__ import annotations

import ipaddress
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from stenobird.egress.client import EgressClient
from stenobird.egress.policy import EgressPolicy
from stenobird.media.opener import MediaOpener
from stenobird.media.spool import SpoolFolder
from stenobird.ports import SAMPLE_RATE, AudioLimits, AudioRequest, Clock, Gap, Title
from stenobird.sources import AudioSource
from tests.support.media_server import MediaServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from stenobird.ports import PCM, AudioStream, OpenedMedia


@dataclass
class QuickClock(Clock):
    """Time passes at once, and is written down."""

    slept: list[float] = field(default_factory=list)

    def time(self) -> float:
        """Return a date in 2027, plus what was slept."""
        return 1_800_000_000.0 + sum(self.slept)

    def monotonic(self) -> float:
        """Return what was slept."""
        return sum(self.slept)

    async def sleep(self, seconds: float) -> None:
        """Return at once."""
        self.slept.append(seconds)


def limits_of(
    *, stop_seconds: float | None = None, max_seconds: float = 3600.0, max_bytes: int = 1 << 30
) -> AudioLimits:
    """Return limits in seconds."""
    stop_samples = None if stop_seconds is None else int(stop_seconds * SAMPLE_RATE)
    return AudioLimits(max_bytes, int(max_seconds * SAMPLE_RATE), stop_samples)


@dataclass
class MediaWorld:
    """An opener, the client it uses, and the server that the files come from."""

    server: MediaServer
    client: EgressClient
    opener: MediaOpener
    clock: QuickClock
    spool_dir: Path

    def request(
        self,
        path: str,
        limits: AudioLimits | None = None,
        *,
        job_id: str = "tr_1",
        start_sample: int = 0,
        fingerprint: Mapping[str, Any] | None = None,
        opened: OpenedMedia | None = None,
    ) -> AudioRequest:
        """Return the request for a path of the server, or for a URL."""
        url = path if ":" in path else self.server.url(path)
        source = AudioSource(url, url, url, "direct", "a test")
        return AudioRequest(job_id, source, limits or limits_of(), start_sample, fingerprint, opened)

    async def hear(self, path: str, **wishes: Any) -> Heard:
        """Hear all of a file."""
        async with self.opener.open(self.request(path, **wishes)) as stream:
            pcm = await collect(stream)
            return Heard(pcm, stream.duration_seconds, stream.warning, stream.fingerprint)


@dataclass
class Heard:
    """What a stream gave, and what it said at its end."""

    pcm: PCM
    duration_seconds: float | None
    warning: str | None
    fingerprint: Mapping[str, Any]


async def pcm_of(stream: AudioStream) -> AsyncIterator[PCM]:
    """Yield the blocks of a stream that is not live."""
    async for block in stream:
        assert not isinstance(block, (Gap, Title))
        yield block


async def collect(stream: AudioStream) -> PCM:
    """Return all that the stream gives, as one array."""
    blocks = [block async for block in pcm_of(stream)]
    assert all(0 < len(block) <= SAMPLE_RATE for block in blocks)
    return np.concatenate(blocks) if blocks else np.zeros(0, np.int16)


@asynccontextmanager
async def media_world(spool_dir: Path, **options: Any) -> AsyncIterator[MediaWorld]:
    """Start the server and the client, and put an opener on them."""
    policy = EgressPolicy(allow=[ipaddress.ip_network("127.0.0.1/32")], ports=None)
    clock = QuickClock()
    async with MediaServer() as server, EgressClient(policy) as client:
        opener = MediaOpener(client, SpoolFolder(spool_dir, quota_bytes=1 << 30), clock, **options)
        yield MediaWorld(server, client, opener, clock, spool_dir)
