"""From Whisper's output to segments and a language.

Tokens are split at timestamps, and hallucinations left out. Evidence for the language is summed over windows
until it is enough to pin one.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIMESTAMP_SECONDS = 0.02
"""One step of Whisper's timestamp tokens."""

MIN_SPEECH_OVERLAP_SECONDS = 0.2
"""A segment that overlaps less speech is taken for a hallucination."""

REST_SPEECH_SECONDS = 0.8
"""So much speech after the last timestamp is decoded again."""

TAIL_SECONDS = 0.5
"""A segment that ends so close to a cut in running speech was cut off by it."""

HANDOVER_FROM = 0.4
"""Segments in this first part of a window are never left to the next: every window makes progress."""

PINNED_PROBABILITY = 0.8
PINNED_SPEECH_SECONDS = 12.0
_LEAST_PROBABILITY = 1e-10


@dataclass(frozen=True, slots=True)
class Piece:
    """Text tokens with their times in seconds from the start of the window.

    `closed` is false for the tokens after the last timestamp pair: the model gave that segment no end.
    """

    start: float
    end: float
    tokens: tuple[int, ...]
    closed: bool = True


def split_at_timestamps(
    tokens: Sequence[int], *, timestamp_begin: int, eot: int, duration: float
) -> list[Piece]:
    """Cut a token sequence where two timestamps meet, as Whisper's reference decoder does.

    Text after the last timestamp is an open piece that reaches to `duration`.
    """
    pieces: list[Piece] = []
    start, text = 0.0, list[int]()
    for token in tokens:
        if token >= timestamp_begin:
            seconds = min((token - timestamp_begin) * TIMESTAMP_SECONDS, duration)
            if text:
                pieces.append(Piece(start, max(seconds, start), tuple(text)))
                text = []
            start = seconds
        elif token < eot:
            text.append(token)
    if text:
        pieces.append(Piece(start, duration, tuple(text), closed=False))
    return pieces


def compression_ratio(text: str) -> float:
    """Return how well zlib compresses the text: above 2.4 it repeats itself."""
    data = text.encode()
    return len(data) / len(zlib.compress(data)) if data else 0.0


def overlap(start: float, end: float, spans: Sequence[tuple[float, float]]) -> float:
    """Return the seconds of `spans` within `[start, end)`."""
    return sum(max(0.0, min(end, b) - max(start, a)) for a, b in spans)


def is_spoken(start: float, end: float, speech: Sequence[tuple[float, float]]) -> bool:
    """Whether a segment overlaps enough speech to be real.

    A segment that is itself short needs speech under half of it.
    """
    return overlap(start, end, speech) >= min(MIN_SPEECH_OVERLAP_SECONDS, (end - start) / 2)


def hand_over(
    pieces: Sequence[Piece], *, duration: float, speech: Sequence[tuple[float, float]]
) -> tuple[int, float | None]:
    """Decide what a window that was cut in running speech leaves to the next one.

    Returns how many pieces it keeps and the second at which the next window should begin; `None` if that is
    the cut. The last piece is left to it when the cut broke it off, and so is speech that the model did not
    reach.
    """
    kept = len(pieces)
    if not pieces:
        return kept, None
    last = pieces[-1]
    if not last.closed or last.end >= duration - TAIL_SECONDS:
        if kept > 1 and last.start >= HANDOVER_FROM * duration:
            return kept - 1, (pieces[-2].end + last.start) / 2
    elif last.end >= HANDOVER_FROM * duration and overlap(last.end, duration, speech) >= REST_SPEECH_SECONDS:
        return kept, last.end
    return kept, None


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
