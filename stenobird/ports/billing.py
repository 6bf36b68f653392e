"""Billing: its records, and the ports of its store, the payment provider and the mail server.

A completed job adds one row to `usage` in the commit of its `done` event. The row is both ledger and outbox:
minutes that the wallet did not cover are reported to Stripe as one meter event, whose identifier is the
job's id and whose timestamp is the job's end.

    pending ──claim──► unknown ──Stripe accepted──► sent ──Stripe reports an error──► rejected
       │                 │ ▲                        ▲                                   ▲
       │                 │ └─ no answer: retry with │                                   │
       │                 │    the same identifier   │                                   │
       │                 ├─ no answer for 23 hours: check the summaries ─ counted ──────┤
       │                 │                              └─ not counted: pending, with a new identifier
       │                 └─ Stripe refused it permanently ──────────────────────────────┘
       └─ nothing to report: free

A row is `unknown` from before the request until the answer is committed, so a worker that dies in between
leaves it in the right state. Stripe remembers identifiers for at least 24 hours; retries are harmless within
that time only.

A row that could not be reported within `LATE_SECONDS` gets the time of its report as its timestamp, because
Stripe does not charge for events in a week whose invoice is closed and accepts none older than 35 days.

Errors of the gateway:

BillingUnavailable (503)
└── GatewayError           one request failed
    ├── OutcomeUnknown     no answer or a broken one: the request may have taken effect
    ├── NotDone            it had no effect and may work later: rate limited
    │   └── KeyRefused     our key is wrong, revoked, or lacks a permission; the message is for customers
    └── Refused            it had no effect and won't succeed later: unknown customer, invalid value
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from stenobird.errors import BillingUnavailable

if TYPE_CHECKING:
    from stenobird.ports.accounts import AccountState, Tier

MeterState: TypeAlias = Literal["pending", "unknown", "sent", "free", "rejected"]

LATE_SECONDS: Final = 1800
"""Less than the hour for which Stripe keeps a billing week open after its end."""
DEDUPE_SECONDS: Final = 23 * 3600
"""How long a meter event is retried under its identifier: Stripe's 24 hours less a margin for clock skew."""
WEEK_SECONDS: Final = 7 * 86_400
ACCOUNT_DELETED: Final = "stenobird.account.deleted"
"""Type of our own event that ends a subscription, so that it survives a crash or an outage of Stripe."""


@dataclass(frozen=True, slots=True)
class BillingAccount:
    """The billing fields of an account. `version` guards `BillingStore.apply_state`."""

    id: str
    email: str | None
    tier: Tier
    state: AccountState
    customer_id: str | None
    subscription_id: str | None
    anchor_at: float | None
    spending_cap_minutes: int | None
    disputes: tuple[str, ...]
    version: int


@dataclass(frozen=True, slots=True)
class Checkout:
    """A Checkout Session that this service started."""

    id: str
    account_id: str | None
    email: str | None
    renewal: bool
    """Whether an existing account subscribes again; it keeps its keys and gets no new key."""
    browser_hash: str | None
    created_at: float
    completed_at: float | None
    key_id: str | None


@dataclass(frozen=True, slots=True)
class PaidCheckout:
    """The result of a completed Checkout Session at Stripe."""

    customer_id: str
    subscription_id: str
    email: str | None
    anchor_at: float | None


@dataclass(frozen=True, slots=True)
class MeterRow:
    """A claimed ledger row that has to be reported to Stripe, or may already have been.

    `identifier` and `timestamp` stay the same between attempts. `attempts` counts all attempts under any
    identifier, including this one.
    """

    job_id: str
    account_id: str
    customer_id: str | None
    minutes: int
    timestamp: int
    identifier: str
    attempts: int
    attempted_at: float
    """When the first attempt under this identifier that Stripe may have counted started."""
    fresh: bool
    """Whether this is that first attempt."""


@dataclass(frozen=True, slots=True)
class DoubtfulRow:
    """A row that Stripe may or may not have counted."""

    job_id: str
    minutes: int
    attempted_at: float


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An accepted webhook event: its id, and the ids to fetch from Stripe."""

    id: str
    type: str
    object_id: str | None
    customer_id: str | None
    attempts: int = 0


class GatewayError(BillingUnavailable):
    """The payment service could not process the request. Try again in a moment."""


class OutcomeUnknown(GatewayError):
    """The payment service did not answer, so the request may have taken effect. Try again in a moment."""


class NotDone(GatewayError):
    """The payment service is not accepting our requests right now. Try again in a moment."""


class KeyRefused(NotDone):
    """The payment service is not accepting our requests right now. Try again in a moment."""


class Refused(GatewayError, retryable=False):
    """The payment service refused the request. The operator finds the reason in the log."""


@dataclass(frozen=True, slots=True)
class SubscriptionStatus:
    """The current state of a subscription."""

    state: AccountState
    anchor_at: float | None
    latest_receipt_url: str | None = None


class Mailer(Protocol):
    """Sends one plain-text mail. Raises `BillingUnavailable` if that fails."""

    async def send(self, to: str, subject: str, text: str) -> None:
        """Send it."""
