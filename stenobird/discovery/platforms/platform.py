"""The entry for a platform: its hosts, its kinds of pages, and the ways from each to the audio."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from stenobird.discovery import urls
from stenobird.discovery.parsing.facts import FoundSource
from stenobird.discovery.platforms.visit import Visit
from stenobird.discovery.platforms.ways import OFFLINE
from stenobird.errors import EgressError, JobError

if TYPE_CHECKING:
    from stenobird.discovery.feeds.directory import PodcastDirectory
    from stenobird.discovery.parsing.facts import SearchContext
    from stenobird.discovery.platforms.ways import Way
    from stenobird.sources import Stage


MAX_URL_CHARACTERS = 8_192
"""No platform matches a longer URL; it is no link but a payload."""


class Route:
    r"""One kind of page: the pattern of its path, and the ways to its audio, the most reliable first.

    `path` must match the whole path (a slash at the end is optional). Its named groups and the query's
    parameters are the values for the ways' templates. `needs` are values that the URL must have. `derive`
    extracts more of them from a parameter: `(("url", r"/tracks/(?P<track>\d+)"),)`. With `final`, the page
    itself is useless to the generic rung (an application shell, a clip).
    """

    def __init__(
        self,
        path: str,
        *ways: Way,
        needs: tuple[str, ...] = (),
        derive: tuple[tuple[str, str], ...] = (),
        final: bool = False,
    ) -> None:
        self.path, self.ways, self.final = path, ways, final
        self._needs, self._derive = needs, derive

    def values(self, url: str, host: dict[str, str]) -> dict[str, str] | None:
        """Return the values in the URL, `None` if it is not one of this route's pages.

        `host` has the values from the pattern of the host. Those in the path override them, and both override
        the query.
        """
        found = re.fullmatch(f"(?:{self.path})/?", urls.path_of(url) or "/")
        if found is None:
            return None
        named = {name: unquote(value) for name, value in found.groupdict().items() if value}
        query = dict(reversed([(name, value) for name, value in urls.query_of(url) if value]))
        values = query | host | named
        for name, pattern in self._derive:
            if inner := re.search(pattern, values.get(name, "")):
                values |= {key: value for key, value in inner.groupdict().items() if value}
        return values if all(values.get(name) for name in self._needs) else None


class Platform:
    """A platform's entry. The first route that matches a URL is used.

    `hosts` are host names without `www.`; in `{show}.podbean.com`, `{show}` matches one label and names it.
    `stage` is that of its verdicts.
    """

    def __init__(
        self, name: str, hosts: tuple[str, ...], *routes: Route, stage: Stage = "resolving_page"
    ) -> None:
        self.name, self.hosts, self.routes, self.stage = name, hosts, routes, stage
        self._host_patterns = [
            re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[a-z0-9_-]+)", re.escape(host))) for host in hosts
        ]

    def route(self, url: str) -> tuple[Route, dict[str, str]] | None:
        """Return the route of a URL and the values in it, `None` if the platform has none."""
        if len(url) > MAX_URL_CHARACTERS or not url.lower().startswith(("http://", "https://")):
            return None
        host = urls.host_of(url)
        for pattern in self._host_patterns:
            if (found := pattern.fullmatch(host)) is None:
                continue
            for route in self.routes:
                if (values := route.values(url, found.groupdict())) is not None:
                    return route, values
        return None


class PlatformRung:
    """A platform's entry as a rung of the ladder."""

    def __init__(self, platform: Platform, directory: PodcastDirectory) -> None:
        self._platform = platform
        self._directory = directory
        self.name = platform.name
        self.stage = platform.stage

    def matches(self, url: str) -> bool:
        """Return whether the platform has a route for the URL."""
        return self._platform.route(url) is not None

    async def try_(self, search: SearchContext, url: str) -> FoundSource:
        """Follow the route's ways until one has found media; ways without requests are followed in any case.

        Layouts and APIs change, so after a way that fails the next one is tried. If none finds anything, the
        result has the first failure, the facts learnt, and `final`.
        """
        routed = self._platform.route(url)
        if routed is None:
            return FoundSource()
        route, values = routed
        visit = Visit(search, url, self.name, values, self._directory)
        failure: EgressError | JobError | None = None
        for way in route.ways:
            if visit.media and not isinstance(way, OFFLINE):
                continue
            try:
                await way(visit)
            except (EgressError, JobError) as error:
                failure = failure or error
        return visit.found(final=route.final, failure=failure)
