"""Kaldi's filter-bank features, as CAM++ was trained on them: 80 bins, 25 ms every 10 ms."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from numpy import fft  # NumPy would load it when it is first used: too late in a sealed host

from stenobird.ports import SAMPLE_RATE

if TYPE_CHECKING:
    from stenobird.ports import PCM

FRAME_SAMPLES = 400
STEP_SAMPLES = 160
BINS = 80

_FFT_SIZE = 512
_LOWEST_HZ = 20.0
_PREEMPHASIS = 0.97
_FLOOR = np.float32(np.finfo(np.float32).eps)


def filter_banks(pcm: PCM) -> npt.NDArray[np.float32]:
    """Return log energies [frames, 80] of 16 kHz audio, without dither; empty if there is no whole frame."""
    if len(pcm) < FRAME_SAMPLES:
        return np.empty((0, BINS), np.float32)
    audio = pcm.astype(np.float32) / 32768
    frames = np.lib.stride_tricks.sliding_window_view(audio, FRAME_SAMPLES)[::STEP_SAMPLES]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    window, mel = _tables()
    spectrum = fft.rfft((frames - _PREEMPHASIS * before) * window, _FFT_SIZE)[:, : _FFT_SIZE // 2]
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    energies: npt.NDArray[np.float32] = np.log(np.maximum(power @ mel, _FLOOR))
    return energies


@functools.cache
def _tables() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return Kaldi's "povey" window [400], and the weight of each FFT bin in each mel bin [256, 80]."""
    window = np.hanning(FRAME_SAMPLES) ** 0.85
    edges = np.linspace(_mel(_LOWEST_HZ), _mel(SAMPLE_RATE / 2), BINS + 2)
    left, center, right = edges[:-2], edges[1:-1], edges[2:]
    bins = _mel(np.arange(_FFT_SIZE // 2) * SAMPLE_RATE / _FFT_SIZE)[:, None]
    rising, falling = (bins - left) / (center - left), (right - bins) / (right - center)
    return window.astype(np.float32), np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def _mel(hertz: float | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)
