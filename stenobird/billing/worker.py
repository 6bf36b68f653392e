"""The background work of billing: handles webhook events, and reports each job's minutes to Stripe once.

`stenobird.ports.billing` explains the states of a ledger row.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import structlog

from stenobird.billing.standing import BillingStanding, attempt_key
from stenobird.errors import StorageUnavailable
from stenobird.ports.billing import DEDUPE_SECONDS, GatewayError, NotDone, OutcomeUnknown, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Sequence

    from stenobird.billing.stripe_gateway import StripeGateway
    from stenobird.ports import Clock
    from stenobird.ports.billing import DoubtfulRow, MeterRow
    from stenobird.storage.billing_store import BillingStore

POLL_SECONDS: Final = 5.0
"""The longest wait of a completed job for its meter event. Webhooks wake the worker at once."""
EVENT_LEASE_SECONDS: Final = 120.0
EVENT_ATTEMPTS: Final = 12
"""About ten hours of attempts; after that the event is kept with its error for the operator."""
SUMMARY_LAG_SECONDS: Final = 3600.0
"""How long Stripe may take to show a meter event in the summaries. Its documentation says minutes."""
FIRST_DELAY_SECONDS: Final = 2.0
LONGEST_DELAY_SECONDS: Final = 1800.0

_log = structlog.get_logger(__name__)


class BillingWorker:
    """Runs in the background. Rows are leased, so several workers may run, in one process or many.

    `wake` is set when there is work to do. `mails` runs concurrently and sends the requested mails.
    """

    def __init__(
        self,
        store: BillingStore,
        standing: BillingStanding,
        metering: Metering,
        clock: Clock,
        *,
        wake: asyncio.Event | None = None,
        mails: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._store = store
        self._standing = standing
        self._metering = metering
        self._clock = clock
        self._mails = mails
        self._woken = wake or asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled; wait while the database or Stripe is unreachable."""
        async with asyncio.TaskGroup() as tasks:
            if self._mails is not None:
                tasks.create_task(self._mails(), name="key recovery mails")
            await self._work()

    async def _work(self) -> None:
        while True:
            self._woken.clear()
            try:
                busy = await self.step()
            except StorageUnavailable:
                busy = False
            except Exception as exc:  # noqa: BLE001  # an unexpected answer must not end the service
                # The row is leased, so it is retried later and not at once.
                _log.error("billing_failed_unexpectedly", exc_info=exc)
                busy = False
            if not busy:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._woken.wait()

    async def step(self) -> bool:
        """Handle one webhook event and send one batch of meter events; return whether there was any work."""
        event = await self._handle_event()
        rows = await self._metering.step()
        return event or rows > 0

    async def _handle_event(self) -> bool:
        now = self._clock.time()
        event = await self._store.claim_event(now=now, lease_seconds=EVENT_LEASE_SECONDS)
        if event is None:
            return False
        try:
            await self._standing.handle(event)
        except GatewayError as error:
            delay = 10.0 * 2 ** (event.attempts - 1)
            until = self._clock.time() + delay if event.attempts < EVENT_ATTEMPTS else None
            _log.warning(
                "stripe_event_delayed", event_id=event.id, type=event.type, reason=error.message, until=until
            )
            await self._store.delay_event(event.id, until=until, error=error.message)
        else:
            await self._store.settle_event(event.id, now=self._clock.time())
        return True


class Metering:
    """Sends due ledger rows and settles those in doubt. Any number of workers may run concurrently.

    `batch` rows are claimed at a time; `at_once` requests run concurrently.
    """

    def __init__(
        self,
        store: BillingStore,
        gateway: StripeGateway,
        clock: Clock,
        *,
        batch: int = 50,
        at_once: int = 8,
        lease_seconds: float = 300.0,
    ) -> None:
        self._store = store
        self._gateway = gateway
        self._clock = clock
        self._batch, self._at_once, self._lease_seconds = batch, at_once, lease_seconds

    async def step(self) -> int:
        """Handle one batch of due rows; return how many there were. Raises `StorageUnavailable`.

        If it is cancelled halfway, the claimed rows stay `unknown` and are due again when their lease ends.
        """
        rows = await self._store.claim_usage(
            now=self._clock.time(), lease_seconds=self._lease_seconds, limit=self._batch
        )
        in_time = []
        for row in rows:
            if row.customer_id is None:
                await self._refused(row, "The account has no Stripe customer any more.")
            elif self._clock.time() - row.attempted_at < DEDUPE_SECONDS:
                in_time.append(row)
            else:
                await self._settle_doubt(row, row.customer_id)
        await self._send_all(in_time)
        return len(rows)

    async def _send_all(self, rows: Sequence[MeterRow]) -> None:
        sent: list[str] = []
        waiting = iter(rows)
        # Set by the first refusal that applies to every request; the rest of the batch is not tried.
        closed: NotDone | None = None
        storage_error: StorageUnavailable | None = None

        async def send_some() -> None:
            nonlocal closed, storage_error
            try:
                for row in waiting:
                    if closed is None:
                        closed = await self._send(row, sent) or closed
                    else:
                        await self._delay(row, closed, certain=True)
            except StorageUnavailable as error:
                # Raised below, because the group would wrap it. The other rows are due when their lease ends.
                storage_error = error

        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(min(self._at_once, len(rows))):
                    tasks.create_task(send_some())
        finally:
            await self._store.settle_usage(sent, "sent", now=self._clock.time())
        if storage_error is not None:
            raise storage_error

    async def _send(self, row: MeterRow, sent: list[str]) -> NotDone | None:
        """Send one row and add its job to `sent` on success. Return a refusal that applies to all rows."""
        assert row.customer_id is not None
        try:
            await self._gateway.send_meter_event(
                identifier=row.identifier,
                customer_id=row.customer_id,
                minutes=row.minutes,
                timestamp=row.timestamp,
                idempotency_key=attempt_key(row.identifier, row.attempts),
            )
        except OutcomeUnknown as error:
            await self._delay(row, error, certain=False)
        except NotDone as error:
            await self._delay(row, error, certain=True)
            return error
        except Refused as error:
            await self._refused(row, error.message)
        else:
            sent.append(row.job_id)
        return None

    async def _delay(self, row: MeterRow, error: Exception, *, certain: bool) -> None:
        delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(row.attempts - 1, 10))
        await self._store.delay_usage(
            row, until=self._clock.time() + delay, certain=certain, error=str(error)
        )

    async def _refused(self, row: MeterRow, error: str) -> None:
        _log.error("meter_event_refused", job_id=row.job_id, reason=error)
        await self._store.settle_usage([row.job_id], "rejected", now=self._clock.time(), error=error)

    async def _settle_doubt(self, row: MeterRow, customer_id: str) -> None:
        """Find out from its minute's summary whether Stripe counted a row; mark it sent, or send it again.

        A summary cannot distinguish a customer's rows within one minute. All doubtful rows of that minute are
        therefore settled together. If only some were counted, any of them that add up are taken, because only
        the customer's total is billed.
        """
        now = self._clock.time()
        since = row.timestamp - row.timestamp % 60
        window = {"since": since, "until": since + 60}
        ledger = await self._store.ledger_minutes(customer_id, **window)
        sent, last_sent_at, unknown = ledger
        settled_at = max([last_sent_at, *(doubt.attempted_at + DEDUPE_SECONDS for doubt in unknown)])
        if settled_at + SUMMARY_LAG_SECONDS > now:
            await self._store.delay_usage(
                row,
                until=settled_at + SUMMARY_LAG_SECONDS + 1,
                certain=False,
                error="In doubt until Stripe's summary is available.",
            )
            return
        try:
            total = await self._gateway.meter_minutes(customer_id, **window)
        except (OutcomeUnknown, NotDone, Refused) as error:
            await self._delay(row, error, certain=False)
            return
        if await self._store.ledger_minutes(customer_id, **window) != ledger:
            # Another worker changed rows of this minute meanwhile, so the two readings don't belong together.
            return
        counted = total - sent
        found = counted_rows(unknown, counted)
        if sum(doubt.minutes for doubt in found) != counted:
            _log.error(
                "ledger_and_meter_differ",
                remedy="stenobird billing reconcile",
                customer=customer_id,
                minute=since,
                stripe_minutes=total,
                ledger_minutes=sent + sum(doubt.minutes for doubt in found),
            )
        there = [doubt.job_id for doubt in found]
        missing = [doubt.job_id for doubt in unknown if doubt.job_id not in there]
        await self._store.settle_usage(there, "sent", now=now)
        await self._store.renew_usage(missing, until=now)


def counted_rows(rows: Sequence[DoubtfulRow], counted: int) -> list[DoubtfulRow]:
    """Return rows whose minutes add up to `counted`, or to the largest reachable total below it."""
    best: dict[int, list[DoubtfulRow]] = {0: []}
    for row in rows:
        for total, chosen in list(best.items()):
            reached = total + row.minutes
            if reached <= counted and reached not in best:
                best[reached] = [*chosen, row]
    return best[max(best)]


PAGE = 100


@dataclass(frozen=True, slots=True)
class Comparison:
    """The minutes of one customer within one period."""

    account_id: str
    customer_id: str
    ledger_minutes: int
    in_doubt_minutes: int
    stripe_minutes: int

    @property
    def difference(self) -> int:
        """Minutes that Stripe counted beyond the ledger's sent rows; negative if Stripe lacks some."""
        return self.stripe_minutes - self.ledger_minutes

    @property
    def agrees(self) -> bool:
        """Whether rows in doubt explain the whole difference."""
        return 0 <= self.difference <= self.in_doubt_minutes


async def compare(
    store: BillingStore, gateway: StripeGateway, *, since: float, until: float
) -> AsyncIterator[Comparison]:
    """Yield a comparison for every account with a customer; the period is widened to whole minutes.

    Stripe's summaries lag by minutes, so a period that ends now may differ without an error.
    Raises `GatewayError`.
    """
    start, end = int(since) // 60 * 60, -int(-until // 60) * 60
    after = ""
    while accounts := await store.paying_accounts(after=after, limit=PAGE):
        for account in accounts:
            assert account.customer_id is not None
            sent, _, unknown = await store.ledger_minutes(account.customer_id, since=start, until=end)
            counted = await gateway.meter_minutes(account.customer_id, since=start, until=end)
            yield Comparison(
                account_id=account.id,
                customer_id=account.customer_id,
                ledger_minutes=sent,
                in_doubt_minutes=sum(row.minutes for row in unknown),
                stripe_minutes=counted,
            )
        after = accounts[-1].id
