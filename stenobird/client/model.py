"""What the service says, as typed values: jobs, events and results."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stenobird.client.failures import error_from_body
from stenobird.transcript import Segment, Transcript, Word

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from stenobird.errors import StenobirdError


@dataclass(frozen=True, slots=True)
class Job:
    """A transcript's state, as `POST` and `GET /v1/transcripts/{id}` show it; `body` has all of it."""

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
    """An event of a job, in the order in which the service committed them.

    `id` is what `resume` takes; it is `None` for an event that polling put together while no stream got
    through. `data` has every field as sent. An event type this client doesn't know is a plain `Event`.
    """

    type: str
    id: int | None
    job_id: str
    data: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusEvent(Event):
    """The job entered a stage, or moved on within one. Seconds of audio are `None` while unknown."""

    status: str
    stage: str
    message: str | None
    source: Mapping[str, Any] | None
    audio_seconds: float | None
    audio_seconds_total: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptEvent(Event):
    """A segment of text. The texts of all of them, joined, are the transcript."""

    text: str
    chunk_index: int
    start: float
    end: float
    language: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewLockedEvent(Event):
    """The free part ends here."""

    message: str
    upgrade_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorEvent(Event):
    """The job failed; `error` is what `transcribe` raises for it."""

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
    """A finished transcript. `body` is the whole answer of `result_url`."""

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
        """All that was said."""
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
    """Yield the segments with their share of the text, so that they join to it: the rows are trimmed."""
    begin = 0
    for row in rows:
        trimmed = str(row["text"])
        found = text.find(trimmed, begin)
        end = len(text) if row is rows[-1] else found + len(trimmed)
        # Text that does not agree with its segments is not ours; a space parts most languages.
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
            )
            for word in row.get("words") or ()
        ),
    )


def parse_event(event: str, event_id: int | None, data: Mapping[str, Any]) -> Event:
    """Return the typed event; fields that a newer server leaves out or adds do no harm."""
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
