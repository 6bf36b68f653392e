"""Where live audio belongs on the clock of its source: gaps instead of what is missing, nothing twice.

Sample 0 was on air at `Placement.at`. Where a connection says nothing about time, the sample that arrived
soonest for its place shows when the stretch began: most others have waited somewhere.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from stenobird.ports import PCM, SAMPLE_RATE, Clock, Gap

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stenobird.media.feed import Stretch
    from stenobird.ports import GapReason

HOLD_SECONDS: Final = 1.5
MAX_HOLD_SECONDS: Final = 10.0
SETTLED_SECONDS: Final = 0.1
"""The begin of a stretch waits until no sample has come sooner for its place, by so much, for so long."""
MAX_BURST_SECONDS: Final = 60.0
"""The most that a server may send ahead of its time: what was on air before the connection."""
STALL_SECONDS: Final = 1.5
"""Audio that arrives so late is held too: the server either sends what it owes, or has left it out."""
JITTER_SECONDS: Final = 0.4
"""A smaller difference to the clock is not corrected."""
SEAM_SECONDS: Final = 0.25
"""At least so much is given up between two connections, since arrival shows the place of a sample only
roughly: no sound may be there twice."""
FRAME_SECONDS: Final = 0.04
"""About so much is still in the decoder when it waits for the bytes of the next segment."""
LOST_SECONDS: Final = 1.0
LOST_SHARE: Final = 0.1
"""Segments that give less audio than the playlist states, by more than both, had some that was none."""
NEW_SECONDS: Final = 300.0
"""How long a stream may show that it began earlier than it seemed; later it is the drift of a clock."""


class SteadyClock(Clock):
    """A clock whose `time` never jumps: the date at its creation, and what passed since."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._epoch = clock.time() - clock.monotonic()

    @override
    def time(self) -> float:
        return self._epoch + self._clock.monotonic()

    @override
    def monotonic(self) -> float:
        return self._clock.monotonic()

    @override
    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)


class Placement:
    """Places the samples of one stretch after the other, from sample `start` on, up to sample `end`.

    The caller says what time it is (epoch seconds). `anchor` is the media sequence of a segment, and the
    place of its first sample.
    """

    def __init__(self, *, at: float | None, start: int, end: int) -> None:
        self.at = at
        self.reached = start
        self.end = end
        self.anchor: tuple[int, int] | None = None
        self.resumed = start > 0
        self._stretch: Stretch | None = None
        self._earliest = math.inf
        """The earliest that `at` may become, while only the first stretch is known."""
        # The begin of a stretch, until its place is known.
        self._held: list[PCM] | None = None
        self._held_samples = 0
        self._held_since = self._settling_since = 0.0
        self._starts_by = math.inf
        self._joined = False
        self._dropping = 0
        # Of a stretch that is placed.
        self._least_lag = math.inf
        self._lag_until = 0
        # Of its segments, if it has any.
        self._first_sequence: int | None = None
        self._segment_seconds = 0.0
        self._owed_seconds = 0.0
        """How long they are since the anchor."""
        self._lost = 0

    @property
    def on_air(self) -> float | None:
        """When the last sample so far was on air."""
        return None if self.at is None else self.at + self.reached / SAMPLE_RATE

    def late_seconds(self, now: float) -> float:
        """Return how long ago that was; less than 0 if it is still to come, 0 while samples are held."""
        return 0.0 if self._held is not None or self.on_air is None else now - self.on_air

    def begin(self, stretch: Stretch) -> None:
        """Hold what follows until the place of the stretch is known."""
        self._stretch = stretch
        if stretch.missing_seconds is None:
            self.anchor = None
        self._lost = self._lost_samples(self.reached)
        self._owed_seconds += stretch.missing_seconds or 0.0
        self._first_sequence, self._segment_seconds = None, 0.0
        if self.at is not None:
            self._earliest = math.inf
        self._hold(joined=False)

    def take(self, pcm: PCM, now: float) -> Iterator[PCM | Gap]:
        """Take the next samples, which were received by `now`; yield what has a place."""
        stretch = self._stretch
        assert stretch is not None
        timed = stretch.start is not None or stretch.missing_seconds is not None
        if self._held is None and not timed:
            lag = self.late_seconds(now) - len(pcm) / SAMPLE_RATE
            if lag > STALL_SECONDS:
                self._hold(joined=True)
            else:
                yield from self._correct(lag, stretch.reason)
        if self._held is None:
            yield from self._emit(pcm)
            return
        if not self._held:
            self._held_since = self._settling_since = now
        self._held.append(pcm)
        self._held_samples += len(pcm)
        starts_by = now - self._held_samples / SAMPLE_RATE
        if starts_by < self._starts_by - SETTLED_SECONDS:
            self._settling_since = now  # it still catches up
        self._starts_by = min(self._starts_by, starts_by)
        if (
            timed
            or now - self._settling_since >= HOLD_SECONDS
            or now - self._held_since >= MAX_HOLD_SECONDS
            or self._held_samples > MAX_BURST_SECONDS * SAMPLE_RATE
        ):
            yield from self.place()

    def place(self) -> Iterator[PCM | Gap]:
        """Yield what is held, after a gap where some is missing."""
        held, stretch, self._held = self._held, self._stretch, None
        if not held or stretch is None:
            return
        start = stretch.start
        if start is None:
            start = max(self._starts_by, self._held_since - MAX_BURST_SECONDS)
        if self.at is None:
            self.at = start - self.reached / SAMPLE_RATE
            self._earliest = self._held_since - MAX_BURST_SECONDS
        reason: GapReason = "restarted" if self.resumed else stretch.reason
        if stretch.missing_seconds is not None and not self.resumed:
            reason = "undecodable" if self._lost and not stretch.missing_seconds else reason
            missing = round(stretch.missing_seconds * SAMPLE_RATE) + self._lost
        else:
            missing = round((start - self.at) * SAMPLE_RATE) - self.reached
            if self._joined:
                missing = missing if missing > JITTER_SECONDS * SAMPLE_RATE else 0
            elif self.reached:
                seam = round(SEAM_SECONDS * SAMPLE_RATE)
                # What was received twice is left out, and a little more.
                self._dropping = max(0, seam - missing)
                missing = max(seam, missing)
        self.resumed = False
        yield from self._miss(missing, reason)
        if self._first_sequence is not None:
            self.anchor = (self._first_sequence, self.reached - self._dropping)
            self._owed_seconds = self._segment_seconds
        for pcm in held:
            yield from self._emit(pcm)

    def segment(self, sequence: int, seconds: float) -> Iterator[Gap]:
        """Note that the next samples are those of a segment, of which the playlist says how long it is."""
        if self._first_sequence is None:
            self._first_sequence = sequence
        elif self._held is None:
            position = self.reached + round(FRAME_SECONDS * SAMPLE_RATE)
            lost = self._lost_samples(position)
            yield from self._miss(lost, "undecodable")
            self.anchor, self._owed_seconds = (sequence, position + lost), 0.0
        self._owed_seconds += seconds
        self._segment_seconds += seconds

    def _hold(self, *, joined: bool) -> None:
        self._held, self._held_samples = [], 0
        self._starts_by = math.inf
        self._joined = joined
        self._dropping = 0
        self._least_lag, self._lag_until = math.inf, 0

    def _lost_samples(self, position: int) -> int:
        """Return how much less audio than the playlist states there was from the anchor to `position`."""
        if self.anchor is None:
            return 0
        lost = self._owed_seconds - (position - self.anchor[1]) / SAMPLE_RATE
        return round(lost * SAMPLE_RATE) if lost > max(LOST_SECONDS, LOST_SHARE * self._owed_seconds) else 0

    def _correct(self, lag: float, reason: GapReason) -> Iterator[Gap]:
        """Follow a source that is slower, or was earlier, than its first seconds showed.

        What came soonest in a minute and was late all the same is a gap. What comes before it can have been
        on air shows that the first sample was earlier; the times of all others count from there.
        """
        if self.at is not None and -lag > JITTER_SECONDS and self.reached < NEW_SECONDS * SAMPLE_RATE:
            self.at = min(self.at, max(self.at + lag, self._earliest))
        self._least_lag = min(self._least_lag, lag)
        if self.reached < self._lag_until:
            return
        if self._lag_until and self._least_lag > JITTER_SECONDS:
            yield from self._miss(round(self._least_lag * SAMPLE_RATE), reason)
        self._least_lag, self._lag_until = math.inf, self.reached + 60 * SAMPLE_RATE

    def _miss(self, samples: int, reason: GapReason) -> Iterator[Gap]:
        samples = min(samples, self.end - self.reached)
        if samples > 0:
            self.reached += samples
            yield Gap(samples, reason)

    def _emit(self, pcm: PCM) -> Iterator[PCM]:
        if self._dropping:
            dropped = min(self._dropping, len(pcm))
            self._dropping -= dropped
            pcm = pcm[dropped:]
        pcm = pcm[: max(0, self.end - self.reached)]
        if len(pcm):
            self.reached += len(pcm)
            yield pcm
