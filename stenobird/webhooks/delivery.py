"""Delivers the outbox's webhook events at least once, under a stable event id.

An attempt is committed before its POST, and its outcome after the answer. If the process dies in between, the
event is sent again with the same `event_id` when its lease ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import structlog
from standardwebhooks.webhooks import Webhook

from stenobird.egress.client import EgressClient, FetchLimits, RequestOptions, retry_after_seconds
from stenobird.errors import EgressError, StorageUnavailable
from stenobird.webhooks.schemas import WebhookEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from stenobird.ports import Clock
    from stenobird.ports.webhooks import Delivery, SigningSecrets
    from stenobird.storage.delivery_store import DeliveryStore

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
        client: EgressClient,
        clock: Clock,
        *,
        chance: Callable[[], float] = random.random,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        self._store = store
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

    async def _deliver(self, due: Delivery, until: float) -> None:
        try:
            try:
                await self._attempt(due, until)
            except StorageUnavailable:
                raise
            except Exception as exc:  # noqa: BLE001  # one receiver must not end all deliveries
                _log.error(
                    "webhook_failed_unexpectedly", event_id=due.event_id, job_id=due.job_id, exc_info=exc
                )
                await self._note_failed(due, UNEXPECTED_ERROR)
        except StorageUnavailable as error:
            # The outcome could not be stored, so the event is sent again when the lease ends.
            _log.warning(
                "webhook_outcome_not_stored", event_id=due.event_id, job_id=due.job_id, reason=error.message
            )
        finally:
            del self._sending[due.id]
            self._freed.set()

    async def _attempt(self, due: Delivery, until: float) -> None:
        signing = await self._store.signing_secrets(due.account_id, mode=due.mode, now=self._clock.time())
        now = self._clock.time()
        if self._clock.monotonic() > until:
            # The database was so slow that the lease may end, and another worker start, during the POST.
            _log.warning("webhook_lease_too_short", event_id=due.event_id, job_id=due.job_id)
            return
        event = WebhookEvent.model_validate(due)
        try:
            status, headers = await post_event(
                self._client, due.url, event, origin=due.origin, now=now, secrets=signing
            )
        except EgressError as exc:
            await self._note_failed(due, exc.message)
            return
        problem = problem_with(status)
        if problem is None:
            await self._store.note_delivered(due, status_code=status)
        else:
            asked = retry_after_seconds(headers, now=self._clock.time())
            await self._note_failed(due, problem, status, asked_seconds=asked)

    async def _note_failed(
        self, due: Delivery, problem: str, status: int | None = None, *, asked_seconds: float | None = None
    ) -> None:
        if status == 410:
            _log.info(
                "webhook_target_disabled", account_id=due.account_id, delivery_id=due.id, job_id=due.job_id
            )
            await self._store.disable_target(due, status_code=status, error=DISABLED)
            return
        wait = retry_seconds(due.tries, self._chance(), asked_seconds=asked_seconds)
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


TIMESTAMP_HEADER: Final = "X-AlefBot-Timestamp"
SIGNATURE_HEADER: Final = "X-AlefBot-Signature"
ALEFBOT_ORIGIN: Final = "alefbot"
"""Origin of jobs whose events also carry the AlefBot dialect's signature."""
ANSWER_BYTES: Final = 1024
POST_SECONDS: Final = 10.0
"""How long a receiver may take, including the DNS lookup."""
LIMITS: Final = FetchLimits(
    connect_seconds=5.0, headers_seconds=POST_SECONDS, idle_seconds=POST_SECONDS, total_seconds=POST_SECONDS
)


def canonical(body: Mapping[str, str | int | bool | None]) -> bytes:
    """Return the bytes that are signed and sent: sorted, compact, ASCII.

    Values are printable ASCII, integers, booleans or null, and no name looks like an integer, so that the
    published Python and JavaScript verifiers, which sort and print the JSON again, get the same bytes.
    """
    for name, value in body.items():
        texts = (name, value) if isinstance(value, str) else (name,)
        if name.isdigit() or not all(text.isascii() and text.isprintable() for text in texts):
            raise ValueError(f"can't be signed in canonical form: {name}")
    return json.dumps(body, separators=(",", ":"), sort_keys=True).encode("ascii")


def sign(payload: bytes, *, timestamp: int, secret: str) -> str:
    """Return the signature: 64 lower-case hex digits."""
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + payload, hashlib.sha256).hexdigest()


def event_headers(
    payload: bytes, *, event_id: str, origin: str, timestamp: int, secrets: SigningSecrets
) -> dict[str, str]:
    """Return the headers of an event: Standard Webhooks (standardwebhooks.com), and AlefBot's for its jobs.

    Standard Webhooks has one signature per secret; a receiver needs to know one of them. AlefBot's header
    holds one signature, made with the current secret.
    """
    moment = datetime.fromtimestamp(timestamp, UTC)
    signatures = [Webhook(secret).sign(event_id, moment, payload.decode()) for secret in secrets.all]
    sent = {
        "Content-Type": "application/json",
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
    if origin == ALEFBOT_ORIGIN:
        sent[TIMESTAMP_HEADER] = str(timestamp)
        sent[SIGNATURE_HEADER] = sign(payload, timestamp=timestamp, secret=secrets.current)
    return sent


def problem_with(status: int) -> str | None:
    """Return why a receiver's answer is a failure, worded for the account; `None` for 2xx."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"The receiver answered with a redirect ({status}), which is not followed. Give the final URL."
    return f"The receiver answered with status {status}. It must answer 2xx within {POST_SECONDS:g} s."


async def post_event(
    client: EgressClient, url: str, event: WebhookEvent, *, origin: str, now: float, secrets: SigningSecrets
) -> tuple[int, Mapping[str, str]]:
    """Sign and send the event; return status and headers of the answer, of whose body 1 KiB is read at most.

    Redirects are not followed, because their targets were not checked. Raises `EgressError`.
    """
    payload = canonical(event.model_dump(mode="json"))
    headers = event_headers(
        payload, event_id=event.event_id, origin=origin, timestamp=int(now), secrets=secrets
    )
    response = await client.open(
        url,
        RequestOptions(
            method="POST",
            content=payload,
            headers=headers,
            browser_retry=False,
            follow_redirects=False,
            limits=LIMITS,
        ),
    )
    async with response:
        with suppress(EgressError):
            await response.read(ANSWER_BYTES)
        return response.status, response.headers
