"""16 kHz mono with the gaps of a player's clock, from decoded frames. Run in the decoder child: no numpy."""

from __future__ import annotations

from operator import mul
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLE_RATE = 16_000
LOWEST_RATE, HIGHEST_RATE = 2_000, 768_000

CHOICE_BYTES = 2 * SAMPLE_RATE // 4
CANCELLED_SHARE = 0.05
"""Where the sum of the channels has less than this share of the loudest one's power, they cancel each other.
A voice in one of two channels leaves a quarter of its power in the sum."""
SILENT_POWER = 16
POWER_STRIDE = 13
"""Each 13th sample is enough to compare powers, and costs a tenth of a millisecond a second of audio."""

GAP_SECONDS = 0.3
START_GAP_SECONDS = 0.1
"""Shorter gaps are the rounding of timestamps and the delays of encoders."""
LONGEST_DOUBTFUL_GAP_SECONDS = 10.0
"""In containers that are joined by appending, a longer gap is a splice, as it is for FFmpeg."""

TIMED = frozenset({"mov", "matroska", "asf", "flv", "ogg", "mpegts", "mpeg", "avi", "nut"})
"""Demuxers whose timestamps come from the file; the others count bytes or frames."""
CLOCKED = frozenset({"mov", "matroska", "asf", "flv", "nut"})
"""Those whose files are one recording with one clock, so that a gap of any length is meant."""


class Mono:
    """Frames of one shape to mono: the sum of the channels, or one channel where the sum cancels them.

    A channel that is wired the wrong way round is the inverse of the other one, and their sum is silence.
    """

    def __init__(self, av: Any, layout: Any) -> None:
        self._sum = av.AudioResampler(format="s16", layout="mono", rate=SAMPLE_RATE)
        # The bass channel of films holds no speech, however loud it is.
        heard = [number for number, channel in enumerate(layout.channels) if "LFE" not in channel.name]
        self._numbers = heard if len(layout.channels) > 1 else []
        self._each = av.AudioResampler(format="s16p", layout=layout, rate=SAMPLE_RATE)
        self._mixed = bytearray()
        self._channels = [bytearray() for _ in self._numbers]
        self._loudest = 0
        self._cancels = False

    def feed(self, frame: Any) -> Iterator[memoryview]:
        """Yield s16 samples; `None` yields what is left."""
        for mixed in self._sum.resample(frame):
            if mixed is not None and mixed.samples:  # a resampler with nothing to do "flushes" a None
                if not self._numbers:
                    yield memoryview(mixed.planes[0])[: 2 * mixed.samples]
                else:
                    self._mixed += memoryview(mixed.planes[0])[: 2 * mixed.samples]
        if not self._numbers:
            return
        for separate in self._each.resample(frame):
            if separate is not None and separate.samples:
                for number, pcm in zip(self._numbers, self._channels, strict=True):
                    pcm.extend(memoryview(separate.planes[number])[: 2 * separate.samples])
        size = CHOICE_BYTES
        while len(self._mixed) >= size <= len(self._channels[0]):
            yield self._choose(size)
        if frame is None and self._mixed:
            yield self._choose(len(self._mixed))

    def _choose(self, size: int) -> memoryview:
        """Remove the next samples of all signals, and return those to use."""
        mixed = bytes(self._mixed[:size])
        channels = [bytes(channel[:size]).ljust(size, b"\0") for channel in self._channels]
        for signal in (self._mixed, *self._channels):
            del signal[:size]
        powers = [_power(channel) for channel in channels]
        most = max(powers)
        if most > SILENT_POWER:
            self._cancels = _power(mixed) < CANCELLED_SHARE * most
            # Between channels of about the same power, it stays with one.
            if 2 * powers[self._loudest] < most:
                self._loudest = powers.index(most)
        return memoryview(channels[self._loudest] if self._cancels else mixed)


def _power(pcm: bytes) -> float:
    samples = memoryview(pcm).cast("h")[::POWER_STRIDE]
    count = len(samples) or 1
    power: int = sum(map(mul, samples, samples))
    # Without the offset that some sound cards add, which does not cancel.
    return power / count - (sum(samples) / count) ** 2


class Timeline:
    """Where in a player's time the frames of one track belong.

    Only gaps count: a recorder's pause, a late start, frames that are lost. Where time jumps back, as in
    programmes that are stitched together, nothing is dropped.
    """

    def __init__(self, container: Any, stream: Any, demuxer: str, *, stitched: bool) -> None:
        self._timed = demuxer in TIMED
        self._clocked = demuxer in CLOCKED and not stitched
        self.zero = (container.start_time or 0) / 1_000_000
        # Players start such files at zero, even if nothing is there yet. A recorded live stream states no
        # length, and starts anywhere.
        edited = demuxer == "mov" and stream.frames > 0
        whole = demuxer == "matroska" and self.zero < (container.duration or 0) / 1_000_000
        if (edited or whole) and self.zero > 0:
            self.zero = 0.0
        self._expected: float | None = None

    def gap_samples(self, frame: Any, room: int) -> int:
        """Return how many samples are missing before this frame, at most `room`."""
        length = frame.samples / frame.sample_rate
        if not self._timed or frame.pts is None:
            self._expected = (self.zero if self._expected is None else self._expected) + length
            return 0
        time = float(frame.pts * frame.time_base)
        start = self._expected is None
        gap = time - (self.zero if self._expected is None else self._expected)
        if start or abs(gap) > GAP_SECONDS:
            self._expected = time
        assert self._expected is not None
        self._expected += length
        if gap <= (START_GAP_SECONDS if start else GAP_SECONDS):
            return 0
        missing = round(gap * SAMPLE_RATE)
        meant = start or self._clocked or gap <= LONGEST_DOUBTFUL_GAP_SECONDS
        return missing if meant and missing < room else 0
