"""A webhook event on the wire: its body, the same at every attempt, and the headers that sign it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from stenobird.webhooks.signature import canonical, headers
from stenobird.webhooks.standard import standard_headers

if TYPE_CHECKING:
    from stenobird.ports.webhooks import SigningSecrets

ALEFBOT_ORIGIN: Final = "alefbot"
"""Origin of jobs whose events also carry the AlefBot dialect's signature."""


def event_body(
    *, event_id: str, event_type: str, job_id: str | None, status: str, created_at: float
) -> bytes:
    """Return the bytes that are signed and sent."""
    return canonical(
        {
            "event_id": event_id,
            "event_type": event_type,
            "job_id": job_id,
            "status": status,
            "created_at": datetime.fromtimestamp(int(created_at), UTC).isoformat().replace("+00:00", "Z"),
        }
    )


def event_headers(
    payload: bytes, *, event_id: str, origin: str, timestamp: int, secrets: SigningSecrets
) -> dict[str, str]:
    """Return the headers of an event: Standard Webhooks, and AlefBot's own for jobs of that dialect.

    AlefBot's header holds one signature, made with the current secret.
    """
    sent = {"Content-Type": "application/json"}
    sent |= standard_headers(payload, event_id=event_id, timestamp=timestamp, secrets=secrets.all)
    if origin == ALEFBOT_ORIGIN:
        sent |= headers(payload, timestamp=timestamp, secret=secrets.current)
    return sent
