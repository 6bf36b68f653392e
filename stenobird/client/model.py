"""Responses of the service as typed values: jobs, events, results and errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from stenobird import errors
from stenobird.errors import StenobirdError
from stenobird.transcript import Segment, Transcript

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_WRITTEN_BY_THE_CLASS = frozenset(
    {
        "error",
        "message",
        "id",
        "status",
        "retry_after_seconds",
        "accepted_url_examples",
        "unsupported_url_examples",
    }
)
_SEGMENT: Final = TypeAdapter(Segment)


class _Answer(BaseModel):
    """What the service sent. Fields that this version does not know are ignored."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)


class Job(_Answer):
    """A transcript's state, as in `POST` and `GET /v1/transcripts/{id}`; `body` is the whole response."""

    id: str
    status: str
    mode: str = ""
    terminal: bool
    result_ready: bool
    retry_after_seconds: float = 2.0
    body: Mapping[str, Any] = Field(repr=False)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Job:
        """Read a status body."""
        return cls.model_validate({**body, "body": body})


class Event(_Answer):
    """An event of a job. Events arrive in the order in which they were committed.

    `id` can be passed to `resume`; it is `None` for events that the client built from polling, because no
    stream arrived. `data` has every field as sent. Unknown types of events are plain `Event` objects.
    """

    type: str
    id: int | None
    job_id: str
    data: Mapping[str, Any] = Field(repr=False)


class StatusEvent(Event):
    """The job entered a stage, or made progress. Seconds of audio are `None` while unknown.

    With live audio, `stream_gap` has the `start`, `seconds` and `reason` of what is missing, and
    `now_playing` a `title`.
    """

    status: str = ""
    stage: str = ""
    message: str | None = None
    source: Mapping[str, Any] | None = None
    audio_seconds: float | None = None
    audio_seconds_total: float | None = None
    start: float | None = None
    seconds: float | None = None
    reason: str | None = None
    title: str | None = None

    @property
    def live(self) -> bool:
        """Whether the event says that the audio is live."""
        return bool((self.source or {}).get("live"))


class TranscriptEvent(Event):
    """A segment. The concatenated texts of all segments are the transcript."""

    text: str
    chunk_index: int
    start: float = 0.0
    end: float = 0.0
    language: str | None = None


class PreviewLockedEvent(Event):
    """The preview has ended; the rest needs an API key."""

    message: str = ""
    upgrade_url: str = ""


class ErrorEvent(Event):
    """The job failed; `transcribe` raises `error`."""

    error: StenobirdError


class DoneEvent(Event):
    """The last event of every job."""

    status: str = ""
    result_ready: bool = False
    billable_minutes: int | None = None
    warning: str | None = None


_EVENTS: Final[Mapping[str, type[Event]]] = {
    "status": StatusEvent,
    "transcript": TranscriptEvent,
    "preview_locked": PreviewLockedEvent,
    "error": ErrorEvent,
    "done": DoneEvent,
}


class Result(_Answer):
    """A finished transcript. `body` is the whole response of `result_url`."""

    id: str
    status: str
    mode: str = ""
    transcript: Transcript
    source: Mapping[str, Any] | None = None
    engine: str | None = None
    model: str | None = None
    billable_minutes: int | None = None
    body: Mapping[str, Any] = Field(repr=False)

    @property
    def text(self) -> str:
        """The whole text."""
        return self.transcript.text

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Result:
        """Read a result body."""
        transcript = Transcript(
            segments=tuple(_segments(str(body.get("text", "")), body.get("segments") or ())),
            language=body.get("language"),
            duration_seconds=float(body.get("duration_seconds") or 0.0),
            title=(body.get("source") or {}).get("title"),
            speaker_names=body.get("speaker_names"),
        )
        return cls.model_validate({**body, "transcript": transcript, "body": body})


def _segments(text: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Segment]:
    """Yield the segments with the white space that `text` has between them: the rows are trimmed."""
    begin = 0
    for row in rows:
        trimmed = str(row["text"])
        found = text.find(trimmed, begin)
        end = len(text) if row is rows[-1] else found + len(trimmed)
        # If the text does not contain the segment, separate it with a space, as most languages do.
        yield _SEGMENT.validate_python({**row, "text": text[begin:end] if found >= 0 else f" {trimmed}"})
        begin = end if found >= 0 else begin


def parse_event(event: str, event_id: int | None, data: Mapping[str, Any]) -> Event:
    """Return the typed event. Missing and additional fields of newer servers are accepted."""
    facts = {**data, **(data.get("progress") or {})}
    facts |= {"type": event, "id": event_id, "job_id": str(data.get("id", "")), "data": data}
    if event == "error":
        facts["error"] = error_from_body(data, 422)
    return _EVENTS.get(event, Event).model_validate(facts)


# --- errors -------------------------------------------------------------------------------------------------


class ServiceUnreachable(StenobirdError, code="service_unreachable", status=503, retryable=True):
    """The Stenobird service does not answer. Check its address and the network; "resume" continues a job."""


class ServiceError(StenobirdError, code="service_error"):
    """The service answered in a way this client does not know. Update the client, or tell the operator.

    `code` and `http_status` are those of the answer.
    """


def unreachable(reason: str, **details: Any) -> ServiceUnreachable:
    """Return the error for a failed connection; `reason` is the library's message."""
    why = f" ({reason})" if reason else ""
    return ServiceUnreachable(
        f"The Stenobird service does not answer{why}. Check its address and the network; "
        '"resume" continues a job.',
        details={"reason": reason, **details},
    )


def error_from_body(
    body: Mapping[str, Any], http_status: int, *, retry_after_seconds: float | None = None
) -> StenobirdError:
    """Return the exception for a flat error body; an unknown code becomes a `ServiceError` with that code."""
    code = str(body.get("error") or "service_error")
    cls = _classes_by_code().get(code)
    if cls is None:
        cls = type("ServiceError", (ServiceError,), {"code": code, "http_status": http_status})
    message = body.get("message")
    waiting = body.get("retry_after_seconds", retry_after_seconds)
    return cls(
        message if isinstance(message, str) else None,
        details={name: value for name, value in body.items() if name not in _WRITTEN_BY_THE_CLASS},
        retry_after_seconds=float(waiting) if isinstance(waiting, int | float) else None,
    )


def _classes_by_code() -> dict[str, type[StenobirdError]]:
    # `TranscriptionFailed` states the code of `JobError` again, comes later and wins.
    families = (errors.RequestError, errors.JobError)
    return {
        cls.code: cls
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, families) and "code" in vars(cls)
    }
