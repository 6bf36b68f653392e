"""Fixtures for the tests of discovery: a parser, and a way to search a small web in memory."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from stenobird.discovery.ladder import DiscoveryLadder
from stenobird.discovery.parsing.child import answer
from stenobird.discovery.parsing.parser import DocumentParser
from tests.support.documents import DocumentWeb, Served, mp3_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from stenobird.ports import FoundAudio
    from stenobird.sources import Verdict

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class Searcher:
    """Runs searches in a small web, and keeps what was reported."""

    parser: DocumentParser
    rungs: dict[str, Any] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    web: DocumentWeb = field(default_factory=lambda: DocumentWeb({}))

    async def report(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)

    async def find(
        self, documents: Mapping[str, Served | str | bytes], url: str, *, preview: bool = False
    ) -> FoundAudio:
        """Search; a `str` is a page, `bytes` are media."""
        served = {address: _served(document) for address, document in documents.items()}
        return await self.find_in(served, url, preview=preview)

    async def find_in(
        self, documents: Mapping[str, Served], url: str, *, preview: bool = False
    ) -> FoundAudio:
        """Search in a mapping as it is."""
        self.verdicts.clear()
        self.web = DocumentWeb(documents)
        ladder = DiscoveryLadder(self.web.open, self.parser, **self.rungs, now=lambda: NOW)
        return await ladder.find(url, preview=preview, report=self.report)

    async def media_url_in(self, documents: Mapping[str, Served], url: str) -> str:
        """Search in a mapping as it is, close what was opened, and return the chosen address."""
        found = await self.find_in(documents, url)
        if found.opened is not None:
            await found.opened.aclose()
        return found.source.media_url

    async def media_url(self, documents: Mapping[str, Served | str | bytes], url: str) -> str:
        """Search, close what was opened, and return the address that was chosen."""
        found = await self.find(documents, url)
        if found.opened is not None:
            await found.opened.aclose()
        return found.source.media_url


def _served(document: Served | str | bytes) -> Served:
    if isinstance(document, Served):
        return document
    if isinstance(document, bytes):
        return Served(document, "audio/mpeg", ranges=True)
    return Served(document.encode())


class InlineParser(DocumentParser):
    """Parses in this process what the children parse in theirs; only the tests of the parser start those."""

    async def prepare(self) -> None:
        """Do nothing: there are no children."""

    async def _ask(self, op: str, body: bytes, url: str, content_type: str) -> dict[str, Any]:
        header = {"op": op, "url": url, "content_type": content_type}
        data: dict[str, Any] = json.loads(json.dumps(answer(header, body), default=str))
        return data


@pytest.fixture
def searcher() -> Searcher:
    return Searcher(InlineParser())


@pytest.fixture
def mp3() -> bytes:
    return mp3_bytes()
