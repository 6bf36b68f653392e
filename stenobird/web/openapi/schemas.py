"""Bodies that the service writes without a model of their own, as models for the document.

The tests send real requests and hold the answers against these.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  # pydantic reads the annotations when the classes are made
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from stenobird.accounts.schemas import KeyView

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
