"""The request and response bodies of `/v1/transcripts`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, field_validator
from typing_extensions import override

from stenobird.bodies import Body, Number, Omittable, RequestBody, Timestamp, example
from stenobird.errors import InvalidRequest
from stenobird.jobs.events import POLL_SECONDS, JobEvents, Progress, WordData
from stenobird.jobs.spec import JobSpec, Link, Upload
from stenobird.ports import JobStatus, Mode, RecognitionOptions

if TYPE_CHECKING:
    from stenobird.ports import JobRecord, Origin
    from stenobird.transcript import Transcript

MAX_URL_CHARS: Final = 8192
MAX_PROMPT_CHARS: Final = 1000
"""About 223 tokens, which is how much of a prompt Whisper reads."""
MAX_KEYWORDS: Final = 100
MAX_KEYWORD_CHARS: Final = 60

_LANGUAGE_CODES: Final = (
    # Whisper's own: ISO 639-1, but for haw, jw and yue.
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi "
    "hr ht hu hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn "
    "no oc pa pl ps pt ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi "
    "yi yo yue zh"
)
LANGUAGES: Final = frozenset(_LANGUAGE_CODES.split())
_LANGUAGE_ALIASES: Final = {"jv": "jw", "nb": "no", "iw": "he", "in": "id"}
"""Codes that clients send for languages to which Whisper gives other codes."""

_URL = Annotated[str, StringConstraints(max_length=MAX_URL_CHARS)]
_Id = Annotated[str, StringConstraints(max_length=64)]
_Keyword = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_KEYWORD_CHARS, pattern=r"\w"),
]


class CreateTranscript(RequestBody):
    """The body of `POST /v1/transcripts`. Unknown fields are ignored; wrong types are refused by name.

    Make it with `parse`; the constructor raises pydantic's error instead of ours.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"required": ["audio_url"]}, {"required": ["upload_id"]}],
            "examples": [{"audio_url": "https://example.com/audio-url", "language": "en"}],
        }
    )

    audio_url: Annotated[
        _URL | None,
        Field(description="Any public URL with audio behind it.", examples=["https://example.com/a.mp3"]),
    ] = None
    upload_id: Annotated[
        _Id | None,
        Field(description="A file that was uploaded, instead of audio_url; needs an API key."),
    ] = None
    language: Annotated[
        str | None, Field(description="ISO 639-1 code of what is spoken; left out, it is detected.")
    ] = None
    prompt: Annotated[
        str | None,
        Field(max_length=MAX_PROMPT_CHARS, description="Names and terms that are likely to be spoken."),
    ] = None
    keywords: Annotated[
        list[_Keyword] | None,
        Field(
            max_length=MAX_KEYWORDS,
            description="Names and terms to spell like this where they are spoken. Left out, they are the "
            "names in the source's title and show; an empty list is none.",
            examples=[["Stenobird", "Siobhán Ní Dhomhnaill"]],
        ),
    ] = None
    word_timestamps: Annotated[bool, Field(description="Whether each word gets its own times.")] = False
    task: Annotated[
        Literal["transcribe", "translate"], Field(description="translate writes English whatever is spoken.")
    ] = "transcribe"
    webhook_url: Annotated[
        _URL | None,
        Field(description="The https address that the end of the job is announced to; needs an API key."),
    ] = None
    preview_id: Annotated[
        _Id | None, Field(description="A finished preview of the same URL to carry on from.")
    ] = None

    @field_validator("language", mode="after")
    @classmethod
    def _known_language(cls, value: str | None) -> str | None:
        if value is None or value.strip().lower() in {"", "auto"}:
            return None
        code = value.strip().lower()
        code = _LANGUAGE_ALIASES.get(code, code)
        if code not in LANGUAGES:
            raise ValueError('must be an ISO 639-1 code such as "en" or "he"; leave it out to detect it')
        return code

    def spec(self, origin: Origin = "stenobird") -> JobSpec:
        """Return the job that this asks for."""
        return JobSpec(
            source=Upload(self.upload_id)
            if self.upload_id is not None
            else Link(self.audio_url or "", self.preview_id),
            options=RecognitionOptions(
                language=self.language,
                prompt=self.prompt or None,
                keywords=None if self.keywords is None else tuple(self.keywords),
                word_timestamps=self.word_timestamps,
                task=self.task,
            ),
            webhook_url=self.webhook_url,
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
        return request


class Source(Body):
    """The audio that was found, how, and why."""

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
    """A transcript as it stands. A failed one has the fields of its error body too."""

    model_config = ConfigDict(extra="allow", json_schema_extra=_describe_status)

    id: Annotated[str, Field(examples=["tr_123"])]
    status: JobStatus
    mode: Mode
    status_url: str
    poll_url: str
    events_url: str
    result_url: str
    terminal: Annotated[bool, Field(description="Whether nothing more will come.")]
    result_ready: Annotated[bool, Field(description="Whether result_url answers with a transcript.")]
    retry_after_seconds: Annotated[Number, Field(description="When to ask again; 0 at the end.")]
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
    error: Annotated[Omittable[str], Field(description="Only where status is failed: the code.")] = None
    message: Annotated[Omittable[str], Field(description="Only where status is failed: the reason.")] = None

    @classmethod
    def of(cls, job: JobRecord) -> Self:
        """Return the status of a job. `retry_after_seconds` is 0 when the job has ended."""
        links = JobEvents(job.id, job.base_url)
        fields = {
            "id": job.id,
            "status": job.status,
            "mode": job.mode,
            "status_url": links.status_url,
            "poll_url": links.status_url,
            "events_url": links.events_url,
            "result_url": links.result_url,
            "terminal": job.terminal,
            "result_ready": job.result_ready,
            "retry_after_seconds": 0 if job.terminal else POLL_SECONDS,
            "stage": job.stage,
            "audio_url": job.audio_url,
            "created_at": job.created_at,
            "completed_at": job.completed_at,
            "source": job.source,
            "progress": _progress(job),
            "language": job.language,
            "billable_minutes": job.billable_minutes,
            "warning": job.warning,
            "cancel_requested": True if job.cancel_requested and not job.terminal else None,
        }
        return cls.model_validate(fields | dict(job.error or {}))


def _progress(job: JobRecord) -> Progress | None:
    if job.status == "queued":
        return None
    transcribed = job.audio_seconds
    if job.result_ready and job.duration_seconds is not None:
        # Silence at the end has no window whose checkpoint would count it.
        transcribed = job.duration_seconds
    total = round(job.duration_seconds, 3) if job.duration_seconds is not None else None
    return Progress(audio_seconds=round(transcribed, 3), audio_seconds_total=total)


class TranscriptList(Body):
    """A page of an account's transcripts, newest first."""

    model_config = example({"transcripts": [_STATUS], "next_cursor": None})

    transcripts: list[TranscriptStatus]
    next_cursor: Annotated[str | None, Field(description="Null on the last page.")]


class ResultWord(WordData):
    """One word; times in seconds."""


class ResultSegment(Body):
    """A phrase; times in seconds."""

    id: int
    start: float
    end: float
    text: str
    language: Omittable[str] = None
    confidence: Annotated[
        Omittable[float], Field(description="The share of its words that are likely to be right, 0 to 1.")
    ] = None
    words: Omittable[list[ResultWord]] = None


class TranscriptResult(Body):
    """A finished transcript. `text` is the texts of all transcript events, joined."""

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
                "words": segment.words if job.options.word_timestamps else None,
            }
            for index, segment in enumerate(transcript.segments)
        ]
        return cls.model_validate(
            {
                "id": job.id,
                "status": job.status,
                "mode": job.mode,
                "text": transcript.text,
                "segments": segments,
                "language": transcript.language,
                "duration_seconds": transcript.duration_seconds,
                "source": job.source,
                "engine": job.engine,
                "model": job.model,
                "billable_minutes": job.billable_minutes or 0,
                "created_at": job.created_at,
                "completed_at": job.completed_at,
                "warning": job.warning,
            }
        )


class ShareLinks(Body):
    """How many share links a transcript has."""

    model_config = example({"links": 1})

    links: int


class ShareLink(Body):
    """A share link just made; its token is shown only here."""

    model_config = example(
        {
            "share_url": "https://stenobird.com/t/tr_123?share=sh_P0kmXIfOOs6PNZBNEzQZzUm6taNcDrZ9",
            "token": "sh_P0kmXIfOOs6PNZBNEzQZzUm6taNcDrZ9",
        }
    )

    share_url: str
    token: str
