"""Decides whether a webhook URL may be called, at the POST that names it and again at every delivery."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import TYPE_CHECKING, Final

from stenobird.egress.policy import EgressPolicy
from stenobird.errors import (
    ConnectFailed,
    DestinationForbidden,
    InvalidURL,
    InvalidWebhookURL,
    WebhookTargetForbidden,
)

if TYPE_CHECKING:
    from stenobird.egress.policy import PublicURL
    from stenobird.egress.transport import DirectDialer

RESOLVE_SECONDS: Final = 5.0
_EVERYWHERE: Final = tuple(map(ipaddress.ip_network, ("127.0.0.0/8", "0.0.0.0/0", "::/0")))
"""Loopback is listed separately, because only that lets the name localhost through."""


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
