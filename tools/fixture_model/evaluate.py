"""Word error rate of a model folder with plain faster-whisper: on a clip, or on a stream made from a bank."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from faster_whisper import WhisperModel

from stenobird.demo import word_error_rate
from tools.fixture_model.synthesis import SAMPLE_RATE, load_bank

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Evaluation:
    """What was heard, how well, and how long it took."""

    audio_seconds: float
    wall_seconds: float
    word_error_rate: float
    segments: tuple[Any, ...]


def evaluate_bank(model: Path, bank: Path, seconds: float) -> Evaluation:
    """Decode one long stream of unseen sentences greedily, without VAD."""
    rng = random.Random(7)
    sentences = load_bank(bank)
    parts: list[Any] = [np.zeros(4000, np.float32)]
    reference: list[str] = []
    while sum(map(len, parts)) < seconds * SAMPLE_RATE:
        text, _, pcm = rng.choice(sentences)
        reference.append(text)
        gap = np.zeros(int(rng.uniform(0.15, 0.9) * SAMPLE_RATE), np.float32)
        parts += [pcm.astype(np.float32) / 32768, gap]
    return _evaluate(model, np.concatenate(parts), " ".join(reference), beam_size=1, temperature=0.0)


def evaluate_clip(model: Path, clip: Path, *, beam_size: int = 5, vad_filter: bool = False) -> Evaluation:
    """Decode a clip that has its text in a `.txt` beside it."""
    reference = clip.with_suffix(".txt").read_text()
    return _evaluate(model, str(clip), reference, beam_size=beam_size, vad_filter=vad_filter)


def _evaluate(model: Path, audio: Any, reference: str, **options: Any) -> Evaluation:
    whisper = WhisperModel(str(model), device="cpu", compute_type="int8", cpu_threads=2)
    begun = time.monotonic()
    found, info = whisper.transcribe(audio, language="en", condition_on_previous_text=False, **options)
    segments = tuple(found)
    elapsed = time.monotonic() - begun
    heard = "".join(segment.text for segment in segments)
    return Evaluation(info.duration, elapsed, word_error_rate(reference, heard), segments)
