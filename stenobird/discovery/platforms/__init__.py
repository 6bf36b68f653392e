"""Rules for platforms with a known way to the audio; each platform is one small entry.

A rule returns addresses, which the ladder opens and sniffs, or a feed in which to look the episode up.
Layouts change: if a rule finds nothing, the generic rungs try the URL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stenobird.discovery.platforms.apps import APPS
from stenobird.discovery.platforms.directories import APPLE_PODCASTS, index_headers, podcast_index
from stenobird.discovery.platforms.hosting import HOSTING
from stenobird.discovery.platforms.music import MUSIC
from stenobird.discovery.platforms.platform import Platform, PlatformRung, Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from stenobird.discovery.feeds.directory import PodcastDirectory

PLATFORMS: tuple[Platform, ...] = (APPLE_PODCASTS, *MUSIC, *APPS, *HOSTING)
"""Every entry that needs no key, in the order in which they are tried."""

__all__ = ["PLATFORMS", "Platform", "PlatformRung", "Route", "index_headers", "platform_rules"]


def platform_rules(
    directory: PodcastDirectory, *, index: Callable[[], dict[str, str]] | None = None
) -> tuple[PlatformRung, ...]:
    """Return the platforms as rungs for the ladder; Podcast Index only with headers of `index_headers`."""
    keyed = (podcast_index(index),) if index else ()
    return tuple(PlatformRung(platform, directory) for platform in (*PLATFORMS, *keyed))
