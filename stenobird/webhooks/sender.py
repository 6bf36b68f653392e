"""Signs and sends events to receivers, and says what came of it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from stenobird.egress.client import FetchLimits, RequestOptions
from stenobird.errors import EgressError
from stenobird.webhooks.signature import event_body, event_headers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stenobird.egress.client import EgressClient
    from stenobird.ports.webhooks import SigningSecrets
    from stenobird.webhooks.schemas import WebhookEvent


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


ANSWER_BYTES: Final = 1024
POST_SECONDS: Final = 10.0
"""How long a receiver may take, including the DNS lookup."""
LIMITS: Final = FetchLimits(
    connect_seconds=5.0,
    headers_seconds=POST_SECONDS,
    idle_seconds=POST_SECONDS,
    total_seconds=POST_SECONDS,
)


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
    payload = event_body(event)
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
