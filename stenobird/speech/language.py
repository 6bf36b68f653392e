"""Which language a job is in, from what the model says about each window.

While the language is open, log-probabilities are summed, weighted by the speech they come from. Once it is
settled, it changes only for another language that is likely twice in a row, or far likelier in a long window.
Where stretches inside a window are certain to be in another language, the window ends before them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from stenobird.ports import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stenobird.speech.windows import Span

FULL_WEIGHT_SECONDS = 8.0
"""Windows with less speech count for less."""
SETTLED_PROBABILITY = 0.8
SETTLED_SPEECH_SECONDS = 12.0
CHANGE_PROBABILITY = 0.8
CHANGE_SPEECH_SECONDS = 2.0
CERTAIN_PROBABILITY = 0.95
STRETCH_SECONDS = 4.0
STRETCH_PAUSE_SECONDS = 0.25
LEAST_STRETCH_SECONDS = 2.0
STRETCH_PROBABILITY = 0.9
"""A stretch of speech of at least so many seconds, up to such a pause, is in a language for certain from this
probability on."""
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
    odds = certainty / (certainty + probabilities.get(state.language, 0.0))
    if best == state.rival or (odds >= CERTAIN_PROBABILITY and seconds >= FULL_WEIGHT_SECONDS):
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


def stretches(speech: Sequence[Span]) -> list[Span]:
    """Join runs of speech to stretches that are long enough to tell their language, divided at pauses."""
    found: list[Span] = []
    start: int | None = None
    for number, (run_start, run_end) in enumerate(speech):
        start = run_start if start is None else start
        last = number + 1 == len(speech)
        pause = math.inf if last else (speech[number + 1][0] - run_end) / SAMPLE_RATE
        least = LEAST_STRETCH_SECONDS if last else STRETCH_SECONDS
        if pause >= STRETCH_PAUSE_SECONDS and run_end - start >= least * SAMPLE_RATE:
            found.append((start, run_end))
            start = None
    return found


def certain_language(probabilities: Mapping[str, float]) -> str | None:
    """Return the language of a stretch if the model has no doubt."""
    best = max(probabilities, key=lambda name: (probabilities[name], name))
    return best if probabilities[best] >= STRETCH_PROBABILITY else None


def first_language(found: Sequence[Mapping[str, float]], before: str | None) -> tuple[str | None, int | None]:
    """Return the language in which a window's stretches begin, and the first that is in another one.

    `found` are each stretch's probabilities. A doubtful one is in the likelier of the languages around it;
    `before` is the one before the window. The stretch after a change must not speak against it, unless
    the model is quite certain.
    """
    language, doubtful = before, 0
    for number, probabilities in enumerate(found):
        certain = certain_language(probabilities)
        after = found[number + 1] if number + 1 < len(found) else {}
        if certain is None or (
            language not in {None, certain}
            and probabilities[certain] < CERTAIN_PROBABILITY
            and after.get(language or "", 0.0) > after.get(certain, 0.0)
        ):
            doubtful += 1
            continue
        if language is not None and certain != language:
            change = number
            while doubtful and found[change - 1].get(certain, 0.0) > found[change - 1].get(language, 0.0):
                change, doubtful = change - 1, doubtful - 1
            if change:
                return language, change
        language, doubtful = certain, 0
    return language, None
