"""The port to the payment provider, in the terms of Stripe Billing.

BillingUnavailable (503)
└── GatewayError           one request failed
    ├── OutcomeUnknown     no answer or a broken one: the request may have taken effect
    ├── NotDone            it had no effect and may work later: rate limited, or a wrong key
    └── Refused            it had no effect and won't succeed later: unknown customer, invalid value
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
    """The payment service could not process the request. Try again in a moment."""


class OutcomeUnknown(GatewayError):
    """The payment service did not answer, so the request may have taken effect. Try again in a moment."""


class NotDone(GatewayError):
    """The payment service is not accepting our requests right now. Try again in a moment."""


class Refused(GatewayError):
    """The payment service refused the request. The operator finds the reason in the log."""

    retryable = False


@dataclass(frozen=True, slots=True)
class CheckoutRequest:
    """A Checkout Session to create, for a new customer with this e-mail or an existing customer."""

    success_url: str
    cancel_url: str
    idempotency_key: str
    email: str | None = None
    customer_id: str | None = None
    account_id: str | None = None


@dataclass(frozen=True, slots=True)
class StartedCheckout:
    """An open Checkout Session; `url` is where the buyer pays."""

    id: str
    url: str


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """Minutes of one job. Stripe counts events with the same identifier within a day once."""

    identifier: str
    customer_id: str
    minutes: int
    timestamp: int
    idempotency_key: str
    """Differs between attempts, because Stripe replays a 500 for the same idempotency key."""


@dataclass(frozen=True, slots=True)
class MeterErrors:
    """Meter events that Stripe accepted and then could not count."""

    error_count: int
    codes: Mapping[str, int]
    samples: Sequence[tuple[str, str]]
    """Idempotency keys and codes of some of them."""


DisputeOutcome: TypeAlias = Literal["open", "won", "lost"]


@dataclass(frozen=True, slots=True)
class DisputeStatus:
    """The current state of a dispute, and the customer who paid."""

    outcome: DisputeOutcome
    customer_id: str | None


@dataclass(frozen=True, slots=True)
class SubscriptionStatus:
    """The current state of a subscription. `status` is Stripe's own value."""

    state: AccountState
    status: str
    anchor_at: float | None
    latest_receipt_url: str | None = None


@dataclass(frozen=True, slots=True)
class SetUp:
    """What `stenobird billing setup` created or found; `made` names what is new."""

    meter_id: str
    product_id: str
    price_id: str
    portal_configuration_id: str
    made: Sequence[str] = field(default_factory=tuple)


class BillingGateway(Protocol):
    """Each method sends one request (lists follow every page) and raises `GatewayError` only."""

    async def start_checkout(self, request: CheckoutRequest) -> StartedCheckout:
        """Create a subscription Checkout Session with the weekly metered price."""

    async def paid_checkout(self, session_id: str) -> PaidCheckout | None:
        """Return the outcome of a Checkout Session; `None` if it is incomplete or does not exist."""

    async def subscription(self, subscription_id: str) -> SubscriptionStatus | None:
        """Return the current subscription, or `None` if it does not exist."""

    async def end_subscription(self, subscription_id: str) -> None:
        """Cancel the subscription at the end of its week, so that its usage is still charged. Idempotent."""

    async def dispute(self, dispute_id: str) -> DisputeStatus | None:
        """Return the current dispute, or `None` if it does not exist."""

    async def portal_url(self, customer_id: str, *, return_url: str) -> str:
        """Return a short-lived link to the customer portal: payment method, receipts, cancellation."""

    async def send_meter_event(self, event: MeterEvent) -> None:
        """Report minutes. Also succeeds if an event with this identifier exists."""

    async def meter_minutes(self, customer_id: str, *, since: int, until: int) -> int:
        """Return the minutes counted for a customer in `[since, until)`; both must be multiples of 60."""

    async def meter_errors(self, event_id: str) -> MeterErrors:
        """Return the errors that a `v1.billing.meter.error_report_triggered` event reports."""

    async def set_up(self, *, currency: str, cents_a_minute: str) -> SetUp:
        """Create whichever of meter, product, weekly metered price and portal configuration is missing."""

    def read_event(self, payload: bytes, signature: str | None) -> StoredEvent:
        """Return a webhook's event. Raises `InvalidSignature` unless a known secret signed it recently."""
