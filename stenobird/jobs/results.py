"""What clients get besides the stream: the status body, the transcript from its events, the result body."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stenobird.jobs.events import POLL_SECONDS, JobEvents, read_segment
from stenobird.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stenobird.ports import EventRow, JobRecord


def status_body(job: JobRecord) -> dict[str, Any]:
    """Return the body of POST and GET: the fields of the published example in its order, then ours.

    A failed job adds the fields of its error body. `retry_after_seconds` is 0 once nothing more will come.
    """
    links = JobEvents(job.id, job.base_url)
    body: dict[str, Any] = {
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
        "created_at": utc(job.created_at),
    }
    optional = {
        "completed_at": utc(job.completed_at),
        "source": dict(job.source) if job.source is not None else None,
        "progress": _progress(job),
        "language": job.language,
        "billable_minutes": job.billable_minutes,
        "warning": job.warning,
        "cancel_requested": True if job.cancel_requested and not job.terminal else None,
    }
    body.update({name: value for name, value in optional.items() if value is not None})
    if job.error is not None:
        body.update(job.error)
    return body


def _progress(job: JobRecord) -> dict[str, float] | None:
    if job.status == "queued":
        return None
    heard = job.audio_seconds
    if job.result_ready and job.duration_seconds is not None:
        # Silence at the end is heard, but there is no window to check it off.
        heard = job.duration_seconds
    progress = {"audio_seconds": round(heard, 3)}
    if job.duration_seconds is not None:
        progress["audio_seconds_total"] = round(job.duration_seconds, 3)
    return progress


def build_transcript(job: JobRecord, events: Iterable[EventRow]) -> Transcript:
    """Return the transcript that a job's `transcript` events say."""
    segments = [read_segment(json.loads(event.data)) for event in events if event.event == "transcript"]
    title = job.source.get("title") if job.source is not None else None
    return Transcript(
        segments=tuple(segments),
        language=job.language,
        duration_seconds=job.duration_seconds or 0.0,
        title=title,
    )


def result_body(job: JobRecord, transcript: Transcript) -> dict[str, Any]:
    """Return the JSON result of a finished job. `text` is the joined chunks; a segment's text is trimmed."""
    segments: list[dict[str, Any]] = []
    for index, segment in enumerate(transcript.segments):
        row: dict[str, Any] = {
            "id": index,
            "start": segment.start,
            "end": segment.end,
            "text": segment.text.strip(),
        }
        if job.options.word_timestamps:
            row["words"] = [
                {"start": word.start, "end": word.end, "text": word.text, "probability": word.probability}
                for word in segment.words
            ]
        segments.append(row)
    body: dict[str, Any] = {
        "id": job.id,
        "status": job.status,
        "mode": job.mode,
        "text": transcript.text,
        "segments": segments,
        "language": transcript.language,
        "duration_seconds": transcript.duration_seconds,
        "source": dict(job.source) if job.source is not None else None,
        "engine": job.engine,
        "model": job.model,
        "billable_minutes": job.billable_minutes or 0,
        "created_at": utc(job.created_at),
        "completed_at": utc(job.completed_at),
    }
    if job.warning is not None:
        body["warning"] = job.warning
    return body


def utc(seconds: float | None) -> str | None:
    """Return epoch seconds as ISO 8601 with milliseconds and `Z`."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
