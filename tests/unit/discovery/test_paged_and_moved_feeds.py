"""Feeds in several pages (RFC 5005), and feeds that have moved (`itunes:new-feed-url`)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stenobird.errors import AudioSourceNotFound, AudioUnreachable
from tests.support.documents import Served, mp3_bytes

pytestmark = pytest.mark.anyio

PAGE = "https://x.example/garden-hour-1"
FEED = "https://x.example/feed"
AUDIO = Served(mp3_bytes(), "audio/mpeg", ranges=True)


def item(number: int) -> str:
    return (
        f"<item><title>Garden hour {number}</title><guid>garden-{number}</guid>"
        f'<enclosure url="https://cdn.example/{number}.mp3" type="audio/mpeg"/></item>'
    )


def feed(*items: str, head: str = "") -> Served:
    text = (
        '<?xml version="1.0"?><rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom"'
        ' xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd">'
        f"<channel><title>Garden hour</title>{head}{''.join(items)}</channel></rss>"
    )
    return Served(text.encode(), "application/rss+xml")


def paged(url: str, rel: str = "next") -> str:
    return f'<atom:link rel="{rel}" href="{url}"/>'


def json_feed(*numbers: int, next_url: str | None = None) -> Served:
    items = [
        {
            "id": f"garden-{number}",
            "title": f"Garden hour {number}",
            "attachments": [{"url": f"https://cdn.example/{number}.mp3", "mime_type": "audio/mpeg"}],
        }
        for number in numbers
    ]
    document = {"version": "https://jsonfeed.org/version/1.1", "title": "Garden hour", "items": items}
    return Served(json.dumps(document | {"next_url": next_url}).encode(), "application/feed+json")


def web(**documents: Served) -> dict[str, Served]:
    page = (
        "<title>Garden hour 1</title><h1>Garden hour 1</h1>"
        f'<link rel="alternate" type="application/rss+xml" href="{FEED}">'
    )
    return {
        PAGE: Served(page.encode()),
        **{f"https://x.example/{name}": document for name, document in documents.items()},
        **{f"https://cdn.example/{number}.mp3": AUDIO for number in range(1, 6)},
    }


def asked(searcher: Any) -> list[str]:
    return [request.url.removeprefix("https://x.example/") for request in searcher.web.asked]


PAGED = {
    "next": web(feed=feed(item(4), head=paged("/feed2")), feed2=feed(item(1))),
    "archive": web(feed=feed(item(4), head=paged("/feed2", "prev-archive")), feed2=feed(item(1))),
    "capitals": web(feed=feed(item(4), head=paged("/feed2", "NEXT")), feed2=feed(item(1))),
    "third-page": web(
        feed=feed(item(5), item(4), head=paged("/feed2")),
        feed2=feed(item(3), item(2), head=paged("/feed3")),
        feed3=feed(item(1)),
    ),
    "json": web(feed=json_feed(4, next_url="/feed2"), feed2=json_feed(1)),
}


@pytest.mark.parametrize("documents", PAGED.values(), ids=PAGED)
@pytest.mark.parametrize("url", [PAGE, f"{FEED}#garden-1"], ids=["page", "guid"])
async def test_older_pages_are_searched_for_the_episode(
    searcher: Any, documents: dict[str, Served], url: str
) -> None:
    assert await searcher.media_url_in(documents, url) == "https://cdn.example/1.mp3"


async def test_only_a_few_pages_are_followed_and_none_twice(searcher: Any) -> None:
    pages = {f"feed{n}": feed(item(4), head=paged(f"/feed{n + 1}")) for n in range(2, 20)}
    documents = web(feed=feed(item(4), head=paged("/feed2")), **pages)
    with pytest.raises(AudioSourceNotFound):
        await searcher.media_url_in(documents, PAGE)
    assert asked(searcher)[1:] == ["feed", "feed2", "feed3", "feed4", "feed5"]
    loop = web(feed=feed(item(4), head=paged("/feed2")), feed2=feed(item(3), head=paged("/feed")))
    with pytest.raises(AudioSourceNotFound):
        await searcher.media_url_in(loop, PAGE)
    assert asked(searcher)[1:] == ["feed", "feed2"]


POST = "<item><title>A post</title></item>"


@pytest.mark.parametrize(
    ("url", "documents"),
    [
        (FEED, web(feed=feed(item(4), head=paged("/feed2")), feed2=feed(item(1)))),
        (PAGE, web(feed=feed(item(1), head=paged("/feed2")), feed2=feed(item(1)))),
        (
            PAGE,
            web(feed=feed("<item><title>A post</title></item>", head=paged("/feed2")), feed2=feed(item(1))),
        ),
    ],
    ids=["newest", "on-the-first-page", "blog"],
)
async def test_older_pages_are_not_fetched_without_need(
    searcher: Any, url: str, documents: dict[str, Served]
) -> None:
    try:
        await searcher.media_url_in(documents, url)
    except AudioSourceNotFound:
        assert "A post" in documents[FEED].body.decode()
    assert "feed2" not in asked(searcher)


def moved(url: str) -> str:
    return f"<itunes:new-feed-url>{url}</itunes:new-feed-url>"


GONE = item(9)
MOVED = {
    "file-gone": web(feed=feed(GONE, head=moved("/new")), new=feed(item(1))),
    "empty": web(feed=feed(head=moved("/new")), new=feed(item(1))),
    "xml-redirect": web(
        feed=Served(
            b'<?xml version="1.0"?><redirect><newLocation>https://x.example/new</newLocation></redirect>',
            "text/xml",
        ),
        new=feed(item(1)),
    ),
    "twice": web(
        feed=feed(GONE, head=moved("/new")), new=feed(GONE, head=moved("/newer")), newer=feed(item(1))
    ),
}


@pytest.mark.parametrize("documents", MOVED.values(), ids=MOVED)
async def test_new_address_of_a_feed_is_used_if_its_files_are_gone(
    searcher: Any, documents: dict[str, Served]
) -> None:
    assert await searcher.media_url_in(documents, FEED) == "https://cdn.example/1.mp3"


async def test_episode_missing_in_the_old_feed_is_looked_up_in_the_new_one(searcher: Any) -> None:
    documents = web(feed=feed(item(4), head=moved("/new")), new=feed(item(4), item(1)))
    assert await searcher.media_url_in(documents, PAGE) == "https://cdn.example/1.mp3"


async def test_feed_that_works_is_not_left_for_its_new_address(searcher: Any) -> None:
    documents = web(feed=feed(item(1), head=moved("/new")), new=feed(item(2)))
    assert await searcher.media_url_in(documents, FEED) == "https://cdn.example/1.mp3"
    assert asked(searcher) == ["feed", "https://cdn.example/1.mp3"]


async def test_feeds_that_move_to_each_other_end(searcher: Any) -> None:
    documents = web(feed=feed(GONE, head=moved("/new")), new=feed(GONE, head=moved("/feed")))
    with pytest.raises(AudioUnreachable):
        await searcher.media_url_in(documents, FEED)
