"""Times are those of the player's clock: late starts and pauses count, and nothing is dropped."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest

from stenobird.ports import SAMPLE_RATE
from tests.support.audio import pitches, timed
from tests.support.media_server import Resource
from tests.support.media_world import limits_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stenobird.ports import PCM
    from tests.support.media_world import MediaWorld

pytestmark = pytest.mark.anyio


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
    "mpeg": (3, lambda: timed("mpeg", [(3, 3)], picture_seconds=7)),
    "flv": (4, lambda: timed("flv", [(4, 3)], picture_seconds=8)),
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
    "flv": lambda: timed("flv", [(0, 3), (23, 2)], picture_seconds=25),
    "nut": lambda: timed("nut", [(0, 3), (23, 2)]),
    "flv without a picture": lambda: timed("flv", [(0, 3), (23, 2)]),
}


@pytest.mark.parametrize("name", PAUSED)
async def test_a_pause_of_the_recorder_counts(name: str, world: MediaWorld) -> None:
    world.server.resources["/a"] = Resource(PAUSED[name]())
    heard = await world.hear("/a")
    first, second = spoken(heard.pcm)
    assert first == pytest.approx((0, 3), abs=0.15)
    assert second == pytest.approx((23, 25), abs=0.15)
    assert heard.warning is None


@pytest.mark.parametrize("container", ["mpeg", "mpegts"])
async def test_a_short_pause_in_a_broadcast_counts(container: str, world: MediaWorld) -> None:
    """A long one is a splice there."""
    world.server.resources["/a"] = Resource(timed(container, [(0, 3), (8, 2)], picture_seconds=10))
    heard = await world.hear("/a")
    assert [round(second) for piece in spoken(heard.pcm) for second in piece] == [0, 3, 8, 10]


async def test_a_resume_within_a_pause_gives_the_same_audio(world: MediaWorld) -> None:
    world.server.resources["/a"] = Resource(PAUSED["webm"]())
    whole = await world.hear("/a")
    rest = await world.hear("/a", job_id="tr_2", start_sample=10 * SAMPLE_RATE + 1)
    np.testing.assert_array_equal(rest.pcm, whole.pcm[10 * SAMPLE_RATE + 1 :])


async def test_a_preview_ends_within_a_pause(world: MediaWorld) -> None:
    world.server.resources["/a"] = Resource(PAUSED["mp4"]())
    heard = await world.hear("/a", limits=limits_of(stop_seconds=15.0))
    assert len(heard.pcm) == 15 * SAMPLE_RATE


def edited(edits: Sequence[tuple[float, float | None]]) -> bytes:
    """Return an mp4 of six seconds with edits: their lengths, and where they start, `None` for empty."""
    data = bytearray(timed("mp4", [(0, 6)]))
    at = data.index(b"elst") - 4
    size = int.from_bytes(data[at : at + 4], "big")
    movie, media = (int.from_bytes(data[data.index(name) + 16 :][:4], "big") for name in (b"mvhd", b"mdhd"))
    rows = b"".join(
        struct.pack(">IiI", round(seconds * movie), -1 if start is None else round(start * media), 1 << 16)
        for seconds, start in edits
    )
    data[at : at + size] = struct.pack(">I4sII", 16 + len(rows), b"elst", 0, len(edits)) + rows
    for name in (b"edts", b"trak", b"moov"):
        box = data.rindex(name, 0, at) - 4
        length = int.from_bytes(data[box : box + 4], "big") + 16 + len(rows) - size
        data[box : box + 4] = length.to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([(3, 2)], [500, 600, 700]),
        ([(2, None), (2, 1)], [0, 0, 400, 500]),
        ([(1, 0), (1, 2), (1, 4)], [300, 500, 700]),
        ([(1, None), (1, 4), (1, 1)], [0, 700, 400]),
    ],
    ids=["cut", "late", "three cuts", "late and turned round"],
)
async def test_edits_of_an_mp4_are_heard_in_their_order(
    edits: list[tuple[float, float | None]], expected: list[int], world: MediaWorld
) -> None:
    world.server.resources["/a"] = Resource(edited(edits))
    heard = await world.hear("/a")
    assert [round(pitch, -2) for pitch in pitches(heard.pcm)] == expected
    assert heard.warning is None


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
