"""What the speaker host says about ten seconds of audio: its voices, and their form as bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from stenobird.ports import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Sequence

WINDOW_SAMPLES: Final = 10 * SAMPLE_RATE
"""What the segmentation model was trained on."""
_CLOSE_STEP: Final = 5 * SAMPLE_RATE
_STEP: Final = 8 * SAMPLE_RATE
_CLOSE_WINDOWS: Final = 6
"""In the first half minute, windows are closer: short audio has few from which to know a voice."""
EMBEDDING_SIZE: Final = 192

Embedding: TypeAlias = npt.NDArray[np.float32] | npt.NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class Voice:
    """A voice in a window: its runs of activity in samples, and its embedding, of length 1.

    `seconds` is how much speech the embedding is from; without enough of it, it is `None`.
    """

    runs: tuple[tuple[int, int], ...]
    seconds: float
    embedding: Embedding | None


def window_start(number: int) -> int:
    """Return the sample at which a window begins, counted from 0. It overlaps the one before it."""
    return min(number, _CLOSE_WINDOWS) * _CLOSE_STEP + max(0, number - _CLOSE_WINDOWS) * _STEP


def pack(voices: Sequence[Voice]) -> bytes:
    """Return the voices of a window as bytes; embeddings are rounded to 16 bits."""
    described = [[voice.runs, round(voice.seconds, 2), voice.embedding is not None] for voice in voices]
    embeddings = [voice.embedding.astype("<f2").tobytes() for voice in voices if voice.embedding is not None]
    return b"".join([json.dumps(described, separators=(",", ":")).encode(), b"\n", *embeddings])


def unpack(data: bytes) -> list[Voice]:
    """Read what `pack` wrote."""
    described, _, packed = data.partition(b"\n")
    # As they are stored: a long job keeps thousands of them.
    embeddings = iter(np.frombuffer(packed, "<f2").reshape(-1, EMBEDDING_SIZE))
    return [
        Voice(tuple((start, end) for start, end in runs), seconds, next(embeddings) if embedded else None)
        for runs, seconds, embedded in json.loads(described)
    ]
