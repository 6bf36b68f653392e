"""Discovery, open: the ladder, the guarded client that it uses, and the children that it starts."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stenobird.discovery.extractor.rung import Extractor
from stenobird.discovery.feeds.directory import PodcastDirectory
from stenobird.discovery.ladder import DiscoveryLadder
from stenobird.discovery.parsing.parser import DocumentParser
from stenobird.discovery.platforms import index_headers, platform_rules
from stenobird.discovery.urls import normalised
from stenobird.egress.client import EgressClient
from stenobird.egress.proxy import EgressProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stenobird.config import Settings
    from stenobird.egress.policy import EgressPolicy, Resolver
    from stenobird.ports import Clock


def checked_url(policy: EgressPolicy, url: str) -> str:
    """Return a submitted URL as it will be fetched, without `feed:` and the like. Raises `InvalidURL`."""
    return str(policy.check_url(normalised(url)))


@asynccontextmanager
async def open_finder(
    settings: Settings, policy: EgressPolicy, clock: Clock, *, resolver: Resolver | None = None
) -> AsyncIterator[DiscoveryLadder]:
    """Open the guarded client, the ladder, and the children that it starts; all have ended afterwards."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            EgressClient(policy, resolver=resolver, proxy=settings.egress_proxy)
        )
        parser = await stack.enter_async_context(DocumentParser())
        proxy = await stack.enter_async_context(EgressProxy(client))
        authorities = os.environ.get("SSL_CERT_FILE")
        directory = PodcastDirectory(clock)
        index = None
        if settings.podcast_index_key is not None and settings.podcast_index_secret is not None:
            secret = settings.podcast_index_secret.get_secret_value()
            index = index_headers(settings.podcast_index_key.get_secret_value(), secret, clock)
        yield DiscoveryLadder(
            client.open,
            parser,
            platforms=platform_rules(directory, index=index),
            directory=directory,
            extractor=Extractor(proxy, authorities=Path(authorities) if authorities else None),
        )
