"""Previews hear exactly what they may, and fetch little more than that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from stenobird.egress.client import RequestOptions
from stenobird.ports import SAMPLE_RATE
from tests.support.media_server import Resource
from tests.support.media_world import collect, limits_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.media_world import MediaWorld

pytestmark = pytest.mark.anyio

NEEDED_BYTES = 15 * 64_000 // 8


@pytest.fixture(scope="module")
def hour(audio: Callable[..., bytes]) -> bytes:
    """An hour of mp3 at a constant 64 kbit/s."""
    minute = audio("mp3", seconds=60.0, bit_rate=64_000)
    return minute * 60


async def test_a_preview_of_an_hour_fetches_less_than_twice_what_it_needs(
    world: MediaWorld, hour: bytes
) -> None:
    world.server.resources["/hour.mp3"] = Resource(hour)
    url = world.server.url("/hour.mp3")
    # As discovery does it: 64 KiB, sniffed, handed on.
    opened = await world.client.open(url, RequestOptions(byte_range=(0, 65_535)))
    await opened.peek(4096)
    request = world.request(url, limits=limits_of(stop_seconds=15.0, max_seconds=7200.0), opened=opened)
    async with world.opener.open(request) as stream:
        pcm = await collect(stream)
        assert stream.duration_seconds == pytest.approx(3600, rel=0.02)
        assert stream.warning is None
    assert len(pcm) == 15 * SAMPLE_RATE
    assert NEEDED_BYTES <= world.server.sent_bytes["/hour.mp3"] < 2 * NEEDED_BYTES


async def test_a_preview_without_a_response_from_discovery_requests_ranges_itself(
    world: MediaWorld, hour: bytes
) -> None:
    world.server.resources["/hour.mp3"] = Resource(hour)
    heard = await world.hear("/hour.mp3", limits=limits_of(stop_seconds=15.0))
    assert len(heard.pcm) == 15 * SAMPLE_RATE
    assert world.server.sent_bytes["/hour.mp3"] < 2 * NEEDED_BYTES
    assert world.server.ranges("/hour.mp3")[0] == "bytes=0-65535"


async def test_a_preview_from_a_server_without_ranges_drops_the_connection(
    world: MediaWorld, hour: bytes
) -> None:
    world.server.resources["/hour.mp3"] = Resource(hour, ranges=False)
    heard = await world.hear("/hour.mp3", limits=limits_of(stop_seconds=15.0))
    assert len(heard.pcm) == 15 * SAMPLE_RATE
    assert len(world.server.requests) == 1
    # What the two kernels' socket buffers swallowed comes on top, and is far from the whole.
    assert world.server.sent_bytes["/hour.mp3"] < len(hour) // 4


async def test_a_preview_fetches_the_index_of_an_mp4_from_its_end(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    file = audio("m4a-index-last", seconds=120.0)
    assert file.index(b"moov") > len(file) // 2
    world.server.resources["/a.m4a"] = Resource(file)
    heard = await world.hear("/a.m4a", limits=limits_of(stop_seconds=15.0))
    assert len(heard.pcm) == 15 * SAMPLE_RATE
    assert world.server.sent_bytes["/a.m4a"] < len(file) // 2


async def test_a_preview_skips_cover_art(world: MediaWorld, audio: Callable[..., bytes]) -> None:
    art = bytes(2_000_000)
    length = len(art)
    syncsafe = bytes(length >> shift & 0x7F for shift in (21, 14, 7, 0))
    file = b"ID3\x04\x00\x00" + syncsafe + art + audio("mp3", seconds=60.0, bit_rate=64_000)
    world.server.resources["/art.mp3"] = Resource(file)
    heard = await world.hear("/art.mp3", limits=limits_of(stop_seconds=15.0))
    assert len(heard.pcm) == 15 * SAMPLE_RATE
    assert world.server.sent_bytes["/art.mp3"] < 65_536 + 2 * NEEDED_BYTES


async def test_audio_shorter_than_the_preview_ends_cleanly(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    world.server.resources["/a"] = Resource(audio("flac"))
    heard = await world.hear("/a", limits=limits_of(stop_seconds=15.0))
    assert len(heard.pcm) == 8 * SAMPLE_RATE
    assert heard.duration_seconds == 8.0
    assert heard.warning is None


async def test_a_full_job_continues_after_what_a_preview_decoded(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    world.server.resources["/a.mp3"] = Resource(audio("mp3", seconds=60.0))
    preview = await world.hear("/a.mp3", job_id="tr_preview", limits=limits_of(stop_seconds=15.0))
    assert preview.fingerprint["prefix_bytes"] > 0
    rest = await world.hear(
        "/a.mp3", job_id="tr_full", start_sample=len(preview.pcm), fingerprint=dict(preview.fingerprint)
    )
    whole = await world.hear("/a.mp3", job_id="tr_whole")
    np.testing.assert_array_equal(np.concatenate([preview.pcm, rest.pcm]), whole.pcm)
