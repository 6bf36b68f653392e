"""The port to the company that takes the money, in the words of Stripe Billing.

BillingUnavailable (503)
└── GatewayError           what went wrong with one request
├── OutcomeUnknown     no answer, or a broken one: it may have happened
├── NotDone            it certainly did not happen, and may work later: too many requests, a wrong key
└── Refused            it certainly did not happen, and won't: unknown customer, invalid value
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from stenobird.errors import BillingUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stenobird.ledger import PaidCheckout, StoredEvent
    from stenobird.ports import AccountState


class GatewayError(BillingUnavailable):
    """The payment service did not do what was asked. Try again in a moment."""


class OutcomeUnknown(GatewayError):
    """The payment service did not answer, so it may or may not have happened. Try again in a moment."""


class NotDone(GatewayError):
    """The payment service takes no requests from here now. Try again in a moment."""


class Refused(GatewayError):
    """The payment service refused. The operator finds the reason in the log."""

    retryable = False


@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    """A Checkout Session to be made: a new customer with this e-mail, or an existing customer."""

    success_url: str
    cancel_url: str
    idempotency_key: str
    email: str | None = None
    customer_id: str | None = None
    account_id: str | None = None


@dataclass(frozen=True, slots=True)
class StartedCheckout:
    """A Checkout Session that waits for its buyer."""

    id: str
    url: str


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """Minutes of one job. Repeated with the same identifier within a day it is counted once."""

    identifier: str
    customer_id: str
    minutes: int
    timestamp: int
    idempotency_key: str
    """Differs between attempts: an answer 500 is repeated for the same key."""


@dataclass(frozen=True, slots=True)
class MeterErrors:
    """Meter events that were taken and could not be counted after all."""

    error_count: int
    codes: Mapping[str, int]
    samples: Sequence[tuple[str, str]]
    """Idempotency keys and codes of some of them."""


DisputeOutcome: TypeAlias = Literal["open", "won", "lost"]


@dataclass(frozen=True, slots=True)
class DisputeStatus:
    """A dispute as it stands now, and the customer who paid."""

    outcome: DisputeOutcome
    customer_id: str | None


@dataclass(frozen=True, slots=True)
class SubscriptionStatus:
    """A subscription as it stands now. `status` is Stripe's own word."""

    state: AccountState
    status: str
    anchor_at: float | None
    latest_receipt_url: str | None = None


@dataclass(frozen=True, slots=True)
class SetUp:
    """What `stenobird billing setup` made or found; `made` names what is new."""

    meter_id: str
    product_id: str
    price_id: str
    portal_configuration_id: str
    made: Sequence[str] = field(default_factory=tuple)


class BillingGateway(Protocol):
    """One request each, but for lists, which follow every page. All raise `GatewayError` and nothing else."""

    async def start_checkout(self, request: CheckoutRequest) -> StartedCheckout:
        """Create a subscription Checkout Session with the weekly metered price."""

    async def paid_checkout(self, session_id: str) -> PaidCheckout | None:
        """Return what a Checkout Session led to; `None` while it isn't complete, or when there is none."""

    async def subscription(self, subscription_id: str) -> SubscriptionStatus | None:
        """Return the subscription as it stands now; `None` when there is none."""

    async def end_subscription(self, subscription_id: str) -> None:
        """Let the subscription end with its week, so that what was used is still charged. Idempotent."""

    async def dispute(self, dispute_id: str) -> DisputeStatus | None:
        """Return the dispute as it stands now; `None` when there is none."""

    async def portal_url(self, customer_id: str, *, return_url: str) -> str:
        """Return a short-lived link to the customer's own page: payment method, receipts, cancellation."""

    async def send_meter_event(self, event: MeterEvent) -> None:
        """Report minutes. Returns as well when an event with this identifier is there already."""

    async def meter_minutes(self, customer_id: str, *, since: int, until: int) -> int:
        """Return the minutes counted for a customer; both ends must be multiples of 60."""

    async def meter_errors(self, event_id: str) -> MeterErrors:
        """Return what an event `v1.billing.meter.error_report_triggered` is about."""

    async def set_up(self, *, currency: str, cents_a_minute: str) -> SetUp:
        """Make the meter, product, weekly metered price and portal configuration that are missing."""

    def read_event(self, payload: bytes, signature: str | None) -> StoredEvent:
        """Return a webhook's event. Raises `InvalidSignature` unless a known secret signed it lately."""
