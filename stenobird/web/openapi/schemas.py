"""Bodies that the service writes without a model of their own, as models for the document.

The tests send real requests and hold the answers against these.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # pydantic reads the annotations when the classes are made
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from stenobird.accounts.schemas import KeyView
from stenobird.jobs.events import Progress  # noqa: TC001  # likewise
from stenobird.ports import JobStatus, Mode  # noqa: TC001  # likewise

# --- transcripts --------------------------------------------------------------------------------------------


class Source(BaseModel):
    """The audio that was found, how, and why."""

    submitted_url: str
    media_url: str
    final_url: str
    technique: Annotated[str, Field(examples=["feed.enclosure"])]
    reason: str
    kind: Literal["file", "hls"]
    title: str | None = None
    podcast: str | None = None
    page_url: str | None = None
    published: str | None = None
    duration_seconds: float | None = None
    content_type: str | None = None
    size_bytes: int | None = None


class TranscriptStatus(BaseModel):
    """A transcript as it stands. A failed one has the fields of its error body too."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "tr_123",
                "status": "queued",
                "mode": "preview",
                "status_url": "https://stenobird.com/v1/transcripts/tr_123",
                "poll_url": "https://stenobird.com/v1/transcripts/tr_123",
                "events_url": "https://stenobird.com/v1/transcripts/tr_123/events",
                "result_url": "https://stenobird.com/v1/transcripts/tr_123/result",
                "terminal": False,
                "result_ready": False,
                "retry_after_seconds": 2,
                "stage": "validating_url",
                "audio_url": "https://example.com/a.mp3",
                "created_at": "2026-01-31T12:00:00.000Z",
            }
        }
    )

    id: Annotated[str, Field(examples=["tr_123"])]
    status: JobStatus
    mode: Mode
    status_url: str
    poll_url: str
    events_url: str
    result_url: str
    terminal: Annotated[bool, Field(description="Whether nothing more will come.")]
    result_ready: Annotated[bool, Field(description="Whether result_url answers with a transcript.")]
    retry_after_seconds: Annotated[float, Field(description="When to ask again; 0 at the end.")]
    stage: Annotated[str, Field(examples=["resolving_feed"])]
    audio_url: str
    created_at: datetime
    completed_at: datetime | None = None
    source: Source | None = None
    progress: Progress | None = None
    language: str | None = None
    billable_minutes: int | None = None
    warning: str | None = None
    cancel_requested: Literal[True] | None = None
    error: Annotated[str | None, Field(description="Only where status is failed: the code.")] = None
    message: Annotated[str | None, Field(description="Only where status is failed: the reason.")] = None


class TranscriptList(BaseModel):
    """A page of an account's transcripts, newest first."""

    transcripts: list[TranscriptStatus]
    next_cursor: Annotated[str | None, Field(description="Null on the last page.")]


class ResultWord(BaseModel):
    """One word; times in seconds."""

    start: float
    end: float
    text: str
    probability: float


class ResultSegment(BaseModel):
    """A phrase; times in seconds."""

    id: int
    start: float
    end: float
    text: str
    words: list[ResultWord] | None = None


class TranscriptResult(BaseModel):
    """A finished transcript. `text` is the texts of all transcript events, joined."""

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
    created_at: datetime
    completed_at: datetime
    warning: str | None = None


class ShareLinks(BaseModel):
    """How many share links a transcript has."""

    links: int


class ShareLink(BaseModel):
    """A share link just made; its token is shown only here."""

    share_url: str
    token: str


# --- errors -------------------------------------------------------------------------------------------------


class FlatError(BaseModel):
    """Every error of `/v1`: a stable code, and a message that says what to do."""

    model_config = ConfigDict(extra="allow")

    error: str
    message: str
    accepted_url_examples: list[str] | None = None
    unsupported_url_examples: list[str] | None = None
    retry_after_seconds: float | None = None
    field: Annotated[str | None, Field(description="The field at fault.")] = None


# --- accounts -----------------------------------------------------------------------------------------------


class KeyList(BaseModel):
    """The account's keys, oldest first."""

    keys: list[KeyView]


class RotatedKey(KeyView):
    """A key in place of another one."""

    key: str
    replaces: str


class Credits(BaseModel):
    """The prepaid wallet; a unit is a billable minute."""

    units: float
    reserved_units: float
    available_units: float


class AccountBody(BaseModel):
    """The account of a key."""

    id: str
    name: str | None
    email: str | None
    tier: str
    state: str
    billing: str
    credits: Credits
    created_at: datetime


class AccountDeleted(BaseModel):
    """What became of the account."""

    id: str
    deleted: Literal[True]
    transcripts_ending: int


class UsageSums(BaseModel):
    """What was used."""

    jobs: int
    billable_minutes: int
    units: int = Field(description="What they cost: one a minute, two for premium_quality.")
    credit_units: float
    metered_minutes: float = Field(description="The units that credits did not pay for.")
    audio_seconds: float


class UsageDay(UsageSums):
    """What was used on a day, UTC."""

    date: str


class UsageJob(BaseModel):
    """What a transcript cost."""

    id: str
    completed_at: datetime
    billable_minutes: int
    units: int = Field(description="What they cost: one a minute, two for premium_quality.")
    credit_units: float
    metered_minutes: float = Field(description="The units that credits did not pay for.")
    audio_seconds: float


class UsageBody(BaseModel):
    """The ledger of some days. The sums are of all of them; `jobs` is a page."""

    model_config = ConfigDict(populate_by_name=True)

    since: Annotated[datetime, Field(alias="from")]
    to: datetime
    total: UsageSums
    days: list[UsageDay]
    jobs: list[UsageJob]
    next_cursor: str | None


# --- billing ------------------------------------------------------------------------------------------------


class CheckoutStarted(BaseModel):
    """Where the buyer goes, in a browser."""

    checkout_url: str
    checkout_session_id: str


class PortalLink(BaseModel):
    """A short-lived link to Stripe's page for the account."""

    portal_url: str


class Message(BaseModel):
    """What was done."""

    message: str


class EventReceived(BaseModel):
    """A webhook event, stored."""

    received: Literal[True]
    new: bool


# --- the OpenAI dialect -------------------------------------------------------------------------------------


class AudioForm(BaseModel):
    """The form of the OpenAI SDKs; send `file` or `url`. Other fields of theirs are ignored."""

    file: Annotated[
        str | None,
        Field(json_schema_extra={"contentMediaType": "application/octet-stream"}, description="The audio."),
    ] = None
    url: Annotated[
        str | None, Field(description="Instead of a file: any public URL with audio behind it.")
    ] = None
    model: Annotated[
        str | None, Field(description="Accepted as it is; the service's model does the work.")
    ] = None
    language: Annotated[str | None, Field(description="What is spoken; detected where left out.")] = None
    prompt: Annotated[str | None, Field(description="Names and terms likely to be spoken.")] = None
    response_format: Literal["json", "verbose_json", "text", "srt", "vtt"] = "json"
    timestamp_granularities: Annotated[
        list[Literal["word", "segment"]] | None,
        Field(alias="timestamp_granularities[]", description="What verbose_json has; segments by default."),
    ] = None
    stream: Annotated[
        bool, Field(description="Whether to answer with transcript.text.delta and transcript.text.done.")
    ] = False
    temperature: Annotated[
        float | None, Field(ge=0, le=1, description="Accepted; decoding is deterministic.")
    ] = None


class LinkedAudio(AudioForm):
    """The same, for a link, as JSON."""

    url: Annotated[str, Field(description="Any public URL with audio behind it.")]
    file: None = Field(default=None, exclude=True)


class DurationUsage(BaseModel):
    """The length of the audio, in whole seconds."""

    type: Literal["duration"]
    seconds: float


class OpenAISegment(BaseModel):
    """A phrase. `tokens` is empty; probabilities are 0 where words were not asked for."""

    id: int
    seek: int
    start: float
    end: float
    text: str
    tokens: list[int]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float


class OpenAIWord(BaseModel):
    """One word."""

    word: str
    start: float
    end: float


class OpenAITranscription(BaseModel):
    """`response_format=json`, and with the other fields `verbose_json`."""

    text: str
    usage: DurationUsage
    task: Literal["transcribe", "translate"] | None = None
    language: Annotated[str | None, Field(examples=["english"])] = None
    duration: float | None = None
    segments: list[OpenAISegment] | None = None
    words: list[OpenAIWord] | None = None


class OpenAIModel(BaseModel):
    """A model, by the name that was asked for."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class OpenAIModels(BaseModel):
    """The models there are."""

    object: Literal["list"]
    data: list[OpenAIModel]


class OpenAIErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(BaseModel):
    """Every error of the OpenAI dialect."""

    error: OpenAIErrorDetail


# --- operations ---------------------------------------------------------------------------------------------


class HealthBody(BaseModel):
    """Whether the process is alive, and what engine it has."""

    model_config = ConfigDict(extra="allow")

    status: Literal["ok", "degraded", "shutting_down"]
    version: str


class ReadyBody(BaseModel):
    """Whether requests should be sent here."""

    ready: bool
    reasons: list[str]
    checks: dict[str, Any]
