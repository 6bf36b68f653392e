"""The corpus once more, over real sockets: https host names behind a CONNECT proxy, through egress."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from stenobird import errors
from stenobird.discovery import urls
from stenobird.discovery.feeds.directory import PodcastDirectory
from stenobird.discovery.ladder import DiscoveryLadder
from stenobird.discovery.platforms import platform_rules
from stenobird.egress.client import EgressClient
from stenobird.egress.policy import EgressPolicy
from stenobird.testing import FakeClock
from tests.support.connect_proxy import ConnectProxy
from tests.support.documents import mp3_bytes
from tests.support.raw_server import answer, open_server

if TYPE_CHECKING:
    from anyio.abc import SocketStream

    from stenobird.sources import Verdict
    from tests.support.raw_server import RawRequest

pytestmark = pytest.mark.anyio

CORPUS = Path(__file__).parents[2] / "data" / "discovery"
CASES: list[dict[str, Any]] = json.loads((CORPUS / "manifest.json").read_text())
MP3 = mp3_bytes(10)


class CorpusSite:
    """Every host of one case: its documents, its redirects, and audio wherever a path ends like audio."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case = case
        self.documents = {_place(url): document for url, document in case["documents"].items()}
        self.media = {_place(url) for url in case.get("media", ())}
        self.redirects = {_place(url): target for url, target in case.get("redirects", {}).items()}

    def hosts(self) -> set[str]:
        text = json.dumps(self.case)
        for document in self.case["documents"].values():
            raw = (CORPUS / document["file"]).read_bytes()
            text += raw.decode("utf-8", "replace").replace("\\", "") + raw.decode("utf-16", "replace")
        text = text.replace("%3A%2F%2F", "://").replace("u002F", "/")
        return set(re.findall(r"//([a-z0-9.-]+\.[a-z]{2,})", text.lower()))

    async def serve(self, request: RawRequest, stream: SocketStream) -> None:
        place = f"{request.headers['host'].partition(':')[0].lower()}{request.target}"
        document = self.documents.get(place)
        if place in self.redirects:
            await stream.send(answer(302, b"", {"Location": self.redirects[place]}))
        elif document is not None:
            body = (CORPUS / document["file"]).read_bytes()
            await stream.send(answer(200, body, {"Content-Type": document["type"]}))
        elif place in self.media or (urls.is_audio_url(f"https://{place}") and not place.startswith("dead.")):
            ranged = {"Content-Range": f"bytes 0-{len(MP3) - 1}/{len(MP3)}", "Content-Type": "audio/mpeg"}
            await stream.send(answer(206, MP3, ranged))
        else:
            await stream.send(answer(404, b"no"))


def _place(url: str) -> str:
    parts = urlsplit(urls.for_request(url))
    return f"{(parts.hostname or '').lower()}{parts.path}" + (f"?{parts.query}" if parts.query else "")


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
async def test_corpus_document_leads_to_the_same_audio_over_https(
    searcher: Any, case: dict[str, Any]
) -> None:
    site = CorpusSite(case)
    verdicts: list[Verdict] = []

    async def report(verdict: Verdict) -> None:
        verdicts.append(verdict)

    directory = PodcastDirectory(FakeClock())
    async with open_server(site.serve) as server, ConnectProxy() as proxy:
        for host in site.hosts():
            proxy.route(host, server.port)
        trusting = proxy.client_context()
        async with EgressClient(EgressPolicy(), proxy=proxy.url, ssl_context=trusting) as client:
            ladder = DiscoveryLadder(
                client.open,
                searcher.parser,
                platforms=platform_rules(directory),
                directory=directory,
            )
            if case["expected"] is None:
                with pytest.raises(errors.JobError) as caught:
                    await ladder.find(case["url"], preview=False, report=report)
                assert caught.value.code == case.get("error", "audio_source_not_found")
            else:
                found = await ladder.find(case["url"], preview=False, report=report)
                assert found.source.media_url == case["expected"]
                assert found.opened is not None
                await found.opened.aclose()
    assert verdicts
