"""One search for audio: what it was asked, what it has fetched, and what it has learnt on the way.

Implements `rungs.SearchContext`. Every fetch goes through egress, is counted, cached by URL and bounded;
every open response belongs to the search until the winner's is handed over, and is closed with it.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from stenobird.discovery import sniff, urls
from stenobird.discovery.parsing.facts import Document, EpisodeFacts
from stenobird.discovery.parsing.parser import ParseFailed
from stenobird.egress.client import RequestOptions
from stenobird.errors import (
    ConnectFailed,
    ResponseBroken,
    ResponseTooLarge,
)
from stenobird.sources import NO_HEADERS, Candidate, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stenobird.discovery.parsing.facts import FeedFacts, MediaLead, PageFacts
    from stenobird.discovery.parsing.parser import DocumentParser
    from stenobird.discovery.sniff import Sniffed
    from stenobird.discovery.web import WebClient, WebResponse
    from stenobird.errors import JobError
    from stenobird.ports import FoundAudio, VerdictSink
    from stenobird.sources import Stage

PAGE_BYTES: Final = 3 * 1024**2
"""A longer page is read up to here: what matters stands in its first part."""
FEED_BYTES: Final = 24 * 1024**2
"""A longer feed is read up to here: the newest episodes come first in nearly all."""
PREVIEW_BYTES: Final = 64 * 1024
DOCUMENT_SECONDS: Final = 45.0
MAX_DOCUMENTS: Final = 16
"""Documents that one search may fetch besides what was submitted and the media itself."""
MAX_MEDIA_TRIES: Final = 8


@dataclass(slots=True)
class Opened:
    """An open response with the verdict on its first bytes."""

    response: WebResponse
    sniffed: Sniffed


@dataclass(slots=True)
class Failures:
    """Why leads failed, for the message at the end."""

    rejected: list[Candidate] = field(default_factory=list)
    errors: list[JobError] = field(default_factory=list)
    unreachable: list[tuple[str, str]] = field(default_factory=list)
    """Addresses of media that did not answer, and how."""
    forbidden: list[tuple[str, str]] = field(default_factory=list)
    not_media: list[tuple[str, str]] = field(default_factory=list)


class Search:
    """See the module. One task uses it; `aclose` drops whatever is still open."""

    def __init__(
        self,
        client: WebClient,
        parser: DocumentParser,
        submitted_url: str,
        *,
        preview: bool,
        sink: VerdictSink,
    ) -> None:
        self.submitted_url = submitted_url
        self.url = urls.normalised(submitted_url)
        self.preview = preview
        self.wanted = EpisodeFacts(page_urls=(urls.for_request(self.url),))
        self.failures = Failures()
        self.with_state = False
        """Whether pages are read with their inline state, which only platform rules look at."""
        self._client = client
        self._parser = parser
        self._sink = sink
        self._documents: dict[str, Document] = {}
        self._pages: dict[tuple[str, bool], PageFacts | None] = {}
        self._feeds: dict[str, FeedFacts | None] = {}
        self._opened: list[WebResponse] = []
        self._first: Opened | None = None
        self._fetched = 0
        self._media_tries = 0

    async def aclose(self) -> None:
        """Close every response that was not handed over."""
        while self._opened:
            await self._opened.pop().aclose()

    def hand_over(self, found: FoundAudio) -> None:
        """Let go of the winner's response: whoever takes it closes it."""
        self._opened = [response for response in self._opened if response is not found.opened]

    async def drop(self, response: WebResponse) -> None:
        """Close a response that lost."""
        self._opened = [kept for kept in self._opened if kept is not response]
        await response.aclose()

    # --- telling --------------------------------------------------------------------------------------------

    async def report(self, stage: Stage, outcome: Literal["found", "passed", "failed"], message: str) -> None:
        """Tell the client one verdict."""
        await self._sink(Verdict(stage, outcome, message))

    async def report_verdict(self, verdict: Verdict) -> None:
        """Tell the client one verdict with its candidates."""
        await self._sink(verdict)

    def reject(self, url: str, technique: str, reason: str, score: float | None = None) -> None:
        """Remember a lead that was opened, and why it is not the audio."""
        self.failures.rejected.append(Candidate(url, technique, score=score, rejected=reason))

    # --- fetching -------------------------------------------------------------------------------------------

    async def open_first(self) -> Opened:
        """Open the submitted URL once; later calls return the same. Raises `EgressError`."""
        if self._first is None:
            self._first = await self._open(self.url, NO_HEADERS, referer=None)
        return self._first

    async def open_media(self, lead: MediaLead, *, referer: str | None) -> Opened:
        """Open a lead and sniff it. Raises `EgressError`; `ResponseTooLarge` once too many were tried."""
        first = self._first
        if (
            first is not None
            and urls.for_request(lead.url) == urls.for_request(self.url)
            and not lead.headers
        ):
            return first
        self._media_tries += 1
        if self._media_tries > MAX_MEDIA_TRIES:
            raise ResponseTooLarge(
                f"More than {MAX_MEDIA_TRIES} addresses were tried; the search stops here."
            )
        return await self._open(lead.url, lead.headers, referer=referer)

    async def _open(self, url: str, headers: Mapping[str, str], *, referer: str | None) -> Opened:
        response = await self._client.open(
            urls.for_request(url),
            RequestOptions(
                headers=headers, byte_range=(0, PREVIEW_BYTES - 1 if self.preview else None), referer=referer
            ),
        )
        if response.status == 416 and response.total_bytes != 0:
            # The server can't serve this range of something that is not empty: it can't serve ranges.
            await response.aclose()
            response = await self._client.open(
                urls.for_request(url), RequestOptions(headers=headers, referer=referer)
            )
        self._opened.append(response)
        try:
            async with asyncio.timeout(DOCUMENT_SECONDS):
                return Opened(response, await _sniffed(response))
        except TimeoutError as exc:
            await self.drop(response)
            raise ResponseBroken(f"{urls.host_of(url)} sent nothing for {DOCUMENT_SECONDS:g} s.") from exc
        except BaseException:
            await self.drop(response)
            raise

    async def fetch(
        self,
        url: str,
        *,
        method: Literal["GET", "POST"] = "GET",
        headers: Mapping[str, str] = NO_HEADERS,
        content: bytes | None = None,
        max_bytes: int = PAGE_BYTES,
    ) -> Document:
        """Fetch a document; any status is an answer. Raises `EgressError`."""
        key = f"{method} {urls.for_request(url)} {content!r}"
        if key in self._documents:
            return self._documents[key]
        self._fetched += 1
        if self._fetched > MAX_DOCUMENTS:
            raise ResponseTooLarge(
                f"More than {MAX_DOCUMENTS} documents were fetched; the search stops here."
            )
        response = await self._client.open(
            urls.for_request(url),
            RequestOptions(method=method, headers=headers, content=content, decode=True),
        )
        try:
            document = await self._document(url, response, max_bytes)
        finally:
            await response.aclose()
        self._documents[key] = document
        return document

    async def _document(self, url: str, response: WebResponse, max_bytes: int) -> Document:
        try:
            async with asyncio.timeout(DOCUMENT_SECONDS):
                body = await response.read(max_bytes, truncate=True)
        except TimeoutError as exc:
            raise ConnectFailed(
                f"{urls.host_of(url)} did not send the page within {DOCUMENT_SECONDS:g} s. Try again later."
            ) from exc
        return Document(url, response.final_url, response.status, response.headers, body)

    async def submitted_document(self, max_bytes: int) -> Document:
        """Return the submitted URL's body as a document, from the response that is open already."""
        key = f"GET {urls.for_request(self.url)} None"
        if key not in self._documents:
            first = await self.open_first()
            response = first.response
            whole = response.offset == 0 and (
                response.status != 206
                or (response.total_bytes or PREVIEW_BYTES + 1) <= PREVIEW_BYTES
                or not self.preview
            )
            if whole:
                self._documents[key] = await self._document(self.url, response, max_bytes)
                await self.drop(response)
            else:
                # The preview's range cut a document short: the one time that a page is asked for twice.
                await self.drop(response)
                return await self.fetch(self.url, max_bytes=max_bytes)
        return self._documents[key]

    async def fetch_json(self, url: str, *, headers: Mapping[str, str] = NO_HEADERS) -> Any | None:
        """Return parsed JSON of a 200 answer, else `None`. Raises `EgressError`."""
        document = await self.fetch(url, headers={"accept": "application/json", **headers})
        if document.status != 200:
            return None
        try:
            return json.loads(document.body)
        except (ValueError, RecursionError):
            return None

    async def page(self, url: str | None = None, *, with_state: bool = False) -> PageFacts | None:
        """Return the page at `url`, or the submitted one; `None` if it is none. Raises `EgressError`."""
        target = urls.for_request(url or self.url)
        with_state = with_state or self.with_state
        key = (target, with_state)
        if key not in self._pages:
            document = await self._page_document(target)
            self._pages[key] = await self._read_page(document, with_state=with_state) if document else None
        return self._pages[key]

    async def _page_document(self, target: str) -> Document | None:
        if target == urls.for_request(self.url):
            first = await self.open_first()
            if first.response.status >= 400 or first.sniffed.kind not in {"html", "other"}:
                return None
            return await self.submitted_document(PAGE_BYTES)
        document = await self.fetch(target)
        return document if document.status < 400 else None

    async def _read_page(self, document: Document, *, with_state: bool) -> PageFacts | None:
        kind = sniff.sniff(document.body[: sniff.PROBE_BYTES], document.headers, complete=True).kind
        if kind != "html":
            return None
        content_type = document.headers.get("content-type", "")
        try:
            page = await self._parser.page(
                document.body, url=document.final_url, content_type=content_type, with_state=with_state
            )
        except ParseFailed as exc:
            await self.report("resolving_page", "failed", exc.message)
            return None
        if with_state:
            page = replace(page, text=document.body.decode("utf-8", "replace"))
        return replace(page, url=document.url)

    async def feed(self, url: str) -> FeedFacts | None:
        """Return the feed at `url`, parsed once; `None` if there is none. Raises `EgressError`."""
        target = urls.for_request(urls.normalised(url))
        if target not in self._feeds:
            if target == urls.for_request(self.url):
                document = await self.submitted_document(FEED_BYTES)
            else:
                document = await self.fetch(target, max_bytes=FEED_BYTES)
            self._feeds[target] = await self._read_feed(document)
        return self._feeds[target]

    async def _read_feed(self, document: Document) -> FeedFacts | None:
        kind = sniff.sniff(document.body[: sniff.PROBE_BYTES], document.headers, complete=True).kind
        if document.status >= 400 or kind not in {"feed", "json", "other"}:
            return None
        try:
            return await self._parser.feed(
                document.body, url=document.final_url, content_type=document.headers.get("content-type", "")
            )
        except ParseFailed as exc:
            await self.report("resolving_feed", "failed", exc.message)
            return None


async def _sniffed(response: WebResponse) -> Sniffed:
    """Judge an open response by as few of its bytes as will do."""
    if response.status >= 400:
        return sniff.Sniffed("empty" if response.total_bytes == 0 else "other", f"status {response.status}")
    head = await response.peek(sniff.FIRST_PROBE_BYTES)
    complete = len(head) < sniff.FIRST_PROBE_BYTES
    verdict = sniff.sniff(head, response.headers, complete=complete)
    if verdict.sure or complete:
        return verdict
    head = await response.peek(sniff.PROBE_BYTES)
    return sniff.sniff(head, response.headers, complete=True)
