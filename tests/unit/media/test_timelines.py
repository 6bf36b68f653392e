"""Times are those of the player's clock: late starts and pauses count, and nothing is dropped."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest

from stenobird.ports import SAMPLE_RATE
from tests.support.audio import tone
from tests.support.media_server import Resource
from tests.support.media_world import limits_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stenobird.ports import PCM
    from tests.support.media_world import MediaWorld

pytestmark = pytest.mark.anyio

CODECS = {"webm": "libopus", "ogg": "libopus", "asf": "wmav2", "mpeg": "mp2", "avi": "libmp3lame"}


def timed(
    container: str,
    pieces: Sequence[tuple[float, float]],
    *,
    picture_seconds: float = 0.0,
    options: dict[str, str] | None = None,
) -> bytes:
    """Return a file whose audio is in pieces of `(start, length)` seconds, with a picture or without."""
    target = io.BytesIO()
    rate = 48_000
    with av.open(target, "w", format=container, options=options or {}) as output:
        picture: Any = None
        if picture_seconds:
            picture = output.add_stream("mpeg2video" if container == "mpeg" else "mpeg4", rate=25)
            picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        stream: Any = output.add_stream(CODECS.get(container, "aac"), rate=rate)
        stream.layout = "stereo"
        stream.bit_rate = 128_000
        packets = []
        for start, seconds in pieces:
            encoder: Any = av.CodecContext.create(stream.codec_context.name, "w")
            encoder.sample_rate, encoder.layout, encoder.format = rate, "stereo", stream.codec_context.format
            encoder.bit_rate = 128_000
            encoder.open()
            size = encoder.frame_size or 1024
            resampler = av.AudioResampler(format=encoder.format, layout="stereo", rate=rate, frame_size=size)
            frame = av.AudioFrame.from_ndarray(np.repeat(tone(seconds, rate), 2)[None, :], "s16", "stereo")
            frame.sample_rate, frame.pts = rate, 0
            for ready in [*resampler.resample(frame), *resampler.resample(None), None]:
                for packet in encoder.encode(ready):
                    seconds_at = start + float(packet.pts * packet.time_base)
                    if seconds_at >= 0:
                        packets.append((seconds_at, 1, packet, stream))
        for number in range(int(picture_seconds * 25)):
            image = av.VideoFrame.from_ndarray(np.full((64, 64, 3), number % 255, np.uint8), format="rgb24")
            image.pts = number
            packets += [(number / 25, 0, packet, picture) for packet in picture.encode(image)]
        for seconds_at, _order, packet, owner in sorted(packets, key=lambda entry: entry[:2]):
            packet.stream = owner
            if owner is stream:
                packet.pts = packet.dts = round(seconds_at / packet.time_base)
            output.mux(packet)
    return target.getvalue()


def spoken(pcm: PCM) -> list[tuple[float, float]]:
    """Return start and end in seconds of what lies between silences of at least half a second."""
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > 500)
    breaks = np.flatnonzero(np.diff(loud) > SAMPLE_RATE // 2)
    starts = loud[np.concatenate([[0], breaks + 1])] / SAMPLE_RATE
    ends = loud[np.concatenate([breaks, [-1]])] / SAMPLE_RATE
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


LATE: dict[str, tuple[float, Callable[[], bytes]]] = {
    "mp4": (8, lambda: timed("mp4", [(8, 3)], picture_seconds=12)),
    "mov": (5, lambda: timed("mov", [(5, 3)], picture_seconds=9)),
    "mkv": (8, lambda: timed("matroska", [(8, 3)], picture_seconds=12)),
    "mkv without a picture": (5, lambda: timed("matroska", [(5, 3)])),
    "mp4 without a picture": (5, lambda: timed("mp4", [(5, 3)])),
    "webm": (2.5, lambda: timed("webm", [(2.5, 3)])),
    "mpegts": (3, lambda: timed("mpegts", [(3, 3)], picture_seconds=7)),
}


@pytest.mark.parametrize("name", LATE)
async def test_audio_that_starts_late_has_the_times_of_the_player(name: str, world: MediaWorld) -> None:
    start, make = LATE[name]
    world.server.resources["/a"] = Resource(make())
    heard = await world.hear("/a")
    assert spoken(heard.pcm) == [pytest.approx((start, start + 3), abs=0.15)]
    assert heard.warning is None


PAUSED: dict[str, Callable[[], bytes]] = {
    "mp4": lambda: timed("mp4", [(0, 3), (23, 2)]),
    "fragmented mp4": lambda: timed(
        "mp4", [(0, 3), (23, 2)], options={"movflags": "frag_every_frame+empty_moov"}
    ),
    "mkv": lambda: timed("matroska", [(0, 3), (23, 2)], picture_seconds=25),
    "webm": lambda: timed("webm", [(0, 3), (23, 2)]),
    "webm of a recorder": lambda: timed("webm", [(0, 3), (23, 2)], options={"live": "1"}),
    "asf": lambda: timed("asf", [(0, 3), (23, 2)]),
}


@pytest.mark.parametrize("name", PAUSED)
async def test_a_pause_of_the_recorder_counts(name: str, world: MediaWorld) -> None:
    world.server.resources["/a"] = Resource(PAUSED[name]())
    heard = await world.hear("/a")
    first, second = spoken(heard.pcm)
    assert first == pytest.approx((0, 3), abs=0.15)
    assert second == pytest.approx((23, 25), abs=0.15)
    assert heard.warning is None


async def test_a_resume_within_a_pause_gives_the_same_audio(world: MediaWorld) -> None:
    world.server.resources["/a"] = Resource(PAUSED["webm"]())
    whole = await world.hear("/a")
    rest = await world.hear("/a", job_id="tr_2", start_sample=10 * SAMPLE_RATE + 1)
    np.testing.assert_array_equal(rest.pcm, whole.pcm[10 * SAMPLE_RATE + 1 :])


async def test_a_preview_ends_within_a_pause(world: MediaWorld) -> None:
    world.server.resources["/a"] = Resource(PAUSED["mp4"]())
    heard = await world.hear("/a", limits=limits_of(stop_seconds=15.0))
    assert len(heard.pcm) == 15 * SAMPLE_RATE


SPLICED: dict[str, Callable[[], bytes]] = {
    "back to zero": lambda: timed("mpegts", [(0, 3)]) + timed("mpegts", [(0, 3)]),
    "an hour ahead": lambda: timed("mpegts", [(0, 3)]) + timed("mpegts", [(3600, 3)]),
    "an hour back": lambda: timed("mpegts", [(3600, 3)]) + timed("mpegts", [(0, 3)]),
}


@pytest.mark.parametrize("name", SPLICED)
async def test_a_splice_neither_drops_nor_invents_audio(name: str, world: MediaWorld) -> None:
    world.server.resources["/a"] = Resource(SPLICED[name]())
    heard = await world.hear("/a")
    assert len(heard.pcm) / SAMPLE_RATE == pytest.approx(6.0, abs=0.3)
    assert heard.warning is None


async def test_a_gap_beyond_the_longest_audio_is_taken_for_a_splice(world: MediaWorld) -> None:
    world.server.resources["/a"] = Resource(timed("matroska", [(0, 3), (5000, 2)]))
    heard = await world.hear("/a", limits=limits_of(max_seconds=3600.0))
    assert len(heard.pcm) / SAMPLE_RATE == pytest.approx(5.0, abs=0.3)


@pytest.mark.parametrize("container", ["matroska", "mp4", "mov", "mpegts", "asf"])
async def test_a_picture_that_is_longer_than_the_audio_is_no_damage(
    container: str, world: MediaWorld
) -> None:
    world.server.resources["/a"] = Resource(timed(container, [(0, 4)], picture_seconds=30))
    heard = await world.hear("/a")
    assert len(heard.pcm) / SAMPLE_RATE == pytest.approx(4.0, abs=0.3)
    assert heard.warning is None


async def test_a_video_that_is_cut_off_is_reported(world: MediaWorld) -> None:
    file = timed("matroska", [(0, 20)], picture_seconds=20)
    world.server.resources["/a"] = Resource(file[: len(file) // 2])
    heard = await world.hear("/a")
    assert heard.warning is not None
    assert "cut off" in heard.warning
