"""Webhook deliveries: what the sender, the storage and the account's own log say to each other.

A delivery is the outbox row that was committed with its job's end. It is `pending` until a worker claims it
(`sending`, under a lease), and ends as `delivered`, which only an answer of 2xx makes it, or as `dead`. An
ended one is kept, and can be replayed under the same event id.
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
    """A delivery that was claimed.

    `attempt` tells this claim from others; `tries` counts since a replay. `mode` says which secret signs it.
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
    """A delivery as its account sees it. Times are seconds since the epoch, UTC."""

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
class DeliveryFilter:
    """Which deliveries of an account are meant; `None` stands for any."""

    mode: KeyMode | None = None
    state: DeliveryState | None = None
    job_id: str | None = None


@dataclass(frozen=True, slots=True)
class SigningSecrets:
    """An account's secret for a mode, and the one before it while that still signs beside it."""

    current: str
    since: float
    previous: str | None
    previous_until: float | None

    @property
    def all(self) -> tuple[str, ...]:
        """Every secret that signs, the current one first."""
        return (self.current,) if self.previous is None else (self.current, self.previous)


class SecretStore(Protocol):
    """The signing secrets of accounts: one for live jobs, and one for those of test keys."""

    async def signing_secrets(self, account_id: str, *, mode: KeyMode, now: float) -> SigningSecrets:
        """Return the account's secrets, one made now if it has none."""

    async def rotate_secret(
        self, account_id: str, *, mode: KeyMode, now: float, overlap_seconds: float
    ) -> SigningSecrets:
        """Make a new secret. The current one goes on for so long; one from before that ends now."""


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
        """Take due deliveries, oldest first; nobody else has them until the lease ends.

        At most `per_account` of each account, less what it has under way already (`busy`, by account).

        Deliveries to a disabled target become `dead`; those of deleted accounts are removed.
        """

    async def release_leases(self) -> int:
        """Make due what is being sent, and return how much; the broken attempts do not count as tries.

        For a process that knows itself to be the only one, so that whoever had these is gone.
        """

    async def note_delivered(self, due: DueDelivery, *, status_code: int) -> None:
        """Note that the receiver answered 2xx."""

    async def note_failed(
        self,
        due: DueDelivery,
        *,
        retry_seconds: float | None,
        status_code: int | None,
        error: str,
    ) -> None:
        """Note a failed attempt; `None` to wait: the delivery is `dead`. After a later claim: nothing."""

    async def disable_target(self, due: DueDelivery, *, status_code: int, error: str) -> None:
        """End the delivery, and every later one of this account to this URL until a replay, as `dead`."""

    async def own_deliveries(
        self,
        account_id: str,
        *,
        wanted: DeliveryFilter | None = None,
        before: tuple[float, str] | None = None,
        limit: int = 100,
    ) -> Sequence[DeliveryRecord]:
        """Return the account's deliveries, newest first, older than `before`'s time and id."""

    async def replay(
        self, account_id: str, delivery_id: str, *, mode: KeyMode | None = None
    ) -> DeliveryRecord | None:
        """Make the delivery due now with all its tries anew, and its target enabled.

        `None`: there is no such one of this account, or of this mode.

        One that is being sent at this moment is left as it is.
        """

    async def purge(self, *, settled_before: float) -> int:
        """Remove deliveries that ended before then, dead ones too; return how many."""


class WebhookTargets(Protocol):
    """Says which URLs a finished job may be told to."""

    def check_url(self, url: str) -> str:
        """Return the URL as it will be called, judged without the network.

        Raises `InvalidWebhookURL`, `WebhookTargetForbidden`.
        """

    async def check(self, url: str) -> str:
        """Return the URL as it will be called, its name looked up within five seconds. Raises alike."""
