"""What discovery needs of an HTTP client, as Protocols: `egress.client` provides it, tests fake it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from stenobird.egress.client import PLAIN_GET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from stenobird.egress.client import RequestOptions


class WebResponse(Protocol):
    """An open response; also a `ports.OpenedMedia`."""

    offset: int
    status: int
    headers: Mapping[str, str]
    final_url: str
    total_bytes: int | None

    async def peek(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end, and keep them. Raises `EgressError`."""

    def body(self) -> AsyncIterator[bytes]:
        """Yield what has not been read, the peeked bytes first. Raises `EgressError`."""

    async def read(self, max_bytes: int, *, truncate: bool = False) -> bytes:
        """Return the rest; past `max_bytes`, cut with `truncate`, else raise `ResponseTooLarge`."""

    async def aclose(self) -> None:
        """Drop the connection. Safe to call twice."""


class WebClient(Protocol):
    """Opens public URLs only, redirects followed; what is not public is `DestinationForbidden`."""

    async def open(self, url: str, options: RequestOptions = PLAIN_GET) -> WebResponse:
        """Return the open answer, whatever its status. Raises `EgressError`."""
