"""One signed message to one address, now: how an account tries its receiver."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from stenobird.egress.client import FetchLimits
from stenobird.errors import DestinationForbidden, EgressError, WebhookTargetForbidden
from stenobird.webhooks.signature import canonical, headers

if TYPE_CHECKING:
    from stenobird.egress.client import EgressClient
    from stenobird.ports import Clock
    from stenobird.webhooks.targets import WebhookTargets

ANSWER_BYTES: Final = 64 * 1024
LIMITS: Final = FetchLimits(connect_seconds=5.0, headers_seconds=10.0, idle_seconds=10.0, total_seconds=15.0)


class WebhookSecrets(Protocol):
    """The signing secrets of accounts."""

    async def secret_of(self, account_id: str) -> str:
        """Return the account's secret, made now if it has none."""


@dataclass(frozen=True, slots=True)
class TestDelivery:
    """What a receiver made of a test event; `error` says why it was not delivered."""

    __test__ = False  # a test collector would take it for a test

    event_id: str
    status_code: int | None
    error: str | None

    @property
    def delivered(self) -> bool:
        """Whether the receiver answered 2xx."""
        return self.error is None


class WebhookSender:
    """Sends through a guarded client. Redirects are failures: they lead away from what was checked."""

    def __init__(
        self, client: EgressClient, targets: WebhookTargets, secrets_: WebhookSecrets, clock: Clock
    ) -> None:
        self._client = client
        self._targets = targets
        self._secrets = secrets_
        self._clock = clock

    async def check_target(self, url: str) -> str:
        """Return the URL as it will be called. Raises `InvalidWebhookURL`, `WebhookTargetForbidden`."""
        return str(await self._targets.check(url))

    async def send_test(self, account_id: str, url: str, event_type: str) -> TestDelivery:
        """Send a signed dummy event once. Raises as `check_target`; the receiver's failures are told."""
        target = await self.check_target(url)
        event_id = f"evt_{secrets.token_hex(12)}"
        now = self._clock.time()
        payload = canonical(
            {
                "event_id": event_id,
                "event_type": event_type,
                "job_id": None,
                "status": "test",
                "created_at": datetime.fromtimestamp(int(now), UTC).isoformat().replace("+00:00", "Z"),
            }
        )
        secret = await self._secrets.secret_of(account_id)
        try:
            answer = await self._client.fetch(
                target,
                method="POST",
                content=payload,
                headers=headers(payload, timestamp=int(now), secret=secret),
                max_bytes=ANSWER_BYTES,
                decode=False,
                follow_redirects=False,
                limits=LIMITS,
            )
        except DestinationForbidden as exc:
            raise WebhookTargetForbidden from exc
        except EgressError as exc:
            return TestDelivery(event_id, None, exc.message)
        if 200 <= answer.status < 300:
            return TestDelivery(event_id, answer.status, None)
        return TestDelivery(event_id, answer.status, f"The receiver answered with status {answer.status}.")
