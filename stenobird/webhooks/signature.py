"""A webhook event on the wire: its body, the same at every attempt, and the headers that sign it.

The signature of the AlefBot dialect is the HMAC-SHA256 of `timestamp.body`, with the body as canonical JSON.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime
from secrets import token_bytes
from typing import TYPE_CHECKING, Final

from standardwebhooks.webhooks import Webhook

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stenobird.ports.webhooks import SigningSecrets
    from stenobird.webhooks.schemas import WebhookEvent

TIMESTAMP_HEADER: Final = "X-AlefBot-Timestamp"
SIGNATURE_HEADER: Final = "X-AlefBot-Signature"
SECRET_BYTES: Final = 32
ALEFBOT_ORIGIN: Final = "alefbot"
"""Origin of jobs whose events also carry the AlefBot dialect's signature."""


def new_secret() -> str:
    """Return a new signing secret, in the form of Standard Webhooks."""
    return "whsec_" + base64.b64encode(token_bytes(SECRET_BYTES)).decode()


def canonical(body: Mapping[str, str | int | bool | None]) -> bytes:
    """Return the bytes that are signed and sent: sorted, compact, ASCII.

    Values are printable ASCII, integers, booleans or null, and no name looks like an integer, so that the
    published Python and JavaScript verifiers, which sort and print the JSON again, get the same bytes.
    """
    for name, value in body.items():
        texts = (name, value) if isinstance(value, str) else (name,)
        if name.isdigit() or not all(text.isascii() and text.isprintable() for text in texts):
            raise ValueError(f"can't be signed in canonical form: {name}")
    return json.dumps(body, separators=(",", ":"), sort_keys=True).encode("ascii")


def sign(payload: bytes, *, timestamp: int, secret: str) -> str:
    """Return the signature: 64 lower-case hex digits."""
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + payload, hashlib.sha256).hexdigest()


def event_body(event: WebhookEvent) -> bytes:
    """Return the bytes that are signed and sent."""
    return canonical(event.model_dump(mode="json"))


def event_headers(
    payload: bytes, *, event_id: str, origin: str, timestamp: int, secrets: SigningSecrets
) -> dict[str, str]:
    """Return the headers of an event: Standard Webhooks (standardwebhooks.com), and AlefBot's for its jobs.

    Standard Webhooks has one signature per secret; a receiver needs to know one of them. AlefBot's header
    holds one signature, made with the current secret.
    """
    moment = datetime.fromtimestamp(timestamp, UTC)
    signatures = [Webhook(secret).sign(event_id, moment, payload.decode()) for secret in secrets.all]
    sent = {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
    if origin == ALEFBOT_ORIGIN:
        sent[TIMESTAMP_HEADER] = str(timestamp)
        sent[SIGNATURE_HEADER] = sign(payload, timestamp=timestamp, secret=secrets.current)
    return sent
