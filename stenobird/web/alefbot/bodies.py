"""Rows to the bodies of the second dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from stenobird.bodies import utc_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stenobird.ports import JobRecord, JobStatus, KeyRecord
    from stenobird.web.alefbot.schemas import JobState

_STATES: Mapping[JobStatus, JobState] = {
    "queued": "pending",
    "transcribing": "processing",
    "completed": "completed",
    "preview_complete": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}
STATUSES: Mapping[str, JobStatus] = {
    "pending": "queued",
    "processing": "transcribing",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "cancelled",
}


def job_body(job: JobRecord, root: str) -> dict[str, Any]:
    """Return a job as it stands; a failed one adds `error`."""
    path = f"{root}/transcriptions/{job.id}"
    used = None
    if job.billable_minutes is not None:
        used = job.units(job.billable_minutes)
    body: dict[str, Any] = {
        "job_id": job.id,
        "status": _STATES[job.status],
        "created_at": utc_text(job.created_at),
        "updated_at": utc_text(job.updated_at),
        "media_duration_seconds": job.duration_seconds,
        "credits_used": used,
        # What is spoken, also where the text is a translation. No model of ours tells dialects apart.
        "analysis": {"language": job.extra.spoken_language or job.language, "dialect": None},
        "links": {"self": path, "artifact": f"{path}/artifact"},
    }
    if job.error is not None:
        body["error"] = {"code": job.error.get("error"), "message": job.error.get("message")}
    return body


def page_links(path: str, query: Mapping[str, str], *, offset: int, limit: int, total: int) -> dict[str, Any]:
    """Return the paths of a page and its neighbours, the other parameters kept.

    Before a page beyond the end comes the last one that has something on it.
    """

    def at(cursor: int) -> str:
        return f"{path}?{urlencode({**query, 'limit': limit, 'cursor': cursor})}"

    return {
        "self": at(offset),
        "next": at(offset + limit) if offset + limit < total else None,
        "prev": at(max(0, min(offset, total) - limit)) if offset > 0 else None,
    }


def key_item(key: KeyRecord) -> dict[str, Any]:
    """Return a key without its secret."""
    return {
        "id": key.id,
        "name": key.name,
        "scope": key.scope,
        "mode": key.mode,
        "last_four_chars": key.last_four_chars,
        "is_valid": key.is_valid,
        "created_at": utc_text(key.created_at),
    }
