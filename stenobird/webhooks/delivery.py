"""Delivers the outbox's webhook events at least once, under a stable event id.

An attempt is committed before its POST, and its outcome after the answer. If the process dies in between, the
event is sent again with the same `event_id` when its lease ends.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import structlog

from stenobird.egress.client import retry_after_seconds
from stenobird.errors import EgressError, StorageUnavailable
from stenobird.webhooks.schemas import WebhookEvent
from stenobird.webhooks.sender import POST_SECONDS, post_event

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from stenobird.egress.client import EgressClient
    from stenobird.ports import Clock
    from stenobird.ports.webhooks import DueDelivery
    from stenobird.storage.delivery_store import DeliveryStore, SecretStore
    from stenobird.webhooks.sender import Answer

UNEXPECTED_ERROR: Final = (
    "The event could not be sent. The operator of this service finds the reason in its log."
)
DISABLED: Final = "The receiver answered 410, so this URL receives no more events until a replay enables it."

_log = structlog.get_logger(__name__)


AT_ONCE: Final = 32
"""POSTs that run concurrently."""
PER_ACCOUNT: Final = 4
"""POSTs for one account. Eight accounts with unresponsive receivers can delay the others by ten seconds."""
LEASE_SECONDS: Final = 60.0
"""Longer than an attempt with its two commits."""
POLL_SECONDS: Final = 5.0
"""How long a retry, or what another process has committed, may wait. Our own commits are sent at once."""


class WebhookDeliverer:
    """Delivers due events while `run` runs. Rows are leased, so several deliverers may run at once."""

    def __init__(
        self,
        store: DeliveryStore,
        secrets: SecretStore,
        client: EgressClient,
        clock: Clock,
        *,
        chance: Callable[[], float] = random.random,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._client = client
        self._clock = clock
        self._chance = chance
        self._poll_seconds = poll_seconds
        self._sending: dict[str, str] = {}
        self._freed = asyncio.Event()

    async def run(self) -> None:
        """Deliver until cancelled; wait while the database is unreachable.

        A free slot is filled at once, so that no account waits for another account's slow receiver.
        """
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    taken = await self._take()
                except StorageUnavailable:
                    taken = []
                except Exception as exc:  # noqa: BLE001  # an unexpected error must not end the service
                    _log.error("webhook_claim_failed", exc_info=exc)
                    taken = []
                for one in taken:
                    tasks.create_task(one)
                if not taken:
                    await self._idle()

    async def step(self) -> int:
        """Try one batch of due deliveries once each; return how many. Raises `StorageUnavailable`."""
        taken = await self._take()
        async with asyncio.TaskGroup() as tasks:
            for one in taken:
                tasks.create_task(one)
        return len(taken)

    async def _take(self) -> Sequence[Coroutine[Any, Any, None]]:
        """Claim due deliveries for the free slots; return their attempts as coroutines."""
        # Before the claim, so that nothing that is committed meanwhile is missed.
        self._store.filled.clear()
        free = AT_ONCE - len(self._sending)
        if free <= 0:
            return []
        # Measured from before the claim, so that it ends before the lease.
        until = self._clock.monotonic() + LEASE_SECONDS - POST_SECONDS
        claimed = await self._store.claim(
            lease_seconds=LEASE_SECONDS,
            limit=free,
            per_account=PER_ACCOUNT,
            busy=Counter(self._sending.values()),
        )
        # A process that was suspended for a minute may claim what it is still sending; skip that.
        fresh = [due for due in claimed if due.id not in self._sending]
        self._sending |= {due.id: due.account_id for due in fresh}
        return [self._deliver(due, until) for due in fresh]

    async def _idle(self) -> None:
        """Return after the poll interval, when a slot becomes free, or when there is something to send."""
        async with asyncio.TaskGroup() as waits:
            either = (
                waits.create_task(self._clock.sleep(self._poll_seconds)),
                waits.create_task(self._freed.wait()),
                waits.create_task(self._store.filled.wait()),
            )
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            for task in either:
                task.cancel()
        self._freed.clear()

    async def _deliver(self, due: DueDelivery, until: float) -> None:
        try:
            try:
                await self._attempt(due, until)
            except StorageUnavailable:
                raise
            except Exception as exc:  # noqa: BLE001  # one receiver must not end all deliveries
                _log.error(
                    "webhook_failed_unexpectedly", event_id=due.event_id, job_id=due.job_id, exc_info=exc
                )
                await self._record(due, None, UNEXPECTED_ERROR)
        except StorageUnavailable as error:
            # The outcome could not be stored, so the event is sent again when the lease ends.
            _log.warning(
                "webhook_outcome_not_stored", event_id=due.event_id, job_id=due.job_id, reason=error.message
            )
        finally:
            del self._sending[due.id]
            self._freed.set()

    async def _attempt(self, due: DueDelivery, until: float) -> None:
        signing = await self._secrets.signing_secrets(due.account_id, mode=due.mode, now=self._clock.time())
        now = self._clock.time()
        if self._clock.monotonic() > until:
            # The database was so slow that the lease may end, and another worker start, during the POST.
            _log.warning("webhook_lease_too_short", event_id=due.event_id, job_id=due.job_id)
            return
        answer: Answer | None = None
        event = WebhookEvent.model_validate(due)
        try:
            answer = await post_event(
                self._client, due.url, event, origin=due.origin, now=now, secrets=signing
            )
        except EgressError as exc:
            problem: str | None = exc.message
        else:
            problem = answer.problem
        await self._record(due, answer, problem)

    async def _record(self, due: DueDelivery, answer: Answer | None, problem: str | None) -> None:
        status = answer.status if answer is not None else None
        if problem is None:
            assert status is not None
            await self._store.note_delivered(due, status_code=status)
            return
        if status == 410:
            _log.info(
                "webhook_target_disabled", account_id=due.account_id, delivery_id=due.id, job_id=due.job_id
            )
            await self._store.disable_target(due, status_code=status, error=DISABLED)
            return
        asked = retry_after_seconds(answer.headers, now=self._clock.time()) if answer is not None else None
        wait = retry_seconds(due.tries, self._chance(), asked_seconds=asked)
        if wait is None:
            _log.warning(
                "webhook_abandoned", account_id=due.account_id, delivery_id=due.id, job_id=due.job_id
            )
        await self._store.note_failed(due, retry_seconds=wait, status_code=status, error=problem)


# --- the waits between attempts -----------------------------------------------------------------------------

_MINUTES: Final = (1 / 12, 1 / 2, 2, 5, 15, 30, 60, 120, 240, 480, 720, 840, 840, 960)
RETRY_SECONDS: Final = tuple(60.0 * minutes for minutes in _MINUTES)
"""The waits between attempts: 15 attempts in 72 hours. They double at first, then are 12 hours or more."""
JITTER: Final = 0.1
"""The largest relative change of a wait, so that events that failed together are not retried together."""
MAX_RETRY_AFTER_SECONDS: Final = 3600.0
"""The longest wait that `Retry-After` can request; requested each time, it adds five hours to three days."""


def retry_seconds(tries: int, chance: float, *, asked_seconds: float | None = None) -> float | None:
    """Return the wait after `tries` failed attempts (`chance`, 0 to 1, sets the jitter); `None`: give up.

    `asked_seconds` is the wait that the receiver's `Retry-After` requests. It can lengthen a wait, up to
    `MAX_RETRY_AFTER_SECONDS`, and never shorten it: otherwise a receiver that keeps requesting one second
    would use up all attempts within seconds. Its jitter only adds, because a retry must not come too early.
    """
    if tries > len(RETRY_SECONDS):
        return None
    wait = RETRY_SECONDS[max(tries, 1) - 1] * (1 - JITTER + 2 * JITTER * chance)
    if asked_seconds is None:
        return wait
    return max(wait, min(asked_seconds, MAX_RETRY_AFTER_SECONDS) * (1 + JITTER * chance))
