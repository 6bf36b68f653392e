"""Filter banks against Kaldi's definition, computed one value at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from stenobird.speakers.features import BINS, FRAME_SAMPLES, STEP_SAMPLES, filter_banks, frame_count


def energy(frame: list[float], number: int) -> float:
    """Kaldi, feature-fbank.cc and mel-computations.cc: the log energy of one mel bin of one frame."""
    mean = sum(frame) / len(frame)
    centered = [value - mean for value in frame]
    emphasized = [
        value - 0.97 * before for value, before in zip(centered, centered[:1] + centered[:-1], strict=True)
    ]
    windowed = [
        value * (0.5 - 0.5 * math.cos(2 * math.pi * n / (FRAME_SAMPLES - 1))) ** 0.85
        for n, value in enumerate(emphasized)
    ]
    lowest, highest = (1127 * math.log(1 + hertz / 700) for hertz in (20.0, 8000.0))
    width = (highest - lowest) / (BINS + 1)
    left = lowest + number * width
    total = 0.0
    for k in range(256):
        mel = 1127 * math.log(1 + k * 16000 / 512 / 700)
        weight = min((mel - left) / width, (left + 2 * width - mel) / width)
        if weight > 0:
            turn = np.exp(-2j * math.pi * k * np.arange(FRAME_SAMPLES) / 512)
            total += weight * abs(np.dot(turn, windowed)) ** 2
    return math.log(max(total, 1.1920929e-07))


@pytest.mark.parametrize("number", [0, 1, 17, 40, 79])
def test_an_energy_is_the_one_that_kaldi_defines(number: int) -> None:
    pcm = np.random.default_rng(1).integers(-8000, 8000, 1000).astype(np.int16)
    assert frame_count(len(pcm)) == 4
    frames = filter_banks(pcm, np.array([3, 1]))
    assert frames.shape == (2, BINS)
    second = [int(value) / 32768 for value in pcm[STEP_SAMPLES : STEP_SAMPLES + FRAME_SAMPLES]]
    assert frames[1, number] == pytest.approx(energy(second, number), abs=1e-3)


def test_silence_is_at_the_floor() -> None:
    assert filter_banks(np.zeros(400, np.int16), np.array([0])) == pytest.approx(math.log(1.1920929e-07))


def test_only_whole_frames_count() -> None:
    assert [frame_count(samples) for samples in (0, 399, 400, 559, 560)] == [0, 0, 1, 1, 2]
