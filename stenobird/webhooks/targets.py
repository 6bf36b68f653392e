"""Whether a webhook URL may be called, decided at the POST that names it and again at every delivery."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING, Final

from stenobird.egress.policy import EgressPolicy
from stenobird.errors import (
    DestinationForbidden,
    InvalidURL,
    InvalidWebhookURL,
    WebhookTargetForbidden,
)

if TYPE_CHECKING:
    from stenobird.egress.policy import PublicURL
    from stenobird.egress.resolver import Resolver

RESOLVE_SECONDS: Final = 5.0
_EVERYWHERE: Final = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "0.0.0.0/0", "::/0")))
"""Loopback apart, because only its mention lets localhost through."""


class WebhookTargets:
    """The rules for webhook URLs over an `EgressPolicy`. Without a resolver (a proxy has it) names pass."""

    def __init__(self, policy: EgressPolicy, resolver: Resolver | None) -> None:
        self._policy = policy
        self._syntax = EgressPolicy(_EVERYWHERE, policy.ports)
        self._resolver = resolver

    async def check(self, url: str) -> PublicURL:
        """Return the URL as it will be called.

        Raises `InvalidWebhookURL` for one that is not https, malformed, or whose name does not resolve, and
        `WebhookTargetForbidden` where the name or any of its addresses is not public.
        """
        if not url.lower().startswith("https://"):
            raise InvalidWebhookURL("The webhook URL must start with https://.")
        try:
            self._syntax.check_url(url)
        except InvalidURL as exc:
            raise InvalidWebhookURL(f"The webhook URL can't be used. {exc.message}") from exc
        try:
            checked = self._policy.check_url(url)
        except InvalidURL as exc:
            raise WebhookTargetForbidden from exc
        if self._resolver is not None and checked.address is None:
            await self._check_addresses(checked, self._resolver)
        return checked

    async def _check_addresses(self, url: PublicURL, resolver: Resolver) -> None:
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                addresses = await resolver.resolve(url.host, url.port)
        except (OSError, TimeoutError) as exc:
            raise InvalidWebhookURL(
                f'The host name "{url.host[:80]}" of the webhook URL does not resolve. Check it for typos.'
            ) from exc
        if not addresses:
            raise InvalidWebhookURL
        try:
            for address in addresses:
                self._policy.check_address(address, host=url.host)
        except DestinationForbidden as exc:
            raise WebhookTargetForbidden from exc
