"""A small web of documents for the tests of discovery, in memory: any URL, no sockets.

`DocumentWeb.open` is a `discovery.search.SendRequest`. It serves what it was given, follows redirects,
honours byte ranges, and notes every request; what it was not given is a 404.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from stenobird.egress.client import PLAIN_GET, RequestOptions
from stenobird.egress.response import UnknownPart
from stenobird.errors import ConnectFailed, DestinationForbidden, ResponseTooLarge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

BLOCK_BYTES = 16 * 1024


def mp3_bytes(seconds: float = 3.0) -> bytes:
    """Return valid MPEG frames of silence, 128 kbit/s at 44.1 kHz: 417 bytes for every 26 ms."""
    frame = bytes.fromhex("fffb9064") + bytes(413)
    return frame * max(3, round(seconds * 44100 / 1152))


@dataclass(frozen=True, slots=True)
class Served:
    """What a URL answers."""

    body: bytes = b""
    content_type: str = "text/html; charset=utf-8"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    ranges: bool = False
    unplaced: bool = False
    """Whether a range gets a part that does not say which it is."""
    fails: bool = False
    remedy: str = ""
    forbidden: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    url: str
    headers: Mapping[str, str]
    byte_range: tuple[int, int | None] | None


class DocumentResponse:
    """A `discovery.search.WebResponse` from memory; `taken` is how many bytes were read."""

    def __init__(self, served: Served, url: str, byte_range: tuple[int, int | None] | None) -> None:
        self.status = served.status
        self.headers: Mapping[str, str] = {"content-type": served.content_type, **served.headers}
        self.final_url = url
        self.offset = 0
        self.end: int | None = len(served.body)
        self.total_bytes: int | None = self.end
        self.closed = False
        self.taken = 0
        self._body = served.body
        if served.ranges and byte_range is not None and served.status == 200:
            self.status = 206
            first, last = byte_range
            self._body = served.body[first : None if last is None else last + 1]
            self.offset, self.end = first, first + len(self._body)

    async def peek(self, size: int) -> bytes:
        """Return the next bytes and keep them."""
        return self._body[self.taken : self.taken + size]

    async def body(self) -> AsyncIterator[bytes]:
        """Yield what is left."""
        while self.taken < len(self._body):
            block = self._body[self.taken : self.taken + BLOCK_BYTES]
            self.taken += len(block)
            yield block

    async def read(self, max_bytes: int, *, truncate: bool = False) -> bytes:
        """Return what is left."""
        left = self._body[self.taken :]
        if len(left) > max_bytes and not truncate:
            raise ResponseTooLarge
        self.taken += min(len(left), max_bytes)
        return left[:max_bytes]

    async def aclose(self) -> None:
        """Note the end."""
        self.closed = True


class DocumentWeb:
    """The web as the given documents. Every response is kept, so that a test can see that none stays open."""

    def __init__(self, documents: Mapping[str, Served]) -> None:
        self.documents = documents
        self.asked: list[Asked] = []
        self.responses: list[DocumentResponse] = []

    async def open(self, url: str, options: RequestOptions = PLAIN_GET) -> DocumentResponse:
        """Answer a request; redirects are followed."""
        self.asked.append(Asked(options.method, url, dict(options.headers or {}), options.byte_range))
        for _ in range(10):
            served = self.documents.get(url, Served(b"<h1>Not found</h1>", status=404))
            if served.fails:
                raise ConnectFailed(f"{url} did not answer.", remedy=served.remedy)
            if served.forbidden:
                raise DestinationForbidden
            if served.unplaced and options.byte_range is not None:
                raise UnknownPart(f"{url} sent a part of the file without saying which.")
            location = served.headers.get("location")
            if location is None or not 300 <= served.status < 400:
                break
            url = urljoin(url, location)
        response = DocumentResponse(served, url, options.byte_range)
        self.responses.append(response)
        return response

    @property
    def left_open(self) -> list[DocumentResponse]:
        """Return the responses that are still open."""
        return [response for response in self.responses if not response.closed]
