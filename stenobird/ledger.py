"""The vocabulary of money: what an account owes, what Stripe was told of it, and the port of its store.

A completed job leaves one row in `usage`, in the commit of its `done`. That row is the ledger, and its own
outbox entry: what the wallet did not pay for is reported to Stripe as one meter event, whose identifier is
the job's id and whose timestamp is the job's end.

    pending ──claim──► unknown ──Stripe took it──► sent ──Stripe reports an error──► rejected
       │                 │ ▲                        ▲                                   ▲
       │                 │ └─ no answer: the same   │                                   │
       │                 │    identifier again      │                                   │
       │                 ├─ no answer for 23 hours: the summaries tell ─ counted ───────┤
       │                 │                              └─ not counted: pending, with a new identifier
       │                 └─ Stripe refused it for good ─────────────────────────────────┘
       └─ nothing to report: free

A row is `unknown` from before the request until the answer is committed, so a worker that dies in between
leaves the truth behind: that it can't be known. Stripe remembers identifiers for at least 24 hours, which
makes repeating harmless for so long and no longer.

A row that could not be reported for `LATE_SECONDS` gets the time of its report as its timestamp, because
Stripe does not charge for events within a week whose invoice is closed, and takes none older than 35 days.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stenobird.ports import AccountState, NewKey, Tier

MeterState: TypeAlias = Literal["pending", "unknown", "sent", "free", "rejected"]

LATE_SECONDS: Final = 1800
"""Less than the hour for which Stripe keeps a week open after its end."""
DEDUPE_SECONDS: Final = 23 * 3600
"""How long a meter event is repeated under its identifier: Stripe's 24 hours less a margin for clocks."""
WEEK_SECONDS: Final = 7 * 86_400
ACCOUNT_DELETED: Final = "stenobird.account.deleted"
"""Type of an event of our own, so that ending a subscription survives a crash and a Stripe that is away."""


@dataclass(frozen=True, slots=True)
class BillingAccount:
    """An account as billing sees it. `version` guards `BillingStore.apply_state`."""

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
    """A Checkout Session that this service began."""

    id: str
    account_id: str | None
    email: str | None
    renewal: bool
    """Whether an existing account subscribes again; it keeps its keys and gets no new one."""
    browser_hash: str | None
    created_at: float
    completed_at: float | None
    key_id: str | None


@dataclass(frozen=True, slots=True)
class PaidCheckout:
    """What Stripe says of a completed Checkout Session."""

    customer_id: str
    subscription_id: str
    email: str | None
    anchor_at: float | None


@dataclass(frozen=True, slots=True)
class MeterRow:
    """A ledger row that Stripe should hear of, or might have heard of, as its claim left it.

    `identifier` and `timestamp` never change between attempts; `attempts` counts those under any identifier,
    this one included.
    """

    job_id: str
    account_id: str
    customer_id: str | None
    minutes: int
    timestamp: int
    identifier: str
    attempts: int
    attempted_at: float
    """When the first attempt under this identifier began that Stripe may have counted."""
    fresh: bool
    """Whether this attempt is that one."""


@dataclass(frozen=True, slots=True)
class LedgerMinutes:
    """Metered minutes of one customer within some time, by how certain it is that Stripe has them."""

    sent: int
    last_sent_at: float
    """When the youngest of the sent rows was settled; 0.0: there is none."""
    unknown: Sequence[DoubtfulRow]
    """The rows in doubt, by job id."""


@dataclass(frozen=True, slots=True)
class DoubtfulRow:
    """A row that Stripe may or may not have counted."""

    job_id: str
    minutes: int
    attempted_at: float


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """A webhook event that was accepted: its id, and whom to ask Stripe about."""

    id: str
    type: str
    object_id: str | None
    customer_id: str | None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class NewAccount:
    """The account that a paid checkout makes, unless it was made already."""

    id: str
    name: str
    tier: Tier


class BillingStore(Protocol):
    """Accounts, checkouts, webhook events and metering. Every method is one transaction.

    `now` is the caller's clock where a test must be able to move it; hours matter here, never milliseconds.
    """

    async def account(self, account_id: str) -> BillingAccount | None:
        """Return the account, or `None`."""

    async def account_of_customer(self, customer_id: str) -> BillingAccount | None:
        """Return the account of a Stripe customer, or `None`."""

    async def accounts_by_email(self, email: str) -> Sequence[BillingAccount]:
        """Return the accounts with this address (letter case ignored), at most 10, oldest first."""

    async def paying_accounts(self, *, after: str = "", limit: int = 100) -> Sequence[BillingAccount]:
        """Return accounts with a Stripe customer, by id, from the first one after `after`."""

    async def apply_state(
        self,
        account: BillingAccount,
        *,
        state: AccountState,
        disputes: Sequence[str],
        anchor_at: float | None,
    ) -> bool:
        """Set what Stripe says, unless another write came between `account` and now; return whether."""

    async def queue_account_deleted(self, account_id: str) -> None:
        """Note that the account is about to be deleted, so that its subscription ends. Idempotent."""

    async def set_cap(self, account_id: str, minutes: int | None) -> None:
        """Set the account's spending cap a billing week; `None` lifts it."""

    async def week_minutes(self, account_id: str, *, since: float) -> tuple[int, int]:
        """Return the metered minutes since then, and how many full jobs of the account are under way."""

    async def begin_checkout(self, checkout: Checkout) -> None:
        """Store a Checkout Session just created."""

    async def checkout(self, session_id: str) -> Checkout | None:
        """Return the Checkout Session, or `None`."""

    async def complete_checkout(
        self, session_id: str, paid: PaidCheckout, new: NewAccount, *, now: float
    ) -> Checkout | None:
        """Note that it was paid, and make or renew its account; the first call does, the others see it.

        A repeated call changes nothing. `None` when there is no such checkout.
        """

    async def grant_claim(self, session_id: str, claim_hash: str, *, expires_at: float) -> bool:
        """Give a browser the right to fetch the key, instead of an earlier one; `False`: it was fetched."""

    async def redeem_claim(self, claim_hash: str, key: NewKey, *, now: float) -> Checkout | None:
        """Store the key (its account is the checkout's) and use the right up, once; else `None`."""

    async def add_recovery(self, token_hash: str, account_id: str, *, now: float, expires_at: float) -> bool:
        """Store a right to a new key; `False` when the account asked too often lately."""

    async def redeem_recovery(self, token_hash: str, key: NewKey, *, now: float) -> str | None:
        """Store the key for the recovery's account, once, and return the account's id; else `None`."""

    async def add_event(self, event: StoredEvent, *, now: float) -> bool:
        """Store a webhook event; `False` when its id is known."""

    async def claim_event(self, *, now: float, lease_seconds: float) -> StoredEvent | None:
        """Take the event that is due longest, so that nobody else does before the lease ends."""

    async def settle_event(self, event_id: str, *, now: float) -> None:
        """Note that the event was dealt with."""

    async def delay_event(self, event_id: str, *, until: float | None, error: str) -> None:
        """Try the event again at `until`; `None`: give it up, keeping the error."""

    async def claim_usage(self, *, now: float, lease_seconds: float, limit: int) -> Sequence[MeterRow]:
        """Take rows that are due, oldest first, and commit that an attempt begins.

        Rows with nothing to report become `free` and are not returned.
        """

    async def settle_usage(
        self, job_ids: Sequence[str], state: MeterState, *, now: float, error: str | None = None
    ) -> None:
        """Set the outcome of claimed rows."""

    async def delay_usage(self, row: MeterRow, *, until: float, certain: bool, error: str) -> None:
        """Try the row again at `until`; `certain`: Stripe has not counted this attempt."""

    async def renew_usage(self, job_ids: Sequence[str], *, until: float) -> None:
        """Give rows that Stripe has not counted a new identifier, and make them pending again."""

    async def ledger_minutes(self, customer_id: str, *, since: int, until: int) -> LedgerMinutes:
        """Return a customer's metered minutes with timestamps in `[since, until)`."""

    async def note_meter_errors(self, errors: Mapping[str, str], *, detail: Mapping[str, object]) -> int:
        """Mark the rows of these jobs as rejected, with the code; return how many there were."""

    async def meter_counts(self) -> Mapping[str, tuple[int, int]]:
        """Return the number of rows and minutes by `MeterState`."""

    async def rejected_usage(self, *, limit: int = 100) -> Sequence[tuple[str, str, int, str]]:
        """Return rows that Stripe refused: job, account, minutes, error; oldest first."""
