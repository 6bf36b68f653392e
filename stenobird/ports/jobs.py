"""Jobs, their event log and their share links."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stenobird.ports.speech import Lane, RecognitionOptions, SpeechCheckpoint
    from stenobird.sources import AudioSource

JobStatus: TypeAlias = Literal[
    "queued", "transcribing", "completed", "preview_complete", "failed", "cancelled"
]
RESULT_READY: Final[frozenset[JobStatus]] = frozenset({"completed", "preview_complete"})
TERMINAL: Final = RESULT_READY | {"failed", "cancelled"}
Mode: TypeAlias = Literal["preview", "full", "test"]
QueueSwitch: TypeAlias = Literal["paused", "draining"]
StopRequest: TypeAlias = Literal["cancel", "stop"]
"""How a client ends a job under way: cancelled, or (live audio only) completed with the text so far."""
Origin: TypeAlias = Literal["stenobird", "alefbot", "openai"]
"""The API that a job was created through. Jobs of alefbot exist for `/api/v1` only, all others for `/v1`."""


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """What a job keeps of the upload slot that its audio comes from."""

    filename: str
    content_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class CarryPoint:
    """Where a full job continues from a preview: its checkpoint after `chunks` transcript events."""

    checkpoint: SpeechCheckpoint
    chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobExtra:
    """What only some jobs have: the `extra` column of a job's row. `storage.rows` has its JSON form."""

    tier: str | None = None
    """The model tier that the client asked for."""
    unit_factor: int = 1
    """Wallet units that a minute of the job costs."""
    translate_to: str | None = None
    """The language (ISO 639-1) that the transcript is translated to; `None` for no translation."""
    spoken_language: str | None = None
    """The language of the audio of a translated job, whose `language` is that of its text."""
    untranslated_segments: int = 0
    """Segments without a usable translation, which keep their original text."""
    upload: UploadedFile | None = None
    title: str | None = None
    """The title in the tags of the upload."""
    carry: CarryPoint | None = None
    max_minutes: int | None = None
    """How much of a live stream the client asked for; `None`: the default of the service."""
    gap_seconds: float = 0.0
    """Of the seconds up to the checkpoint, those of live audio that were never received."""
    now_playing: str | None = None
    """What the station of live audio announced last."""
    speaker_names: Mapping[str, str] | None = None
    """The names that the owner has given to speakers, by their labels."""


@dataclass(frozen=True, slots=True)
class EventRow:
    """One committed event: `seq` counts from 1 within a job; `data` is the JSON text exactly as sent."""

    seq: int
    event: str
    data: str


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event about to be committed; `chunk_index` is set for `transcript` events only."""

    event: str
    data: str
    chunk_index: int | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job about to be created. `base_url` is where the client reached us; its links start with it."""

    id: str
    mode: Mode
    audio_url: str
    base_url: str
    options: RecognitionOptions
    account_id: str | None = None
    api_key_id: str | None = None
    origin: Origin = "stenobird"
    preview_id: str | None = None
    upload_id: str | None = None
    webhook_url: str | None = None
    extra: JobExtra = JobExtra()


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job's row as last committed. Times are seconds since the epoch, UTC."""

    id: str
    mode: Mode
    origin: Origin
    audio_url: str
    base_url: str
    options: RecognitionOptions
    account_id: str | None
    status: JobStatus
    stage: str
    created_at: float
    updated_at: float
    completed_at: float | None
    last_seq: int
    next_chunk_index: int
    cancel_requested: bool
    source: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    warning: str | None = None
    duration_seconds: float | None = None
    language: str | None = None
    engine: str | None = None
    model: str | None = None
    billable_minutes: int | None = None
    preview_id: str | None = None
    upload_id: str | None = None
    webhook_url: str | None = None
    extra: JobExtra = JobExtra()
    stop_requested_at: float | None = None
    lane: Lane = "full"
    audio_seconds: float = 0.0
    """Audio accounted for by the last checkpoint."""

    @property
    def live(self) -> bool:
        """Whether the source is known to be a live stream."""
        return self.source is not None and self.source.get("live", False)

    @property
    def stop_request(self) -> StopRequest | None:
        """How a client has asked to end the job. A cancel takes precedence."""
        if self.cancel_requested:
            return "cancel"
        return None if self.stop_requested_at is None else "stop"

    @property
    def terminal(self) -> bool:
        """Whether nothing more will be committed for this job."""
        return self.status in TERMINAL

    @property
    def result_ready(self) -> bool:
        """Whether the result can be fetched."""
        return self.status in RESULT_READY

    def units(self, minutes: int) -> int:
        """Return what that many minutes of this job cost, in wallet units."""
        return minutes * self.extra.unit_factor


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write one job. `token` is part of the WHERE of every write."""

    job_id: str
    token: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumePoint:
    """Where the work on a job stands, with what only workers may see of it."""

    job: JobRecord
    source: AudioSource | None
    checkpoint: SpeechCheckpoint | None
    fingerprint: Mapping[str, Any] | None
    """That of the audio which the checkpoint accounts for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim(ResumePoint):
    """A job that a worker has just leased."""

    lease: Lease
    attempts: int
    """Claims since the last progress, this one included."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt at a job. `ended_at` is `None` while it runs; `reason` says what troubled the worker."""

    worker: str
    started_at: float | None
    ended_at: float | None
    outcome: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class JobChange:
    """The columns of a job that one commit changes; `None` leaves a column as it is."""

    status: JobStatus | None = None
    stage: str | None = None
    source: AudioSource | None = None
    checkpoint: SpeechCheckpoint | None = None
    fingerprint: Mapping[str, Any] | None = None
    duration_seconds: float | None = None
    language: str | None = None
    engine: str | None = None
    model: str | None = None
    warning: str | None = None
    error: Mapping[str, Any] | None = None
    billable_minutes: int | None = None
    extra: JobExtra | None = None
    reserve_units: int | None = None
    """Wallet units that the job will probably use, set aside in the same commit."""
    lane: Lane | None = None
    voices: Sequence[tuple[int, bytes]] = ()
    """Windows whose speakers are labelled, with their numbers; kept until the job ends."""


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What a completed job costs, written in the commit of `done`. One row a job."""

    job_id: str
    account_id: str
    minutes: int
    audio_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """A page of an account's jobs, newest first: at most `limit` jobs strictly older than `before`.

    `before` is the `(created_at, id)` of a job. `offset` skips jobs after that. Only jobs that the API of
    `origin` shows are counted and listed; with a `status` or a `mode`, only those that have it.
    """

    origin: Origin = "stenobird"
    before: tuple[float, str] | None = None
    offset: int = 0
    limit: int = 20
    status: JobStatus | None = None
    mode: Mode | None = None


class JobObserver:
    """Receives what was committed, for metrics. It must not raise; this one records nothing."""

    def audio_transcribed(self, seconds: float) -> None:
        """Count audio that a checkpoint has just accounted for."""

    def first_transcript(self, seconds: float) -> None:
        """Record the time from a job's creation to its first `transcript` event."""

    def worker_troubled(self, *, troubled: bool) -> None:
        """Record that this machine can't work on jobs, or that it can again."""
