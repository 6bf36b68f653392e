"""Sends what the outbox holds for the receivers of finished jobs: at least once, under a stable id.

An attempt is committed before its POST and its outcome after the answer. A process that dies in between
leaves a lease, and the event is sent again, with the same `event_id`, when that ends.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog

from stenobird.egress.client import FetchLimits
from stenobird.errors import EgressError, StorageUnavailable
from stenobird.webhooks.signature import canonical, headers
from stenobird.webhooks.standard import standard_headers

if TYPE_CHECKING:
    from collections.abc import Callable

    from stenobird.deliveries import DeliveryStore, DueDelivery, SecretStore
    from stenobird.egress.client import EgressClient
    from stenobird.ports import Clock

ALEFBOT_ORIGIN: Final = "alefbot"
ANSWER_BYTES: Final = 1024
LIMITS: Final = FetchLimits(connect_seconds=5.0, headers_seconds=10.0, idle_seconds=10.0, total_seconds=10.0)

_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
RETRY_SECONDS: Final = (
    5.0,
    30.0,
    2 * _MINUTE,
    5 * _MINUTE,
    15 * _MINUTE,
    30 * _MINUTE,
    1 * _HOUR,
    2 * _HOUR,
    4 * _HOUR,
    8 * _HOUR,
    12 * _HOUR,
    14 * _HOUR,
    14 * _HOUR,
    16 * _HOUR,
)
"""The waits between the tries of an event: 15 tries within 72 hours. They double, then are about a night."""
JITTER: Final = 0.1
"""Each wait is up to so much shorter or longer, so that events that failed together don't return together."""


@dataclass(frozen=True, slots=True)
class DeliveryOptions:
    """At most `at_once` POSTs run beside each other, `per_account` of them for one account.

    So receivers that don't answer hold the others up for ten seconds at most. The lease outlasts an attempt
    with its two commits.
    """

    at_once: int = 32
    per_account: int = 4
    lease_seconds: float = 60.0
    poll_seconds: float = 2.0


def retry_seconds(tries: int, chance: float) -> float | None:
    """Return the wait after so many failed tries (`chance` from 0 to 1 is the jitter); `None`: give up."""
    if tries > len(RETRY_SECONDS):
        return None
    return RETRY_SECONDS[max(tries, 1) - 1] * (1 - JITTER + 2 * JITTER * chance)


def event_body(due: DueDelivery) -> bytes:
    """Return the bytes that are signed and sent: the same at every attempt."""
    created_at = datetime.fromtimestamp(int(due.created_at), UTC).isoformat().replace("+00:00", "Z")
    return canonical(
        {
            "event_id": due.event_id,
            "event_type": due.event_type,
            "job_id": due.job_id,
            "status": due.status,
            "created_at": created_at,
        }
    )


def event_headers(
    payload: bytes, *, event_id: str, origin: str, timestamp: int, secrets: tuple[str, ...]
) -> dict[str, str]:
    """Return the headers of an event: Standard Webhooks, and on jobs of the second dialect its own too.

    That one has room for one signature: it is made with the current secret, `secrets[0]`.
    """
    sent = {"Content-Type": "application/json"}
    sent |= standard_headers(payload, event_id=event_id, timestamp=timestamp, secrets=secrets)
    if origin == ALEFBOT_ORIGIN:
        sent |= headers(payload, timestamp=timestamp, secret=secrets[0])
    return sent


class WebhookDeliverer:
    """Works the outbox off while `run` runs. Several may, in one process or many: rows are leased."""

    def __init__(
        self,
        store: DeliveryStore,
        secrets: SecretStore,
        client: EgressClient,
        clock: Clock,
        *,
        options: DeliveryOptions | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._secrets = secrets
        self._client = client
        self._clock = clock
        self._options = options or DeliveryOptions()
        self._chance = chance

    async def run(self) -> None:
        """Work until cancelled. An unreachable database is waited for, and said in the log."""
        while True:
            try:
                busy = await self.step() > 0
            except StorageUnavailable as error:
                _log.warning("webhooks wait for the database", reason=error.message)
                busy = False
            if not busy:
                await self._clock.sleep(self._options.poll_seconds)

    async def step(self) -> int:
        """Try one batch of due deliveries once each; return how many. Raises `StorageUnavailable`."""
        options = self._options
        claimed = await self._store.claim(
            now=self._clock.time(),
            lease_seconds=options.lease_seconds,
            limit=options.at_once,
            per_account=options.per_account,
        )
        async with asyncio.TaskGroup() as tasks:
            for due in claimed:
                tasks.create_task(self._deliver(due), name=f"webhook {due.event_id}")
        return len(claimed)

    async def _deliver(self, due: DueDelivery) -> None:
        try:
            await self._attempt(due)
        except StorageUnavailable as error:
            # What became of it is not known here, so the lease runs out and it is sent again.
            _log.warning("a webhook's outcome waits for the database", id=due.event_id, reason=error.message)

    async def _attempt(self, due: DueDelivery) -> None:
        now = self._clock.time()
        signing = await self._secrets.signing_secrets(due.account_id, now=now)
        payload = event_body(due)
        status: int | None = None
        try:
            status = await self._post(
                due.url,
                payload,
                event_headers(
                    payload,
                    event_id=due.event_id,
                    origin=due.origin,
                    timestamp=int(now),
                    secrets=signing.all,
                ),
            )
        except EgressError as exc:
            problem = exc.message
        else:
            problem = _problem(status)
        now = self._clock.time()
        if status is not None and 200 <= status < 300:
            await self._store.note_delivered(due, now=now, status_code=status)
        elif status == 410:
            _log.info("a webhook target is disabled", account_id=due.account_id, delivery_id=due.id)
            await self._store.disable_target(due, now=now, status_code=status, error=problem)
        else:
            wait = retry_seconds(due.tries, self._chance())
            if wait is None:
                _log.warning("a webhook is given up", account_id=due.account_id, delivery_id=due.id)
            await self._store.note_failed(
                due,
                now=now,
                retry_at=None if wait is None else now + wait,
                status_code=status,
                error=problem,
            )

    async def _post(self, url: str, payload: bytes, sent: dict[str, str]) -> int:
        """Return the status of the answer; its body is read no further than is polite, and dropped."""
        response = await self._client.open(
            url,
            method="POST",
            content=payload,
            headers=sent,
            browser_retry=False,
            follow_redirects=False,
            limits=LIMITS,
        )
        async with response:
            with suppress(EgressError):
                await response.read(ANSWER_BYTES)
            return response.status


def _problem(status: int) -> str:
    if status == 410:
        return "The receiver answered 410: nothing is sent to this URL any more. A replay enables it again."
    if 300 <= status < 400:
        return f"The receiver answered with a redirect ({status}), which is not followed. Give the final URL."
    return f"The receiver answered with status {status}. It must answer 2xx within 10 s."


_log = structlog.get_logger(__name__)
