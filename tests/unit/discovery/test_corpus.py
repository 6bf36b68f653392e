"""The corpus: documents as the web has them, each with the one right answer, or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stenobird import errors
from stenobird.discovery import urls
from stenobird.discovery.feeds.directory import PodcastDirectory
from stenobird.discovery.platforms import platform_rules
from stenobird.testing import FakeClock
from tests.support.documents import Served, mp3_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.anyio

CORPUS = Path(__file__).parents[2] / "data" / "discovery"
CASES: list[dict[str, Any]] = json.loads((CORPUS / "manifest.json").read_text())


class CorpusWeb(dict[str, Served]):
    """The documents of one case; every other address that ends like audio is audio.

    So a wrong choice is answered like a right one, and shows.
    """

    def __init__(self, case: Mapping[str, Any]) -> None:
        super().__init__()
        self.audio = Served(mp3_bytes(), "audio/mpeg", ranges=True)
        for url, document in case["documents"].items():
            self[urls.for_request(url)] = Served((CORPUS / document["file"]).read_bytes(), document["type"])
        for url, target in case.get("redirects", {}).items():
            self[url] = Served(status=302, headers={"location": target})
        for url in case.get("media", ()):
            self[url] = self.audio

    def get(self, url: str, default: Any = None) -> Any:
        if url in self:
            return self[url]
        return self.audio if urls.is_audio_url(url) and "dead." not in url else default


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
async def test_corpus_document_leads_to_its_audio(searcher: Any, case: dict[str, Any]) -> None:
    directory = PodcastDirectory(FakeClock())
    searcher.rungs = {"platforms": platform_rules(directory), "directory": directory}
    expected = case["expected"]
    if expected is None:
        with pytest.raises(errors.JobError) as caught:
            await searcher.media_url_in(CorpusWeb(case), case["url"])
        assert caught.value.code == case.get("error", "audio_source_not_found")
    else:
        assert await searcher.media_url_in(CorpusWeb(case), case["url"]) == expected
        # The page, the media, and two round trips more at most; a dead format is one of them.
        assert len(searcher.web.asked) <= 4
    assert searcher.web.left_open == []


def test_corpus_is_large_and_mixed() -> None:
    right = [case for case in CASES if case["expected"]]
    assert len({case["id"] for case in CASES}) == len(CASES)
    assert sum(len(case["documents"]) for case in CASES) >= 80
    assert len(right) >= 50
    assert len(CASES) - len(right) >= 25
