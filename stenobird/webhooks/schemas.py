"""What an account sees of its webhook deliveries and of the secret that signs them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from stenobird.ports import KeyMode  # noqa: TC001  # the same
from stenobird.ports.webhooks import DeliveryState  # noqa: TC001  # pydantic reads it when the class is made

if TYPE_CHECKING:
    from stenobird.ports.webhooks import DeliveryRecord, SigningSecrets


class WebhookEvent(BaseModel):
    """What a receiver gets: the end of a job, without its words.

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
    created_at: datetime


class DeliveryView(BaseModel):
    """A delivery. `next_attempt_at` is null once it has ended, as `delivered` or `dead`.

    `mode` is that of the key that made the job, and of the secret that signs.
    """

    model_config = ConfigDict(frozen=True)

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
    created_at: datetime
    attempted_at: datetime | None
    next_attempt_at: datetime | None
    settled_at: datetime | None

    @classmethod
    def of(cls, record: DeliveryRecord) -> DeliveryView:
        """Return the view of a stored delivery."""
        return cls(
            id=record.id,
            event_id=record.event_id,
            event_type=record.event_type,
            job_id=record.job_id,
            mode=record.mode,
            url=record.url,
            state=record.state,
            attempts=record.attempts,
            status_code=record.status_code,
            error=record.error,
            created_at=_time(record.created_at),
            attempted_at=_maybe(record.attempted_at),
            next_attempt_at=_maybe(record.next_attempt_at),
            settled_at=_maybe(record.settled_at),
        )


class DeliveryPage(BaseModel):
    """A page of deliveries, newest first."""

    deliveries: list[DeliveryView]
    next_cursor: str | None


class SecretView(BaseModel):
    """The secret that signs the events of jobs of this key's mode.

    Until `previous_expires_at`, `webhook-signature` has a signature of the secret before it, too.
    """

    secret: str
    mode: KeyMode
    created_at: datetime
    previous_expires_at: datetime | None

    @classmethod
    def of(cls, secrets: SigningSecrets, mode: KeyMode) -> SecretView:
        """Return the view of an account's secrets; the previous one is not shown again."""
        return cls(
            secret=secrets.current,
            mode=mode,
            created_at=_time(secrets.since),
            previous_expires_at=_maybe(secrets.previous_until),
        )


def _maybe(seconds: float | None) -> datetime | None:
    return None if seconds is None else _time(seconds)


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)
