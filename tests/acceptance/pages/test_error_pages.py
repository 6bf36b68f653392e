"""What a browser shows when the service itself is broken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.web_world import MeasuredStreams, measured_world

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from stenobird.ports import EventRow

pytestmark = pytest.mark.anyio

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class _NoEvents(MeasuredStreams):
    async def items(self, after: int) -> AsyncGenerator[EventRow | None, None]:
        """Yield a ping."""
        yield None


async def test_an_unexpected_error_is_a_page_with_only_its_request_id() -> None:
    async with measured_world(_NoEvents()) as (url, _), httpx.AsyncClient(base_url=url) as http:
        page = await http.post("/", data={"audio_url": "https://example.com/a.mp3"}, headers=BROWSER)
        program = await http.post("/", data={"audio_url": "https://example.com/a.mp3"})

    assert page.status_code == program.status_code == 500
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-store"
    assert "Something went wrong on our side" in page.text
    assert page.headers["x-request-id"] in page.text
    assert "secret internals" not in page.text
    assert program.json()["error"] == "internal_error"
