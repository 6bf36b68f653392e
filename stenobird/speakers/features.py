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
_PREEMPHASIS = np.float32(0.97)
_FLOOR = np.float32(np.finfo(np.float32).eps)


def frame_count(samples: int) -> int:
    """Return how many whole frames there are in audio of this length."""
    return max(0, (samples - FRAME_SAMPLES) // STEP_SAMPLES + 1)


def filter_banks(pcm: PCM, chosen: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    """Return log energies [chosen, 80] of those frames of 16 kHz audio, without dither."""
    window, mel = _tables()
    every = np.lib.stride_tricks.sliding_window_view(pcm, FRAME_SAMPLES)[::STEP_SAMPLES]
    frames = every[chosen].astype(np.float32)
    frames -= frames.mean(axis=1, keepdims=True)
    frames[:, 1:] -= _PREEMPHASIS * frames[:, :-1]
    frames[:, 0] *= 1 - _PREEMPHASIS
    frames *= window
    spectrum = fft.rfft(frames, _FFT_SIZE)[:, : _FFT_SIZE // 2]
    power = spectrum.real**2 + spectrum.imag**2
    energies: npt.NDArray[np.float32] = np.log(np.maximum(power.astype(np.float32) @ mel, _FLOOR))
    return energies


@functools.cache
def _tables() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return Kaldi's "povey" window [400] for 16 bits, and the weights of FFT bins in mel bins [256, 80]."""
    window = np.hanning(FRAME_SAMPLES) ** 0.85 / 32768
    edges = np.linspace(_mel(_LOWEST_HZ), _mel(SAMPLE_RATE / 2), BINS + 2)
    left, center, right = edges[:-2], edges[1:-1], edges[2:]
    bins = _mel(np.arange(_FFT_SIZE // 2) * SAMPLE_RATE / _FFT_SIZE)[:, None]
    rising, falling = (bins - left) / (center - left), (right - bins) / (right - center)
    return window.astype(np.float32), np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def _mel(hertz: float | npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return 1127.0 * np.log1p(np.asarray(hertz) / 700.0)
