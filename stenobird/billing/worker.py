"""What billing does by itself: webhook events are followed up, meter events are sent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import structlog

from stenobird.billing.gateway import GatewayError
from stenobird.errors import StorageUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from stenobird.billing.metering import Metering
    from stenobird.billing.standing import BillingStanding
    from stenobird.ledger import BillingStore
    from stenobird.ports import Clock

POLL_SECONDS: Final = 5.0
"""How long a completed job waits for its meter event at most; webhooks wake the worker at once."""
EVENT_LEASE_SECONDS: Final = 120.0
EVENT_ATTEMPTS: Final = 12
"""Some ten hours of attempts; then the event is kept with its error, for the operator."""

_log = structlog.get_logger(__name__)


class BillingWorker:
    """Works in the background while `run` runs. Several may, in one process or many: rows are leased.

    `wake` is set when there is something to do; `mails` runs beside it and sends what was asked for.
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
        """Work until cancelled. An unreachable database or Stripe is waited for, and said in the log."""
        async with asyncio.TaskGroup() as tasks:
            if self._mails is not None:
                tasks.create_task(self._mails(), name="mails with new keys")
            await self._work()

    async def _work(self) -> None:
        while True:
            self._woken.clear()
            try:
                busy = await self.step()
            except StorageUnavailable as error:
                _log.warning("billing waits for the database", reason=error.message)
                busy = False
            except Exception as exc:  # noqa: BLE001  # whatever Stripe says, the service goes on
                # What it was about is leased, so it comes again later, and not at once.
                _log.error("billing failed unexpectedly", exc_info=exc)
                busy = False
            if not busy:
                try:
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._woken.wait()
                except TimeoutError:
                    pass

    async def step(self) -> bool:
        """Follow up one event and send one batch of meter events; return whether there was any."""
        event = await self._follow_up()
        rows = await self._metering.step()
        return event or rows > 0

    async def _follow_up(self) -> bool:
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
                "a Stripe event waits", event_id=event.id, type=event.type, reason=error.message, until=until
            )
            await self._store.delay_event(event.id, until=until, error=error.message)
        else:
            await self._store.settle_event(event.id, now=self._clock.time())
        return True
