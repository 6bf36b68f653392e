"""Webhook deliveries, signing secrets, and the check of webhook URLs.

A delivery is the outbox row that was committed with its job's end. It is `pending` until a worker claims it
(`sending`, under a lease), and ends as `delivered` after a 2xx response, or as `dead`. Ended deliveries are
kept and can be replayed under the same event id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from stenobird.ports.accounts import KeyMode

DeliveryState: TypeAlias = Literal["pending", "sending", "delivered", "dead"]
DELIVERY_STATES: Final[tuple[DeliveryState, ...]] = get_args(DeliveryState)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery's row. Times are seconds since the epoch, UTC.

    `attempts` only grows, so in a claimed delivery it identifies the claim; `tries` counts attempts since the
    last replay. `mode` selects the secret.
    """

    id: str
    event_id: str
    event_type: str
    account_id: str
    job_id: str
    origin: str
    status: str
    url: str
    state: DeliveryState
    attempts: int
    tries: int
    status_code: int | None
    error: str | None
    created_at: float
    attempted_at: float | None
    next_attempt_at: float | None
    settled_at: float | None
    mode: KeyMode


@dataclass(frozen=True, slots=True)
class SigningSecrets:
    """An account's secret for a mode, and the previous one while it still signs as well."""

    current: str
    since: float
    previous: str | None
    previous_until: float | None

    @property
    def all(self) -> tuple[str, ...]:
        """Every secret that signs, the current one first."""
        return (self.current,) if self.previous is None else (self.current, self.previous)
