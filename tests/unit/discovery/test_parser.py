"""The parsing children: what they return, and that each can be lost without harm."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from stenobird.discovery.parsing.parser import DocumentParser, ParseFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.anyio

PAGE = b'<html><title>Otters</title><h1>Otters</h1><audio src="/otters.mp3"></audio></html>'
FEED = (
    b'<rss version="2.0"><channel><title>F</title><item><title>E</title>'
    b'<enclosure url="https://c.example/e.mp3" type="audio/mpeg"/></item></channel></rss>'
)


@pytest.fixture
async def parser() -> AsyncIterator[DocumentParser]:
    async with DocumentParser(children=1) as parser:
        yield parser


async def test_child_returns_the_facts_of_a_page_and_a_feed(parser: DocumentParser) -> None:
    page = await parser.page(PAGE, url="https://x.example/otters")
    assert page.title == "Otters"
    assert page.candidates[0].url == "https://x.example/otters.mp3"
    feed = await parser.feed(FEED, url="https://x.example/rss")
    assert feed is not None
    assert feed.episodes[0].enclosures[0].url == "https://c.example/e.mp3"
    assert await parser.feed(PAGE, url="https://x.example/rss") is None


@pytest.mark.parametrize("body", [b"", b" \r\n", b"\0\0", b"\xef\xbb\xbf"])
async def test_empty_document_is_a_page_without_facts(parser: DocumentParser, body: bytes) -> None:
    page = await parser.page(body, url="https://x.example/otters")
    assert (page.title, page.candidates, dict(page.meta)) == (None, (), {})
    assert await parser.feed(body, url="https://x.example/otters") is None


async def test_child_is_kept_for_the_next_document(parser: DocumentParser) -> None:
    await parser.page(PAGE, url="https://x.example/1")
    (first,) = parser._idle
    await parser.page(PAGE, url="https://x.example/2")
    assert parser._idle == [first]


async def test_child_can_be_started_before_the_document_is_there(parser: DocumentParser) -> None:
    await parser.prepare()
    (child,) = parser._idle
    await parser.prepare()
    await parser.page(PAGE, url="https://x.example/1")
    assert parser._idle == [child]
    assert parser._all == {child}


async def test_child_that_was_killed_is_replaced_before_the_next_document(parser: DocumentParser) -> None:
    await parser.page(PAGE, url="https://x.example/1")
    (child,) = parser._idle
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    assert (await parser.page(PAGE, url="https://x.example/2")).title == "Otters"


async def test_child_that_overruns_its_time_is_killed() -> None:
    async with DocumentParser(children=1, wall_seconds=0.001) as parser:
        with pytest.raises(ParseFailed):
            await parser.page(PAGE, url="https://x.example/1")
        assert not parser._all


async def test_cancelled_request_leaves_no_child_behind(parser: DocumentParser) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(parser.page(PAGE * 1000, url="https://x.example/1"))
        await asyncio.sleep(0)
        task.cancel()
    assert not parser._all
    assert (await parser.page(PAGE, url="https://x.example/2")).title == "Otters"


async def test_closing_ends_every_child() -> None:
    async with DocumentParser(children=2) as parser:
        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(parser.page(PAGE, url=f"https://x.example/{number}"))
        children = list(parser._all)
        assert len(children) == 2
    assert all(child.returncode is not None for child in children)


async def test_child_cannot_write_files_or_keep_the_environment(parser: DocumentParser) -> None:
    await parser.page(PAGE, url="https://x.example/1")
    (child,) = parser._idle
    with open(f"/proc/{child.pid}/limits", encoding="ascii") as limits:  # noqa: ASYNC230, PTH123  # procfs
        rows = {line[:26].strip(): line[26:47].strip() for line in limits}
    assert rows["Max file size"] == "0"
    assert rows["Max core file size"] == "0"
    assert int(rows["Max address space"]) <= 2 * 1024**3
    with open(f"/proc/{child.pid}/environ", "rb") as environment:  # noqa: ASYNC230, PTH123  # procfs
        names = {row.split(b"=")[0] for row in environment.read().split(b"\x00") if row}
    assert names == {b"LC_ALL", b"PYTHONDONTWRITEBYTECODE"}


@pytest.mark.parametrize(
    "document",
    [
        b"<div>" * 200_000,
        b"<a href='x'>" * 50_000,
        b"<!--" * 300_000,
        b"<script>" + b'{"a":' * 200_000,
        b'<script type="application/ld+json">' + b'{"a":' * 200_000 + b"</script>",
        b'<script type="application/ld+json">' + b"[" * 500_000 + b"</script>",
        b"<p " + b"a=b " * 300_000 + b">",
        b'<audio src="' + b"x" * 1_000_000 + b'.mp3">',
        b"<script>" + b'"https://x.example/a.mp3",' * 40_000 + b"</script>",
        b"<script>" + b'title:"' * 100_000 + b'https://x.example/a.mp3"</script>',
        b"\\" * 1_000_000 + b".mp3",
        b"<script>" + b"\\" * 1_000_000 + b"/x.mp3</script>",
        b"<title>" + b" - " * 200_000,
    ],
    ids=lambda document: repr(document[:30]),
)
async def test_document_made_to_be_slow_ends_within_its_bounds(
    parser: DocumentParser, document: bytes
) -> None:
    try:
        page = await parser.page(document, url="https://x.example/")
    except ParseFailed:
        pass
    else:
        assert page.accepted <= 1
    assert (await parser.page(PAGE, url="https://x.example/after")).title == "Otters"
