"""Webhooks: events sent to URLs that clients chose, checked, signed and sent through egress."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from stenobird.egress.client import EgressClient
from stenobird.egress.transport import DirectDialer
from stenobird.webhooks.delivery import WebhookDeliverer
from stenobird.webhooks.service import WebhookService, WebhookTargets

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator

    from stenobird.config import Settings
    from stenobird.egress.policy import EgressPolicy, Resolver
    from stenobird.ports import Clock
    from stenobird.storage.delivery_store import DeliveryStore


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
