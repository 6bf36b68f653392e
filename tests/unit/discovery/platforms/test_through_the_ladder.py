"""Platform rules and the directory on the real ladder: what is opened, believed, and passed over."""

from __future__ import annotations

import errno
import json
from typing import Any

import pytest

from stenobird.discovery.feeds.directory import PodcastDirectory
from stenobird.discovery.parsing.facts import FoundSource
from stenobird.discovery.platforms import platform_rules
from stenobird.errors import ConnectFailed, DirectoryLookupFailed, JobError, UnsupportedURL, WorkerTrouble
from stenobird.testing import FakeClock
from tests.support.documents import Served

pytestmark = pytest.mark.anyio

UUID = "8319b776-4153-4d22-8630-631f204a03dd"
APPLE = "https://podcasts.apple.com/de/podcast/the-show/id1234567890?i=1000500000001"
LOOKUP = "https://itunes.apple.com/lookup?id=1234567890&media=podcast&entity=podcastEpisode&limit=200"
FEED_URL = "https://feeds.example/show"
FEED = """<rss version="2.0"><channel><title>The Show</title>
<item><title>Newest</title><guid>n</guid><pubDate>Mon, 12 Oct 2026 10:00:00 GMT</pubDate>
<enclosure url="https://cdn.example/newest.mp3" type="audio/mpeg"/></item>
<item><title>The episode</title><guid>guid-1</guid><pubDate>Mon, 05 Jan 2026 10:00:00 GMT</pubDate>
<enclosure url="https://cdn.example/one.mp3" type="audio/mpeg"/></item></channel></rss>"""


@pytest.fixture
def web(searcher: Any) -> Any:
    """A searcher with every rule and the directory; the extractor is left out."""
    directory = PodcastDirectory(FakeClock())
    searcher.rungs = {"platforms": platform_rules(directory), "directory": directory}
    return searcher


def as_json(data: object) -> Served:
    return Served(json.dumps(data).encode(), "text/javascript; charset=utf-8")


def feed(text: str = FEED) -> Served:
    return Served(text.encode(), "application/rss+xml")


async def test_a_template_costs_one_request(web: Any, mp3: bytes) -> None:
    media = f"https://rss.art19.com/episodes/{UUID}.mp3"
    url = f"https://art19.com/shows/the-show/episodes/{UUID}"
    assert await web.media_url({media: mp3}, url) == media
    assert [asked.url for asked in web.web.asked] == [media]


async def test_a_dead_template_falls_back_to_the_page(web: Any, mp3: bytes) -> None:
    url = f"https://art19.com/shows/the-show/episodes/{UUID}"
    page = (
        '<title>The episode</title><meta property="og:title" content="The episode">'
        '<meta property="og:audio" content="https://content.example/own.mp3">'
    )
    assert await web.media_url({url: page, "https://content.example/own.mp3": mp3}, url) == (
        "https://content.example/own.mp3"
    )


async def test_an_older_apple_episode_is_found_in_the_feed_by_its_title(
    web: Any, mp3: bytes, itunes: Any
) -> None:
    newest = itunes({"trackId": 1, "trackName": "Newest", "episodeUrl": "https://cdn.example/newest.mp3"})
    documents = {
        f"{LOOKUP}&country=de": as_json(newest),
        f"{LOOKUP}&country=us": as_json(newest),
        APPLE: "<title>The episode - The Show - Apple Podcasts</title>"
        '<meta name="apple:title" content="The episode">',
        FEED_URL: feed(),
        "https://cdn.example/one.mp3": mp3,
        "https://cdn.example/newest.mp3": mp3,
    }
    assert await web.media_url(documents, APPLE) == "https://cdn.example/one.mp3"


async def test_an_episode_missing_in_its_feed_is_not_replaced_by_the_newest(
    web: Any, mp3: bytes, itunes: Any
) -> None:
    newest = itunes({"trackId": 1, "trackName": "Newest", "episodeUrl": "https://cdn.example/newest.mp3"})
    documents = {
        f"{LOOKUP}&country=de": as_json(newest),
        f"{LOOKUP}&country=us": as_json(newest),
        APPLE: "<title>A lost episode - The Show - Apple Podcasts</title>",
        FEED_URL: feed(),
        "https://cdn.example/newest.mp3": mp3,
    }
    with pytest.raises(JobError):
        await web.media_url(documents, APPLE)
    assert "https://cdn.example/newest.mp3" not in [asked.url for asked in web.web.asked]


async def test_a_busy_directory_is_the_error_if_nothing_else_was_found(web: Any) -> None:
    documents = {f"{LOOKUP}&country=de": Served(status=429), APPLE: "<title>x</title>"}
    with pytest.raises(DirectoryLookupFailed):
        await web.media_url(documents, APPLE)


def spotify(script: Any, **entity: object) -> str:
    fields = {"id": "4rOoJ6Egrf8K2IrywzwOMk", "title": "The episode", "subtitle": "The Show"}
    data = {"props": {"pageProps": {"state": {"data": {"entity": fields | entity}}}}}
    return f"<title>Spotify Embed</title>{script('__NEXT_DATA__', data)}"


SPOTIFY = "https://open.spotify.com/episode/4rOoJ6Egrf8K2IrywzwOMk"
EMBED = "https://open.spotify.com/embed/episode/4rOoJ6Egrf8K2IrywzwOMk"
SEARCH = "https://itunes.apple.com/search?media=podcast&entity=podcast&limit=25&term=The+Show"
CLIP = "https://p.scdn.co/mp3-preview/abc"
CLIP_PAGE = f'<title>The episode</title><meta property="og:audio" content="{CLIP}">'


async def test_spotify_leads_through_the_directory_to_the_publishers_file(
    web: Any, mp3: bytes, script: Any, itunes: Any
) -> None:
    documents = {
        SPOTIFY: CLIP_PAGE,
        EMBED: spotify(script),
        SEARCH: as_json(itunes()),
        FEED_URL: feed(),
        "https://cdn.example/one.mp3": mp3,
        CLIP: mp3,
    }
    assert await web.media_url(documents, SPOTIFY) == "https://cdn.example/one.mp3"


@pytest.mark.parametrize("url", [SPOTIFY, SPOTIFY.replace("episode", "track")])
async def test_the_clip_of_an_exclusive_spotify_episode_is_not_used(
    web: Any, mp3: bytes, script: Any, url: str
) -> None:
    documents = {url: CLIP_PAGE, EMBED: spotify(script), SEARCH: as_json({"results": []}), CLIP: mp3}
    with pytest.raises(UnsupportedURL, match="encrypted"):
        await web.media_url(documents, url)
    assert CLIP not in [asked.url for asked in web.web.asked]


async def test_a_platforms_player_on_a_page_is_followed(web: Any, mp3: bytes) -> None:
    url, media = "https://blog.example/the-episode", "https://traffic.megaphone.fm/GLT9749789991.mp3"
    page = (
        "<title>The episode</title><h1>The episode</h1>"
        '<iframe src="https://player.megaphone.fm/GLT9749789991"></iframe>'
    )
    assert await web.media_url({url: page, media: mp3}, url) == media
    assert [asked.url for asked in web.web.asked] == [url, media]


async def test_a_players_own_state_is_read(web: Any, mp3: bytes, script: Any) -> None:
    url, player = "https://blog.example/the-episode", "https://omny.fm/shows/the-show/the-episode/embed"
    media = "https://traffic.omny.fm/d/clips/a/b/c/audio.mp3?utm_source=Embed"
    state = script("__NEXT_DATA__", {"props": {"pageProps": {"clip": {"AudioUrl": media}}}})
    page = f'<title>The episode</title><h1>The episode</h1><iframe src="{player}"></iframe>'
    documents = {url: page, player: f"<title>The episode</title>{state}", media: mp3}
    assert await web.media_url(documents, url) == media


async def test_trouble_of_this_machine_is_not_taken_for_that_of_a_platform(searcher: Any) -> None:
    class Troubled:
        name, stage = "Troubled", "resolving_page"

        def matches(self, _url: str) -> bool:
            return True

        async def try_(self, _search: Any, _url: str) -> FoundSource:
            failure = ConnectFailed("The name could not be looked up.")
            failure.__cause__ = OSError(errno.EMFILE, "Too many open files")
            return FoundSource(final=True, failure=failure)

    searcher.rungs = {"platforms": (Troubled(),)}
    with pytest.raises(WorkerTrouble, match="Too many open files"):
        await searcher.find({}, "https://publisher.example/the-episode")


async def test_the_source_of_a_page_is_read_in_its_own_charset(web: Any, mp3: bytes) -> None:
    url, media = (
        "https://play.libsyn.com/embed/episode/id/12345",
        "https://traffic.libsyn.com/the-show/one.mp3",
    )
    item = json.dumps({"item_id": 12345, "media_url": media, "item_title": "Über alles"}, ensure_ascii=False)
    page = f"<script>var playlistItem = {item};</script>".encode("latin-1")
    served = Served(page, "text/html; charset=iso-8859-1")
    found = await web.find({url: served, media: mp3}, url)
    await found.opened.aclose()
    assert (found.source.media_url, found.source.title) == (media, "Über alles")


async def test_a_page_that_links_its_show_in_apples_directory_is_found_in_the_feed(
    web: Any, mp3: bytes, itunes: Any
) -> None:
    url = "https://publisher.example/the-episode"
    page = (
        "<title>The episode</title><h1>The episode</h1>"
        '<a href="https://podcasts.apple.com/us/podcast/the-show/id1234567890">Apple Podcasts</a>'
    )
    documents = {
        url: page,
        LOOKUP: as_json(itunes()),
        FEED_URL: feed(),
        "https://cdn.example/one.mp3": mp3,
        "https://cdn.example/newest.mp3": mp3,
    }
    assert await web.media_url(documents, url) == "https://cdn.example/one.mp3"


async def test_an_article_that_links_a_podcast_is_not_that_podcasts_newest_episode(
    web: Any, mp3: bytes, itunes: Any
) -> None:
    url = "https://paper.example/politics/an-article-about-something"
    page = (
        "<title>An article about something</title><h1>An article about something</h1>"
        '<footer><a href="https://podcasts.apple.com/us/podcast/x/id1234567890">Our podcast</a></footer>'
    )
    documents = {
        url: page,
        LOOKUP: as_json(itunes()),
        FEED_URL: feed(),
        "https://cdn.example/newest.mp3": mp3,
        "https://cdn.example/one.mp3": mp3,
    }
    with pytest.raises(JobError):
        await web.media_url(documents, url)


@pytest.mark.parametrize("directory", [Served(status=503), as_json({"results": []})], ids=["down", "empty"])
async def test_clip_of_an_unknown_host_is_not_used_if_the_directory_fails(
    web: Any, mp3: bytes, script: Any, directory: Served
) -> None:
    clip = "https://clips.example/the-episode-abc.mp3"
    documents = {
        SPOTIFY: CLIP_PAGE.replace(CLIP, clip),
        EMBED: spotify(script),
        SEARCH: directory,
        clip: mp3,
    }
    with pytest.raises((DirectoryLookupFailed, UnsupportedURL)):
        await web.media_url(documents, SPOTIFY)
    assert clip not in [asked.url for asked in web.web.asked]


async def test_what_a_failed_rule_has_learnt_still_finds_the_episode_elsewhere(
    web: Any, mp3: bytes, script: Any
) -> None:
    page = '<title>Spotify</title><link rel=alternate type="application/rss+xml" href="https://feeds.example/show">'
    documents = {
        SPOTIFY: page,
        EMBED: spotify(script),
        SEARCH: Served(status=503),
        FEED_URL: feed(),
        "https://cdn.example/one.mp3": mp3,
        "https://cdn.example/newest.mp3": mp3,
    }
    assert await web.media_url(documents, SPOTIFY) == "https://cdn.example/one.mp3"
