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
    LEVEL_DIFFERENCE_DB,
    MAX_REGION_SECONDS,
    Block,
    BlockFinder,
    Window,
    WindowRules,
    levelled,
    next_window,
    quietest,
    speech_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.ports import PCM

RULES = WindowRules()
FRAME_SECONDS = FRAME_SAMPLES / SAMPLE_RATE


def frames(*runs: tuple[float, float]) -> list[float]:
    """Return probabilities from pairs of (probability, seconds)."""
    return [p for p, seconds in runs for _ in range(round(seconds / FRAME_SECONDS))]


def first_block(
    probabilities: Sequence[float], *, pcm: PCM | None = None, of_job: bool = False
) -> Block | None:
    """Return the first block that ends; `of_job` if nothing of the job came before it."""
    finder = BlockFinder(RULES, first=of_job)
    samples = pcm if pcm is not None else np.zeros(len(probabilities) * FRAME_SAMPLES, np.int16)
    return finder.block(samples) if any(finder.push(p) for p in probabilities) else None


def all_blocks(probabilities: Sequence[float]) -> list[Block]:
    """Divide a whole stream. Blocks may start within a frame."""
    samples = len(probabilities) * FRAME_SAMPLES
    pcm = np.zeros(samples, np.int16)
    blocks = []
    start = 0
    while start < samples:
        finder = BlockFinder(RULES)
        ended = any(finder.push(p) for p in probabilities[start // FRAME_SAMPLES :])
        blocks.append(finder.block(pcm[start:]) if ended else finder.finish(samples - start))
        start += blocks[-1].samples
    return blocks


def all_windows(block: Block) -> list[Window]:
    """Divide a block as if no window left anything to the next."""
    windows = []
    position = 0
    while (window := next_window(block, RULES, position)) is not None:
        windows.append(window)
        position = window.end
    return windows


def seconds(samples: int) -> float:
    return samples / SAMPLE_RATE


streams = st.lists(
    st.tuples(st.sampled_from([0.0, 0.02, 0.4, 0.5, 0.9, 1.0]), st.floats(0.032, 40.0)),
    min_size=1,
    max_size=25,
).map(lambda runs: frames(*runs))


@settings(max_examples=60, deadline=None)
@given(streams)
def test_blocks_tile_the_audio(probabilities: list[float]) -> None:
    blocks = all_blocks(probabilities)

    assert sum(block.samples for block in blocks) == len(probabilities) * FRAME_SAMPLES
    for block in blocks:
        assert block.samples > 0
        limit = RULES.level_seconds if block.speech else 0
        lead_in = block.speech[0][0] if block.speech else 0
        assert block.samples - lead_in <= (limit + RULES.idle_seconds + 1) * SAMPLE_RATE
        for (a, b), (c, _) in itertools.pairwise([*block.speech, (block.samples, block.samples)]):
            assert 0 <= a < b <= c


@settings(max_examples=60, deadline=None)
@given(streams)
def test_windows_hold_all_speech_and_fit_into_what_whisper_decodes(probabilities: list[float]) -> None:
    for block in all_blocks(probabilities):
        position = 0
        for window in all_windows(block):
            assert position <= window.start < window.end <= block.samples
            assert window.end - window.start <= MAX_REGION_SECONDS * SAMPLE_RATE
            assert speech_seconds(block.after(position).speech, window.start - position) == 0
            for (a, b), (c, _) in itertools.pairwise([*window.speech, (window.end - window.start,) * 2]):
                assert 0 <= a < b <= c
            position = window.end
        assert speech_seconds(block.after(position).speech, block.samples) <= 0.3


def test_a_block_ends_in_the_longest_pause_after_45_seconds() -> None:
    block = first_block(frames((1, 20), (0, 2), (1, 28), (0, 0.5), (1, 5), (0, 0.96), (1, 30)))

    assert block is not None
    assert seconds(block.samples) == pytest.approx(55.98, abs=0.1)
    assert [seconds(b - a) for a, b in block.speech] == pytest.approx([20, 28, 5], abs=0.1)


def test_the_first_block_of_a_job_ends_where_speech_goes_on_after_its_window() -> None:
    block = first_block(frames((0, 3), (1, 14), (0, 4), (1, 9), (0, 2), (1, 30)), of_job=True)

    assert block is not None
    assert seconds(block.samples) == pytest.approx(32, abs=0.1)
    window = next_window(block, RULES)
    assert window is not None
    assert seconds(window.start) == pytest.approx(1, abs=0.1)
    assert not window.final


def test_audio_that_fits_in_one_window_is_never_divided() -> None:
    speech = frames((0, 1.5), (1, 5), (0, 4), (1, 8), (0, 6), (1, 5))
    finder = BlockFinder(RULES, first=True)

    assert not any(finder.push(p) for p in speech)
    block = finder.finish(round(29.5 * SAMPLE_RATE))
    window = next_window(block, RULES)

    assert window is not None
    assert (window.start, window.end, window.final) == (0, round(29.5 * SAMPLE_RATE), True)


def test_a_block_without_a_pause_ends_where_it_is_quietest() -> None:
    pcm = np.full(92 * SAMPLE_RATE, 3000, np.int16)
    pcm[round(88.50 * SAMPLE_RATE) : round(88.54 * SAMPLE_RATE)] = 10

    block = first_block(frames((1, 91.0)), pcm=pcm)

    assert block is not None
    assert 88.50 < seconds(block.samples) < 88.54


def test_three_seconds_of_silence_end_a_block_and_leave_padding_to_the_next() -> None:
    block = first_block(frames((0, 1.0), (1, 1.0), (0, 4.0)))

    assert block is not None
    assert seconds(block.samples) == pytest.approx(4.5, abs=0.1)
    (window,) = all_windows(block)
    assert [seconds(window.start), seconds(window.end)] == pytest.approx([0.0, 4.0], abs=0.05)
    assert window.final


def test_silence_moves_on_without_anything_to_decode() -> None:
    block = first_block(frames((0, 31.0)))

    assert block is not None
    assert block.speech == ()
    assert seconds(block.samples) == pytest.approx(29.5, abs=0.1)
    assert all_windows(block) == []


def test_only_the_last_window_of_a_block_is_final() -> None:
    block = Block(60 * SAMPLE_RATE, ((0, 40 * SAMPLE_RATE), (41 * SAMPLE_RATE, 50 * SAMPLE_RATE)))

    windows = all_windows(block)

    assert [(seconds(w.start), seconds(w.end), w.final) for w in windows] == [
        (0.0, 30.0, False),
        (30.0, 52.0, True),
    ]


def test_a_window_that_ends_in_a_pause_before_more_speech_is_not_final() -> None:
    block = Block(60 * SAMPLE_RATE, ((0, 28 * SAMPLE_RATE), (30 * SAMPLE_RATE, 50 * SAMPLE_RATE)))

    window = next_window(block, RULES)

    assert window is not None
    assert (seconds(window.end), window.final) == (30.0, False)


def test_the_rest_of_a_block_has_the_windows_of_the_block() -> None:
    block = Block(60 * SAMPLE_RATE, ((0, 28 * SAMPLE_RATE), (30 * SAMPLE_RATE, 50 * SAMPLE_RATE)))
    position = 25 * SAMPLE_RATE

    whole, rest = next_window(block, RULES, position), next_window(block.after(position), RULES)

    assert whole is not None
    assert rest is not None
    assert rest == Window(whole.start - position, whole.end - position, whole.speech, whole.final)


def test_a_click_is_not_speech() -> None:
    finder = BlockFinder(RULES)

    assert not any(finder.push(p) for p in frames((0, 1.0), (1, 0.2), (0, 2.0)))
    assert finder.finish(3 * SAMPLE_RATE).speech == ()


def test_a_dip_below_the_speech_threshold_does_not_end_a_run() -> None:
    finder = BlockFinder(RULES)

    assert not any(
        finder.push(p) for p in frames((0.6, 1.0), (0.4, 0.5), (0.6, 1.0), (0.0, 0.064), (0.6, 1.0))
    )
    assert len(finder.finish(4 * SAMPLE_RATE).speech) == 1


def test_a_last_frame_that_is_filled_up_never_moves_an_end_behind_the_audio() -> None:
    finder = BlockFinder(RULES)
    probabilities = frames((1, 90.016))
    assert any(finder.push(p) for p in probabilities)
    pcm = np.full(len(probabilities) * FRAME_SAMPLES - 500, 100, np.int16)

    assert finder.block(pcm).samples <= len(pcm)


def test_a_voice_far_quieter_than_the_loudest_is_raised() -> None:
    second = np.ones(SAMPLE_RATE, np.int16)
    pcm = np.concatenate([8000 * second, 0 * second, 20 * second, 40 * second, second])
    speech = tuple((start * SAMPLE_RATE, end * SAMPLE_RATE) for start, end in ((0, 1), (2, 3)))
    gain = 8000 / 20 * 10 ** (-LEVEL_DIFFERENCE_DB / 20)

    raised = levelled(pcm, speech)

    assert raised[: SAMPLE_RATE + SAMPLE_RATE // 2].tolist() == pcm[: SAMPLE_RATE + SAMPLE_RATE // 2].tolist()
    assert raised[::SAMPLE_RATE].tolist() == pytest.approx([8000, 0, 20 * gain, 40 * gain, gain], abs=2)


@pytest.mark.parametrize(("level", "end"), [(2000, 3.0), (20, 2.5)])
def test_other_speech_keeps_its_level(level: int, end: float) -> None:
    # It is not so quiet, or so short that it may be noise.
    second = np.ones(SAMPLE_RATE, np.int16)
    pcm = np.concatenate([8000 * second, 0 * second, level * second])

    assert (
        levelled(pcm, ((0, SAMPLE_RATE), (2 * SAMPLE_RATE, round(end * SAMPLE_RATE)))).tolist()
        == pcm.tolist()
    )
    assert levelled(pcm, ()).tolist() == pcm.tolist()


def test_quietest_prefers_the_later_of_equals() -> None:
    assert quietest(np.zeros(16_000, np.int16), 0, 16_000) == 16_000 - 160
    assert quietest(np.zeros(16_000, np.int16), 100, 300) == 200


def test_the_rest_of_the_audio_is_divided_at_its_longest_pause_near_the_middle() -> None:
    spoken = frames((1.0, 10.0), (0.0, 1.6), (1.0, 14.4), (0.0, 0.64), (1.0, 3.2), (0.0, 0.96), (1.0, 28.8))

    first, second = all_blocks(spoken)

    assert seconds(first.samples) == pytest.approx(10.0 + 1.6 + 14.4 + 0.64 + 3.2 + 0.48, abs=0.1)
    assert first.samples + second.samples == len(spoken) * FRAME_SAMPLES


@pytest.mark.parametrize(("pause", "speech"), [(0.96, 18.0), (0.224, 25.0)])
def test_what_is_short_or_has_no_pause_near_the_middle_is_not_divided(pause: float, speech: float) -> None:
    spoken = frames((1.0, speech), (0.0, pause), (1.0, speech))

    assert len(all_blocks(spoken)) == 1


def test_a_job_s_first_window_is_not_divided() -> None:
    finder = BlockFinder(RULES, first=True)
    spoken = frames((1.0, 25.0), (0.0, 1.0), (1.0, 25.0))
    for probability in spoken:
        finder.push(probability)

    assert finder.finish(len(spoken) * FRAME_SAMPLES).samples == len(spoken) * FRAME_SAMPLES
