"""Opens a lead, looks at its first bytes, and says whether it is the audio.

A lead that works costs one request: the open response goes on to the download. One that is dead is tried once
more without its tracking prefixes; a pointer (m3u, pls, xspf) to one file is followed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from stenobird.discovery import sniff, urls
from stenobird.discovery.media_length import estimate_seconds
from stenobird.errors import DestinationForbidden, EgressError
from stenobird.ports import FoundAudio
from stenobird.sources import AudioSource, Candidate

if TYPE_CHECKING:
    from stenobird.discovery.parsing.facts import MediaLead
    from stenobird.discovery.search import Opened, Search

MAX_POINTERS: Final = 2
CLIP_SHARE: Final = 0.5
"""A file shorter than this share of what the page says is a clip."""
SAMPLE_SECONDS: Final = (24.0, 95.0)
"""Lengths of the samples that shops and exclusive platforms give away."""
_SLOWEST_BYTES_PER_SECOND: Final = 40_000
"""At 320 kbit/s; a file that holds half the episode at this rate is no clip, and needs no closer look."""


@dataclass(slots=True)
class Clip:
    """A file that opened but is much shorter than the page says: taken only where nothing better is found."""

    found: FoundAudio
    seconds: float
    expected_seconds: float

    @property
    def is_sample(self) -> bool:
        """Whether it is what exclusive platforms put into a page's head: a sample of something long."""
        low, high = SAMPLE_SECONDS
        in_head = self.found.source.technique.startswith(("page.og_", "page.twitter_"))
        return in_head and low <= self.seconds <= high and self.expected_seconds >= 600


async def try_media(
    search: Search, lead: MediaLead, *, page_url: str | None = None
) -> FoundAudio | Clip | None:
    """Return the audio if the lead is audio; else remember why not. Raises nothing that egress raises."""
    addresses = [lead.url, *urls.unwrapped(lead.url)]
    for position, address in enumerate(addresses):
        attempt = replace(lead, url=address)
        last = position == len(addresses) - 1
        opened = await _open(search, attempt, page_url, last=last)
        if opened is None:
            continue
        if position:
            attempt = replace(attempt, reason=f"{lead.reason}; its tracking prefix is dead and was left out")
        found = await _judge(search, attempt, opened, page_url)
        # Where a page answers, the domain of the prefix has been parked, or it is a player for what it wraps.
        if found is not None or last or opened.sniffed.kind != "html":
            return found
    return None


async def _open(search: Search, lead: MediaLead, page_url: str | None, *, last: bool) -> Opened | None:
    try:
        opened = await search.open_media(lead, referer=page_url)
    except DestinationForbidden as exc:
        search.failures.forbidden.append((lead.url, exc.message))
        search.reject(lead.url, lead.technique, "its address is not public", lead.score)
        return None
    except EgressError as exc:
        if last:
            search.failures.unreachable.append((lead.url, exc.message))
        search.reject(lead.url, lead.technique, f"unreachable: {exc.message}", lead.score)
        return None
    status = opened.response.status
    if status >= 400:
        if status == 416 and opened.response.total_bytes == 0:
            return opened
        if last:
            search.failures.unreachable.append((lead.url, f"The server answered {status}."))
        search.reject(lead.url, lead.technique, f"the server answered {status}", lead.score)
        await search.drop(opened.response)
        return None
    return opened


async def _judge(
    search: Search, lead: MediaLead, opened: Opened, page_url: str | None, depth: int = 0
) -> FoundAudio | Clip | None:
    kind, container = opened.sniffed.kind, opened.sniffed.container
    if kind == "playlist" and container not in {"hls", "dash"} and depth < MAX_POINTERS:
        return await _follow_pointer(search, lead, opened, page_url, depth)
    live = lead.technique != "direct" and any(name.startswith("icy-") for name in opened.response.headers)
    if not live and (kind == "media" or (kind == "playlist" and container == "hls")):
        found = FoundAudio(_source(search, lead, opened, page_url), opened.response)
        clip = await _as_clip(lead, opened, found) if kind == "media" else None
        return clip or found
    what = {
        "media": "it is a live stream",
        "empty": "it is empty (0 bytes)",
        "html": "it is a web page",
        "feed": "it is a feed",
        "json": "it is data (JSON)",
        "playlist": f"it is a {container.upper()} manifest, which is not supported",
    }.get(kind, f"it is no audio ({container})")
    search.failures.not_media.append((lead.url, what))
    search.reject(lead.url, lead.technique, what, lead.score)
    await search.drop(opened.response)
    return None


def _source(search: Search, lead: MediaLead, opened: Opened, page_url: str | None) -> AudioSource:
    response = opened.response
    return AudioSource(
        submitted_url=search.submitted_url,
        media_url=lead.url,
        final_url=response.final_url,
        technique=lead.technique,
        reason=lead.reason,
        kind="hls" if opened.sniffed.container == "hls" else "file",
        title=lead.title,
        podcast=lead.podcast,
        page_url=page_url,
        published=lead.published,
        duration_seconds=lead.duration_seconds,
        content_type=response.headers.get("content-type"),
        size_bytes=response.total_bytes,
        etag=response.headers.get("etag"),
        request_headers=lead.headers,
        candidates=(
            Candidate(lead.url, lead.technique, score=lead.score, title=lead.title),
            *search.failures.rejected,
        ),
    )


async def _as_clip(lead: MediaLead, opened: Opened, found: FoundAudio) -> Clip | None:
    """Return the file as a clip if it is much shorter than the page says the episode is.

    What a platform's own interface or a feed names is the episode, whatever length was noted there.
    """
    if not lead.technique.startswith(("page.", "player.")):
        return None
    expected, total = lead.duration_seconds, opened.response.total_bytes
    if not expected or total is None or total >= expected * CLIP_SHARE * _SLOWEST_BYTES_PER_SECOND:
        return None
    try:
        head = await opened.response.peek(sniff.PROBE_BYTES)
    except EgressError:
        return None
    seconds = estimate_seconds(head, opened.sniffed.container, total)
    if seconds is None or seconds >= expected * CLIP_SHARE:
        return None
    return Clip(found, seconds, expected)


# --- pointers -----------------------------------------------------------------------------------------------

_POINTER_LINES = (
    re.compile(r"^\s*File\d+\s*=\s*(\S.*?)\s*$", re.IGNORECASE | re.MULTILINE),
    re.compile(r"<location>\s*(?:<!\[CDATA\[)?\s*([^<\s\]]+)", re.IGNORECASE),
    re.compile(r"<(?:ref|entry)\b[^>]*?href\s*=\s*[\"']([^\"']+)", re.IGNORECASE),
    re.compile(r"^\s*([^#<\[\s=][^\r\n<>]*?)\s*$", re.MULTILINE),
)


def pointed_at(text: str, base: str) -> list[str]:
    """Return the addresses in an m3u, pls, xspf or asx playlist, each once."""
    for pattern in _POINTER_LINES:
        found = [url for line in pattern.findall(text)[:200] if (url := urls.absolute(base, line))]
        if found:
            return list(dict.fromkeys(found))
    return []


async def _follow_pointer(
    search: Search, lead: MediaLead, opened: Opened, page_url: str | None, depth: int
) -> FoundAudio | Clip | None:
    try:
        body = await opened.response.read(sniff.PROBE_BYTES, truncate=True)
    except EgressError as exc:
        search.failures.unreachable.append((lead.url, exc.message))
        return None
    finally:
        await search.drop(opened.response)
    targets = pointed_at(body.decode("utf-8", "replace"), opened.response.final_url)
    if len(targets) != 1:
        what = f"it is a playlist of {len(targets)} files" if targets else "it is an empty playlist"
        search.failures.not_media.append((lead.url, what))
        search.reject(lead.url, lead.technique, what, lead.score)
        return None
    target = replace(lead, url=targets[0], reason=f"{lead.reason}; the playlist there names this one file")
    inner = await _open(search, target, page_url, last=True)
    return await _judge(search, target, inner, page_url, depth + 1) if inner is not None else None
