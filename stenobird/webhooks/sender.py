"""Sends one signed test event at once, so that an account can test its receiver."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stenobird.errors import DestinationForbidden, EgressError, WebhookTargetForbidden
from stenobird.webhooks.post import post_event
from stenobird.webhooks.schemas import WebhookEvent
from stenobird.webhooks.signature import ALEFBOT_ORIGIN, event_body, event_headers

if TYPE_CHECKING:
    from stenobird.egress.client import EgressClient
    from stenobird.ports import Clock, KeyMode, WebhookTargets
    from stenobird.ports.webhooks import SecretStore


@dataclass(frozen=True, slots=True)
class TestDelivery:
    """The outcome of a test event; `error` is the reason why it was not delivered."""

    __test__ = False  # keeps pytest from collecting it

    event_id: str
    status_code: int | None
    error: str | None

    @property
    def delivered(self) -> bool:
        """Whether the receiver answered 2xx."""
        return self.error is None


class WebhookSender:
    """Sends test events through egress. A redirect is a failure, because its target was not checked."""

    def __init__(
        self, client: EgressClient, targets: WebhookTargets, secrets_: SecretStore, clock: Clock
    ) -> None:
        self._client = client
        self._targets = targets
        self._secrets = secrets_
        self._clock = clock

    async def send_test(
        self, account_id: str, url: str, event_type: str, *, mode: KeyMode = "live"
    ) -> TestDelivery:
        """Send a dummy event once, with the signatures of both dialects and the secret of this mode.

        Raises `InvalidWebhookURL` and `WebhookTargetForbidden`; the receiver's failures are part of the
        result.
        """
        target = await self._targets.check(url)
        event_id = f"evt_{secrets.token_hex(12)}"
        now = self._clock.time()
        signing = await self._secrets.signing_secrets(account_id, mode=mode, now=now)
        payload = event_body(
            WebhookEvent(event_id=event_id, event_type=event_type, job_id=None, status="test", created_at=now)
        )
        sent = event_headers(
            payload, event_id=event_id, origin=ALEFBOT_ORIGIN, timestamp=int(now), secrets=signing
        )
        try:
            answer = await post_event(self._client, target, payload, sent)
        except DestinationForbidden as exc:
            raise WebhookTargetForbidden from exc
        except EgressError as exc:
            return TestDelivery(event_id, None, exc.message)
        return TestDelivery(event_id, answer.status, answer.problem)
