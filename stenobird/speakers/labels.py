"""From the voices of all windows to the speaker of each segment and word of the transcript."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stenobird.ports import SAMPLE_RATE
from stenobird.speakers.clusters import cluster
from stenobird.speakers.voices import WINDOW_SAMPLES, window_start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.speakers.voices import Voice

_OVERLAP_SECONDS: Final = 0.5
"""Speech of two at once that is worth to be mentioned."""
_LOOK_BACK_SECONDS: Final = WINDOW_SAMPLES / SAMPLE_RATE
"""No turn is longer, so that none that matters begins earlier."""


@dataclass(frozen=True, slots=True, order=True)
class Turn:
    """A speaker is active; seconds from the start of the audio. Turns of two speakers may overlap."""

    start: float
    end: float
    speaker: int


@dataclass(frozen=True, slots=True)
class Span:
    """A segment of the transcript and its words, as times in seconds."""

    start: float
    end: float
    words: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Label:
    """Who speaks in a segment, and in each of its words: numbers from 1 by first appearance.

    `overlap` says that someone else speaks at the same time.
    """

    speaker: int
    overlap: bool = False
    words: tuple[int, ...] = ()


def label(
    windows: Sequence[Sequence[Voice]],
    spans: Sequence[Span],
    *,
    least: int | None = None,
    most: int | None = None,
) -> list[Label]:
    """Return the label of each span; none if nobody speaks.

    The same input gives the same labels. `least` and `most` bound the number of speakers.
    """
    turns = find_turns(windows, least=least, most=most)
    if not turns:
        return []
    starts = [turn.start for turn in turns]
    raw = []
    for span in spans:
        speaker, overlap, alone = _speaker(turns, starts, span.start, span.end)
        words = [speaker if alone else _speaker(turns, starts, *word)[0] for word in span.words]
        raw.append((speaker, overlap, words))
    numbers: dict[int, int] = {}
    for speaker, _, words in raw:
        for one in (*words, speaker):
            numbers.setdefault(one, len(numbers) + 1)
    return [Label(numbers[who], overlap, tuple(numbers[w] for w in words)) for who, overlap, words in raw]


def find_turns(
    windows: Sequence[Sequence[Voice]], *, least: int | None = None, most: int | None = None
) -> list[Turn]:
    """Return the turns of all speakers by their start. A turn ends at the latest where its window does."""
    turns = []
    for number, (voices, speakers) in enumerate(
        zip(windows, cluster(windows, least=least, most=most), strict=True)
    ):
        begin, first = window_start(number), _takes_over(number)
        last = _takes_over(number + 1) if number < len(windows) - 1 else begin + WINDOW_SAMPLES
        for voice, speaker in zip(voices, speakers, strict=True):
            for run_start, run_end in voice.runs:
                start, end = max(first, begin + run_start), min(last, begin + run_end)
                if start < end:
                    turns.append(Turn(start / SAMPLE_RATE, end / SAMPLE_RATE, speaker))
    return sorted(turns)


def _takes_over(number: int) -> int:
    """Return the first sample of a window that counts: the middle of what it shares with the one before."""
    return (window_start(number - 1) + WINDOW_SAMPLES + window_start(number)) // 2 if number else 0


def _speaker(
    turns: Sequence[Turn], starts: Sequence[float], start: float, end: float
) -> tuple[int, bool, bool]:
    """Return who speaks most from `start` to `end`, else who is nearest.

    Also return whether two speak at once, and whether nobody else speaks.
    """
    near = turns[bisect_left(starts, start - _LOOK_BACK_SECONDS) : bisect_left(starts, end)]
    spoken: dict[int, float] = defaultdict(float)
    for turn in near:
        if turn.end > start:
            spoken[turn.speaker] += min(turn.end, end) - max(turn.start, start)
    if not spoken:
        after = bisect_left(starts, end)
        nearest = min(
            [*near[-8:], *turns[max(0, after - 1) : after + 1]],
            key=lambda turn: max(turn.start - end, start - turn.end),
        )
        return nearest.speaker, False, False
    at_once = sum(spoken.values()) - _covered(near, start, end)
    most = max(spoken, key=lambda speaker: (spoken[speaker], -speaker))
    return most, at_once >= _OVERLAP_SECONDS, len(spoken) == 1


def _covered(turns: Sequence[Turn], start: float, end: float) -> float:
    """Return how many seconds anybody speaks."""
    seconds, reached = 0.0, start
    for turn in turns:
        seconds += max(0.0, min(turn.end, end) - max(turn.start, reached))
        reached = max(reached, min(turn.end, end))
    return seconds
