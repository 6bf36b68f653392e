"""Where to cut audio into windows: pure rules over voice-activity probabilities, one frame at a time.

A window depends only on the audio from its first sample on and on how much speech came before it, so the
windows after a resume are the windows of an undisturbed run. Sample positions here count from the first
sample of the window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from stenobird.ports import SAMPLE_RATE

if TYPE_CHECKING:
    from stenobird.ports import PCM

FRAME_SAMPLES = 512
"""Samples of one voice-activity probability: 32 ms."""

MAX_REGION_SECONDS = 30.0
"""What Whisper decodes at once. The longest target with its padding and a frame is shorter."""

Span: TypeAlias = tuple[int, int]
"""Samples `[start, end)`."""

CutReason: TypeAlias = Literal["pause", "level", "silence", "end"]


@dataclass(frozen=True, slots=True)
class CutRules:
    """The numbers of the cut. Probabilities follow Silero's hysteresis; the rest is seconds.

    `ramp` gives the target length for the seconds of speech so far: the first window is short so that text
    comes early, later ones are long so that the encoder's fixed 30 seconds are well used.
    """

    speech_probability: float = 0.5
    silence_probability: float = 0.35
    merge_seconds: float = 0.1
    """Shorter dips do not end a run of speech."""
    min_speech_seconds: float = 0.25
    """Shorter runs do not start a window."""
    pad_seconds: float = 0.3
    ramp: tuple[tuple[float, float], ...] = ((0.0, 6.0), (2.0, 12.0), (8.0, 20.0), (16.0, 28.0))
    pause_zone: float = 0.4
    """The last part of the target in which a pause is looked for."""
    pauses_seconds: tuple[float, ...] = (0.3, 0.15)
    """A pause of the first length is preferred, then one of the next."""
    level_zone_seconds: float = 3.0
    closing_silence_seconds: float = 3.0
    idle_seconds: float = 30.0
    """After so much audio without speech, the checkpoint moves on."""
    holdback_seconds: float = 0.5
    """Silence left to the next window when this one closes in silence, for its padding."""

    def target_seconds(self, speech_seconds: float) -> float:
        """Return the length, from the first speech on, that a window aims at."""
        return max(target for seconds, target in self.ramp if speech_seconds >= seconds)


@dataclass(frozen=True, slots=True)
class Cut:
    """One window: `samples` long, closed for `reason`.

    `region` is what to decode (`None`: no speech) and `speech` the runs of speech in it. A `level` cut
    fell into running speech: the segment it leaves unfinished belongs to the next window.
    """

    samples: int
    reason: CutReason
    region: Span | None
    speech: tuple[Span, ...]

    @property
    def speech_seconds(self) -> float:
        """Seconds of speech in the window."""
        return sum(end - start for start, end in self.speech) / SAMPLE_RATE

    def speech_seconds_before(self, sample: int) -> float:
        """Return the seconds of speech before a position, for a window that ends early."""
        return sum(max(0, min(end, sample) - start) for start, end in self.speech) / SAMPLE_RATE


class WindowCutter:
    """Finds the end of one window. Call `push` with a probability a frame until it returns true, then `cut`.

    Every frame is decided on its own, so the result does not depend on how the frames were grouped.
    """

    def __init__(self, *, target_seconds: float, rules: CutRules) -> None:
        self._rules = rules
        self._target = _samples(target_seconds)
        self._frames = 0
        self._runs: list[Span] = []
        self._run_start: int | None = None
        self._quiet_from: int | None = None
        self._first: int | None = None
        self._reason: CutReason | None = None

    def push(self, probability: float) -> bool:
        """Take the next frame; return whether the window is closed."""
        start = self._frames * FRAME_SAMPLES
        self._frames += 1
        self._track(probability, start)
        self._reason = self._decide(start + FRAME_SAMPLES)
        return self._reason is not None

    def cut(self, pcm: PCM) -> Cut:
        """Return the window after `push` said `True`. `pcm` starts at its first sample and covers it."""
        now = min(self._frames * FRAME_SAMPLES, len(pcm))  # the last frame of the audio may be padded
        if self._reason == "silence":
            return self._close(now - _samples(self._rules.holdback_seconds), "silence")
        pause = self._best_pause(now)
        if pause is not None:
            return self._close((pause[0] + pause[1]) // 2, "pause")
        assert self._first is not None
        zone = max(now - _samples(self._rules.level_zone_seconds), self._zone_start())
        return self._close(quietest(pcm, zone, now), "level")

    def finish(self, samples: int) -> Cut:
        """Return the last window, which ends with the audio after `samples`."""
        return self._close(samples, "end")

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

    def _decide(self, now: int) -> CutReason | None:
        rules = self._rules
        if self._first is None:
            idle = self._run_start is None and now >= _samples(rules.idle_seconds)
            return "silence" if idle else None
        if self._run_start is None and now - self._runs[-1][1] >= _samples(rules.closing_silence_seconds):
            return "silence"
        # `cut` makes it a `level` cut if there is no pause.
        return "pause" if now - self._first >= self._target else None

    def _zone_start(self) -> int:
        assert self._first is not None
        return self._first + round(self._target * (1 - self._rules.pause_zone))

    def _best_pause(self, now: int) -> Span | None:
        if not self._runs:
            return None
        ends = [end for _, end in self._runs]
        starts = [start for start, _ in self._runs[1:]]
        starts.append(now if self._run_start is None else self._run_start)
        zone = self._zone_start()
        pauses = [p for p in zip(ends, starts, strict=True) if (p[0] + p[1]) // 2 >= zone]
        for seconds in self._rules.pauses_seconds:
            long = [p for p in pauses if p[1] - p[0] >= _samples(seconds)]
            if long:
                return max(long, key=lambda p: (p[1] - p[0], p[0]))
        return None

    def _close(self, samples: int, reason: CutReason) -> Cut:
        if self._first is None:
            return Cut(samples, reason, None, ())
        runs = list(self._runs)
        if self._run_start is not None:
            now = self._frames * FRAME_SAMPLES
            runs.append((self._run_start, now if self._quiet_from is None else self._quiet_from))
        speech = tuple((start, min(end, samples)) for start, end in runs if start < samples)
        pad = _samples(self._rules.pad_seconds)
        end = samples if reason == "level" else min(samples, speech[-1][1] + pad)
        return Cut(samples, reason, (max(0, self._first - pad), end), speech)


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


def _samples(seconds: float) -> int:
    return round(seconds * SAMPLE_RATE)
