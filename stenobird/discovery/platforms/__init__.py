"""Rules for platforms whose way to the audio is known; one small entry a platform.

A rule answers with addresses that the ladder opens and sniffs before it believes them, or with a feed to look
the episode up in. Layouts change: a rule that finds nothing leaves the URL to the generic rungs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stenobird.discovery.platforms.apps import APPS
from stenobird.discovery.platforms.directories import APPLE_PODCASTS, PodcastIndexKey, podcast_index
from stenobird.discovery.platforms.hosting import HOSTING
from stenobird.discovery.platforms.music import MUSIC
from stenobird.discovery.platforms.platform import Platform, PlatformRung, Route

if TYPE_CHECKING:
    from stenobird.discovery.feeds.directory import PodcastDirectory

PLATFORMS: tuple[Platform, ...] = (APPLE_PODCASTS, *MUSIC, *APPS, *HOSTING)
"""Every entry that needs no key, in the order in which they are asked."""

__all__ = ["PLATFORMS", "Platform", "PlatformRung", "PodcastIndexKey", "Route", "platform_rules"]


def platform_rules(
    directory: PodcastDirectory, *, index_key: PodcastIndexKey | None = None
) -> tuple[PlatformRung, ...]:
    """Return the platforms as rungs for the ladder; Podcast Index only for an operator who has its key."""
    keyed = (podcast_index(index_key),) if index_key else ()
    return tuple(PlatformRung(platform, directory) for platform in (*PLATFORMS, *keyed))
