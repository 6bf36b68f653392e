"""Webhook deliveries, signing secrets, and the check of webhook URLs.

A delivery is the outbox row that was committed with its job's end. It is `pending` until a worker claims it
(`sending`, under a lease), and ends as `delivered` after a 2xx response, or as `dead`. Ended deliveries are
kept and can be replayed under the same event id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stenobird.ports.accounts import KeyMode

DeliveryState: TypeAlias = Literal["pending", "sending", "delivered", "dead"]
DELIVERY_STATES: Final[tuple[DeliveryState, ...]] = get_args(DeliveryState)


@dataclass(frozen=True, slots=True)
class DueDelivery:
    """A claimed delivery.

    `attempt` identifies the claim; `tries` counts attempts since the last replay. `mode` selects the secret.
    """

    id: str
    event_id: str
    event_type: str
    account_id: str
    job_id: str
    origin: str
    status: str
    url: str
    created_at: float
    attempt: int
    tries: int
    mode: KeyMode


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """A delivery in its account's log. Times are seconds since the epoch, UTC."""

    id: str
    event_id: str
    event_type: str
    job_id: str
    url: str
    state: DeliveryState
    attempts: int
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


class SecretStore(Protocol):
    """The signing secrets of accounts: one for live jobs, one for jobs of test keys."""

    async def signing_secrets(self, account_id: str, *, mode: KeyMode, now: float) -> SigningSecrets:
        """Return the account's secrets; create one if there is none."""

    async def rotate_secret(
        self, account_id: str, *, mode: KeyMode, now: float, overlap_seconds: float
    ) -> SigningSecrets:
        """Create a secret. The current one stays valid for `overlap_seconds`; an older one ends now."""


class DeliveryStore(Protocol):
    """Deliveries, by the database's clock. Every method is one transaction; many workers may call at once."""

    async def claim(
        self,
        *,
        lease_seconds: float,
        limit: int,
        per_account: int,
        busy: Mapping[str, int] | None = None,
    ) -> Sequence[DueDelivery]:
        """Lease due deliveries, oldest first.

        At most `per_account` of each account, less those it is sending already (`busy`, by account).
        Deliveries to a disabled target become `dead`; those of deleted accounts are removed.
        """

    async def release_leases(self) -> int:
        """Make deliveries that are being sent due again, and return how many; the attempts are not counted.

        Only for a process that is known to be the only one.
        """

    async def note_delivered(self, due: DueDelivery, *, status_code: int) -> None:
        """Store that the receiver answered 2xx."""

    async def note_failed(
        self,
        due: DueDelivery,
        *,
        retry_seconds: float | None,
        status_code: int | None,
        error: str,
    ) -> None:
        """Store a failed attempt, unless there was a later claim. Without `retry_seconds` it is `dead`."""

    async def disable_target(self, due: DueDelivery, *, status_code: int, error: str) -> None:
        """End the delivery as `dead`, and every later one of this account to this URL until a replay."""

    async def own_deliveries(
        self,
        account_id: str,
        *,
        mode: KeyMode | None = None,
        state: DeliveryState | None = None,
        job_id: str | None = None,
        before: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> Sequence[DeliveryRecord]:
        """Return the account's deliveries, newest first, older than `before`'s time and id.

        `mode`, `state` and `job_id` select deliveries; `None` means any.
        """

    async def replay(
        self, account_id: str, delivery_id: str, *, mode: KeyMode | None = None
    ) -> DeliveryRecord | None:
        """Make the delivery due now, with all its attempts, and enable its target again.

        A delivery that is being sent stays as it is. `None` if the account has no such delivery of this mode.
        """

    async def purge(self, *, settled_before: float) -> int:
        """Delete deliveries, dead ones included, that ended before this time; return how many."""


class WebhookTargets(Protocol):
    """Checks webhook URLs."""

    def check_url(self, url: str) -> str:
        """Return the URL as it will be called, without using the network.

        Raises `InvalidWebhookURL`, `WebhookTargetForbidden`.
        """

    async def check(self, url: str) -> str:
        """Check the addresses of the host name, too, within five seconds. Raises what `check_url` raises."""
