"""Discovery, open: the ladder, the guarded client that it uses, and the children that it starts."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stenobird.discovery.extractor.rung import Extractor, ExtractorRung
from stenobird.discovery.feeds.directory import DirectoryRung, PodcastDirectory
from stenobird.discovery.ladder import DiscoveryLadder
from stenobird.discovery.parsing.parser import DocumentParser
from stenobird.discovery.platforms import PodcastIndexKey, platform_rules
from stenobird.discovery.urls import normalised
from stenobird.egress.client import EgressClient
from stenobird.egress.policy import EgressPolicy
from stenobird.egress.proxy import EgressProxy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stenobird.config import Settings
    from stenobird.egress.addresses import Resolver
    from stenobird.ports import Clock, FoundAudio, VerdictSink


@dataclass(frozen=True, slots=True)
class Finder:
    """The discovery ladder and the client that it uses; `ports.AudioFinder`."""

    policy: EgressPolicy
    client: EgressClient
    ladder: DiscoveryLadder

    def check(self, url: str) -> str:
        """Return the URL as it will be fetched, without `feed:` and the like. Raises `InvalidURL`."""
        return str(self.policy.check_url(normalised(url)))

    async def find(self, url: str, *, preview: bool, report: VerdictSink) -> FoundAudio:
        """Find the audio, see `ports.AudioFinder`."""
        return await self.ladder.find(url, preview=preview, report=report)


@asynccontextmanager
async def open_finder(
    settings: Settings, clock: Clock, *, resolver: Resolver | None = None
) -> AsyncIterator[Finder]:
    """Open the guarded client, the ladder, and the children that it starts; all have ended afterwards."""
    policy = EgressPolicy(settings.egress_allow, settings.egress_ports)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(
            EgressClient(policy, resolver=resolver, proxy=settings.egress_proxy)
        )
        parser = await stack.enter_async_context(DocumentParser())
        proxy = await stack.enter_async_context(EgressProxy(client))
        authorities = os.environ.get("SSL_CERT_FILE")
        directory = PodcastDirectory(clock)
        ladder = DiscoveryLadder(
            client,
            parser,
            platforms=platform_rules(directory, index_key=_podcast_index_key(settings, clock)),
            directory=DirectoryRung(directory),
            extractor=ExtractorRung(Extractor(proxy, authorities=Path(authorities) if authorities else None)),
        )
        yield Finder(policy, client, ladder)


def _podcast_index_key(settings: Settings, clock: Clock) -> PodcastIndexKey | None:
    if settings.podcast_index_key is None or settings.podcast_index_secret is None:
        return None
    return PodcastIndexKey(
        settings.podcast_index_key.get_secret_value(),
        settings.podcast_index_secret.get_secret_value(),
        clock,
    )
