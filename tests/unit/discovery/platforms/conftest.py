"""A search against documents that a test writes itself, and helpers to write them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import pytest

from stenobird.discovery.feeds.directory import PodcastDirectory
from stenobird.discovery.page.reader import read_page
from stenobird.discovery.parsing.facts import Document, EpisodeFacts, FoundSource
from stenobird.discovery.platforms import platform_rules
from stenobird.errors import ConnectFailed
from stenobird.sources import NO_HEADERS
from stenobird.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from stenobird.discovery.parsing.facts import PageFacts


@dataclass
class FakeSearch:
    """One search. Addresses that are not among `documents` can't be reached; `asked` counts every request."""

    documents: Mapping[str, object]
    wanted: EpisodeFacts = field(default_factory=EpisodeFacts)
    asked: list[str] = field(default_factory=list)
    sent: list[tuple[str, Mapping[str, str], bytes | None]] = field(default_factory=list)
    _kept: dict[str, Document] = field(default_factory=dict)

    async def page(self, url: str) -> PageFacts | None:
        if not (source := await self.source(url)):
            return None
        return read_page(source.encode(), url=url, content_type="text/html; charset=utf-8")

    async def source(self, url: str) -> str:
        document = await self.fetch(url)
        is_page = document.headers["content-type"].startswith("text/html")
        return document.body.decode() if is_page else ""

    async def fetch(
        self,
        url: str,
        *,
        method: Literal["GET", "POST"] = "GET",
        headers: Mapping[str, str] = NO_HEADERS,
        content: bytes | None = None,
        max_bytes: int = 4 * 1024 * 1024,
    ) -> Document:
        if url in self._kept:
            return self._kept[url]
        self.asked.append(url)
        self.sent.append((method, headers, content))
        answer = self.documents.get(url)
        if answer is None:
            raise ConnectFailed
        status = 200
        if isinstance(answer, int):
            status, answer = answer, ""
        kind = "text/html; charset=utf-8" if isinstance(answer, str) else "application/json"
        body = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        assert len(body) <= max_bytes
        self._kept[url] = Document(url, url, status, {"content-type": kind}, body)
        return self._kept[url]


@dataclass
class Asked:
    """What a rule answered: the search itself, and the addresses in order."""

    search: FakeSearch
    found: FoundSource

    @property
    def media(self) -> list[str]:
        return [lead.url for lead in self.found.media]

    @property
    def feeds(self) -> list[tuple[str, bool]]:
        return [(lead.url, lead.newest) for lead in self.found.feeds]

    @property
    def wanted(self) -> EpisodeFacts:
        return self.found.wanted

    @property
    def is_nothing(self) -> bool:
        learnt = replace(self.wanted, page_urls=())
        return replace(self.found, wanted=learnt) == FoundSource()


@dataclass
class World:
    """The rules, with a directory whose clock stands still."""

    index: Callable[[], dict[str, str]] | None = None
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.directory = PodcastDirectory(self.clock)
        self.rules = platform_rules(self.directory, index=self.index)

    async def ask(self, url: str, documents: Mapping[str, object] | None = None) -> Asked:
        """Ask the first rule that knows the URL, as the ladder does; raise what stood in its way."""
        rule = next((rule for rule in self.rules if rule.matches(url)), None)
        assert rule is not None, f"no rule knows {url}"
        search = FakeSearch(documents or {})
        found = await rule.try_(search, url)
        if found.failure is not None:
            raise found.failure
        return Asked(search, found)


@pytest.fixture
def world() -> World:
    """The rules of an operator without a Podcast Index key."""
    return World()


@pytest.fixture
def keyed_world() -> Callable[[Callable[[], dict[str, str]]], World]:
    """The rules of an operator with a Podcast Index key."""
    return lambda headers: World(index=headers)


@pytest.fixture
def search() -> type[FakeSearch]:
    """A search for a test of its own."""
    return FakeSearch


def _page(*head: str, body: str = "", title: str = "The episode") -> str:
    return (
        f"<!doctype html><html><head><title>{title}</title>{''.join(head)}</head><body>{body}</body></html>"
    )


@pytest.fixture
def page() -> Callable[..., str]:
    """Write a page: `page(head…, body=…, title=…)`."""
    return _page


@pytest.fixture
def script() -> Callable[[str, object], str]:
    """Write a JSON script with an id, such as `__NEXT_DATA__`."""
    return lambda identity, data: (
        f'<script id="{identity}" type="application/json">{json.dumps(data)}</script>'
    )


@pytest.fixture
def itunes() -> Callable[..., dict[str, object]]:
    """Write an answer of the podcast directory: a show (`name`, `feed`) with episodes (rows to override)."""

    def answer(
        *episodes: dict[str, object], name: str = "The Show", feed: str | None = "https://feeds.example/show"
    ) -> dict[str, object]:
        show: dict[str, object] = {
            "wrapperType": "track",
            "kind": "podcast",
            "collectionId": 1234567890,
            "collectionName": name,
            "artistName": "Someone",
        }
        if feed:
            show["feedUrl"] = feed
        rows = [
            {
                "wrapperType": "podcastEpisode",
                "kind": "podcast-episode",
                "collectionName": name,
                "trackId": 1000500000001,
                "trackName": "The episode",
                "episodeUrl": "https://cdn.example/one.mp3",
                "episodeGuid": "guid-1",
                "releaseDate": "2026-03-01T05:00:00Z",
                "trackTimeMillis": 1_800_000,
                **episode,
            }
            for episode in episodes
        ]
        return {"resultCount": 1 + len(rows), "results": [show, *rows]}

    return answer
