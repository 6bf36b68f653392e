"""One search for audio: what it fetches, what it opens and sniffs, and why leads failed.

Every request goes through egress, is counted, cached by URL and bounded. Every open response belongs to the
search until the chosen one is handed over; the rest are closed with the search.

Opening a lead that works costs one request, because the download continues the open response. A lead that is
dead is tried again without its tracking prefixes; a playlist (m3u, pls, xspf, asx) of one file is followed.
"""

from __future__ import annotations

import asyncio
import codecs
import html
import re
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeAlias

from stenobird.discovery import sniff, urls
from stenobird.discovery.page.inline_state import marked_json
from stenobird.discovery.parsing.facts import Document, EpisodeFacts
from stenobird.discovery.parsing.lenient import decode_html, decode_xml, unescape_attribute
from stenobird.discovery.parsing.parser import ParseFailed
from stenobird.discovery.tags import title_of
from stenobird.egress.client import RequestOptions, open_ranged
from stenobird.egress.references import absolute
from stenobird.errors import (
    TRY_LATER,
    ConnectFailed,
    DestinationForbidden,
    EgressError,
    ResponseBroken,
    ResponseTooLarge,
)
from stenobird.ports import FoundAudio, OpenedMedia
from stenobird.sources import NO_HEADERS, AudioSource, Candidate, Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from stenobird.discovery.parsing.facts import FeedFacts, MediaLead, PageFacts
    from stenobird.discovery.parsing.parser import DocumentParser
    from stenobird.discovery.sniff import Sniffed
    from stenobird.ports import VerdictSink
    from stenobird.sources import Stage

PAGE_BYTES: Final = 3 * 1024**2
"""A longer page is read up to here: the audio is named in its first part."""
FEED_BYTES: Final = 24 * 1024**2
"""A longer feed is read up to here: nearly all feeds list the newest episodes first."""
PREVIEW_BYTES: Final = 64 * 1024
DOCUMENT_SECONDS: Final = 45.0
RETRY_SECONDS: Final = 10.0
"""The longest wait for a server that is busy."""
MAX_DOCUMENTS: Final = 16
"""Documents that one search may fetch besides the submitted URL and the media itself."""
MAX_MEDIA_TRIES: Final = 8
MAX_PLAYLISTS: Final = 2
"""Playlists that may lead to one another before the audio."""
CLIP_SHARE: Final = 0.5
"""A file shorter than this share of the length on the page is a clip."""
SAMPLE_SECONDS: Final = (24.0, 95.0)
"""Lengths of the samples that shops and exclusive platforms give away."""
_CHECK_LOGIN: Final = "Check that it opens without login, then try again."
_FASTEST_BYTES_PER_SECOND: Final = 40_000
"""320 kbit/s: a file large enough for half the episode at this rate is no clip."""


class WebResponse(OpenedMedia, Protocol):
    """An open response that can be peeked at."""

    async def peek(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end, and keep them. Raises `EgressError`."""

    async def read(self, max_bytes: int, *, truncate: bool = False) -> bytes:
        """Return the rest; past `max_bytes`, cut it with `truncate`, else raise `ResponseTooLarge`."""


SendRequest: TypeAlias = "Callable[[str, RequestOptions], Awaitable[WebResponse]]"
"""Opens a public URL, follows redirects, and returns the open response, whatever its status.

Raises `EgressError`; for any other destination, `DestinationForbidden`.
"""

Opened: TypeAlias = tuple[WebResponse, sniff.Sniffed]
"""An open response and the verdict on its first bytes."""


@dataclass(slots=True)
class Clip:
    """A file that opened but is much shorter than the page says."""

    found: FoundAudio
    seconds: float
    expected_seconds: float

    @property
    def is_sample(self) -> bool:
        """Whether it is the short sample that exclusive platforms name in a page's head."""
        low, high = SAMPLE_SECONDS
        in_head = self.found.source.technique.startswith(("page.og_", "page.twitter_"))
        return in_head and low <= self.seconds <= high and self.expected_seconds >= 600


class Search:
    """The state of one search, a `SearchContext`. Only one task uses it; `aclose` closes what is open."""

    def __init__(
        self,
        send: SendRequest,
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
        self.rejected: list[Candidate] = []
        """Leads that are not the audio, each with the reason."""
        self.unreachable: list[tuple[str, str]] = []
        """Addresses of media that could not be opened, each with the reason and a remedy."""
        self.forbidden: list[tuple[str, str]] = []
        """Addresses that may not be opened, each with the reason; then those that are no media."""
        self.not_media: list[tuple[str, str]] = []
        self.clip: Clip | None = None
        """The first file that is much shorter than its episode: used only if nothing better is found."""
        self._send = send
        self._parser = parser
        self._sink = sink
        self._documents: dict[str, Document] = {}
        self._pages: dict[str, PageFacts | None] = {}
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
        """Leave the response of the chosen audio to the caller, who closes it."""
        self._opened = [response for response in self._opened if response is not found.opened]

    async def drop(self, response: WebResponse) -> None:
        """Close a response that is not the audio."""
        self._opened = [kept for kept in self._opened if kept is not response]
        await response.aclose()

    # --- reports --------------------------------------------------------------------------------------------

    async def report(
        self,
        stage: Stage,
        outcome: Literal["found", "passed", "failed"],
        message: str,
        candidates: tuple[Candidate, ...] = (),
    ) -> None:
        """Send the client one verdict."""
        await self._sink(Verdict(stage, outcome, message, candidates))

    def _reject(
        self, lead: MediaLead, reason: str, kind: list[tuple[str, str]] | None = None, what: str = ""
    ) -> None:
        """Note why a lead is not the audio, and in the list of its kind `what` the client is to know."""
        self.rejected.append(Candidate(lead.url, lead.technique, score=lead.score, rejected=reason))
        if kind is not None:
            kind.append((lead.url, what or reason))

    # --- documents ------------------------------------------------------------------------------------------

    async def fetch(
        self,
        url: str,
        *,
        method: Literal["GET", "POST"] = "GET",
        headers: Mapping[str, str] = NO_HEADERS,
        content: bytes | None = None,
        max_bytes: int = PAGE_BYTES,
    ) -> Document:
        """Fetch a document, whatever its status. Raises `EgressError`."""
        key = f"{method} {urls.for_request(url)} {content!r}"
        if key in self._documents:
            return self._documents[key]
        self._fetched += 1
        if self._fetched > MAX_DOCUMENTS:
            raise ResponseTooLarge(
                f"More than {MAX_DOCUMENTS} documents were fetched; the search stops here."
            )
        response = await self._send(
            urls.for_request(url),
            RequestOptions(
                method=method, headers=headers, content=content, decode=True, retry_seconds=RETRY_SECONDS
            ),
        )
        try:
            document = await _document(url, response, max_bytes)
        finally:
            await response.aclose()
        self._documents[key] = document
        return document

    async def submitted_document(self, max_bytes: int) -> Document:
        """Return the submitted URL's body as a document, read from the response that is already open."""
        key = f"GET {urls.for_request(self.url)} None"
        if key not in self._documents:
            response, _ = await self.open_first()
            is_cut = response.total_bytes is None or response.total_bytes > PREVIEW_BYTES
            if response.offset or (self.preview and response.status == 206 and is_cut):
                # The preview's range cut the document short: the only case in which it is requested twice.
                await self.drop(response)
                return await self.fetch(self.url, max_bytes=max_bytes)
            self._documents[key] = await _document(self.url, response, max_bytes)
            await self.drop(response)
        return self._documents[key]

    async def page(self, url: str | None = None) -> PageFacts | None:
        """Return the page at `url`, or the submitted one; `None` if it is no page. Raises `EgressError`."""
        target = urls.for_request(url or self.url)
        if target not in self._pages:
            document = await self._page_document(target)
            self._pages[target] = await self._read_page(document) if document else None
        return self._pages[target]

    async def source(self, url: str) -> str:
        """Return the text of the page at `url`, empty if it is no page. Raises `EgressError`."""
        document = await self._page_document(urls.for_request(url))
        return decode_html(document.body, document.headers.get("content-type", "")) if document else ""

    async def player_configuration(self, url: str, title: str | None) -> PageFacts | None:
        """Return the audio in the configuration of a player on a page of this title, as a page's facts.

        It may be JSON, XML, a script, a playlist or a page; `None` if it is none. Raises `EgressError`.
        """
        document = await self.fetch(url)
        if document.status >= 400:
            return None
        kind = _kind(document)
        is_text = document.body.lstrip()[:1] == b"<" or "javascript" in document.headers.get(
            "content-type", ""
        )
        if kind in {"json", "playlist"} or (kind == "other" and is_text):
            head = f"<title>{html.escape(title or '')}</title>".encode()
            body = document.body.removeprefix(codecs.BOM_UTF8)
            script = (marked_json(body, document.final_url) or body).replace(b"<", b"\\u003c")
            headers = {"content-type": "text/html; charset=utf-8"}
            document = replace(document, headers=headers, body=head + b"<script>" + script + b"</script>")
        return await self._read_page(document)

    async def _page_document(self, target: str) -> Document | None:
        if target == urls.for_request(self.url):
            response, sniffed = await self.open_first()
            if response.status >= 400 or not (
                sniffed.kind in {"html", "other"} or "refresh" in response.headers
            ):
                return None
            return await self.submitted_document(PAGE_BYTES)
        document = await self.fetch(target)
        return document if document.status < 400 else None

    async def _read_page(self, document: Document) -> PageFacts | None:
        if _kind(document) != "html" and "refresh" not in document.headers:
            return None
        content_type = document.headers.get("content-type", "")
        try:
            page = await self._parser.page(document.body, url=document.final_url, content_type=content_type)
        except ParseFailed as exc:
            await self.report("resolving_page", "failed", exc.message)
            return None
        refresh = page.refresh or urls.refresh_target(document.headers.get("refresh", ""), document.final_url)
        return replace(page, url=document.url, refresh=refresh)

    async def feed(self, url: str) -> FeedFacts | None:
        """Return the feed at `url`, parsed once; `None` if it is no feed. Raises `EgressError`."""
        target = urls.for_request(urls.normalised(url))
        if target not in self._feeds:
            if target == urls.for_request(self.url):
                document = await self.submitted_document(FEED_BYTES)
            else:
                document = await self.fetch(target, max_bytes=FEED_BYTES)
            self._feeds[target] = await self._read_feed(document)
        return self._feeds[target]

    async def _read_feed(self, document: Document) -> FeedFacts | None:
        if document.status >= 400 or _kind(document) not in {"feed", "json", "other"}:
            return None
        try:
            return await self._parser.feed(
                document.body, url=document.final_url, content_type=document.headers.get("content-type", "")
            )
        except ParseFailed as exc:
            await self.report("resolving_feed", "failed", exc.message)
            return None

    # --- media ----------------------------------------------------------------------------------------------

    async def open_first(self) -> Opened:
        """Open the submitted URL once; later calls return the same. Raises `EgressError`."""
        if self._first is None:
            self._first = await self._open(self.url, NO_HEADERS, referer=None)
        return self._first

    async def try_media(self, lead: MediaLead, *, page_url: str | None = None) -> FoundAudio | None:
        """Open a lead; return it if it is audio and no clip, else note why not. Raises no `EgressError`."""
        addresses = [lead.url, *urls.unwrapped(lead.url)]
        for position, address in enumerate(addresses):
            attempt = replace(lead, url=address)
            last = position == len(addresses) - 1
            opened = await self._open_lead(attempt, page_url, last=last)
            if opened is None:
                continue
            if position:
                attempt = replace(
                    attempt, reason=f"{lead.reason}; its tracking prefix is dead and was left out"
                )
            found = await self._judge(attempt, opened, page_url)
            # If a page answers, the prefix's domain is parked, or it is a player for the URL inside.
            if found is not None or last or opened[1].kind != "html":
                return found
        return None

    async def _open_lead(self, lead: MediaLead, page_url: str | None, *, last: bool) -> Opened | None:
        """Open a lead; `None`, with the reason noted, if it can't be. `last`: no other address is left."""
        unreachable = self.unreachable if last else None
        try:
            opened = await self._open_media(lead, referer=page_url)
        except DestinationForbidden as exc:
            self._reject(lead, "its address is not public", self.forbidden, exc.message)
            return None
        except EgressError as exc:
            self._reject(lead, f"unreachable: {exc.message}", unreachable, exc.with_remedy(_CHECK_LOGIN))
            return None
        response = opened[0]
        if response.status < 400 or (response.status == 416 and response.total_bytes == 0):
            return opened
        what = f"the server answered {response.status}"
        self._reject(lead, what, unreachable, f"T{what[1:]}. {_CHECK_LOGIN}")
        await self.drop(response)
        return None

    async def _open_media(self, lead: MediaLead, *, referer: str | None) -> Opened:
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
        byte_range = (0, PREVIEW_BYTES - 1 if self.preview else None)
        options = RequestOptions(
            headers=headers, byte_range=byte_range, referer=referer, retry_seconds=RETRY_SECONDS
        )
        response = await open_ranged(self._send, urls.for_request(url), options)
        self._opened.append(response)
        try:
            async with asyncio.timeout(DOCUMENT_SECONDS):
                return response, await _sniffed(response)
        except TimeoutError as exc:
            await self.drop(response)
            raise ResponseBroken(f"{urls.host_of(url)} sent nothing for {DOCUMENT_SECONDS:g} s.") from exc
        except BaseException:
            await self.drop(response)
            raise

    async def _judge(
        self, lead: MediaLead, opened: Opened, page_url: str | None, depth: int = 0
    ) -> FoundAudio | None:
        response, sniffed = opened
        kind, container = sniffed.kind, sniffed.container
        if kind == "playlist" and container not in {"hls", "dash"} and depth < MAX_PLAYLISTS:
            return await self._follow_playlist(lead, opened, page_url, depth)
        icy = any(name.startswith("icy-") for name in response.headers)
        # What a page or a feed names is a recording; a station beside it is something else.
        if (lead.technique == "direct" or not icy) and (
            kind == "media" or (kind == "playlist" and container == "hls")
        ):
            if lead.episode.title is None:
                # These bytes were read to recognise the file, so this waits for nothing.
                title = title_of(await response.peek(sniff.FIRST_PROBE_BYTES))
                lead = replace(lead, episode=replace(lead.episode, title=title))
            found = FoundAudio(self._source(lead, opened, page_url), response)
            return None if kind == "media" and await self._is_clip(lead, opened, found) else found
        what = {
            "media": "it is a live stream",
            "empty": "it is empty (0 bytes)",
            "html": "it is a web page",
            "feed": "it is a feed",
            "json": "it is data (JSON)",
            "playlist": f"it is a {container.upper()} manifest, which is not supported",
        }.get(kind, f"it is no audio ({container})")
        self._reject(lead, what, self.not_media)
        await self.drop(response)
        return None

    def _source(self, lead: MediaLead, opened: Opened, page_url: str | None) -> AudioSource:
        response, sniffed = opened
        episode = lead.episode
        return AudioSource(
            submitted_url=self.submitted_url,
            media_url=lead.url,
            final_url=response.final_url,
            technique=lead.technique,
            reason=lead.reason,
            kind="hls" if sniffed.container == "hls" else "file",
            title=episode.title,
            podcast=episode.show,
            page_url=page_url,
            published=episode.published,
            duration_seconds=episode.duration_seconds,
            content_type=response.headers.get("content-type"),
            size_bytes=response.total_bytes,
            live=response.total_bytes is None and any(name.startswith("icy-") for name in response.headers),
            etag=response.headers.get("etag"),
            request_headers=lead.headers,
            candidates=(
                Candidate(lead.url, lead.technique, score=lead.score, title=episode.title),
                *self.rejected,
            ),
        )

    async def _is_clip(self, lead: MediaLead, opened: Opened, found: FoundAudio) -> bool:
        """Return whether a file is much shorter than the episode's length on the page; note the first one.

        A file that a platform's API or a feed names is the episode, whatever length is noted there.
        """
        response, sniffed = opened
        expected, total = lead.episode.duration_seconds, response.total_bytes
        if not lead.technique.startswith(("page.", "player.")) or not expected or total is None:
            return False
        if total >= expected * CLIP_SHARE * _FASTEST_BYTES_PER_SECOND:
            return False
        try:
            head = await response.peek(sniff.PROBE_BYTES)
        except EgressError:
            return False
        seconds = sniff.estimate_seconds(head, sniffed.container, total)
        if seconds is None or seconds >= expected * CLIP_SHARE:
            return False
        self._reject(lead, f"a clip of {seconds:.0f} s, while the episode has {expected:.0f} s")
        self.clip = self.clip or Clip(found, seconds, expected)
        return True

    async def _follow_playlist(
        self, lead: MediaLead, opened: Opened, page_url: str | None, depth: int
    ) -> FoundAudio | None:
        response, _ = opened
        try:
            body = await response.read(sniff.PROBE_BYTES, truncate=True)
        except EgressError as exc:
            self.unreachable.append((lead.url, exc.with_remedy(_CHECK_LOGIN)))
            return None
        finally:
            await self.drop(response)
        targets = _playlist_urls(decode_xml(body, ""), response.final_url)
        if len(targets) > 1 and lead.technique == "direct":
            # The playlist of a station lists several addresses of one stream.
            found = await self._follow_entry(lead, targets[0], page_url, depth)
            if found is not None and found.source.live:
                return found
            if found is not None and found.opened is not None:
                await found.opened.aclose()
        if len(targets) != 1:
            what = f"it is a playlist of {len(targets)} files" if targets else "it is an empty playlist"
            self._reject(lead, what, self.not_media)
            return None
        return await self._follow_entry(lead, targets[0], page_url, depth)

    async def _follow_entry(
        self, lead: MediaLead, url: str, page_url: str | None, depth: int
    ) -> FoundAudio | None:
        target = replace(lead, url=url, reason=f"{lead.reason}; the playlist there has this one file")
        inner = await self._open_lead(target, page_url, last=True)
        return await self._judge(target, inner, page_url, depth + 1) if inner is not None else None


async def _document(url: str, response: WebResponse, max_bytes: int) -> Document:
    try:
        async with asyncio.timeout(DOCUMENT_SECONDS):
            body = await response.read(max_bytes, truncate=True)
    except TimeoutError as exc:
        raise ConnectFailed(
            f"{urls.host_of(url)} did not send the page within {DOCUMENT_SECONDS:g} s.", remedy=TRY_LATER
        ) from exc
    if body.startswith(b"\x1f\x8b"):
        # A feed.xml.gz, or a page that its server compressed without saying so.
        with suppress(zlib.error):
            body = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, max_bytes)
    return Document(url, response.final_url, response.status, response.headers, body)


def _kind(document: Document) -> sniff.Kind:
    return sniff.sniff(document.body[: sniff.PROBE_BYTES], document.headers, complete=True).kind


async def _sniffed(response: WebResponse) -> Sniffed:
    """Sniff an open response, reading as few bytes as possible."""
    if response.status >= 400:
        return sniff.Sniffed("empty" if response.total_bytes == 0 else "other", f"status {response.status}")
    head = await response.peek(sniff.FIRST_PROBE_BYTES)
    complete = len(head) < sniff.FIRST_PROBE_BYTES
    verdict = sniff.sniff(head, response.headers, complete=complete)
    if verdict.sure or complete:
        return verdict
    head = await response.peek(sniff.PROBE_BYTES)
    return sniff.sniff(head, response.headers, complete=True)


_PLAYLIST_ENTRIES = (
    re.compile(r"^\s*(?:File|Ref)\d+\s*=\s*(\S.*?)\s*$", re.IGNORECASE | re.MULTILINE),
    re.compile(r"<(?:\w{1,20}:)?location>\s*(?:<!\[CDATA\[)?([^<\]]+)", re.IGNORECASE),
    re.compile(
        r"<(?:ref|entry|audio|media)\b[^<>]*?(?:href|src)\s*=\s*[\"']?((?<=\")[^\"]+|(?<=')[^']+|[^\s\"'>]+?(?=/?>|\s))",
        re.IGNORECASE,
    ),
    re.compile(r"^\s*([^#<\[\s=][^\r\n<>]*?)\s*$", re.MULTILINE),
)
_XML_BASE = re.compile(r"(?:<base\s+href|\sxml:base)\s*=\s*[\"']?([^\"'\s>]+)", re.IGNORECASE)
_TRACKS = re.compile(r"<(?:\w{1,20}:)?tracklist\b", re.IGNORECASE)


def _playlist_urls(text: str, base: str) -> list[str]:
    """Return the addresses in an m3u, pls, xspf or asx playlist, each once."""
    text = text.replace("\r", "\n")
    is_xml = text.lstrip().startswith("<")
    if is_xml:
        text = re.sub(r"<!--(?:.*?-->|.*)", "", text, flags=re.DOTALL)
        stated = _XML_BASE.search(text)
        base = (absolute(base, unescape_attribute(stated[1])) if stated else None) or base
        # What stands before its tracks is the address of the playlist itself.
        text = _TRACKS.split(text, maxsplit=1)[-1]
    for pattern in _PLAYLIST_ENTRIES:
        lines = [unescape_attribute(line) if is_xml else line for line in pattern.findall(text)[:200]]
        found = [url for line in lines if (url := absolute(base, line))]
        if found:
            return list(dict.fromkeys(found))
    return []
