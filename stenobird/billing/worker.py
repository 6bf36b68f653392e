"""The background work of billing: handles stored webhook events and sends meter events."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import structlog

from stenobird.errors import StorageUnavailable
from stenobird.ports.billing import GatewayError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from stenobird.billing.metering import Metering
    from stenobird.billing.standing import BillingStanding
    from stenobird.ports import Clock
    from stenobird.storage.billing_store import BillingStore

POLL_SECONDS: Final = 5.0
"""The longest wait of a completed job for its meter event. Webhooks wake the worker at once."""
EVENT_LEASE_SECONDS: Final = 120.0
EVENT_ATTEMPTS: Final = 12
"""About ten hours of attempts; after that the event is kept with its error for the operator."""

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
