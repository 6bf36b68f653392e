"""Live audio as PCM on the clock of its source: gaps instead of what was lost, and no end but the asked one.

    connections or segments ──► Feed ──► decoder child ──► Placement ──► queue ──► reader

What is on air is taken from the server whether the reader is ready or not. The queue holds at most
`MAX_QUEUE_SECONDS`; a reader that falls behind by more loses them and gets a `Gap`. Nothing is on disk.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import structlog

from stenobird.errors import (
    AudioUnreachable,
    EgressError,
    JobError,
    ResponseBroken,
    TranscriptionFailed,
    UnsupportedURL,
    WorkerTrouble,
)
from stenobird.media.decode import Block, DecoderDied, decode, refused, take_decoder
from stenobird.media.feed import Feed, Stretch
from stenobird.media.intake import UnusableStatus, as_job_error
from stenobird.media.placement import Placement
from stenobird.media.recognition import Refusal
from stenobird.ports import PCM, SAMPLE_RATE, Gap, Title

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from stenobird.media.decode import DecoderLimits, SpareDecoder
    from stenobird.media.live_hls import LivePlaylist
    from stenobird.media.placement import SteadyClock
    from stenobird.media.station import Station
    from stenobird.ports import AudioRequest

    LiveOrigin: TypeAlias = Station | LivePlaylist
    """Where stretches of live audio come from.

    `next_stretch(reached)` returns the next one, `None` where the stream has ended; `reached` is when the
    last sample so far was on air. It raises `EgressError`, `UnusableStatus`, or a `JobError` that no other
    try would change.
    """

AWAY_SECONDS: Final = 300.0
"""A stream without audio for so long has ended."""
FIRST_AUDIO_SECONDS: Final = 60.0
"""A stream that has never sent audio gets less time."""
SILENT_SECONDS: Final = 30.0
"""A connection whose bytes give no audio for so long is given up."""
RETRY_SECONDS: Final = (0.0, 0.5, 1.0, 1.0, 2.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Delays before each try; the last one stays. After a connection of `GOOD_SECONDS` they start again."""
GOOD_SECONDS: Final = 10.0
MAX_QUEUE_SECONDS: Final = 60.0
MAX_AHEAD_SECONDS: Final = 30.0
"""A server that sends faster than it plays has to wait when its audio is so far in the future."""
TITLE_SECONDS: Final = 5.0
"""The least time between two titles."""
BLOCK_SAMPLES: Final = SAMPLE_RATE // 4

OFF_AIR = "The stream sent no audio for {minutes:g} minutes, so the transcript ends there."

_log = structlog.get_logger(__name__)


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
        clock: SteadyClock,
        limits: DecoderLimits,
        spare: SpareDecoder | None,
    ) -> None:
        self._job_id = request.job_id
        self._origin = origin
        self._clock = clock
        self._limits = limits
        self._spare = spare
        self.warning: str | None = None
        wanted = request.limits.live_samples
        preview = request.limits.stop_samples
        end = wanted if preview is None else min(wanted, preview)
        self._placement = Placement(at=request.source.at, start=request.start_sample, end=end)
        self._received_at = self._heard_at = clock.monotonic()
        self._received = 0
        """Samples received by this process."""
        self._undecodable = False
        """Whether the stretch before ended with bytes that are no audio."""
        self._queue: deque[PCM | Gap | Title] = deque()
        self._queued = 0
        self._catching_up = False
        self._title: str | None = None
        self._next_title: Title | None = None
        self._titled_at = -math.inf
        self._added, self._taken = asyncio.Event(), asyncio.Event()
        self._ended = False
        self._failure: Exception | None = None

    # --- the reader ---------------------------------------------------------------------------------------

    async def __aiter__(self) -> AsyncIterator[PCM | Gap | Title]:
        """Yield audio, gaps and titles, in order. Raises a `JobError` if there never was any audio."""
        while True:
            while self._queue:
                item = self._queue.popleft()
                if not isinstance(item, (Gap, Title)):
                    self._queued -= len(item)
                self._taken.set()
                yield item
            if self._ended:
                break
            self._added.clear()
            await self._added.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def at(self) -> float | None:
        """See `ports.AudioStream`."""
        return self._placement.at

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Where a playlist has what was not committed; elsewhere it is lost."""
        anchor = self._placement.anchor
        return {} if anchor is None else {"sequence": anchor[0], "sample": anchor[1]}

    def stop(self) -> None:
        """End the audio here. What has arrived is still yielded."""
        if not self._ended:
            self._put(self._placement.place())
            self._finish()

    async def aclose(self) -> None:
        """End the audio; `run` is cancelled by its owner."""
        self._finish()

    def _finish(self) -> None:
        self._ended = True
        self._added.set()
        self._taken.set()

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
            before, began = self._received, self._clock.monotonic()
            problem: Exception | None = None
            try:
                stretch = await self._origin.next_stretch(self._placement.on_air)
                if stretch is None:
                    break
                await self._hear(replace(stretch, reason="undecodable") if self._undecodable else stretch)
            except (EgressError, UnusableStatus, Refusal, DecoderDied, JobError) as exc:
                problem = exc
            if problem is None and self._received == before and not self._ended:
                problem = ResponseBroken("The stream ended before it sent any audio.")
            if self._received_at - began >= GOOD_SECONDS:
                tries = 0
            self._undecodable = isinstance(problem, Refusal | DecoderDied) or (
                self._undecodable and self._received == before
            )
            if problem is not None:
                self._judge(problem)
                _log.info("stream_interrupted", job_id=self._job_id, reason=str(problem))
            if not self._ended:
                await self._clock.sleep(RETRY_SECONDS[min(tries, len(RETRY_SECONDS) - 1)])
            tries += 1
        if not self._received and not self._placement.resumed and not self._ended:
            raise AudioUnreachable("The stream ended before it sent any audio. Check that it plays.")

    def _judge(self, problem: Exception) -> None:
        """Raise what no other try would change, or what lasts for too long."""
        error = _as_job_error(problem)
        cause = problem.__cause__ if error is problem else problem
        away = self._clock.monotonic() - self._received_at
        fresh = not self._received and not self._placement.resumed
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
        self._placement.begin(stretch)
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
        self._put(self._placement.place())
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
                    data, part = item if isinstance(item, tuple) else (item, None)
                    if part is not None:
                        await feed.drain()
                        self._put(self._placement.segment(part.sequence, part.seconds))
                    await feed.write(data)
                    if self._clock.monotonic() - self._heard_at > SILENT_SECONDS:
                        return DecoderDied(f"its bytes gave no audio for {SILENT_SECONDS:g} s")
        except (EgressError, UnusableStatus, JobError) as exc:
            return exc
        finally:
            feed.end()
        return None

    async def _decode(self, feed: Feed) -> None:
        child = await take_decoder(
            feed, self._limits, self._spare, skip=0, stop=None, most=1 << 40, block=BLOCK_SAMPLES
        )
        messages = decode(child, feed, self._limits.stall_seconds)
        async with aclosing(child), aclosing(messages):
            async for message in messages:
                if isinstance(message, Block) and await self._take(message.pcm):
                    return

    async def _take(self, pcm: PCM) -> bool:
        """Take the next samples of the stretch; return whether the audio ends here."""
        self._received_at = self._clock.monotonic()
        self._received += len(pcm)
        self._entitle(None)
        self._put(self._placement.take(pcm, self._clock.time()))
        ahead = -self._placement.late_seconds(self._clock.time()) - MAX_AHEAD_SECONDS
        if ahead > 0 and not self._ended:
            await self._clock.sleep(ahead)
        while self._catching_up and self._queued > MAX_QUEUE_SECONDS * SAMPLE_RATE and not self._ended:
            self._heard_at = math.inf
            self._taken.clear()
            await self._taken.wait()
            self._note_lateness()
        self._heard_at = self._clock.monotonic()
        return self._ended

    # --- the queue ----------------------------------------------------------------------------------------

    def _put(self, items: Iterable[PCM | Gap]) -> None:
        for item in items:
            if self._ended:
                return
            self._queue.append(item)
            self._queued += 0 if isinstance(item, Gap) else len(item)
            self._note_lateness()
            if self._queued > MAX_QUEUE_SECONDS * SAMPLE_RATE and not self._catching_up:
                self._skip()
            self._added.set()
        if self._placement.reached >= self._placement.end:
            self._finish()

    def _note_lateness(self) -> None:
        """Decide whether audio waits for its reader: what a playlist lists does, up to `AWAY_SECONDS`."""
        late = self._placement.late_seconds(self._clock.time())
        # Once both are half a queue, what is left of them has room.
        behind = self._catching_up and max(late, self._queued / SAMPLE_RATE) > MAX_QUEUE_SECONDS / 2
        self._catching_up = late < AWAY_SECONDS and (late > MAX_QUEUE_SECONDS or behind)

    def _skip(self) -> None:
        """Give up what is queued."""
        items = [item for item in self._queue if not isinstance(item, Title)]
        lost = sum(item.samples if isinstance(item, Gap) else len(item) for item in items)
        self._queue.clear()
        self._queued = 0
        self._queue.append(Gap(lost, "fell_behind"))
        _log.warning("stream_skipped", job_id=self._job_id, seconds=lost / SAMPLE_RATE)

    def _entitle(self, title: Title | None) -> None:
        """Pass a new title on, but the latest one only where they change all the time."""
        self._next_title = title or self._next_title
        now = self._clock.monotonic()
        if self._next_title is not None and now - self._titled_at >= TITLE_SECONDS:
            if self._next_title.text != self._title:
                self._title, self._titled_at = self._next_title.text, now
                self._queue.append(self._next_title)
                self._added.set()
            self._next_title = None


def _as_job_error(problem: Exception) -> JobError:
    if isinstance(problem, JobError):
        return problem
    if isinstance(problem, EgressError | UnusableStatus):
        return as_job_error(problem)
    if isinstance(problem, Refusal) and (error := refused(problem, "What the stream sends")) is not None:
        return error
    return TranscriptionFailed(f"The stream can't be decoded: {problem}. Check that it plays.")
