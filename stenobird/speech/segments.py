"""From Whisper's tokens to segments: splitting at timestamps, and what the guards keep."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

TIMESTAMP_SECONDS = 0.02
"""One step of Whisper's timestamp tokens."""

MIN_SPEECH_OVERLAP_SECONDS = 0.2
"""A segment with less speech under it is taken for a hallucination."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Text tokens with their times in seconds from the start of the window.

    `closed` is false for the tokens after the last timestamp pair: the model opened the segment and never
    said where it ends.
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
    """Whether there is enough speech under a segment to believe it.

    A segment that is itself short needs speech under half of it.
    """
    return overlap(start, end, speech) >= min(MIN_SPEECH_OVERLAP_SECONDS, (end - start) / 2)
