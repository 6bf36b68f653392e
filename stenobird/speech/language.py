"""Which language is spoken: evidence summed over windows until it is enough to pin one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PINNED_PROBABILITY = 0.8
PINNED_SPEECH_SECONDS = 12.0
_LEAST_PROBABILITY = 1e-10


def add_evidence(scores: Mapping[str, float], probabilities: Mapping[str, float]) -> dict[str, float]:
    """Add one window's log-probabilities to the sums of the windows before it.

    Sums are rounded so that a checkpoint's JSON carries them exactly and shortly.
    """
    return {
        language: round(scores.get(language, 0.0) + math.log(max(probability, _LEAST_PROBABILITY)), 4)
        for language, probability in probabilities.items()
    }


def likeliest(scores: Mapping[str, float]) -> tuple[str, float]:
    """Return the language with the highest sum, and its probability given all sums."""
    language = max(scores, key=lambda name: (scores[name], name))
    total = sum(math.exp(score - scores[language]) for score in scores.values())
    return language, 1.0 / total


def is_settled(scores: Mapping[str, float], speech_seconds: float) -> bool:
    """Whether the likeliest language may be pinned."""
    return likeliest(scores)[1] >= PINNED_PROBABILITY or speech_seconds >= PINNED_SPEECH_SECONDS
