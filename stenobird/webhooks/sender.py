"""Signs and sends events to receivers, and says what came of it.

An event on the wire is its body, the same at every attempt, and the headers that sign it. The signature of
the AlefBot dialect is the HMAC-SHA256 of `timestamp.body`, with the body as canonical JSON.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_bytes
from typing import TYPE_CHECKING, Final

from standardwebhooks.webhooks import Webhook

from stenobird.egress.client import FetchLimits, RequestOptions
from stenobird.errors import EgressError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stenobird.egress.client import EgressClient
    from stenobird.ports.webhooks import SigningSecrets
    from stenobird.webhooks.schemas import WebhookEvent

TIMESTAMP_HEADER: Final = "X-AlefBot-Timestamp"
SIGNATURE_HEADER: Final = "X-AlefBot-Signature"
SECRET_BYTES: Final = 32
ALEFBOT_ORIGIN: Final = "alefbot"
"""Origin of jobs whose events also carry the AlefBot dialect's signature."""
ANSWER_BYTES: Final = 1024
POST_SECONDS: Final = 10.0
"""How long a receiver may take, including the DNS lookup."""
LIMITS: Final = FetchLimits(
    connect_seconds=5.0,
    headers_seconds=POST_SECONDS,
    idle_seconds=POST_SECONDS,
    total_seconds=POST_SECONDS,
)


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


@dataclass(frozen=True, slots=True)
class TestDelivery:
    """The outcome of a test event; `error` is the reason why it was not delivered."""

    __test__ = False  # keeps pytest from collecting it

    event_id: str
    status_code: int | None
    error: str | None

    @property
    def delivered(self) -> bool:
        """Whether the receiver answered 2xx."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class Answer:
    """A receiver's answer."""

    status: int
    headers: Mapping[str, str]

    @property
    def problem(self) -> str | None:
        """Why the delivery failed, worded for the account; `None` for 2xx, the only success."""
        if 200 <= self.status < 300:
            return None
        if 300 <= self.status < 400:
            return (
                f"The receiver answered with a redirect ({self.status}), which is not followed. "
                "Give the final URL."
            )
        return (
            f"The receiver answered with status {self.status}. It must answer 2xx within {POST_SECONDS:g} s."
        )


async def post_event(
    client: EgressClient, url: str, event: WebhookEvent, *, origin: str, now: float, secrets: SigningSecrets
) -> Answer:
    """Sign and send the event, and return the answer; at most 1 KiB of its body is read, and dropped.

    Redirects are not followed, because their targets were not checked. Raises `EgressError`.
    """
    payload = canonical(event.model_dump(mode="json"))
    headers = event_headers(
        payload, event_id=event.event_id, origin=origin, timestamp=int(now), secrets=secrets
    )
    response = await client.open(
        url,
        RequestOptions(
            method="POST",
            content=payload,
            headers=headers,
            browser_retry=False,
            follow_redirects=False,
            limits=LIMITS,
        ),
    )
    async with response:
        with suppress(EgressError):
            await response.read(ANSWER_BYTES)
        return Answer(response.status, response.headers)
