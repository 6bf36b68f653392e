"""Live audio as PCM on the clock of its source: gaps instead of what was lost, and no end but the asked one.

    connections or segments ──► Feed ──► decoder child ──► place on the clock ──► queue ──► reader

Audio is taken from the server whether its reader is ready or not. The queue holds at most
`MAX_QUEUE_SECONDS`; a reader that falls behind by more loses them and gets a `Gap`. Nothing is on disk.

Sample 0 was on air at `at`. Where a connection says nothing about time, the sample that arrived soonest for
its place shows when the stretch began: most others have waited somewhere.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog

from stenobird.errors import (
    SEND_AUDIO,
    AudioContentTypeNotSupported,
    AudioUnreachable,
    EgressError,
    JobError,
    ResponseBroken,
    TranscriptionFailed,
    UnsupportedURL,
    WorkerTrouble,
)
from stenobird.media.decode import Block, DecoderDied, decode, take_decoder
from stenobird.media.feed import Feed, Stretch
from stenobird.media.intake import UnusableStatus, as_job_error
from stenobird.media.recognition import Refusal
from stenobird.ports import PCM, SAMPLE_RATE, Gap, Title

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stenobird.children.process import ChildProcess
    from stenobird.media.decode import DecoderLimits, SpareDecoder
    from stenobird.ports import AudioRequest, Clock, GapReason

AWAY_SECONDS: Final = 300.0
"""A stream without audio for so long has ended."""
FIRST_AUDIO_SECONDS: Final = 60.0
"""A stream that has never sent audio gets less time."""
SILENT_SECONDS: Final = 30.0
"""A connection whose bytes give no audio for so long is given up."""
RETRY_SECONDS: Final = (0.0, 0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Delays before each try; the last one stays. After `GOOD_SECONDS` of audio they start again."""
GOOD_SECONDS: Final = 10.0
MAX_QUEUE_SECONDS: Final = 60.0
MAX_AHEAD_SECONDS: Final = 30.0
"""A server that sends faster than it plays has to wait when its audio is so far in the future."""
MAX_BURST_SECONDS: Final = 60.0
"""The most that a server may send at once of what was on air before the connection."""

HOLD_SECONDS: Final = 1.5
MAX_HOLD_SECONDS: Final = 10.0
SETTLED_SECONDS: Final = 0.1
"""The begin of a stretch waits until no sample has come sooner for its place, by so much, for so long."""
STALL_SECONDS: Final = 1.5
"""Audio that arrives so late is held too: the server either sends what it owes, or has left it out."""
JITTER_SECONDS: Final = 0.4
"""A smaller difference to the clock is not corrected."""
SEAM_SECONDS: Final = 0.25
"""At least so much is given up between two connections, since arrival shows the place of a sample only
roughly: no sound may be there twice."""
TITLE_SECONDS: Final = 5.0
"""The least time between two titles."""
BLOCK_SAMPLES: Final = SAMPLE_RATE // 4

OFF_AIR = "The stream sent no audio for {minutes:g} minutes, so the transcript ends there."

_log = structlog.get_logger(__name__)


class LiveOrigin(Protocol):
    """Where stretches of live audio come from."""

    async def next_stretch(self, reached: float | None) -> Stretch | None:
        """Return the next one, `None` where the stream has ended.

        `reached` is when the last sample so far was on air. Raises `EgressError`, `UnusableStatus`, or a
        `JobError` that no other try would change.
        """


class LiveStream:
    """Implements `ports.AudioStream` for audio without an end. `run` receives; one reader iterates.

    Connections that end are tried again, each time through the egress policy, until the stream was away for
    `AWAY_SECONDS`. The audio ends with the limits of the request, or with `stop`.
    """

    live = True
    duration_seconds: float | None = None

    def __init__(
        self,
        request: AudioRequest,
        origin: LiveOrigin,
        clock: Clock,
        limits: DecoderLimits,
        spare: SpareDecoder | None,
    ) -> None:
        self._job_id = request.job_id
        self._origin = origin
        self._clock = clock
        self._limits = limits
        self._spare = spare
        self._epoch = clock.time() - clock.monotonic()
        self.at: float | None = request.source.at
        self.warning: str | None = None
        wanted = request.limits.live_samples
        preview = request.limits.stop_samples
        self._end = wanted if preview is None else min(wanted, preview)
        self._reached = request.start_sample
        self._received_at = self._heard_at = clock.monotonic()
        self._received = 0
        """Samples received by this process."""
        self._restarted = request.start_sample > 0
        self._queue: deque[PCM | Gap | Title] = deque()
        self._queued = 0
        self._title: str | None = None
        self._next_title: Title | None = None
        self._titled_at = -math.inf
        self._changed = asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None
        self._decoder: ChildProcess | None = None
        # The begin of a stretch, until its place is known.
        self._stretch: Stretch | None = None
        self._held: list[PCM] | None = None
        self._held_samples = 0
        self._held_since = self._settling_since = 0.0
        self._joined = False
        self._starts_by = math.inf
        self._dropping = 0
        self._least_lag = math.inf
        self._lag_until = 0

    # --- the reader ---------------------------------------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[PCM | Gap | Title]:
        """Yield audio, gaps and titles, in order. Raises a `JobError` if there never was any audio."""
        while True:
            while self._queue:
                item = self._queue.popleft()
                if not isinstance(item, (Gap, Title)):
                    self._queued -= len(item)
                yield item
            if self._ended:
                break
            self._changed.clear()
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Live audio has none: what was not committed is lost."""
        return {}

    @property
    def decoder_pid(self) -> int | None:
        """Process id of the decoder child, for tests."""
        child = self._decoder
        return child.pid if child is not None and child.returncode is None else None

    def stop(self) -> None:
        """End the audio here. What has arrived is still yielded."""
        if not self._ended:
            self._place()
            self._finish()

    async def aclose(self) -> None:
        """End the audio; `run` is cancelled by its owner."""
        self._finish()

    def _finish(self) -> None:
        self._ended = True
        self._changed.set()

    # --- receiving ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Receive until the end. Never raises: the reader gets the failure, or there is a `warning`."""
        try:
            await self._receive()
        except JobError as exc:
            if self._received and WorkerTrouble.behind(exc) is None:
                self.warning = exc.message
            else:
                self._failure = exc
        except Exception as exc:  # noqa: BLE001  # raised by the reader
            self._failure = exc
        finally:
            self._finish()

    async def _receive(self) -> None:
        tries = 0
        while not self._ended:
            before = self._received
            problem: Exception | None = None
            try:
                stretch = await self._origin.next_stretch(self._on_air())
                if stretch is None:
                    break
                await self._hear(stretch)
            except (EgressError, UnusableStatus, Refusal, DecoderDied, JobError) as exc:
                problem = exc
            if problem is None and self._received == before and not self._ended:
                problem = ResponseBroken("The stream ended before it sent any audio.")
            if self._received - before >= GOOD_SECONDS * SAMPLE_RATE:
                tries = 0
            if problem is not None:
                self._judge(problem)
                _log.info("stream_interrupted", job_id=self._job_id, reason=str(problem))
            if not self._ended:
                await self._clock.sleep(RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)])
            tries += 1
        if not self._received and not self._restarted and not self._ended:
            raise AudioUnreachable("The stream ended before it sent any audio. Check that it plays.")

    def _judge(self, problem: Exception) -> None:
        """Raise what no other try would change, or what lasts for too long."""
        error = _as_job_error(problem)
        cause = problem.__cause__ if error is problem else problem
        away = self._clock.monotonic() - self._received_at
        fresh = not self._received and not self._restarted
        if isinstance(error, UnsupportedURL) or (
            fresh and not isinstance(error, AudioUnreachable | TranscriptionFailed)
        ):
            raise error from cause
        if WorkerTrouble.behind(problem) is not None or (fresh and away >= FIRST_AUDIO_SECONDS):
            raise error from cause
        if away >= AWAY_SECONDS:
            raise AudioUnreachable(OFF_AIR.format(minutes=AWAY_SECONDS / 60)) from cause

    async def _hear(self, stretch: Stretch) -> None:
        """Decode a stretch to its end. Raises what ended it early, after the audio before that."""
        feed = Feed(stitched=stretch.stitched)
        self._hold(stretch)
        self._heard_at = self._clock.monotonic()
        began = self._received
        broke: Exception | None = None
        async with asyncio.TaskGroup() as tasks:
            pumping = tasks.create_task(self._pump(stretch, feed), name=f"live {self._job_id}")
            try:
                await self._decode(feed)
            except (Refusal, DecoderDied, WorkerTrouble) as exc:
                broke = exc
            finally:
                if not pumping.done():
                    if broke is None and not self._ended:
                        broke = DecoderDied("its audio broke off")
                    pumping.cancel()
        self._place()
        broke = (None if pumping.cancelled() else pumping.result()) or broke
        if isinstance(broke, Refusal) and not feed.front:
            broke = ResponseBroken("The stream ended before it sent any audio.")
        if isinstance(broke, Refusal) and self._received > began:
            broke = DecoderDied(str(broke))
        if broke is not None:
            raise broke

    async def _pump(self, stretch: Stretch, feed: Feed) -> Exception | None:
        """Fill the feed; return why the stretch ended early, if it did."""
        try:
            async with aclosing(stretch.body) as body:
                async for item in body:
                    if isinstance(item, Title):
                        self._entitle(item)
                        continue
                    await feed.write(item)
                    if self._clock.monotonic() - self._heard_at > SILENT_SECONDS:
                        return DecoderDied(f"its bytes gave no audio for {SILENT_SECONDS:g} s")
        except (EgressError, UnusableStatus, JobError) as exc:
            return exc
        finally:
            feed.end()
        return None

    async def _decode(self, feed: Feed) -> None:
        async with aclosing(await self._start_decoder(feed)) as child:
            self._decoder = child
            async with aclosing(decode(child, feed, self._limits.stall_seconds)) as messages:
                async for message in messages:
                    if isinstance(message, Block):
                        self._heard_at = self._clock.monotonic()
                        if await self._take(message.pcm):
                            return

    async def _start_decoder(self, feed: Feed) -> ChildProcess:
        try:
            return await take_decoder(
                feed, self._limits, self._spare, skip=0, stop=None, most=1 << 40, block=BLOCK_SAMPLES
            )
        except OSError as exc:
            raise WorkerTrouble(f"The audio decoder can't be started ({exc.strerror}).") from exc

    # --- the clock ----------------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._epoch + self._clock.monotonic()

    def _on_air(self) -> float | None:
        """When the last sample so far was on air."""
        return None if self.at is None else self.at + self._reached / SAMPLE_RATE

    async def _take(self, pcm: PCM) -> bool:
        """Take the next samples of the stretch; return whether the audio ends here."""
        now = self._now()
        self._received_at = self._clock.monotonic()
        self._received += len(pcm)
        stretch = self._stretch
        assert stretch is not None
        timed = stretch.start is not None or stretch.missing_seconds is not None
        if self._held is None and not timed:
            lag = now - (self._on_air() or now) - len(pcm) / SAMPLE_RATE
            if lag > STALL_SECONDS:
                self._hold(Stretch(stretch.body, stretch.reason), joined=True)
            else:
                self._correct(lag, stretch.reason)
        self._entitle(None)
        if self._held is None:
            self._emit(pcm)
        else:
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
                self._place()
        if not self._ended and self._held is None:
            ahead = (self._on_air() or now) - now - MAX_AHEAD_SECONDS
            if ahead > 0:
                await self._clock.sleep(ahead)
        return self._ended

    def _hold(self, stretch: Stretch, *, joined: bool = False) -> None:
        self._stretch = stretch
        self._held, self._held_samples = [], 0
        self._starts_by = math.inf
        self._joined = joined
        self._dropping = 0
        self._least_lag, self._lag_until = math.inf, 0

    def _place(self) -> None:
        """Put what is held at its place, after a gap where some is missing."""
        held, stretch, self._held = self._held, self._stretch, None
        if not held or stretch is None:
            return
        start = stretch.start
        if start is None:
            start = max(self._starts_by, self._held_since - MAX_BURST_SECONDS)
        if self.at is None:
            self.at = start - self._reached / SAMPLE_RATE
        reason: GapReason = "restarted" if self._restarted else stretch.reason
        if stretch.missing_seconds is not None and not self._restarted:
            missing = round(stretch.missing_seconds * SAMPLE_RATE)
        else:
            missing = round((start - self.at) * SAMPLE_RATE) - self._reached
            if self._joined:
                missing = missing if missing > JITTER_SECONDS * SAMPLE_RATE else 0
            elif self._reached:
                seam = round(SEAM_SECONDS * SAMPLE_RATE)
                # What was received twice is left out, and a little more.
                self._dropping = max(0, seam - missing)
                missing = max(seam, missing)
        self._restarted = False
        self._miss(missing, reason)
        for pcm in held:
            self._emit(pcm)

    def _correct(self, lag: float, reason: GapReason) -> None:
        """Follow a source whose clock is slow: what came soonest in a minute came late all the same."""
        self._least_lag = min(self._least_lag, lag)
        if self._reached < self._lag_until:
            return
        if self._lag_until and self._least_lag > JITTER_SECONDS:
            self._miss(round(self._least_lag * SAMPLE_RATE), reason)
        self._least_lag, self._lag_until = math.inf, self._reached + 60 * SAMPLE_RATE

    # --- the queue ----------------------------------------------------------------------------------------

    def _miss(self, samples: int, reason: GapReason) -> None:
        samples = min(samples, self._end - self._reached)
        if samples > 0:
            self._queue.append(Gap(samples, reason))
            self._reached += samples
            self._added()

    def _emit(self, pcm: PCM) -> None:
        if self._dropping:
            dropped = min(self._dropping, len(pcm))
            self._dropping -= dropped
            pcm = pcm[dropped:]
        pcm = pcm[: max(0, self._end - self._reached)]
        if len(pcm) and not self._ended:
            self._queue.append(pcm)
            self._queued += len(pcm)
            self._reached += len(pcm)
            self._added()

    def _added(self) -> None:
        if self._queued > MAX_QUEUE_SECONDS * SAMPLE_RATE:
            lost = sum(
                item.samples if isinstance(item, Gap) else len(item)
                for item in self._queue
                if not isinstance(item, Title)
            )
            self._queue.clear()
            self._queued = 0
            self._queue.append(Gap(lost, "fell_behind"))
            _log.warning("stream_skipped", job_id=self._job_id, seconds=lost / SAMPLE_RATE)
        if self._reached >= self._end:
            self._ended = True
        self._changed.set()

    def _entitle(self, title: Title | None) -> None:
        """Pass a new title on, but the latest one only where they change all the time."""
        self._next_title = title or self._next_title
        now = self._clock.monotonic()
        if self._next_title is not None and now - self._titled_at >= TITLE_SECONDS:
            if self._next_title.text != self._title:
                self._title, self._titled_at = self._next_title.text, now
                self._queue.append(self._next_title)
                self._changed.set()
            self._next_title = None


def _as_job_error(problem: Exception) -> JobError:
    if isinstance(problem, JobError):
        return problem
    if isinstance(problem, EgressError | UnusableStatus):
        return as_job_error(problem)
    if isinstance(problem, Refusal) and problem.kind in {"not_media", "no_audio"}:
        return AudioContentTypeNotSupported(
            f"What the stream sends is not audio that can be decoded: {problem}. {SEND_AUDIO}"
        )
    if isinstance(problem, Refusal) and problem.kind == "environment":
        return WorkerTrouble(
            f"The server's audio decoder does not start: {problem}. "
            'Tell the operator, who can run "stenobird doctor".'
        )
    return TranscriptionFailed(f"The stream can't be decoded: {problem}. Check that it plays.")
