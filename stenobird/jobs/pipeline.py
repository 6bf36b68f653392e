"""One job from its URL to its `done`: find the audio, open it, recognize speech, commit each window."""

from __future__ import annotations

import math
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import numpy as np
import structlog

from stenobird.errors import (
    AudioSourceUnreachable,
    AudioUnreachable,
    DestinationForbidden,
    EgressError,
    InsufficientCredits,
    InvalidURL,
    JobError,
    RequestError,
    TranscriptionFailed,
    UnsupportedURL,
    WorkerTrouble,
)
from stenobird.jobs import carry
from stenobird.jobs.events import Progress
from stenobird.jobs.labelling import UNLABELLED, JobLabelling
from stenobird.jobs.leased import LeasedJob, billable_minutes, usage_of
from stenobird.jobs.spec import uploaded_source
from stenobird.jobs.translation import JobTranslation
from stenobird.ports import (
    SAMPLE_RATE,
    AudioLimits,
    AudioRequest,
    CarryPoint,
    Gap,
    JobChange,
    JobObserver,
    SpeechCheckpoint,
    Title,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from stenobird.ports import (
        PCM,
        AudioFinder,
        AudioOpener,
        AudioStream,
        Clock,
        JobExtra,
        Lane,
        NewEvent,
        OpenedMedia,
        Translator,
        VoiceFinder,
        Wakeups,
        WindowResult,
    )
    from stenobird.sources import AudioSource, Verdict
    from stenobird.speech.engines import SpeechEngines
    from stenobird.storage.job_store import JobStore
    from stenobird.transcript import Segment

SAMPLES_PER_MINUTE: Final = 60 * SAMPLE_RATE
_LIVE_ELSEWHERE: Final = (
    "The audio behind this URL is live, so it has no end that this request could wait for. Send the URL to "
    "POST /v1/transcripts, and read the text from its events."
)
_OWN_STAGES: Final = frozenset({"validating_url", "source_resolved"})
"""Stages whose events the pipeline commits itself, whatever a finder reports."""

_log = structlog.get_logger(__name__)


class CreditsExhausted(JobError, code="insufficient_credits"):
    """The account has too few credits for this audio. Add credits, then try again. Nothing was billed."""


class LiveLaneFull(Exception):  # an outcome, handled by JobRun
    """The worker has as many jobs with live audio as it may: this one waits in their lane."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Bounds of one job, from the settings."""

    preview_seconds: float = 15.0
    live_default_minutes: int = 60
    """How long a job with live audio runs whose client named no `max_minutes`."""
    max_audio_seconds: float = 6 * 3600.0
    max_audio_bytes: int = 2 * 1024**3
    progress_seconds: float = 30.0
    """Audio between two progress events."""
    renew_seconds: float = 15.0
    max_attempts: int = 3
    """Attempts without progress, after which the job fails instead of being tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """What all runs of a worker share."""

    store: JobStore
    wakeups: Wakeups
    finder: AudioFinder
    opener: AudioOpener
    speech: SpeechEngines
    translator: Translator | None = None
    speakers: VoiceFinder | None = None
    clock: Clock
    options: RunOptions = field(default_factory=RunOptions)
    observer: JobObserver = field(default_factory=JobObserver)


class TranscriptionPipeline:
    """Takes one leased job to a committed end. Used once; `run` raises whatever ends it early."""

    def __init__(
        self, leased: LeasedJob, context: RunContext, live_room: Callable[[], bool] = lambda: True
    ) -> None:
        self.lane: Lane = leased.job.lane
        """The lane of the worker that the job takes a place in."""
        self._leased = leased
        self._events = leased.events
        self._live_room = live_room
        self._job = leased.job
        self._preview = self._job.mode == "preview"
        self._context = context
        self._options = context.options
        self._source = leased.claim.source
        self._checkpoint = leased.claim.checkpoint or SpeechCheckpoint()
        self._tier = self._job.extra.tier
        self._recognizer = context.speech.for_tier(self._tier)
        target = self._job.extra.translate_to
        self._translation = JobTranslation(self._job, target, context.translator) if target else None
        speakers = context.speakers if self._job.options.speakers else None
        self._labelling = JobLabelling(self._job, speakers) if speakers is not None else None
        self._extra = self._job.extra
        self._live_minutes = self._extra.max_minutes or self._options.live_default_minutes
        self._samples = 0
        self._item: PCM | Gap | Title | None = None
        """The next item of the audio."""
        self._titles: list[Title] = []
        """Those that no commit has told yet."""
        self._stream: AudioStream | None = None
        self._stopping = False
        self._progress_at = self._checkpoint.next_sample
        self._transcribing_committed = self._job.stage == "transcribing"
        # Only jobs that are billed reserve units; after a restart the new reservation replaces the old one.
        self._reserved = self._job.mode != "full" or self._job.account_id is None
        self._audio_error: Exception | None = None

    def stop(self) -> None:
        """End live audio here: what has arrived is transcribed, and the job completed."""
        self._stopping = True
        if self._stream is not None:
            self._stream.stop()

    def trouble_behind(self, exc: Exception) -> WorkerTrouble | None:
        """Return the trouble of this machine that ended `run`, `None` if the job itself is to blame."""
        return WorkerTrouble.behind(self._audio_error) or WorkerTrouble.behind(exc)

    def error_for(self, exc: Exception) -> JobError:
        """Return the error that the client gets for an exception that ended `run`.

        An unexpected exception is logged with its traceback, and its details are kept from the client.
        """
        # A recognizer may wrap an exception of its audio; the original one says more.
        for candidate in (self._audio_error, exc):
            if candidate is not None and (known := self._known(candidate)) is not None:
                return known
        _log.error("unexpected_exception", exc_info=exc)
        return TranscriptionFailed()

    def _known(self, exc: BaseException) -> JobError | None:
        if isinstance(exc, BaseExceptionGroup):
            return next((known for part in exc.exceptions if (known := self._known(part))), None)
        if isinstance(exc, JobError):
            return exc
        if isinstance(exc, InvalidURL | DestinationForbidden):
            return UnsupportedURL(exc.message)
        if isinstance(exc, EgressError):
            return (AudioSourceUnreachable if self._source is None else AudioUnreachable)(exc.message)
        if isinstance(exc, RequestError):
            kind = CreditsExhausted if isinstance(exc, InsufficientCredits) else TranscriptionFailed
            return kind(f"{exc.message} Nothing was billed.", details=exc.details)
        return None

    # --- the steps --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Commit the transcript and the end. Raises `LeaseLost`, `StorageUnavailable` or why it failed."""
        self._check_engine()
        if self._translation is not None:
            self._translation.check()
        if self._labelling is not None:
            self._labelling.check()
            await self._labelling.restore(self._context.store, self._checkpoint.next_sample)
        if self._stopping and self._source is not None and self._source.live:
            # It was stopped while nobody worked on it.
            self._samples = self._checkpoint.next_sample
            await self._commit_end(None)
            return
        if self._source is None and await self._continued_preview():
            return
        opened: OpenedMedia | None = None
        if self._source is None:
            if self._job.upload_id is not None:
                # Nothing has to be found, and no rung of the ladder knows this URL.
                self._source = uploaded_source(self._job)
            else:
                found = await self._context.finder.find(
                    self._job.audio_url, preview=self._preview, report=self._report
                )
                self._source, opened = found.source, found.opened
            try:
                if self._source.live:
                    await self._enter_live_lane()
                await self._leased.append(*self._resolved(self._source))
            except BaseException:
                if opened is not None:
                    await opened.aclose()
                raise
        await self._transcribe(self._source, fingerprint=self._leased.claim.fingerprint, opened=opened)

    async def _enter_live_lane(self) -> None:
        """Move a full job to the lane of live audio. Raises `LiveLaneFull` if it has to wait there."""
        if self._job.origin != "stenobird":
            raise UnsupportedURL(_LIVE_ELSEWHERE)
        if self._preview or self.lane == "live":
            return
        self.lane = "live"
        await self._leased.append(JobChange(lane="live"), [])
        if not self._live_room():
            raise LiveLaneFull

    async def _report(self, verdict: Verdict) -> None:
        _log.info("discovery_verdict", stage=verdict.stage, outcome=verdict.outcome)
        if verdict.stage in _OWN_STAGES:
            return
        event = self._events.status("queued", verdict.stage, message=verdict.message)
        await self._leased.append(JobChange(stage=verdict.stage), [event])

    def _resolved(self, source: AudioSource) -> tuple[JobChange, list[NewEvent]]:
        reserved = self._reservation(source.duration_seconds)
        return JobChange(status="transcribing", stage="submitted", source=source, reserve_units=reserved), [
            self._events.status("queued", "source_resolved", message=source.reason, source=source),
            self._events.status("transcribing", "submitted"),
        ]

    def _reservation(self, total_seconds: float | None) -> int | None:
        """Return the units to set aside, the first time that the length is known."""
        if self._reserved or total_seconds is None or not math.isfinite(total_seconds):
            return None
        self._reserved = True
        longest = self._options.max_audio_seconds
        return self._job.units(billable_minutes(int(min(total_seconds, longest) * SAMPLE_RATE)))

    async def _continued_preview(self) -> bool:
        """Continue from the job's preview; `False` if there is none, or its audio can't be opened again.

        Nothing is committed before audio arrives, so that an expired link costs only a new search.
        """
        recognizer = self._recognizer
        carried = await carry.carry_over(
            self._context.store, self._job, engine=recognizer.engine, model=recognizer.model
        )
        if carried is None:
            return False
        point, segments = carried
        assert point.source is not None
        _log.info("preview_reused", preview_id=self._job.preview_id, segments=len(segments))
        self._source, self._checkpoint = point.source, point.checkpoint or SpeechCheckpoint()
        self._progress_at = self._checkpoint.next_sample
        try:
            await self._transcribe(point.source, fingerprint=point.fingerprint, carried=segments)
        except (JobError, EgressError) as exc:
            if self._transcribing_committed or self.trouble_behind(exc) is not None:
                raise
            _log.info("preview_not_continued", reason=str(exc))
            self._source, self._checkpoint = None, SpeechCheckpoint()
            self._samples = self._progress_at = 0
            self._audio_error = None
            return False
        return True

    async def _transcribe(
        self,
        source: AudioSource,
        *,
        fingerprint: Mapping[str, Any] | None,
        opened: OpenedMedia | None = None,
        carried: tuple[Segment, ...] | None = None,
    ) -> None:
        start = self._checkpoint.next_sample
        if self._labelling is not None and not source.live:
            start = min(start, self._labelling.next_sample)
        options = self._options
        limits = AudioLimits(
            max_bytes=options.max_audio_bytes,
            max_samples=int(options.max_audio_seconds * SAMPLE_RATE),
            stop_samples=int(options.preview_seconds * SAMPLE_RATE) if self._preview else None,
            live_samples=self._live_minutes * SAMPLES_PER_MINUTE,
        )
        request = AudioRequest(
            job_id=self._job.id,
            source=source,
            limits=limits,
            start_sample=start,
            fingerprint=fingerprint,
            opened=opened,
        )
        self._samples = start
        async with AsyncExitStack() as stack:
            stream = self._stream = await stack.enter_async_context(self._context.opener.open(request))
            if stream.live:
                await self._enter_live_lane()
                if self._stopping:
                    stream.stop()
            if self._labelling is not None:
                await stack.enter_async_context(self._labelling.running())
                await self._label_silence(max(0, start - self._labelling.next_sample))
            blocks = aiter(stream)
            self._item = await anext(blocks, None)
            while isinstance(self._item, Title):
                # When the first sample was on air is known with the first audio.
                self._titles.append(self._item)
                self._item = await anext(blocks, None)
            _log.info(
                "audio_opened",
                technique=source.technique,
                host=urlsplit(source.final_url).hostname,
                live=stream.live,
                start_seconds=round(start / SAMPLE_RATE, 3),
                total_seconds=stream.duration_seconds,
            )
            await self._commit_transcribing(stream, carried, fingerprint)
            while self._item is not None:
                if isinstance(self._item, Gap):
                    await self._commit_gap(self._item)
                    self._item = await anext(blocks, None)
                else:
                    await self._recognize(blocks, stream)
            await self._commit_end(stream)

    async def _recognize(self, blocks: AsyncIterator[PCM | Gap | Title], stream: AudioStream) -> None:
        """Transcribe the audio to its end, or to a gap."""
        source = self._source
        assert source is not None
        windows = self._recognizer.transcribe(
            self._count_samples(blocks),
            job_id=self._job.id,
            lane="preview" if self._preview else "live" if stream.live else "full",
            checkpoint=self._checkpoint,
            options=replace(self._job.options, names=source.names()),
        )
        async with aclosing(windows):
            async for window in windows:
                # The engine may have loaded only now, or have been replaced by the offline one.
                self._check_engine()
                if self._translation is not None:
                    window = await self._translation.of(window)  # noqa: PLW2901  # the same window, translated
                await self._commit_window(window, stream)

    def _check_engine(self) -> None:
        if (refusal := self._context.speech.refusal(self._job.mode, self._tier)) is not None:
            raise WorkerTrouble(refusal)

    async def _count_samples(self, blocks: AsyncIterator[PCM | Gap | Title]) -> AsyncIterator[PCM]:
        """Yield the audio that recognition lacks, up to a gap or the end; labelling gets all of it."""
        recognized = self._checkpoint.next_sample
        try:
            while (item := self._item) is not None and not isinstance(item, Gap):
                if isinstance(item, Title):
                    self._titles.append(item)
                else:
                    known = max(0, min(len(item), recognized - self._samples))
                    self._samples += len(item)
                    if self._labelling is not None:
                        await self._labelling.feed(item)
                    if known < len(item):
                        yield item[known:]
                self._item = await anext(blocks, None)
        except Exception as exc:
            self._audio_error = exc
            raise

    async def _label_silence(self, samples: int) -> None:
        """Let the windows of labelling go on over live audio that is missing."""
        if self._labelling is not None:
            for start in range(0, samples, SAMPLE_RATE):
                await self._labelling.feed(np.zeros(min(SAMPLE_RATE, samples - start), np.int16))

    # --- the commits ------------------------------------------------------------------------------------

    async def _commit_transcribing(
        self, stream: AudioStream, carried: tuple[Segment, ...] | None, fingerprint: Mapping[str, Any] | None
    ) -> None:
        if self._transcribing_committed:
            return
        assert self._source is not None
        change = JobChange(status="transcribing", stage="transcribing")
        if stream.live:
            self._source = replace(self._source, live=True, at=stream.at)
            reserved = self._reservation(60.0 * self._live_minutes)
            change = replace(change, source=self._source, reserve_units=reserved)
        events = [self._events.status("transcribing", "transcribing", source=change.source)]
        if carried is not None:
            resolved, announced = self._resolved(self._source)
            language = next((one.language for one in carried if one.language), None)
            change = replace(resolved, stage="transcribing", language=language)
            if carried:
                change = replace(change, checkpoint=self._checkpoint, fingerprint=fingerprint)
            events = announced + events + self._transcript(carried, language)
        await self._leased.append(change, events)
        self._transcribing_committed = True

    def _transcript(self, segments: tuple[Segment, ...], language: str | None) -> list[NewEvent]:
        events: list[NewEvent] = []
        for segment in segments:
            index = self._leased.next_chunk_index + len(events)
            text = segment.text if index else segment.text.lstrip()
            # A chunk without text says nothing; as the first one it would also use up the language field.
            if text.strip():
                tidy = _rounded(replace(segment, text=text))
                events.append(self._events.transcript(tidy, index, language=None if index else language))
        return events

    def _now_playing(self) -> list[NewEvent]:
        titles, self._titles = self._titles, []
        if titles:
            self._extra = replace(self._extra, now_playing=titles[-1].text)
        return [self._events.now_playing(title.text) for title in titles]

    async def _commit_gap(self, gap: Gap) -> None:
        """Move on over audio that is missing. Recognition starts anew behind it, in the same language."""
        start = self._samples / SAMPLE_RATE
        await self._label_silence(gap.samples)
        self._samples += gap.samples
        seconds = gap.samples / SAMPLE_RATE
        events = [*self._now_playing(), self._events.stream_gap(start, seconds, gap.reason)]
        self._extra = replace(self._extra, gap_seconds=self._extra.gap_seconds + seconds)
        self._checkpoint = replace(
            self._checkpoint, next_sample=self._samples, block_samples=0, speech=(), context="", prefix=""
        )
        _log.info("stream_gap", reason=gap.reason, seconds=round(seconds, 3), at_seconds=round(start, 3))
        await self._leased.append(JobChange(checkpoint=self._checkpoint, extra=self._extra), events)

    async def _commit_window(self, window: WindowResult, stream: AudioStream) -> None:
        events = self._transcript(window.segments, window.language)
        playing = self._now_playing()
        extra = self._extra if playing else None
        if events and (self._preview or self._translation is not None):
            extra = self._extra = self._extra_with_window()
        events = playing + events
        self._checkpoint = window.checkpoint
        reached = window.checkpoint.next_sample
        total = self._total_seconds(stream)
        source = self._moved_source(stream)
        due = reached - self._progress_at >= self._options.progress_seconds * SAMPLE_RATE
        if not events or due or source is not None:
            self._progress_at = reached
            progress = Progress.of(reached / SAMPLE_RATE, total)
            events.append(
                self._events.status("transcribing", "transcribing", progress=progress, source=source)
            )
        voices: Sequence[tuple[int, bytes]] = ()
        if self._labelling is not None:
            voices, labels = await self._labelling.commit(
                [segment for segment in window.segments if segment.text.strip()], reached, self._events
            )
            events += labels
        change = JobChange(
            source=source,
            checkpoint=window.checkpoint,
            fingerprint=stream.fingerprint,
            duration_seconds=total,
            language=window.language,
            engine=window.engine,
            model=window.model,
            extra=extra,
            reserve_units=self._reservation(total),
            voices=voices,
        )
        await self._leased.append(change, events)

    def _moved_source(self, stream: AudioStream) -> AudioSource | None:
        """Return the source with the time of its first sample, if that has become known better."""
        if self._source is None or not stream.live or stream.at == self._source.at:
            return None
        self._source = replace(self._source, at=stream.at)
        return self._source

    def _extra_with_window(self) -> JobExtra:
        extra = self._extra
        if self._preview:
            # Should this be the last window, a full job continues before it, see `carry`.
            extra = replace(extra, carry=CarryPoint(self._checkpoint, self._leased.next_chunk_index))
        if self._translation is not None:
            extra = replace(
                extra,
                spoken_language=self._translation.spoken_language,
                untranslated_segments=self._translation.untranslated_segments,
            )
        return extra

    def _total_seconds(self, stream: AudioStream) -> float | None:
        total = stream.duration_seconds
        if total is None and self._source is not None:
            total = self._source.duration_seconds
        if not self._preview:
            return total
        return min(self._options.preview_seconds, total or self._options.preview_seconds)

    async def _commit_end(self, stream: AudioStream | None) -> None:
        """Commit the end; there is no stream if the job was stopped before it was resumed."""
        transcribed = self._samples - round(self._extra.gap_seconds * SAMPLE_RATE)
        if transcribed <= 0:
            if self._stopping:
                await self._leased.cancel()
                return
            raise TranscriptionFailed("No audio could be decoded behind this URL. Nothing was billed.")
        recognizer = self._recognizer
        warnings = (
            stream.warning if stream is not None else None,
            self._translation.warning if self._translation is not None else None,
            UNLABELLED if self._job.options.speakers and self._labelling is None else None,
        )
        warning = " ".join(filter(None, warnings)) or None
        minutes = None if self._preview else billable_minutes(transcribed)
        change = JobChange(
            status="preview_complete" if self._preview else "completed",
            billable_minutes=minutes,
            duration_seconds=self._samples / SAMPLE_RATE,
            # Silence may have needed no window at all.
            engine=recognizer.engine if self._checkpoint.window_index == 0 else None,
            model=recognizer.model if self._checkpoint.window_index == 0 else None,
            warning=warning,
        )
        labels = [] if self._labelling is None else await self._labelling.finish(self._events)
        ending = [*self._now_playing(), *labels]
        if self._preview:
            ending += [self._events.preview_locked(), self._events.done("preview_complete", warning=warning)]
            await self._leased.complete(change, ending)
        else:
            ending.append(self._events.done("completed", billable_minutes=minutes, warning=warning))
            await self._leased.complete(change, ending, usage=usage_of(self._job, transcribed))


def _rounded(segment: Segment) -> Segment:
    """Return the segment with its times rounded to the millisecond."""
    return replace(
        segment,
        start=round(segment.start, 3),
        end=round(segment.end, 3),
        words=tuple(
            replace(
                word,
                start=round(word.start, 3),
                end=round(word.end, 3),
                probability=round(word.probability, 4),
            )
            for word in segment.words
        ),
    )
