"""Which language a job is in, from what the model says about each window.

While the language is open, log-probabilities are summed, weighted by the speech they come from. Once it is
settled, it changes only for another language that is certain twice in a row, or once in a long window.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

FULL_WEIGHT_SECONDS = 8.0
"""Windows with less speech count for less."""
SETTLED_PROBABILITY = 0.8
SETTLED_SPEECH_SECONDS = 12.0
CHANGE_PROBABILITY = 0.8
CHANGE_SPEECH_SECONDS = 2.0
CERTAIN_PROBABILITY = 0.95
_LEAST_PROBABILITY = 1e-10


class LanguageState(NamedTuple):
    """What is known after a window: the settled language, the sums while it is open, and a rival.

    `rival` is the other language that the last window was in for certain.
    """

    language: str | None = None
    scores: Mapping[str, float] = {}
    rival: str | None = None


def follow(
    state: LanguageState, probabilities: Mapping[str, float], seconds: float
) -> tuple[str, LanguageState]:
    """Return the language to decode a window in, and the state after it.

    `seconds` is the speech in the window.
    """
    if state.language is None:
        scores = add_evidence(state.scores, probabilities, weight=min(1.0, seconds / FULL_WEIGHT_SECONDS))
        language, probability = likeliest(scores)
        if probability >= SETTLED_PROBABILITY or seconds >= SETTLED_SPEECH_SECONDS:
            return language, LanguageState(language)
        return language, LanguageState(None, scores)
    best = max(probabilities, key=lambda name: (probabilities[name], name))
    certainty = probabilities[best]
    if best == state.language or certainty < CHANGE_PROBABILITY or seconds < CHANGE_SPEECH_SECONDS:
        return state.language, LanguageState(state.language)
    if best == state.rival or (certainty >= CERTAIN_PROBABILITY and seconds >= FULL_WEIGHT_SECONDS):
        return best, LanguageState(best)
    return state.language, LanguageState(state.language, {}, best)


def add_evidence(
    scores: Mapping[str, float], probabilities: Mapping[str, float], *, weight: float = 1.0
) -> dict[str, float]:
    """Add one window's log-probabilities to the sums of the windows before it.

    Sums are rounded so that a checkpoint's JSON carries them exactly and shortly.
    """
    return {
        language: round(
            scores.get(language, 0.0) + weight * math.log(max(probability, _LEAST_PROBABILITY)), 4
        )
        for language, probability in probabilities.items()
    }


def likeliest(scores: Mapping[str, float]) -> tuple[str, float]:
    """Return the language with the highest sum, and its probability given all sums."""
    language = max(scores, key=lambda name: (scores[name], name))
    total = sum(math.exp(score - scores[language]) for score in scores.values())
    return language, 1.0 / total
