"""Training windows: banked sentences laid out with pauses and noise, and the tokens that describe them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from faster_whisper.feature_extractor import FeatureExtractor
from torch import Tensor

from tools.fixture_model.synthesis import SAMPLE_RATE, load_bank
from tools.fixture_model.tokenizer import TIMESTAMP_SECONDS

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

IGNORED = -100
"""The label that the loss leaves out."""

CTC_IDS = {symbol: index + 1 for index, symbol in enumerate(" abcdefghijklmnopqrstuvwxyz")}

_PCM_SCALE = 32768
_SHORTEST_GAP_SAMPLES = 8000  # a window with less room than this is full


class Sentence(NamedTuple):
    """A banked sentence ready for training: text tokens, samples, CTC symbols."""

    ids: list[int]
    pcm: np.ndarray
    symbols: list[int]


class Window(NamedTuple):
    """One window: samples in [-1, 1], decoder tokens, CTC symbols, and whether nothing is said."""

    samples: np.ndarray
    tokens: list[int]
    symbols: list[int]
    silent: bool


class Batch(NamedTuple):
    """Features (batch, 80, frames), tokens, labels (shifted by one), and the CTC symbols of each window."""

    mel: Tensor
    tokens: Tensor
    labels: Tensor
    symbols: list[list[int]]


class LogMel:
    """Whisper's log-mel features, batched; the filters are faster-whisper's."""

    def __init__(self) -> None:
        self._filters = torch.tensor(FeatureExtractor().mel_filters, dtype=torch.float32)
        self._hann = torch.hann_window(400)

    def __call__(self, samples: Tensor) -> Tensor:
        """Turn samples (batch, n) into features (batch, 80, n / 160)."""
        spectrum = torch.stft(samples, 400, 160, window=self._hann, return_complex=True)[..., :-1].abs() ** 2
        mel = torch.clamp(self._filters @ spectrum, min=1e-10).log10()
        mel = torch.maximum(mel, mel.amax((1, 2), keepdim=True) - 8.0)
        return (mel + 4) / 4


class WindowMaker:
    """Draws windows from a bank of sentences."""

    def __init__(self, tokenizer: Tokenizer, banks: Sequence[Path]) -> None:
        self._mel = LogMel()
        self._noise = np.random.default_rng(0)
        vocabulary = tokenizer.get_vocab()
        self._first_timestamp = vocabulary["<|0.00|>"]
        self._end = vocabulary["<|endoftext|>"]
        self._start = vocabulary["<|startoftranscript|>"]
        self._no_speech = vocabulary["<|nospeech|>"]
        self.text_ids = self._end
        """Ids below this one are text; the accuracy that training logs is about them."""
        self.bank = [
            Sentence(tokenizer.encode(f" {text}").ids, pcm, [CTC_IDS[symbol] for symbol in f"{text} "])
            for text, _, pcm in load_bank(*banks)
        ]

    def batch(self, rng: random.Random, size: int, seconds: float, *, padded: bool) -> Batch:
        """Return `size` windows; with `padded` some end early or say nothing, as real windows do."""
        windows = [self._window(rng, seconds, padded=padded) for _ in range(size)]
        mel = self._mel(torch.tensor(np.stack([window.samples for window in windows])))
        length = max(len(window.tokens) for window in windows)
        tokens = torch.full((size, length), self._end)
        labels = torch.full((size, length - 1), IGNORED)
        for row, window in enumerate(windows):
            tokens[row, : len(window.tokens)] = torch.tensor(window.tokens)
            labels[row, : len(window.tokens) - 1] = torch.tensor(window.tokens[1:])
        return Batch(mel, tokens, labels, [window.symbols for window in windows])

    def _window(self, rng: random.Random, seconds: float, *, padded: bool) -> Window:
        size = int(seconds * SAMPLE_RATE)
        samples = np.zeros(size, np.float32)
        stop = size if rng.random() < 0.6 or not padded else int(rng.uniform(0.05, 1) * size)
        start = int(rng.uniform(0, 0.8) * SAMPLE_RATE)
        if padded and rng.random() < 0.04:
            stop = 0
        laid_out = self._lay_out(rng, samples, start, stop)
        if laid_out is None:
            return self._window(rng, seconds, padded=padded)
        tokens, symbols = laid_out
        if rng.random() < 0.5:
            samples += self._noise.standard_normal(size, np.float32) * np.float32(
                10 ** rng.uniform(-4.0, -2.2)
            )
        samples = np.clip(samples, -1, 1)
        if not tokens:
            return Window(samples, [self._start, self._no_speech, self._end], [], silent=True)
        return Window(samples, [self._start, *tokens, self._end], symbols, silent=False)

    def _lay_out(
        self, rng: random.Random, samples: np.ndarray, position: int, stop: int
    ) -> tuple[list[int], list[int]] | None:
        """Write sentences into `samples`; `None` when not even one ends within the window."""
        tokens: list[int] = []
        symbols: list[int] = []
        while True:
            sentence = self.bank[rng.randrange(len(self.bank))]
            end = position + len(sentence.pcm)
            if position + _SHORTEST_GAP_SAMPLES > stop:
                return tokens, symbols
            if end > len(samples):
                if not tokens:
                    return None
                # A cut sentence has a start and no text: the next window will say it.
                samples[position:] += sentence.pcm[: len(samples) - position] / _PCM_SCALE
                tokens.append(self._timestamp(position))
                return tokens, symbols
            if end > stop:
                return tokens, symbols
            samples[position:end] += sentence.pcm * (rng.uniform(0.5, 1.2) / _PCM_SCALE)
            tokens += [self._timestamp(position), *sentence.ids, self._timestamp(end)]
            symbols += sentence.symbols
            position = end + int(rng.choice([0.1, 0.25, 0.4, 0.8]) * rng.uniform(0.8, 1.4) * SAMPLE_RATE)

    def _timestamp(self, sample: int) -> int:
        return self._first_timestamp + round(sample / SAMPLE_RATE / TIMESTAMP_SECONDS)
