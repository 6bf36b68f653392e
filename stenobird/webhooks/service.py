"""An account's webhooks: the log, replays, signing secrets, test events, and which URLs may be called."""

from __future__ import annotations

import asyncio
import ipaddress
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import TYPE_CHECKING, Final

from stenobird.bodies import read_cursor, write_cursor
from stenobird.egress.client import EgressClient
from stenobird.egress.policy import EgressPolicy, PublicURL, Resolver
from stenobird.egress.transport import DirectDialer
from stenobird.errors import (
    ConnectFailed,
    DeliveryNotFound,
    DestinationForbidden,
    EgressError,
    InvalidURL,
    InvalidWebhookURL,
    WebhookTargetForbidden,
)
from stenobird.webhooks.delivery import ALEFBOT_ORIGIN, WebhookDeliverer, post_event, problem_with
from stenobird.webhooks.schemas import WebhookEvent

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Sequence

    from stenobird.config import Settings
    from stenobird.ports import Caller, Clock, KeyMode
    from stenobird.ports.webhooks import Delivery, DeliveryState, SigningSecrets
    from stenobird.storage.delivery_store import DeliveryStore

RESOLVE_SECONDS: Final = 5.0
_EVERYWHERE: Final = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "0.0.0.0/0", "::/0")))
"""Loopback is listed separately, because only that lets the name localhost through."""
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
        clock: Clock,
        client: EgressClient,
        targets: WebhookTargets,
    ) -> None:
        self._deliveries = deliveries
        self._clock = clock
        self._client = client
        self.targets = targets

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
    ) -> tuple[Sequence[Delivery], str | None]:
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

    async def replay(self, caller: Caller, delivery_id: str) -> Delivery:
        """Send a delivery again with all its attempts. Raises `ReadOnlyKey`, `DeliveryNotFound`."""
        caller.require_write()
        record = await self._deliveries.replay(caller.account_id, delivery_id, mode=caller.only_mode)
        if record is None:
            raise DeliveryNotFound
        return record

    async def secrets(self, caller: Caller) -> SigningSecrets:
        """Return the secrets, creating one if there is none. Raises `ReadOnlyKey`."""
        caller.require_write()
        return await self._deliveries.signing_secrets(
            caller.account_id, mode=caller.mode, now=self._clock.time()
        )

    async def rotate(self, caller: Caller) -> SigningSecrets:
        """Create a new secret; the old one still signs for a day. Raises `ReadOnlyKey`.

        Rotating again within that day removes the oldest secret at once, which removes a stolen one.
        """
        caller.require_write()
        return await self._deliveries.rotate_secret(
            caller.account_id, mode=caller.mode, now=self._clock.time(), overlap_seconds=OVERLAP_SECONDS
        )

    async def send_test(
        self, account_id: str, url: str, event_type: str, *, mode: KeyMode = "live"
    ) -> tuple[str, int | None, str | None]:
        """Send a dummy event once, with the signatures of both dialects and the secret of this mode.

        Returns the event's id, the receiver's status, and why the event was not delivered, if so. Raises
        `InvalidWebhookURL` and `WebhookTargetForbidden`.
        """
        target = await self.targets.check(url)
        event_id = f"evt_{token_hex(12)}"
        now = self._clock.time()
        signing = await self._deliveries.signing_secrets(account_id, mode=mode, now=now)
        event = WebhookEvent(
            event_id=event_id, event_type=event_type, job_id=None, status="test", created_at=now
        )
        try:
            status, _ = await post_event(
                self._client, target, event, origin=ALEFBOT_ORIGIN, now=now, secrets=signing
            )
        except DestinationForbidden as exc:
            raise WebhookTargetForbidden from exc
        except EgressError as exc:
            return event_id, None, exc.message
        return event_id, status, problem_with(status)


class WebhookTargets:
    """The rules for webhook URLs over an `EgressPolicy`.

    Without a dialer that resolves names (an upstream proxy does it) every name passes.
    """

    def __init__(self, policy: EgressPolicy, dialer: DirectDialer | None) -> None:
        self._policy = policy
        self._syntax = EgressPolicy(_EVERYWHERE, policy.ports)
        self._dialer = dialer

    def check_url(self, url: str) -> str:
        """Check the URL without the network and return its normal form.

        Raises `InvalidWebhookURL` if it is not https or malformed, and `WebhookTargetForbidden` if it names
        an address or host that is not public.
        """
        return str(self._read(url))

    async def check(self, url: str) -> str:
        """Check the URL, including its addresses, within five seconds, and return its normal form.

        Raises what `check_url` raises, `InvalidWebhookURL` for a name that does not resolve, and
        `WebhookTargetForbidden` if any of its addresses is not public.
        """
        checked = self._read(url)
        if self._dialer is not None and checked.address is None:
            try:
                async with asyncio.timeout(RESOLVE_SECONDS):
                    await self._dialer.addresses(checked.host, checked.port)
            except (ConnectFailed, TimeoutError) as exc:
                name = checked.host[:80]
                raise InvalidWebhookURL(
                    f'The host name "{name}" of the webhook URL does not resolve. Check it for typos.'
                ) from exc
            except DestinationForbidden as exc:
                raise WebhookTargetForbidden from exc
        return str(checked)

    def _read(self, url: str) -> PublicURL:
        if not url.lower().startswith("https://"):
            raise InvalidWebhookURL("The webhook URL must start with https://.")
        try:
            self._syntax.check_url(url)
        except InvalidURL as exc:
            raise InvalidWebhookURL(f"The webhook URL can't be used. {exc.message}") from exc
        try:
            return self._policy.check_url(url)
        except InvalidURL as exc:
            raise WebhookTargetForbidden from exc


@asynccontextmanager
async def open_webhooks(
    settings: Settings,
    policy: EgressPolicy,
    deliveries: DeliveryStore,
    clock: Clock,
    *,
    resolver: Resolver | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[tuple[WebhookService, WebhookDeliverer]]:
    """Open webhooks as the settings say; `resolver` and `tls` replace those of the system."""
    async with EgressClient(
        policy, resolver=resolver, proxy=settings.egress_proxy, ssl_context=tls
    ) as client:
        targets = WebhookTargets(policy, client.dialer if isinstance(client.dialer, DirectDialer) else None)
        service = WebhookService(deliveries, clock, client, targets)
        yield service, WebhookDeliverer(deliveries, client, clock)
