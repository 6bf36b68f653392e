from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stenobird.ports import SAMPLE_RATE
from stenobird.speech.windows import (
    FRAME_SAMPLES,
    MAX_REGION_SECONDS,
    Cut,
    CutRules,
    WindowCutter,
    quietest,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.ports import PCM

RULES = CutRules()
FRAME_SECONDS = FRAME_SAMPLES / SAMPLE_RATE


def frames(*runs: tuple[float, float]) -> list[float]:
    """Return probabilities from pairs of (probability, seconds)."""
    return [p for p, seconds in runs for _ in range(round(seconds / FRAME_SECONDS))]


def first_cut(probabilities: Sequence[float], *, target: float = 6.0, pcm: PCM | None = None) -> Cut | None:
    cutter = WindowCutter(target_seconds=target, rules=RULES)
    samples = pcm if pcm is not None else np.zeros(len(probabilities) * FRAME_SAMPLES, np.int16)
    return cutter.cut(samples) if any(cutter.push(p) for p in probabilities) else None


def all_cuts(probabilities: Sequence[float]) -> list[tuple[float, Cut]]:
    """Cut a whole stream; return each window with its target. Windows may start within a frame."""
    samples = len(probabilities) * FRAME_SAMPLES
    pcm = np.zeros(samples, np.int16)
    cuts = []
    start, seconds = 0, 0.0
    while start < samples:
        target = RULES.target_seconds(seconds)
        cutter = WindowCutter(target_seconds=target, rules=RULES)
        rest = probabilities[start // FRAME_SAMPLES :]
        closed = any(cutter.push(p) for p in rest)
        cut = cutter.cut(pcm[start:]) if closed else cutter.finish(samples - start)
        cuts.append((target, cut))
        seconds += cut.speech_seconds
        start += cut.samples
    return cuts


streams = st.lists(
    st.tuples(st.sampled_from([0.0, 0.02, 0.4, 0.5, 0.9, 1.0]), st.floats(0.032, 40.0)),
    min_size=1,
    max_size=25,
).map(lambda runs: frames(*runs))


@settings(max_examples=60, deadline=None)
@given(streams)
def test_windows_tile_the_audio(probabilities: list[float]) -> None:
    cuts = all_cuts(probabilities)

    assert sum(cut.samples for _, cut in cuts) == len(probabilities) * FRAME_SAMPLES
    assert all(cut.samples > 0 for _, cut in cuts)


@settings(max_examples=60, deadline=None)
@given(streams)
def test_regions_fit_into_what_whisper_decodes_and_keep_to_the_ramp(probabilities: list[float]) -> None:
    for target, cut in all_cuts(probabilities):
        if cut.region is None:
            assert cut.speech == ()
            assert cut.samples <= (RULES.idle_seconds + 1) * SAMPLE_RATE
            continue
        start, end = cut.region
        assert 0 <= start < end <= cut.samples
        assert end - start <= MAX_REGION_SECONDS * SAMPLE_RATE
        from_first_speech = cut.speech[0][0]
        assert cut.speech[-1][1] - from_first_speech <= (target + FRAME_SECONDS) * SAMPLE_RATE
        for (a, b), (c, _) in itertools.pairwise([*cut.speech, (end, end)]):
            assert start <= a < b <= c


def test_the_ramp_follows_the_speech_so_far() -> None:
    assert [RULES.target_seconds(seconds) for seconds in (0, 1.9, 2, 7.9, 8, 16, 3600)] == [
        6.0,
        6.0,
        12.0,
        12.0,
        20.0,
        28.0,
        28.0,
    ]


def test_cut_falls_into_the_middle_of_the_longest_pause_of_the_zone() -> None:
    speech = frames((1, 2.0), (0, 1.0), (1, 1.5), (0, 0.32), (1, 0.5), (0, 0.48), (1, 3.0))

    cut = first_cut(speech)

    assert cut is not None
    assert cut.reason == "pause"
    start = round(5.3 / FRAME_SECONDS) * FRAME_SAMPLES
    assert abs(cut.samples - (start + 0.24 * SAMPLE_RATE)) <= 2 * FRAME_SAMPLES


def test_a_short_pause_is_taken_when_there_is_no_longer_one() -> None:
    cut = first_cut(frames((1, 4.5), (0, 0.192), (1, 3.0)))

    assert cut is not None
    assert cut.reason == "pause"
    assert 4.4 < cut.samples / SAMPLE_RATE < 4.8


def test_running_speech_is_cut_where_it_is_quietest() -> None:
    pcm = np.full(8 * SAMPLE_RATE, 3000, np.int16)
    pcm[round(4.50 * SAMPLE_RATE) : round(4.54 * SAMPLE_RATE)] = 10

    cut = first_cut(frames((1, 8.0)), pcm=pcm)

    assert cut is not None
    assert cut.reason == "level"
    assert 4.50 < cut.samples / SAMPLE_RATE < 4.54
    assert cut.region is not None
    assert cut.region[1] == cut.samples


def test_three_seconds_of_silence_close_a_window_and_leave_padding_to_the_next() -> None:
    cut = first_cut(frames((0, 1.0), (1, 1.0), (0, 4.0)))

    assert cut is not None
    assert cut.reason == "silence"
    assert cut.samples / SAMPLE_RATE == pytest.approx(4.5, abs=0.1)
    assert cut.region is not None
    assert np.array(cut.region) / SAMPLE_RATE == pytest.approx([0.7, 2.3], abs=0.05)


def test_silence_moves_on_without_anything_to_decode() -> None:
    cut = first_cut(frames((0, 31.0)))

    assert cut is not None
    assert (cut.reason, cut.region, cut.speech) == ("silence", None, ())
    assert cut.samples / SAMPLE_RATE == pytest.approx(29.5, abs=0.1)


def test_a_click_is_not_speech() -> None:
    cutter = WindowCutter(target_seconds=6, rules=RULES)

    assert not any(cutter.push(p) for p in frames((0, 1.0), (1, 0.2), (0, 2.0)))
    assert cutter.finish(3 * SAMPLE_RATE).region is None


def test_a_dip_below_the_speech_threshold_does_not_end_a_run() -> None:
    cutter = WindowCutter(target_seconds=6, rules=RULES)

    assert not any(
        cutter.push(p) for p in frames((0.6, 1.0), (0.4, 0.5), (0.6, 1.0), (0.0, 0.064), (0.6, 1.0))
    )
    assert len(cutter.finish(4 * SAMPLE_RATE).speech) == 1


def test_a_last_frame_that_is_filled_up_never_moves_a_cut_behind_the_audio() -> None:
    cutter = WindowCutter(target_seconds=6, rules=RULES)
    probabilities = frames((1, 6.016))
    assert any(cutter.push(p) for p in probabilities)
    pcm = np.full(len(probabilities) * FRAME_SAMPLES - 500, 100, np.int16)

    assert cutter.cut(pcm).samples <= len(pcm)


def test_speech_before_a_position_is_counted_for_a_window_that_ends_early() -> None:
    cut = Cut(100_000, "level", (0, 100_000), ((0, 16_000), (32_000, 64_000)))

    assert cut.speech_seconds == 3.0
    assert cut.speech_seconds_before(40_000) == 1.5


def test_quietest_prefers_the_later_of_equals() -> None:
    assert quietest(np.zeros(16_000, np.int16), 0, 16_000) == 16_000 - 160
    assert quietest(np.zeros(16_000, np.int16), 100, 300) == 200
