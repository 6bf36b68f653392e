"""The bodies about webhooks: what a receiver gets, an account's deliveries, and its signing secret."""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import ConfigDict, PlainSerializer

from stenobird.bodies import Body, Timestamp, example, utc_text
from stenobird.ports import KeyMode
from stenobird.ports.webhooks import DeliveryState, SigningSecrets


class WebhookEvent(Body):
    """The event that is sent when a job ends, without the text.

    `event_id` is the same at every attempt, and that of `webhook-id`. A test event has no job.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "event_id": "evt_5b0c7a41d2e84f5f9f3a6c10",
                    "event_type": "transcription.completed",
                    "job_id": "tr_4Fz0xYbW2mKqT7RcVd9LsN",
                    "status": "completed",
                    "created_at": "2026-02-21T09:30:00Z",
                }
            ]
        },
    )

    event_id: str
    event_type: str
    job_id: str | None
    status: Literal["completed", "preview_complete", "failed", "cancelled", "test"]
    # Whole seconds, in the messages of both dialects: a retry must have the bytes of the first attempt.
    created_at: Annotated[Timestamp, PlainSerializer(lambda seconds: utc_text(seconds, "seconds"))]


_DELIVERY: Final = {
    "id": "whd_1f3c",
    "event_id": "evt_9b2d",
    "event_type": "transcription.completed",
    "job_id": "tr_123",
    "mode": "live",
    "url": "https://example.com/hook",
    "state": "delivered",
    "attempts": 1,
    "status_code": 200,
    "error": None,
    "created_at": "2026-11-22T09:31:12.000Z",
    "attempted_at": "2026-11-22T09:31:13.000Z",
    "next_attempt_at": None,
    "settled_at": "2026-11-22T09:31:13.000Z",
}


class DeliveryView(Body):
    """A delivery. `next_attempt_at` is null once it has ended, as `delivered` or `dead`.

    `mode` is that of the key that made the job, and of the secret that signs.
    """

    model_config = example(_DELIVERY)

    id: str
    event_id: str
    event_type: str
    job_id: str
    mode: KeyMode
    url: str
    state: DeliveryState
    attempts: int
    status_code: int | None
    error: str | None
    created_at: Timestamp
    attempted_at: Timestamp | None
    next_attempt_at: Timestamp | None
    settled_at: Timestamp | None


class DeliveryPage(Body):
    """A page of deliveries, newest first."""

    model_config = example({"deliveries": [_DELIVERY], "next_cursor": None})

    deliveries: list[DeliveryView]
    next_cursor: str | None


class SecretView(Body):
    """The secret that signs the events of jobs of this key's mode.

    Until `previous_expires_at`, `webhook-signature` has a signature of the secret before it, too.
    """

    model_config = example(
        {
            "secret": "whsec_LS15BRxdz1p1lK+9P9F+tVgXQF/8d9DpXFB3qvI/A10=",
            "mode": "live",
            "created_at": "2026-11-22T09:30:00.000Z",
            "previous_expires_at": None,
        }
    )

    secret: str
    mode: KeyMode
    created_at: Timestamp
    previous_expires_at: Timestamp | None

    @classmethod
    def of(cls, secrets: SigningSecrets, mode: KeyMode) -> Self:
        """Return the view of an account's secrets; the previous one is not shown again."""
        return cls(
            secret=secrets.current,
            mode=mode,
            created_at=secrets.since,
            previous_expires_at=secrets.previous_until,
        )
