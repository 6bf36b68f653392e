"""Responses of the service as typed values: jobs, events, results and errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stenobird import errors
from stenobird.errors import StenobirdError
from stenobird.transcript import Segment, Transcript, Word

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

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


@dataclass(frozen=True, slots=True)
class Job:
    """A transcript's state, as in `POST` and `GET /v1/transcripts/{id}`; `body` is the whole response."""

    id: str
    status: str
    mode: str
    terminal: bool
    result_ready: bool
    retry_after_seconds: float
    body: Mapping[str, Any] = field(repr=False)

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Job:
        """Read a status body."""
        return cls(
            id=str(body["id"]),
            status=str(body["status"]),
            mode=str(body.get("mode", "")),
            terminal=bool(body["terminal"]),
            result_ready=bool(body["result_ready"]),
            retry_after_seconds=float(body.get("retry_after_seconds") or 2),
            body=body,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event of a job. Events arrive in the order in which they were committed.

    `id` can be passed to `resume`; it is `None` for events that the client built from polling, because no
    stream arrived. `data` has every field as sent. Unknown types of events are plain `Event` objects.
    """

    type: str
    id: int | None
    job_id: str
    data: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEvent(Event):
    """The job entered a stage, or made progress. Seconds of audio are `None` while unknown."""

    status: str
    stage: str
    message: str | None
    source: Mapping[str, Any] | None
    audio_seconds: float | None
    audio_seconds_total: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptEvent(Event):
    """A segment. The concatenated texts of all segments are the transcript."""

    text: str
    chunk_index: int
    start: float
    end: float
    language: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewLockedEvent(Event):
    """The preview has ended; the rest needs an API key."""

    message: str
    upgrade_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorEvent(Event):
    """The job failed; `transcribe` raises `error`."""

    error: StenobirdError


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneEvent(Event):
    """The last event of every job."""

    status: str
    result_ready: bool
    billable_minutes: int | None
    warning: str | None


@dataclass(frozen=True, slots=True)
class Result:
    """A finished transcript. `body` is the whole response of `result_url`."""

    id: str
    status: str
    mode: str
    transcript: Transcript
    source: Mapping[str, Any] | None
    engine: str | None
    model: str | None
    billable_minutes: int | None
    body: Mapping[str, Any] = field(repr=False)

    @property
    def text(self) -> str:
        """The whole text."""
        return self.transcript.text

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Result:
        """Read a result body."""
        source = body.get("source")
        return cls(
            id=str(body["id"]),
            status=str(body["status"]),
            mode=str(body.get("mode", "")),
            transcript=Transcript(
                segments=tuple(_segments(str(body.get("text", "")), body.get("segments") or ())),
                language=body.get("language"),
                duration_seconds=float(body.get("duration_seconds") or 0.0),
                title=source.get("title") if isinstance(source, dict) else None,
            ),
            source=source,
            engine=body.get("engine"),
            model=body.get("model"),
            billable_minutes=body.get("billable_minutes"),
            body=body,
        )


def _segments(text: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Segment]:
    """Yield the segments with the white space that `text` has between them: the rows are trimmed."""
    begin = 0
    for row in rows:
        trimmed = str(row["text"])
        found = text.find(trimmed, begin)
        end = len(text) if row is rows[-1] else found + len(trimmed)
        # If the text does not contain the segment, separate it with a space, as most languages do.
        yield _segment(row, text[begin:end] if found >= 0 else f" {trimmed}")
        begin = end if found >= 0 else begin


def _segment(row: Mapping[str, Any], text: str) -> Segment:
    return Segment(
        start=float(row["start"]),
        end=float(row["end"]),
        text=text,
        words=tuple(
            Word(
                float(word["start"]),
                float(word["end"]),
                str(word["text"]),
                float(word.get("probability", 1.0)),
                word.get("confidence"),
            )
            for word in row.get("words") or ()
        ),
        language=row.get("language"),
        confidence=row.get("confidence"),
    )


def parse_event(event: str, event_id: int | None, data: Mapping[str, Any]) -> Event:
    """Return the typed event. Missing and additional fields of newer servers are accepted."""
    common: dict[str, Any] = {"type": event, "id": event_id, "job_id": str(data.get("id", "")), "data": data}
    match event:
        case "status":
            progress = data.get("progress") or {}
            return StatusEvent(
                **common,
                status=str(data.get("status", "")),
                stage=str(data.get("stage", "")),
                message=data.get("message"),
                source=data.get("source"),
                audio_seconds=progress.get("audio_seconds"),
                audio_seconds_total=progress.get("audio_seconds_total"),
            )
        case "transcript":
            return TranscriptEvent(
                **common,
                text=str(data["text"]),
                chunk_index=int(data["chunk_index"]),
                start=float(data.get("start", 0.0)),
                end=float(data.get("end", 0.0)),
                language=data.get("language"),
            )
        case "preview_locked":
            return PreviewLockedEvent(
                **common, message=str(data.get("message", "")), upgrade_url=str(data.get("upgrade_url", ""))
            )
        case "error":
            return ErrorEvent(**common, error=error_from_body(data, 422))
        case "done":
            return DoneEvent(
                **common,
                status=str(data.get("status", "")),
                result_ready=bool(data.get("result_ready")),
                billable_minutes=data.get("billable_minutes"),
                warning=data.get("warning"),
            )
        case _:
            return Event(**common)


# --- errors -------------------------------------------------------------------------------------------------


class ServiceUnreachable(StenobirdError):
    """The Stenobird service does not answer. Check its address and the network; "resume" continues a job."""

    code = "service_unreachable"
    http_status = 503
    retryable = True


class ServiceError(StenobirdError):
    """The service answered in a way this client does not know. Update the client, or tell the operator.

    `code` and `http_status` are those of the answer.
    """

    code = "service_error"


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
    # A code means the class that defines it, not those that inherit it. `JobError` and its subclass
    # `TranscriptionFailed` define the same code; the subclass comes last and wins. Subclasses in other
    # modules are internal to the server.
    families = (errors.RequestError, errors.JobError)
    return {
        cls.code: cls
        for family in families
        for cls in _family(family)
        if cls.__module__ == errors.__name__ and "code" in vars(cls)
    }


def _family(cls: type[StenobirdError]) -> Iterator[type[StenobirdError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _family(child)
