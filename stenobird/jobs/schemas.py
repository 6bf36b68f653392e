"""The request and response bodies of `/v1/transcripts`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, WithJsonSchema, field_validator
from typing_extensions import override

from stenobird.bodies import Body, Number, Omittable, RequestBody, Timestamp, example
from stenobird.errors import InvalidRequest
from stenobird.jobs.events import POLL_SECONDS, JobEvents, Progress, WordData
from stenobird.jobs.spec import JobSpec
from stenobird.languages import language_code
from stenobird.ports import JobExtra, JobRecord, JobStatus, Mode, Origin, RecognitionOptions

if TYPE_CHECKING:
    from stenobird.transcript import Transcript

MAX_URL_CHARS: Final = 8192
MAX_PROMPT_CHARS: Final = 1000
"""About 223 tokens, which is how much of a prompt Whisper reads."""
MAX_KEYWORDS: Final = 100
MAX_KEYWORD_CHARS: Final = 60
MAX_SPEAKERS: Final = 50
MAX_NAME_CHARS: Final = 80
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, line separators, and what changes the direction of the text around it."""

_URL = Annotated[str, StringConstraints(max_length=MAX_URL_CHARS)]
_Id = Annotated[str, StringConstraints(max_length=64)]
_Keyword = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_KEYWORD_CHARS, pattern=r"\w")
]


def _one_line(name: str) -> str:
    if _UNPRINTABLE.search(name):
        raise ValueError("must be one line without control characters")
    return name


_Name = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NAME_CHARS),
    AfterValidator(_one_line),
]
_SpeakerNames = Annotated[
    dict[str, str], Field(description="The names of renamed speakers, by their labels.")
]


class CreateTranscript(RequestBody):
    """A transcript to create, from `audio_url` or `upload_id`. Unknown fields are ignored."""

    # Make it with `parse`; the constructor raises pydantic's error instead of ours.

    model_config = example({"audio_url": "https://example.com/audio-url", "language": "en"})

    audio_url: Annotated[
        _URL | None,
        Field(description="Any public URL with audio behind it.", examples=["https://example.com/a.mp3"]),
    ] = None
    upload_id: Annotated[
        _Id | None, Field(description="Id of an uploaded file, instead of audio_url; needs an API key.")
    ] = None
    language: Annotated[
        str | None,
        Field(
            description="The spoken language, as a code or an English name: en, en-US, English. Detected if "
            "omitted."
        ),
    ] = None
    prompt: Annotated[
        str | None,
        Field(max_length=MAX_PROMPT_CHARS, description="Names and terms that are likely to be spoken."),
    ] = None
    keywords: Annotated[
        list[_Keyword] | None,
        Field(
            max_length=MAX_KEYWORDS,
            description="Names and terms to spell like this where they are spoken. If omitted, they are the "
            "names in the source's title and show; an empty list means none.",
            examples=[["Stenobird", "Siobhán Ní Dhomhnaill"]],
        ),
    ] = None
    word_timestamps: Annotated[bool, Field(description="Whether the result has word times.")] = False
    task: Annotated[
        Literal["transcribe", "translate"],
        Field(description="translate writes English."),
    ] = "transcribe"
    speakers: Annotated[
        bool, Field(description="Whether segments and words say who speaks: Speaker 1, Speaker 2, …")
    ] = False
    min_speakers: Annotated[
        int | None, Field(ge=1, le=MAX_SPEAKERS, description="The least number of speakers, if known.")
    ] = None
    max_speakers: Annotated[
        int | None, Field(ge=1, le=MAX_SPEAKERS, description="The greatest number of speakers, if known.")
    ] = None
    webhook_url: Annotated[
        _URL | None, Field(description="An https URL that gets an event when the job ends; needs an API key.")
    ] = None
    preview_id: Annotated[
        _Id | None, Field(description="Id of a finished preview of the same URL, to continue from.")
    ] = None

    max_minutes: Annotated[
        int | None,
        Field(
            ge=1,
            description="When to stop if the audio is live: 60 if omitted and 240 at most, unless the "
            "operator has changed that. Without effect on a recording.",
        ),
    ] = None

    @field_validator("language", mode="after")
    @classmethod
    def _known_language(cls, value: str | None) -> str | None:
        if value is None or value.strip().lower() in {"", "auto"}:
            return None
        code = language_code(value)
        if code is None:
            raise ValueError(
                'must be a language such as "en", "en-US" or "English"; leave it out to detect it'
            )
        return code

    def spec(self, origin: Origin = "stenobird") -> JobSpec:
        """Return the job that this asks for."""
        return JobSpec(
            audio_url=self.audio_url or "",
            preview_id=self.preview_id,
            upload_id=self.upload_id,
            options=RecognitionOptions(
                language=self.language,
                prompt=self.prompt or None,
                keywords=None if self.keywords is None else tuple(self.keywords),
                word_timestamps=self.word_timestamps,
                task=self.task,
                speakers=self.speakers,
                min_speakers=self.min_speakers,
                max_speakers=self.max_speakers,
            ),
            webhook_url=self.webhook_url,
            extra=JobExtra(max_minutes=self.max_minutes),
            origin=origin,
        )

    @classmethod
    @override
    def parse(cls, body: object) -> Self:
        if not isinstance(body, dict):
            raise InvalidRequest
        if body.get("audio_url") is None and body.get("upload_id") is None:
            raise InvalidRequest(details={"field": "audio_url"})
        request = super().parse(body)
        if request.audio_url is not None and request.upload_id is not None:
            raise InvalidRequest('Send "audio_url" or "upload_id", not both.', details={"field": "upload_id"})
        if request.preview_id is not None and request.upload_id is not None:
            raise InvalidRequest(
                '"preview_id" carries on from a preview of an "audio_url"; leave it out with "upload_id".',
                details={"field": "preview_id"},
            )
        for field in ("min_speakers", "max_speakers"):
            if getattr(request, field) is not None and not request.speakers:
                raise InvalidRequest(f'"{field}" needs "speakers": true.', details={"field": field})
        if (request.min_speakers or 1) > (request.max_speakers or MAX_SPEAKERS):
            raise InvalidRequest(
                '"min_speakers" is greater than "max_speakers".', details={"field": "min_speakers"}
            )
        return request


class SpeakerNames(RequestBody):
    """The names of a transcript's speakers, by their labels. A label that is left out loses its name."""

    model_config = example({"names": {"Speaker 1": "Ada Lovelace"}})

    names: Annotated[dict[str, _Name], Field(max_length=MAX_SPEAKERS)]


class Source(Body):
    """The audio that was found, and how."""

    submitted_url: str
    media_url: str
    final_url: str
    technique: Annotated[str, Field(examples=["feed.enclosure"])]
    reason: str
    kind: Literal["file", "hls"]
    title: Omittable[str] = None
    podcast: Omittable[str] = None
    page_url: Omittable[str] = None
    published: Omittable[str] = None
    duration_seconds: Omittable[Number] = None
    content_type: Omittable[str] = None
    size_bytes: Omittable[int] = None
    live: Annotated[Omittable[Literal[True]], Field(description="The audio is live.")] = None
    at: Annotated[
        Omittable[Annotated[str, WithJsonSchema({"format": "date-time", "type": "string"})]],
        Field(description="UTC time of the first sample of live audio, from which start and end count."),
    ] = None


_CREATED_AT: Final = "2026-11-22T09:30:00.000Z"
_COMPLETED_AT: Final = "2026-11-22T09:31:12.000Z"
_LINKS: Final = {
    "status_url": "https://stenobird.com/v1/transcripts/tr_123",
    "poll_url": "https://stenobird.com/v1/transcripts/tr_123",
    "events_url": "https://stenobird.com/v1/transcripts/tr_123/events",
    "result_url": "https://stenobird.com/v1/transcripts/tr_123/result",
}
_QUEUED: Final = {
    "id": "tr_123",
    "status": "queued",
    "mode": "preview",
    **_LINKS,
    "terminal": False,
    "result_ready": False,
    "retry_after_seconds": 2,
    "stage": "validating_url",
    "audio_url": "https://example.com/a.mp3",
    "created_at": "2026-01-31T12:00:00.000Z",
}
_STATUS: Final = {
    "id": "tr_123",
    "status": "completed",
    "mode": "full",
    **_LINKS,
    "terminal": True,
    "result_ready": True,
    "retry_after_seconds": 0,
    "stage": "transcribing",
    "audio_url": "https://example.com/audio-url",
    "created_at": _CREATED_AT,
    "completed_at": _COMPLETED_AT,
    "progress": {"audio_seconds": 71.2, "audio_seconds_total": 71.2},
    "language": "en",
    "billable_minutes": 1,
}


def _describe_status(schema: dict[str, Any]) -> None:
    # Clients ignore fields they don't know, so the schema doesn't list those of an error.
    del schema["additionalProperties"]
    schema |= {"example": _QUEUED, "examples": [_STATUS]}


class TranscriptStatus(Body):
    """The status of a transcript. If it failed, the fields of the error body are added."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_describe_status)

    id: Annotated[str, Field(examples=["tr_123"])]
    status: JobStatus
    mode: Mode
    status_url: str
    poll_url: str
    events_url: str
    result_url: str
    terminal: Annotated[bool, Field(description="Whether the job has ended.")]
    result_ready: Annotated[bool, Field(description="Whether result_url returns the transcript.")]
    retry_after_seconds: Annotated[Number, Field(description="When to poll again; 0 at the end.")]
    stage: Annotated[str, Field(examples=["resolving_feed"])]
    audio_url: str
    created_at: Timestamp
    completed_at: Omittable[Timestamp] = None
    source: Omittable[Source] = None
    progress: Omittable[Progress] = None
    language: Omittable[str] = None
    billable_minutes: Omittable[int] = None
    warning: Omittable[str] = None
    cancel_requested: Omittable[Literal[True]] = None
    speaker_names: Omittable[_SpeakerNames] = None
    stop_requested: Annotated[
        Omittable[Literal[True]], Field(description="The live transcript was stopped, and ends shortly.")
    ] = None
    gap_seconds: Annotated[
        Omittable[Number], Field(description="Seconds of live audio that were not received.")
    ] = None
    now_playing: Annotated[
        Omittable[str], Field(description="What the station of live audio announced last.")
    ] = None
    error: Annotated[Omittable[str], Field(description="The error code, if status is failed.")] = None
    message: Annotated[Omittable[str], Field(description="The reason, if status is failed.")] = None

    @classmethod
    def of(cls, job: JobRecord) -> Self:
        """Return the status of a job. `retry_after_seconds` is 0 when the job has ended."""
        links = JobEvents(job.id, job.base_url)
        open_job = not job.terminal
        fields = {
            **cls.same_fields(job),
            "status_url": links.status_url,
            "poll_url": links.status_url,
            "events_url": links.events_url,
            "result_url": links.result_url,
            "retry_after_seconds": POLL_SECONDS if open_job else 0,
            "progress": _progress(job),
            "speaker_names": job.extra.speaker_names,
            "cancel_requested": True if job.cancel_requested and open_job else None,
            "stop_requested": True if job.stop_requested_at is not None and open_job else None,
            "gap_seconds": _gap_seconds(job),
            "now_playing": job.extra.now_playing,
        }
        return cls.model_validate(fields | dict(job.error or {}))


def _gap_seconds(job: JobRecord) -> float | None:
    return round(job.extra.gap_seconds, 3) or None


def _progress(job: JobRecord) -> Progress | None:
    if job.status == "queued":
        return None
    transcribed = job.audio_seconds
    if job.result_ready and job.duration_seconds is not None:
        # Silence at the end has no window whose checkpoint would count it.
        transcribed = job.duration_seconds
    return Progress.of(transcribed, job.duration_seconds)


class TranscriptList(Body):
    """A page of an account's transcripts, newest first."""

    model_config = example({"transcripts": [_STATUS], "next_cursor": None})

    transcripts: list[TranscriptStatus]
    next_cursor: Annotated[str | None, Field(description="Null on the last page.")]


class ResultWord(WordData):
    """One word; times in seconds."""

    speaker: Omittable[str] = None


class ResultSegment(Body):
    """A segment of the text; times in seconds."""

    id: int
    start: float
    end: float
    text: str
    language: Annotated[Omittable[str], Field(description="Language of the text, ISO 639-1.")] = None
    confidence: Annotated[
        Omittable[float], Field(description="The share of its words that are likely to be right, 0 to 1.")
    ] = None
    speaker: Annotated[Omittable[str], Field(description="Who speaks most of it.")] = None
    overlap: Annotated[
        Omittable[Literal[True]], Field(description="Someone else speaks at the same time.")
    ] = None
    words: Omittable[list[ResultWord]] = None


class TranscriptResult(Body):
    """A finished transcript. `text` is the concatenated text of all transcript events."""

    model_config = example(
        {
            "id": "tr_123",
            "status": "completed",
            "mode": "full",
            "text": "Hello and welcome to the show.",
            "segments": [
                {
                    "id": 0,
                    "start": 0.5,
                    "end": 2.8,
                    "text": "Hello and welcome to the show.",
                    "language": "en",
                    "confidence": 0.94,
                    "words": [
                        {"start": 0.5, "end": 0.9, "text": "Hello", "probability": 0.98, "confidence": 0.97}
                    ],
                }
            ],
            "language": "en",
            "duration_seconds": 71.2,
            "source": {
                "submitted_url": "https://example.com/audio-url",
                "final_url": "https://cdn.example.com/show/episode.mp3",
                "kind": "file",
                "technique": "feed.enclosure",
                "media_url": "https://cdn.example.com/show/episode.mp3",
                "reason": "The feed's newest episode.",
                "title": "Episode title",
            },
            "engine": "whisper",
            "model": "large-v3-turbo",
            "billable_minutes": 1,
            "created_at": _CREATED_AT,
            "completed_at": _COMPLETED_AT,
        }
    )

    id: str
    status: Literal["completed", "preview_complete"]
    mode: Mode
    text: str
    segments: list[ResultSegment]
    language: str | None
    duration_seconds: float
    source: Source | None
    engine: str | None
    model: str | None
    billable_minutes: int
    created_at: Timestamp
    completed_at: Timestamp
    warning: Omittable[str] = None
    gap_seconds: Annotated[
        Omittable[Number], Field(description="Seconds of live audio that were not received.")
    ] = None
    speaker_names: Omittable[_SpeakerNames] = None

    @classmethod
    def of(cls, job: JobRecord, transcript: Transcript) -> Self:
        """Return the result of a finished job. A segment's text is trimmed, the whole text is not."""
        segments = [
            {
                "id": index,
                "start": segment.start,
                "end": segment.end,
                "text": segment.text.strip(),
                "language": segment.language,
                "confidence": segment.confidence,
                "speaker": segment.speaker,
                "overlap": segment.overlap or None,
                "words": segment.words if job.options.word_timestamps else None,
            }
            for index, segment in enumerate(transcript.segments)
        ]
        return cls.model_validate(
            {
                **cls.same_fields(job),
                **cls.same_fields(transcript),
                "segments": segments,
                "billable_minutes": job.billable_minutes or 0,
                "gap_seconds": _gap_seconds(job),
            }
        )


class ShareLinks(Body):
    """How many share links a transcript has."""

    model_config = example({"links": 1})

    links: int


class ShareLink(Body):
    """A new share link. Its token is not shown again."""

    model_config = example(
        {
            "share_url": "https://stenobird.com/t/tr_123?share=sh_P0kmXIfOOs6PNZBNEzQZzUm6taNcDrZ9",
            "token": "sh_P0kmXIfOOs6PNZBNEzQZzUm6taNcDrZ9",
        }
    )

    share_url: str
    token: str
