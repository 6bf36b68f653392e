"""An account's webhooks: the delivery log, replays, signing secrets and test events."""

from __future__ import annotations

from secrets import token_hex
from typing import TYPE_CHECKING, Final

from stenobird.bodies import read_cursor, write_cursor
from stenobird.errors import DeliveryNotFound, DestinationForbidden, EgressError, WebhookTargetForbidden
from stenobird.webhooks.schemas import WebhookEvent
from stenobird.webhooks.sender import ALEFBOT_ORIGIN, TestDelivery, post_event

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.egress.client import EgressClient
    from stenobird.ports import Caller, Clock, KeyMode
    from stenobird.ports.webhooks import DeliveryRecord, DeliveryState, SigningSecrets
    from stenobird.storage.delivery_store import DeliveryStore, SecretStore
    from stenobird.webhooks.targets import WebhookTargets

OVERLAP_SECONDS: Final = 24 * 3600.0
"""How long a rotated secret still signs next to the new one."""


class WebhookService:
    """Webhooks for the keys of an account. A read-only key reads the log, but cannot replay or see secrets.

    Jobs of test keys have their own signing secret and deliveries, and a test key sees only those. Test keys
    are kept in more places, so they must not read or break anything live.
    """

    def __init__(
        self,
        deliveries: DeliveryStore,
        secrets: SecretStore,
        clock: Clock,
        client: EgressClient,
        targets: WebhookTargets,
    ) -> None:
        self._deliveries = deliveries
        self._secrets = secrets
        self._clock = clock
        self._client = client
        self._targets = targets

    async def purge(self, *, settled_before: float) -> int:
        """Remove deliveries that ended before this time; return how many."""
        return await self._deliveries.purge(settled_before=settled_before)

    async def deliveries(
        self,
        caller: Caller,
        *,
        cursor: str | None,
        limit: int,
        state: DeliveryState | None = None,
        job_id: str | None = None,
    ) -> tuple[Sequence[DeliveryRecord], str | None]:
        """Return a page, newest first, and the cursor of the next. Raises `InvalidRequest`."""
        before = read_cursor(cursor) if cursor is not None else None
        rows = await self._deliveries.own_deliveries(
            caller.account_id,
            mode=caller.only_mode,
            state=state,
            job_id=job_id,
            before=before,
            limit=limit + 1,
        )
        page = rows[:limit]
        return page, write_cursor(page[-1].created_at, page[-1].id) if len(rows) > limit else None

    async def replay(self, caller: Caller, delivery_id: str) -> DeliveryRecord:
        """Send a delivery again with all its attempts. Raises `ReadOnlyKey`, `DeliveryNotFound`."""
        caller.require_write()
        record = await self._deliveries.replay(caller.account_id, delivery_id, mode=caller.only_mode)
        if record is None:
            raise DeliveryNotFound
        return record

    async def secrets(self, caller: Caller) -> SigningSecrets:
        """Return the secrets, creating one if there is none. Raises `ReadOnlyKey`."""
        caller.require_write()
        return await self._secrets.signing_secrets(
            caller.account_id, mode=caller.mode, now=self._clock.time()
        )

    async def rotate(self, caller: Caller) -> SigningSecrets:
        """Create a new secret; the old one still signs for a day. Raises `ReadOnlyKey`.

        Rotating again within that day removes the oldest secret at once, which removes a stolen one.
        """
        caller.require_write()
        return await self._secrets.rotate_secret(
            caller.account_id, mode=caller.mode, now=self._clock.time(), overlap_seconds=OVERLAP_SECONDS
        )

    async def send_test(
        self, account_id: str, url: str, event_type: str, *, mode: KeyMode = "live"
    ) -> TestDelivery:
        """Send a dummy event once, with the signatures of both dialects and the secret of this mode.

        Raises `InvalidWebhookURL` and `WebhookTargetForbidden`; the receiver's failures are part of the
        result.
        """
        target = await self._targets.check(url)
        event_id = f"evt_{token_hex(12)}"
        now = self._clock.time()
        signing = await self._secrets.signing_secrets(account_id, mode=mode, now=now)
        event = WebhookEvent(
            event_id=event_id, event_type=event_type, job_id=None, status="test", created_at=now
        )
        try:
            answer = await post_event(
                self._client, target, event, origin=ALEFBOT_ORIGIN, now=now, secrets=signing
            )
        except DestinationForbidden as exc:
            raise WebhookTargetForbidden from exc
        except EgressError as exc:
            return TestDelivery(event_id, None, exc.message)
        return TestDelivery(event_id, answer.status, answer.problem)
