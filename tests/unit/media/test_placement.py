"""When live audio was on air, for stations and playlists whose pace is known exactly."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stenobird.media.feed import Stretch
from stenobird.media.placement import FRAME_SECONDS, Placement
from stenobird.ports import SAMPLE_RATE, Gap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stenobird.ports import PCM

NOON = 1_800_000_000.0
BLOCK = np.ones(SAMPLE_RATE // 4, np.int16)
BLOCK_SECONDS = 0.25


def a_stretch(**changes: Any) -> Stretch:
    async def nothing() -> Any:
        yield b""

    return Stretch(nothing(), "disconnected", **changes)


class Listener:
    """Takes a station's blocks as they arrive, and keeps where each came to lie."""

    def __init__(self, **changes: Any) -> None:
        self.placement = Placement(**{"at": None, "start": 0, "end": 1 << 40} | changes)
        self.gaps: list[tuple[float, Gap]] = []
        self.samples = 0

    def note(self, items: Iterable[PCM | Gap]) -> None:
        for item in items:
            if isinstance(item, Gap):
                self.gaps.append((self.placement.reached / SAMPLE_RATE - item.samples / SAMPLE_RATE, item))
            else:
                self.samples += len(item)

    def hear(self, arrival: Callable[[float], float], seconds: float, since: float = 0.0) -> None:
        """Take blocks, of which the sample that was on air at `NOON + t` arrives at `NOON + arrival(t)`."""
        for number in range(int(seconds / BLOCK_SECONDS)):
            end = since + (number + 1) * BLOCK_SECONDS
            self.note(self.placement.take(BLOCK, NOON + arrival(end)))

    @property
    def began(self) -> float:
        """When sample 0 was on air, in seconds from noon."""
        assert self.placement.at is not None
        return self.placement.at - NOON


@pytest.mark.parametrize("burst_seconds", [0.0, 8.0, 45.0])
def test_what_a_server_sends_at_once_was_on_air_before_the_connection(burst_seconds: float) -> None:
    listener = Listener()
    listener.placement.begin(a_stretch())
    listener.hear(lambda t: max(t, burst_seconds + t / 1000), seconds=70)
    assert listener.began == pytest.approx(0, abs=0.1)
    assert listener.gaps == []
    assert listener.samples == 70 * SAMPLE_RATE


@pytest.mark.parametrize("pace", [1.05, 1.25, 2.0])
def test_a_server_that_sends_its_past_slowly_shows_when_it_began(pace: float) -> None:
    """It begins 20 s late, and catches up at its pace: for 400 s at most."""
    listener = Listener()
    listener.placement.begin(a_stretch())
    listener.hear(lambda t: max(t, 20 + t / pace), seconds=450)
    assert listener.began == pytest.approx(20 - 300 * (1 - 1 / pace) if pace < 1.1 else 0, abs=0.5)
    assert listener.gaps == []
    assert listener.samples == 450 * SAMPLE_RATE


@pytest.mark.parametrize("parts_per_million", [-300, -50, 50, 300])
def test_times_count_the_samples_of_a_source_whose_clock_drifts(parts_per_million: int) -> None:
    """Four hours: no sample is left out; a clock that is too slow is followed by gaps, a fast one is not."""
    listener = Listener()
    listener.placement.begin(a_stretch())
    rate = 1 + parts_per_million / 1e6
    seconds = 4 * 3600
    listener.hear(lambda t: t / rate, seconds=seconds)
    assert listener.samples == seconds * SAMPLE_RATE
    late = listener.placement.late_seconds(NOON + seconds / rate)
    missing = sum(gap.samples for _, gap in listener.gaps) / SAMPLE_RATE
    if parts_per_million < 0:
        assert abs(late) < 0.5
    else:
        assert missing == 0
        assert late == pytest.approx(seconds / rate - seconds, abs=0.5)
    assert listener.began == pytest.approx(0, abs=0.5)


def test_a_server_that_never_slows_down_is_not_believed() -> None:
    """It may have been a minute behind, no more: what comes sooner is in the future, and has to wait."""
    listener = Listener()
    listener.placement.begin(a_stretch())
    listener.hear(lambda t: t / 100, seconds=300)
    assert listener.began == pytest.approx(-60, abs=0.1)
    assert listener.placement.late_seconds(NOON + 3) == pytest.approx(-237, abs=0.5)


def segments(listener: Listener, *given: tuple[int, float]) -> None:
    """Take segments of six seconds: the media sequence, and how many seconds of audio each one gives."""
    for sequence, seconds in given:
        listener.note(listener.placement.segment(sequence, 6.0))
        for _ in range(int(seconds / BLOCK_SECONDS)):
            listener.note(listener.placement.take(BLOCK, NOON))


def test_a_segment_that_is_no_audio_is_a_gap_of_its_length() -> None:
    listener = Listener()
    listener.placement.begin(a_stretch(start=NOON))
    segments(listener, (10, 6.0), (11, 5.75), (12, 0.0), (13, 6.0))
    [(start, gap)] = listener.gaps
    assert (start, gap.samples, gap.reason) == (11.75, 6 * SAMPLE_RATE, "undecodable")
    assert listener.placement.anchor == (13, (17.75 + FRAME_SECONDS) * SAMPLE_RATE)


def test_what_a_decoder_lost_when_it_ended_is_a_gap_before_the_next_stretch() -> None:
    listener = Listener()
    listener.placement.begin(a_stretch(start=NOON))
    segments(listener, (10, 6.0), (11, 2.0))
    listener.placement.begin(a_stretch(missing_seconds=6.0))  # 12 could not be fetched
    segments(listener, (13, 0.0))
    listener.placement.begin(a_stretch(missing_seconds=0.0))
    segments(listener, (14, 6.0))
    [(start, gap)] = listener.gaps
    assert (start, gap.reason) == (8.0, "undecodable")
    assert gap.samples / SAMPLE_RATE == pytest.approx(16.0, abs=FRAME_SECONDS)
    assert listener.placement.anchor == (14, 8 * SAMPLE_RATE + gap.samples)


def test_lengths_that_are_rounded_are_no_gaps() -> None:
    listener = Listener()
    listener.placement.begin(a_stretch(start=NOON))
    segments(listener, *((number, 5.5) for number in range(40)))
    assert listener.gaps == []
    assert listener.placement.anchor == (39, (39 * 5.5 + FRAME_SECONDS) * SAMPLE_RATE)


def test_samples_that_a_takeover_receives_again_are_left_out() -> None:
    listener = Listener(at=NOON, start=20 * SAMPLE_RATE)
    listener.placement.begin(a_stretch(start=NOON + 18.0))
    segments(listener, (13, 6.0))
    assert [(start, gap.samples, gap.reason) for start, gap in listener.gaps] == [
        (20.0, SAMPLE_RATE // 4, "restarted")
    ]
    assert listener.placement.reached == 24 * SAMPLE_RATE
    assert listener.placement.anchor == (13, 18 * SAMPLE_RATE)


def test_nothing_is_placed_behind_the_end() -> None:
    listener = Listener(end=10 * SAMPLE_RATE)
    listener.placement.begin(a_stretch(start=NOON))
    segments(listener, (1, 6.0), (2, 0.0), (3, 6.0))
    assert listener.samples + sum(gap.samples for _, gap in listener.gaps) == 10 * SAMPLE_RATE
    assert list(itertools.chain(listener.placement.place())) == []
