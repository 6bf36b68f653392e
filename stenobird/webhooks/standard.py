"""The headers of Standard Webhooks (standardwebhooks.com), sent with every delivery."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from standardwebhooks.webhooks import Webhook

if TYPE_CHECKING:
    from collections.abc import Sequence


def standard_headers(
    payload: bytes, *, event_id: str, timestamp: int, secrets: Sequence[str]
) -> dict[str, str]:
    """Return the headers of a message with one signature per secret; a receiver needs to know one of them."""
    moment = datetime.fromtimestamp(timestamp, UTC)
    signatures = [Webhook(secret).sign(event_id, moment, payload.decode()) for secret in secrets]
    return {
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
