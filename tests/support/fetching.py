"""A whole answer through the guarded client, for tests that look at what came."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stenobird.egress.client import EgressClient, FetchLimits, RequestOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMITS = FetchLimits(headers_seconds=20.0, idle_seconds=15.0, total_seconds=45.0, max_body_bytes=32 * 1024**2)


@dataclass(frozen=True, slots=True)
class FetchedDocument:
    """A whole answer. `headers` has lower-case names; `body` is decompressed."""

    status: int
    headers: Mapping[str, str]
    final_url: str
    body: bytes


async def fetch(client: EgressClient, url: str, *, max_bytes: int, **options: Any) -> FetchedDocument:
    """Return the answer, whatever its status; `options` are those of `RequestOptions`."""
    asked: dict[str, Any] = {"decode": True, "browser_retry": False, "limits": LIMITS} | options
    async with await client.open(url, RequestOptions(**asked)) as response:
        body = await response.read(max_bytes)
    return FetchedDocument(response.status, response.headers, response.final_url, body)
