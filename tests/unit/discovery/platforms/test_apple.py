from __future__ import annotations

from typing import Any

import pytest

from stenobird.discovery.feeds.episodes import match
from stenobird.discovery.feeds.reader import read_feed
from stenobird.errors import DirectoryLookupFailed

pytestmark = pytest.mark.anyio

URL = "https://podcasts.apple.com/de/podcast/the-show/id1234567890?i=1000500000001"
SHOW_URL = "https://podcasts.apple.com/de/podcast/the-show/id1234567890"


def lookup(country: str = "") -> str:
    base = "https://itunes.apple.com/lookup?id=1234567890&media=podcast&entity=podcastEpisode&limit=200"
    return base + (f"&country={country}" if country else "")


def server_data(*episodes: tuple[str, str]) -> dict[str, object]:
    """The page's own data: a lockup for each (id, file), as Apple nests them."""
    lockups = [
        {
            "$kind": "EpisodeLockup",
            "title": f"Episode {key}",
            "releaseDate": "2026-03-01T05:00:00Z",
            "duration": 1800,
            "showTitle": "The Show",
            "playAction": {
                "episodeOffer": {
                    "contentId": key,
                    "guid": f"guid-{key}",
                    "streamUrl": file,
                    "showOffer": {"title": "The Show", "feedUrl": "https://feeds.example/show"},
                }
            },
        }
        for key, file in episodes
    ]
    return {"data": [{"data": {"shelves": [{"items": [{"model": lockup}]} for lockup in lockups]}}]}


async def test_the_directory_lists_the_episode_by_its_id(world: Any, itunes: Any) -> None:
    answer = itunes({"trackId": 1, "episodeUrl": "https://cdn.example/newest.mp3"}, {})
    asked = await world.ask(URL, {lookup("de"): answer})
    assert asked.media == ["https://cdn.example/one.mp3"]
    assert asked.feeds == [("https://feeds.example/show", False)]
    lead = asked.found.media[0]
    assert (lead.episode.title, lead.episode.show, lead.episode.duration_seconds) == (
        "The episode",
        "The Show",
        1800.0,
    )
    assert asked.found.feeds[0].wanted.guid == "guid-1"
    assert asked.search.asked == [lookup("de")]


async def test_another_storefront_is_queried_if_the_first_is_stale(world: Any, itunes: Any) -> None:
    asked = await world.ask(URL, {lookup("de"): itunes({"trackId": 1}), lookup("us"): itunes({})})
    assert asked.media == ["https://cdn.example/one.mp3"]


async def test_an_older_episode_is_looked_up_in_the_feed_by_its_title(
    world: Any, itunes: Any, page: Any
) -> None:
    listed = itunes({"trackId": 1, "trackName": "Newest", "episodeUrl": "https://cdn.example/newest.mp3"})
    own = page(
        '<meta name="apple:title" content="Die Anfänge">',
        '<meta property="og:site_name" content="Apple Podcasts">',
        title="Die Anfänge - The Show - Apple Podcasts",
    )
    asked = await world.ask(URL, {lookup("de"): listed, lookup("us"): listed, URL: own})
    assert asked.media == []
    assert asked.feeds == [("https://feeds.example/show", False)]
    feed = read_feed(
        b"<rss><channel><title>The Show</title>"
        b"<item><title>Newest</title><enclosure url='https://cdn.example/newest.mp3'/></item>"
        b"<item><title>Die Anfaenge 2</title><enclosure url='https://cdn.example/2.mp3'/></item>"
        b"<item><title>Die Anf&#228;nge</title><enclosure url='https://cdn.example/0.mp3'/></item>"
        b"</channel></rss>",
        url="https://feeds.example/show",
        content_type="application/rss+xml",
    )
    assert feed is not None
    chosen, _ = match(feed, asked.found.feeds[0].wanted)
    assert chosen is not None
    assert chosen.enclosures[0].url == "https://cdn.example/0.mp3"


async def test_the_pages_own_data_are_read_for_this_episode(
    world: Any, itunes: Any, page: Any, script: Any
) -> None:
    data = server_data(
        ("1", "https://cdn.example/other.mp3"), ("1000500000001", "https://cdn.example/own.mp3")
    )
    own = page(body=script("serialized-server-data", data))
    stale = itunes({"trackId": 1}, feed=None)
    asked = await world.ask(URL, {lookup("de"): stale, lookup("us"): stale, URL: own})
    assert asked.media == ["https://cdn.example/own.mp3"]
    assert asked.feeds == [("https://feeds.example/show", False)]
    assert asked.wanted.guid == "guid-1000500000001"


async def test_other_episodes_in_the_pages_data_are_ignored(
    world: Any, itunes: Any, page: Any, script: Any
) -> None:
    own = page(body=script("serialized-server-data", server_data(("1", "https://cdn.example/other.mp3"))))
    stale = itunes({"trackId": 1}, feed=None)
    asked = await world.ask(URL, {lookup("de"): stale, lookup("us"): stale, URL: own})
    assert asked.media == []


async def test_a_busy_directory_does_not_matter_if_the_page_has_the_episode(
    world: Any, page: Any, script: Any
) -> None:
    data = server_data(("1000500000001", "https://cdn.example/own.mp3"))
    own = page(body=script("serialized-server-data", data))
    asked = await world.ask(URL, {lookup("de"): 403, URL: own})
    assert asked.media == ["https://cdn.example/own.mp3"]


@pytest.mark.parametrize("failure", [403, 429, 500, {"errorMessage": "x"}, "<html>not json</html>"])
async def test_a_failing_directory_is_the_error_if_nothing_else_helps(
    world: Any, page: Any, failure: object
) -> None:
    with pytest.raises(DirectoryLookupFailed, match="directory"):
        await world.ask(URL, {lookup("de"): failure, URL: page()})


async def test_a_show_is_its_feeds_newest_episode(world: Any, itunes: Any) -> None:
    asked = await world.ask(SHOW_URL, {lookup("de"): itunes({})})
    assert (asked.media, asked.feeds) == ([], [("https://feeds.example/show", True)])


async def test_a_show_without_a_public_feed_is_the_newest_that_is_listed(world: Any, itunes: Any) -> None:
    answer = itunes(
        {"trackId": 1, "releaseDate": "2026-01-01T00:00:00Z", "episodeUrl": "https://cdn.example/old.mp3"},
        {"trackId": 2, "releaseDate": "2026-02-01T00:00:00Z", "episodeUrl": "https://cdn.example/new.mp3"},
        feed=None,
    )
    asked = await world.ask(SHOW_URL, {lookup("de"): answer})
    assert asked.media == ["https://cdn.example/new.mp3"]


async def test_a_show_that_no_storefront_lists_is_left_to_the_generic_rungs(world: Any) -> None:
    empty = {"resultCount": 0, "results": []}
    asked = await world.ask(SHOW_URL, {lookup("de"): empty, lookup("us"): empty})
    assert asked.is_nothing


@pytest.mark.parametrize(
    "url",
    [
        "https://embed.podcasts.apple.com/us/podcast/the-show/id1234567890?i=1000500000001&theme=auto",
        "https://podcasts.apple.com/us/podcast/id1234567890?i=1000500000001",
        "https://itunes.apple.com/us/podcast/the-show/id1234567890?i=1000500000001&mt=2",
        "https://podcasts.apple.com/us/podcast/%E3%83%86%E3%82%B9%E3%83%88/id1234567890?uo=4&i=1000500000001",
    ],
)
async def test_every_form_of_the_link_is_understood(world: Any, itunes: Any, url: str) -> None:
    asked = await world.ask(url, {lookup("us"): itunes({})})
    assert asked.media == ["https://cdn.example/one.mp3"]
