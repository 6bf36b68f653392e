"""Where to divide audio into blocks and windows: pure rules over voice-activity probabilities.

A block is about a minute of audio that ends in a pause; a job's first is one window, so that its text comes
soon. A block is transcribed on its own, so blocks run in parallel. Inside a block each window starts where
the text of the one before it ended. Both depend on the audio alone, never on how it arrived. Sample positions
count from the first sample of the block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from stenobird.ports import SAMPLE_RATE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.ports import PCM

FRAME_SAMPLES = 512
"""Samples of one voice-activity probability: 32 ms."""

MAX_REGION_SECONDS = 30.0
"""What Whisper decodes at once."""

LEVEL_DIFFERENCE_DB = 20.0
"""How much quieter than the loudest a stretch of speech is decoded at most."""
LEVEL_PAUSE_SECONDS = 0.5
LEVEL_SPEECH_SECONDS = 1.0
"""Such a pause ends a stretch; with less speech it is left as it is, since it may be noise."""

Span: TypeAlias = tuple[int, int]
"""Samples `[start, end)`."""


@dataclass(frozen=True, slots=True)
class WindowRules:
    """The numbers of blocks and windows. Probabilities follow Silero's hysteresis; the rest is seconds."""

    speech_probability: float = 0.5
    silence_probability: float = 0.35
    merge_seconds: float = 0.1
    """Shorter dips do not end a run of speech."""
    min_speech_seconds: float = 0.25
    """Shorter runs do not start the speech of a block."""
    pad_seconds: float = 2.0
    """The most audio without speech that a window keeps before its first and after its last speech. Whisper
    was trained on audio that was cut anywhere: without any silence around the speech it makes more errors."""
    window_seconds: float = MAX_REGION_SECONDS
    block_seconds: tuple[float, float] = (45.0, 75.0)
    """A block ends in the longest pause between these, counted from its first speech."""
    divided_seconds: float = 40.0
    """What is left where the audio ends is divided in two if its speech is longer: a replica each."""
    divided_share: tuple[float, float] = (0.35, 0.65)
    divided_pause_seconds: float = 0.3
    """It is divided at the longest pause between these shares of it, if that lasts so long."""
    level_seconds: float = 90.0
    """Without any pause until here, the block ends where it is quietest in the last three seconds."""
    level_zone_seconds: float = 3.0
    closing_silence_seconds: float = 3.0
    """So much silence ends a block at once; not a job's first one, before it is as long as a window."""
    idle_seconds: float = 30.0
    """After so much audio without speech, the checkpoint moves on."""
    holdback_seconds: float = 0.5
    """Silence left to the next block when this one ends in silence, for its padding."""


LIVE_RULES = WindowRules(
    block_seconds=(2.5, 6.0),
    level_seconds=9.0,
    closing_silence_seconds=0.7,
    idle_seconds=10.0,
    holdback_seconds=0.3,
)
"""For live audio, whose words are wanted within seconds: a block is a sentence or two, and one window."""


@dataclass(frozen=True, slots=True)
class Block:
    """`samples` of audio with its runs of speech, in order; none when nothing needs decoding."""

    samples: int
    speech: tuple[Span, ...]

    def after(self, position: int) -> Block:
        """Return the rest of the block from a position on."""
        rest = tuple((max(0, a - position), b - position) for a, b in self.speech if b > position)
        return Block(self.samples - position, rest)


@dataclass(frozen=True, slots=True)
class Window:
    """What to decode at once: samples `[start, end)` of the block and the runs of speech in them.

    `speech` counts from `start`. After a `final` window no speech is left in the block; any other one ends
    in or before speech.
    """

    start: int
    end: int
    speech: tuple[Span, ...]
    final: bool


def next_window(block: Block, rules: WindowRules, position: int = 0) -> Window | None:
    """Return the window after a position of the block, `None` when there is no speech left to decode."""
    negligible = _samples(rules.merge_seconds)
    runs = [(max(a, position), b) for a, b in block.speech if b > position + negligible]
    if sum(b - a for a, b in runs) < 2 * negligible:
        return None
    pad = _samples(rules.pad_seconds)
    start = max(position, runs[0][0] - pad)
    limit = min(start + _samples(rules.window_seconds), block.samples)
    inside = [(a, min(b, limit)) for a, b in runs if a < limit]
    end = min(limit, inside[-1][1] + pad)
    return Window(start, end, tuple((a - start, b - start) for a, b in inside), final=runs[-1][1] <= limit)


class BlockFinder:
    """Finds the end of one block. Call `push` with a probability a frame until it returns true, then `block`.

    Every frame is decided on its own, so the result does not depend on how the frames were grouped. The
    `first` block of a job ends where speech goes on after its window.
    """

    def __init__(self, rules: WindowRules, *, first: bool = False) -> None:
        self._rules = rules
        self._is_first = first
        self._frames = 0
        self._runs: list[Span] = []
        self._run_start: int | None = None
        self._quiet_from: int | None = None
        self._first: int | None = None
        self._end: int | None = None
        self._level = False

    def push(self, probability: float) -> bool:
        """Take the next frame; return whether the block has ended."""
        start = self._frames * FRAME_SAMPLES
        self._frames += 1
        self._track(probability, start)
        now = start + FRAME_SAMPLES
        if self._first is None:
            if self._run_start is None and now >= _samples(self._rules.idle_seconds):
                self._end = now - _samples(self._rules.holdback_seconds)
        else:
            self._end = self._end_after_speech(now)
            self._level = now - self._first >= _samples(self._rules.level_seconds)
        return self._end is not None or self._level

    def block(self, pcm: PCM) -> Block:
        """Return the block after `push` returned true. `pcm` starts at its first sample and covers it."""
        now = min(self._frames * FRAME_SAMPLES, len(pcm))  # the last frame of the audio may be padded
        if self._end is not None:
            return self._until(min(self._end, now))
        return self._until(quietest(pcm, now - _samples(self._rules.level_zone_seconds), now))

    def finish(self, samples: int) -> Block:
        """Return the last block of audio that ends after `samples`, or the first half of it."""
        block, rules = self._until(samples), self._rules
        if self._is_first or not block.speech:
            return block
        first, last = block.speech[0][0], block.speech[-1][1]
        if last - first <= _samples(rules.divided_seconds):
            return block
        least, most = (first + round(share * (last - first)) for share in rules.divided_share)
        pauses = [
            (a, b)
            for (_, a), (b, _) in pairwise(block.speech)
            if least <= (a + b) // 2 <= most and b - a >= _samples(rules.divided_pause_seconds)
        ]
        if not pauses:
            return block
        start, end = max(pauses, key=lambda pause: pause[1] - pause[0])
        return self._until((start + end) // 2)

    def _until(self, samples: int) -> Block:
        runs = list(self._runs)
        if self._first is not None and self._run_start is not None:
            now = self._frames * FRAME_SAMPLES
            runs.append((self._run_start, now if self._quiet_from is None else self._quiet_from))
        return Block(samples, tuple((a, min(b, samples)) for a, b in runs if a < samples))

    def _track(self, probability: float, start: int) -> None:
        rules, end = self._rules, start + FRAME_SAMPLES
        if self._run_start is None:
            if probability >= rules.speech_probability:
                self._run_start, self._quiet_from = start, None
        elif probability >= rules.speech_probability:
            self._quiet_from = None
        elif probability < rules.silence_probability or self._quiet_from is not None:
            self._quiet_from = start if self._quiet_from is None else self._quiet_from
            if end - self._quiet_from >= _samples(rules.merge_seconds):
                if self._first is not None:
                    self._runs.append((self._run_start, self._quiet_from))
                self._run_start = None
        if self._first is None and self._run_start is not None:
            run_end = end if self._quiet_from is None else self._quiet_from
            if run_end - self._run_start >= _samples(rules.min_speech_seconds):
                self._first = self._run_start

    def _end_after_speech(self, now: int) -> int | None:
        rules, first = self._rules, self._first
        assert first is not None
        pausing = self._run_start is None
        long_silence = pausing and now - self._runs[-1][1] >= _samples(rules.closing_silence_seconds)
        if self._is_first:
            window_end = max(0, first - _samples(rules.pad_seconds)) + _samples(rules.window_seconds)
            if now <= window_end:
                return None
            if not pausing and self._quiet_from is None:
                return now
        if long_silence:
            return now - _samples(rules.holdback_seconds)
        least, most = (first + _samples(seconds) for seconds in rules.block_seconds)
        if now < most:
            return None
        ends = [end for _, end in self._runs]
        starts = [start for start, _ in self._runs[1:]] + [now if pausing else self._run_start or now]
        pauses = [(a, b) for a, b in zip(ends, starts, strict=False) if (a + b) // 2 >= least]
        if not pauses:
            return None
        start, end = max(pauses, key=lambda pause: pause[1] - pause[0])
        return (start + end) // 2


def quietest(pcm: PCM, start: int, end: int) -> int:
    """Return the middle of the quietest 20 ms of `pcm[start:end]`; the later one of equals."""
    width, hop = SAMPLE_RATE // 50, SAMPLE_RATE // 100
    if end - start <= width:
        return (start + end) // 2
    squares = np.square(pcm[start:end].astype(np.int64))
    sums = np.concatenate(([0], np.cumsum(squares)))
    positions = np.arange(0, end - start - width + 1, hop)
    energies = sums[positions + width] - sums[positions]
    last = len(energies) - 1 - int(np.argmin(energies[::-1]))
    return start + int(positions[last]) + width // 2


def levelled(pcm: PCM, speech: Sequence[Span]) -> PCM:
    """Return the audio with quiet stretches of speech raised to `LEVEL_DIFFERENCE_DB` below the loudest one.

    Whisper cuts its features off below the loudest part of a window, and leaves out a voice far quieter.
    """
    parts: list[list[Span]] = []
    for run in speech:
        if parts and run[0] - parts[-1][-1][1] < _samples(LEVEL_PAUSE_SECONDS):
            parts[-1].append(run)
        else:
            parts.append([run])
    levels = [_level_db(pcm, part) for part in parts]
    if not levels or min(levels) >= max(levels) - LEVEL_DIFFERENCE_DB:
        return pcm
    raised = pcm.copy()
    cuts = [0, *((a[-1][1] + b[0][0]) // 2 for a, b in pairwise(parts)), len(pcm)]
    for level, part, (start, end) in zip(levels, parts, pairwise(cuts), strict=True):
        gain = max(levels) - LEVEL_DIFFERENCE_DB - level
        if gain > 0 and sum(b - a for a, b in part) >= _samples(LEVEL_SPEECH_SECONDS):
            samples = pcm[start:end] * np.float32(10 ** (gain / 20))
            raised[start:end] = samples.clip(-32768, 32767).astype(np.int16)
    return raised


def _level_db(pcm: PCM, runs: Sequence[Span]) -> float:
    samples = np.concatenate([pcm[a:b] for a, b in runs]).astype(np.float32)
    return 10 * math.log10(float(np.square(samples).sum()) / max(1, len(samples)) + 1.0)


def speech_seconds(speech: Sequence[Span], end: int) -> float:
    """Return the seconds of speech before a sample."""
    return sum(max(0, min(b, end) - a) for a, b in speech) / SAMPLE_RATE


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
