"""The events of a job as clients see them: their fields, their order, and their exact bytes.

The event log is the truth: an event is encoded once, here, before it is committed, and every reader gets
those bytes. Fields are in the order of the published examples; fields that are `None` are left out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, TypeAdapter

from stenobird.bodies import Body, Omittable
from stenobird.ports import RESULT_READY, TERMINAL, EventRow, GapReason, JobRecord, JobStatus, NewEvent
from stenobird.transcript import Segment, Transcript

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stenobird.sources import AudioSource

POLL_SECONDS = 2
"""`retry_after_seconds` of a running job."""

GAP_REASONS: Final[Mapping[GapReason, str]] = {
    "disconnected": "the connection to the stream broke",
    "expired": "the stream no longer has them",
    "fell_behind": "the transcription was slower than the stream",
    "restarted": "the transcription was restarted",
    "undecodable": "the stream sent something that is not audio",
}
"""Why audio is missing, as text for people."""
_SEGMENT: Final = TypeAdapter(Segment)


class EventData(BaseModel):
    """The data of an event; `event` is its name in the stream."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    event: ClassVar[str]

    def new_event(self, *, chunk_index: int | None = None) -> NewEvent:
        """Return the event with the bytes that are committed and sent."""
        return NewEvent(self.event, self.model_dump_json(exclude_none=True), chunk_index)


class Progress(Body):
    """How much audio has been transcribed. `audio_seconds_total` is absent while the length is unknown."""

    audio_seconds: float
    audio_seconds_total: Omittable[float] = None

    @classmethod
    def of(cls, seconds: float, total: float | None) -> Self:
        """Return the progress with its times rounded to the millisecond."""
        rounded = round(total, 3) if total is not None else None
        return cls(audio_seconds=round(seconds, 3), audio_seconds_total=rounded)


class StatusEvent(EventData):
    """`event: status`: the job entered a stage, or moved on within one."""

    event = "status"

    id: str
    status: JobStatus
    stage: str
    terminal: bool
    result_ready: bool
    status_url: str
    events_url: str
    result_url: str
    retry_after_seconds: int
    message: str | None = None
    source: dict[str, Any] | None = None
    progress: Progress | None = None
    start: float | None = None
    seconds: float | None = None
    reason: GapReason | None = None
    title: str | None = None


class WordData(Body):
    """One word with its times in seconds, the model's probability for it, and how likely it is right."""

    start: float
    end: float
    text: str
    probability: float
    confidence: Omittable[float] = None


class TranscriptEvent(EventData):
    """`event: transcript`: one segment of text. The texts of all chunks, joined, are the transcript."""

    event = "transcript"

    id: str
    status: Literal["transcribing"] = "transcribing"
    stage: Literal["transcribing"] = "transcribing"
    text: str
    chunk_index: int
    start: float
    end: float
    language: str | None = None
    confidence: float | None = None
    words: list[WordData] | None = None


class SpeakerLabel(Body):
    """Who speaks in a chunk. `words` has a speaker for each of its words if they are not all the same."""

    chunk_index: int
    speaker: str
    overlap: Omittable[Literal[True]] = None
    words: Omittable[list[str]] = None

    @classmethod
    def of(cls, chunk_index: int, speaker: int, *, overlap: bool = False, words: Sequence[int] = ()) -> Self:
        """Return the label of a chunk; speakers are numbers from 1."""
        return cls(
            chunk_index=chunk_index,
            speaker=_speaker_name(speaker),
            overlap=True if overlap else None,
            words=[_speaker_name(word) for word in words] if set(words) - {speaker} else None,
        )


def _speaker_name(number: int) -> str:
    return f"Speaker {number}"


class SpeakersEvent(EventData):
    """`event: speakers`: who speaks in these chunks. A label replaces an earlier one of its chunk."""

    event = "speakers"

    id: str
    labels: list[SpeakerLabel]
    final: Literal[True] | None = None


class PreviewLockedEvent(EventData):
    """`event: preview_locked`: the free part ends here."""

    event = "preview_locked"

    id: str
    status: Literal["preview_complete"] = "preview_complete"
    terminal: Literal[True] = True
    result_ready: Literal[True] = True
    message: str = "Preview ended. Add an API key to get the full transcript."
    upgrade_url: str


class ErrorEvent(EventData):
    """`event: error`: the error body of the job, with its id; `done` follows."""

    model_config = ConfigDict(extra="allow")

    event = "error"

    id: str
    status: Literal["failed"] = "failed"
    error: str
    message: str


class DoneEvent(EventData):
    """`event: done`: the last event of every job."""

    event = "done"

    id: str
    status: Literal["completed", "preview_complete", "failed", "cancelled"]
    terminal: Literal[True] = True
    result_ready: bool
    result_url: str
    error: str | None = None
    billable_minutes: int | None = None
    warning: str | None = None


EVENTS: Final[tuple[type[EventData], ...]] = (
    StatusEvent,
    TranscriptEvent,
    SpeakersEvent,
    PreviewLockedEvent,
    ErrorEvent,
    DoneEvent,
)


class JobEvents:
    """Makes the events of one job. `base_url` is the address its client used, without a slash at the end."""

    def __init__(self, job_id: str, base_url: str) -> None:
        self.job_id = job_id
        self.base_url = base_url
        self.status_url = f"{base_url}/v1/transcripts/{job_id}"
        self.events_url = f"{self.status_url}/events"
        self.result_url = f"{self.status_url}/result"

    def status(
        self,
        status: JobStatus,
        stage: str,
        *,
        message: str | None = None,
        source: AudioSource | None = None,
        progress: Progress | None = None,
    ) -> NewEvent:
        """Return a `status` event, with what clients may see of the source."""
        public = dict(source.public()) if source is not None else None
        return self._status(status, stage, message=message, source=public, progress=progress)

    def _status(self, status: JobStatus, stage: str, **fields: Any) -> NewEvent:
        return StatusEvent(
            id=self.job_id,
            status=status,
            stage=stage,
            terminal=status in TERMINAL,
            result_ready=status in RESULT_READY,
            status_url=self.status_url,
            events_url=self.events_url,
            result_url=self.result_url,
            retry_after_seconds=POLL_SECONDS,
            **fields,
        ).new_event()

    def stream_gap(self, start: float, seconds: float, reason: GapReason) -> NewEvent:
        """Return the `status` event of live audio that is missing from `start` on."""
        start, seconds = round(start, 3), round(seconds, 3)
        message = f"{_length(seconds)} are missing: {GAP_REASONS[reason]}."
        return self._status(
            "transcribing", "stream_gap", message=message, start=start, seconds=seconds, reason=reason
        )

    def now_playing(self, title: str) -> NewEvent:
        """Return the `status` event of what the station says it is playing."""
        return self._status("transcribing", "now_playing", title=title)

    def transcript(self, segment: Segment, chunk_index: int, *, language: str | None) -> NewEvent:
        """Return a `transcript` event; pass the job's `language` with the first chunk only."""
        return TranscriptEvent(
            id=self.job_id,
            text=segment.text,
            chunk_index=chunk_index,
            start=segment.start,
            end=segment.end,
            language=language or segment.language,
            confidence=segment.confidence,
            words=segment.words or None,
        ).new_event(chunk_index=chunk_index)

    def speakers(self, labels: Sequence[SpeakerLabel], *, final: bool = False) -> NewEvent:
        """Return a `speakers` event; the final one has every chunk."""
        return SpeakersEvent(id=self.job_id, labels=list(labels), final=True if final else None).new_event()

    def preview_locked(self) -> NewEvent:
        """Return the `preview_locked` event."""
        return PreviewLockedEvent(id=self.job_id, upgrade_url=f"{self.base_url}/pricing").new_event()

    def error(self, body: Mapping[str, Any]) -> NewEvent:
        """Return the `error` event for a flat error body."""
        return ErrorEvent(id=self.job_id, **body).new_event()

    def done(
        self,
        status: Literal["completed", "preview_complete", "failed", "cancelled"],
        *,
        error: str | None = None,
        billable_minutes: int | None = None,
        warning: str | None = None,
    ) -> NewEvent:
        """Return the `done` event. `error` is the code of a failure."""
        return DoneEvent(
            id=self.job_id,
            status=status,
            result_ready=status in RESULT_READY,
            result_url=self.result_url,
            error=error,
            billable_minutes=billable_minutes,
            warning=warning,
        ).new_event()


def _length(seconds: float) -> str:
    return f"{round(seconds / 60)} minutes" if seconds >= 120 else f"{round(seconds, 1):g} seconds"


def read_transcript(job: JobRecord, events: Iterable[EventRow]) -> Transcript:
    """Return the transcript of a job, read from its `transcript` and `speakers` events."""
    return Transcript(
        segments=read_segments(events),
        language=job.language,
        duration_seconds=job.duration_seconds or 0.0,
        title=job.source.get("title") if job.source is not None else None,
        speaker_names=job.extra.speaker_names,
    )


def read_segments(events: Iterable[EventRow]) -> tuple[Segment, ...]:
    """Return the segments that events hold, with the speakers that are known so far."""
    segments: list[Segment] = []
    labels: dict[int, SpeakerLabel] = {}
    for event in events:
        if event.event == "transcript":
            segments.append(read_segment(event.data))
        elif event.event == "speakers":
            labels |= read_labels(event.data)
    return tuple(_labelled(one, labels.get(index)) for index, one in enumerate(segments))


def read_labels(data: str) -> dict[int, SpeakerLabel]:
    """Return the labels that the data of a `speakers` event holds, by chunk index."""
    return {label.chunk_index: label for label in SpeakersEvent.model_validate_json(data).labels}


def _labelled(segment: Segment, label: SpeakerLabel | None) -> Segment:
    if label is None:
        return segment
    speakers = label.words or [label.speaker] * len(segment.words)
    words = tuple(replace(word, speaker=who) for word, who in zip(segment.words, speakers, strict=True))
    return replace(segment, speaker=label.speaker, overlap=bool(label.overlap), words=words)


def read_segment(data: str) -> Segment:
    """Return the segment that the data of a `transcript` event holds."""
    return _SEGMENT.validate_json(data)
