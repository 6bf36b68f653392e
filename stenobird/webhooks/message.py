"""A webhook event on the wire: its body, the same at every attempt, and the headers that sign it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stenobird.webhooks.signature import canonical, headers
from stenobird.webhooks.standard import standard_headers

if TYPE_CHECKING:
    from stenobird.ports.webhooks import SigningSecrets
    from stenobird.webhooks.schemas import WebhookEvent

ALEFBOT_ORIGIN: Final = "alefbot"
"""Origin of jobs whose events also carry the AlefBot dialect's signature."""


def event_body(event: WebhookEvent) -> bytes:
    """Return the bytes that are signed and sent."""
    return canonical(event.model_dump(mode="json"))


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
