"""What must leave the service when a job ends, committed with its `done`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from stenobird.ports import OutboxRow

if TYPE_CHECKING:
    from stenobird.ports import JobRecord, NewJob


def end_messages(
    job: JobRecord | NewJob, status: Literal["completed", "preview_complete", "failed", "cancelled"]
) -> list[OutboxRow]:
    """Return the messages of a job that ends with this status: a webhook, if its client asked for one."""
    if job.webhook_url is None:
        return []
    outcome = "completed" if status == "preview_complete" else status
    payload = {
        "url": job.webhook_url,
        "event_type": f"transcription.{outcome}",
        "status": status,
        # The job may be deleted before its message leaves: how it is signed has to be known without it.
        "origin": job.origin,
        "mode": "test" if job.mode == "test" else "live",
    }
    return [OutboxRow("webhook", job.id, job.account_id, payload)]
