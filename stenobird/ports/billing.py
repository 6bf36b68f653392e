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
    ├── NotDone            it had no effect and may work later: rate limited, or a wrong key
    └── Refused            it had no effect and won't succeed later: unknown customer, invalid value
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

from stenobird.errors import BillingUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stenobird.ports.accounts import AccountState, NewAccount, Tier
    from stenobird.ports.keys import NewKey

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


class BillingStore(Protocol):
    """Accounts, checkouts, webhook events and metering. Every method is one transaction.

    `now` is the caller's clock where tests have to move it; it need not be precise.
    """

    async def account(self, account_id: str) -> BillingAccount | None:
        """Return the account, or `None`."""

    async def account_of_customer(self, customer_id: str) -> BillingAccount | None:
        """Return the account of a Stripe customer, or `None`."""

    async def accounts_by_email(self, email: str) -> Sequence[BillingAccount]:
        """Return the accounts with this address (letter case ignored), at most 10, oldest first."""

    async def paying_accounts(self, *, after: str = "", limit: int = 100) -> Sequence[BillingAccount]:
        """Return accounts with a Stripe customer, ordered by id, starting after the id `after`."""

    async def apply_state(
        self,
        account: BillingAccount,
        *,
        state: AccountState,
        disputes: Sequence[str],
        anchor_at: float | None,
    ) -> bool:
        """Store the state unless the row changed since `account` was read; return whether it was stored."""

    async def queue_account_deleted(self, account_id: str) -> None:
        """Queue an event that ends the subscription of an account about to be deleted. Idempotent."""

    async def set_cap(self, account_id: str, minutes: int | None) -> None:
        """Set the account's spending cap per billing week; `None` removes it."""

    async def week_minutes(self, account_id: str, *, since: float) -> tuple[int, int]:
        """Return the metered minutes since then, and the number of running full jobs of the account."""

    async def begin_checkout(self, checkout: Checkout) -> None:
        """Store a Checkout Session just created."""

    async def checkout(self, session_id: str) -> Checkout | None:
        """Return the Checkout Session, or `None`."""

    async def complete_checkout(
        self, session_id: str, paid: PaidCheckout, new: NewAccount, *, now: float
    ) -> Checkout | None:
        """Mark it as paid, and create or renew its account. Repeated calls change nothing.

        Returns the checkout, or `None` if it does not exist.
        """

    async def grant_claim(self, session_id: str, claim_hash: str, *, expires_at: float) -> bool:
        """Allow one redemption with this claim, replacing an earlier claim; `False` if it was redeemed."""

    async def redeem_claim(self, claim_hash: str, key: NewKey, *, now: float) -> Checkout | None:
        """Store the key for the checkout's account and use up the claim; `None` for an invalid claim."""

    async def add_recovery(self, token_hash: str, account_id: str, *, now: float, expires_at: float) -> bool:
        """Store a recovery token; `False` if the account requested too many recently."""

    async def redeem_recovery(self, token_hash: str, key: NewKey, *, now: float) -> str | None:
        """Store the key and use up the token; return the account's id, or `None` for an invalid token."""

    async def add_event(self, event: StoredEvent, *, now: float) -> bool:
        """Store a webhook event; `False` if its id is known."""

    async def claim_event(self, *, now: float, lease_seconds: float) -> StoredEvent | None:
        """Lease the event that has been due longest, or return `None`."""

    async def settle_event(self, event_id: str, *, now: float) -> None:
        """Mark the event as handled."""

    async def delay_event(self, event_id: str, *, until: float | None, error: str) -> None:
        """Retry the event at `until`; with `None`, give up and keep the error."""

    async def claim_usage(self, *, now: float, lease_seconds: float, limit: int) -> Sequence[MeterRow]:
        """Lease rows that are due, oldest first, and commit that an attempt starts.

        Rows with nothing to report become `free` and are not returned.
        """

    async def settle_usage(
        self, job_ids: Sequence[str], state: MeterState, *, now: float, error: str | None = None
    ) -> None:
        """Set the outcome of claimed rows."""

    async def delay_usage(self, row: MeterRow, *, until: float, certain: bool, error: str) -> None:
        """Retry the row at `until`. `certain` means that Stripe has not counted this attempt."""

    async def renew_usage(self, job_ids: Sequence[str], *, until: float) -> None:
        """Make rows that Stripe has not counted pending again, with new identifiers."""

    async def ledger_minutes(
        self, customer_id: str, *, since: int, until: int
    ) -> tuple[int, float, Sequence[DoubtfulRow]]:
        """Return a customer's metered minutes with timestamps in `[since, until)`.

        That is how many are known to be at Stripe, when the newest of their rows was settled (0.0 if there is
        none), and the rows in doubt, ordered by job id.
        """

    async def note_meter_errors(self, errors: Mapping[str, str], *, detail: Mapping[str, Any]) -> int:
        """Mark the rows of these jobs as rejected with their codes; return how many rows changed."""

    async def meter_counts(self) -> Mapping[str, tuple[int, int]]:
        """Return the numbers of rows and minutes by `MeterState`."""

    async def rejected_usage(self, *, limit: int = 100) -> Sequence[tuple[str, str, int, str]]:
        """Return rejected rows as (job id, account id, minutes, error), oldest first."""


class GatewayError(BillingUnavailable):
    """The payment service could not process the request. Try again in a moment."""


class OutcomeUnknown(GatewayError):
    """The payment service did not answer, so the request may have taken effect. Try again in a moment."""


class NotDone(GatewayError):
    """The payment service is not accepting our requests right now. Try again in a moment."""


class Refused(GatewayError):
    """The payment service refused the request. The operator finds the reason in the log."""

    retryable = False


DisputeOutcome: TypeAlias = Literal["open", "won", "lost"]


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

    async def start_checkout(
        self,
        *,
        success_url: str,
        cancel_url: str,
        idempotency_key: str,
        email: str | None = None,
        customer_id: str | None = None,
        account_id: str | None = None,
    ) -> tuple[str, str]:
        """Create a subscription Checkout Session with the weekly metered price; return its id and URL.

        It is for a new customer with this e-mail address or for an existing customer.
        """

    async def paid_checkout(self, session_id: str) -> PaidCheckout | None:
        """Return the outcome of a Checkout Session; `None` if it is incomplete or does not exist."""

    async def subscription(self, subscription_id: str) -> SubscriptionStatus | None:
        """Return the current subscription, or `None` if it does not exist."""

    async def end_subscription(self, subscription_id: str) -> None:
        """Cancel the subscription at the end of its week, so that its usage is still charged. Idempotent."""

    async def dispute(self, dispute_id: str) -> tuple[DisputeOutcome, str | None] | None:
        """Return the current outcome of a dispute and the customer who paid; `None` if it does not exist."""

    async def portal_url(self, customer_id: str, *, return_url: str) -> str:
        """Return a short-lived link to the customer portal: payment method, receipts, cancellation."""

    async def send_meter_event(
        self, *, identifier: str, customer_id: str, minutes: int, timestamp: int, idempotency_key: str
    ) -> None:
        """Report a job's minutes. Stripe counts events with the same identifier within a day once.

        Also succeeds if an event with this identifier exists. The idempotency key differs between attempts,
        because Stripe replays a 500 for the same key.
        """

    async def meter_minutes(self, customer_id: str, *, since: int, until: int) -> int:
        """Return the minutes counted for a customer in `[since, until)`; both must be multiples of 60."""

    async def meter_errors(self, event_id: str) -> tuple[int, Mapping[str, int], Sequence[tuple[str, str]]]:
        """Return what a `v1.billing.meter.error_report_triggered` event says of meter events.

        That is how many Stripe accepted and then could not count, how many by code, and the idempotency keys
        and codes of some of them.
        """

    async def set_up(self, *, currency: str, cents_a_minute: str) -> SetUp:
        """Create whichever of meter, product, weekly metered price and portal configuration is missing."""

    def read_event(self, payload: bytes, signature: str | None) -> StoredEvent:
        """Return a webhook's event. Raises `InvalidSignature` unless a known secret signed it recently."""


class Mailer(Protocol):
    """Sends one plain-text mail. Raises `BillingUnavailable` if that fails."""

    async def send(self, to: str, subject: str, text: str) -> None:
        """Send it."""
