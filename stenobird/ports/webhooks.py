"""Where the events of finished jobs may be sent."""

from __future__ import annotations

from typing import Protocol


class WebhookTargets(Protocol):
    """Says which URLs a finished job may be told to."""

    def check_url(self, url: str) -> str:
        """Return the URL as it will be called, judged without the network.

        Raises `InvalidWebhookURL`, `WebhookTargetForbidden`.
        """

    async def check(self, url: str) -> str:
        """Return the URL as it will be called, its name looked up within five seconds. Raises alike."""
