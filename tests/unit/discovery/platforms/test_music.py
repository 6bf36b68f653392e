from __future__ import annotations

import html
import json
from typing import Any
from urllib.parse import urlencode

import pytest

from stenobird.discovery.feeds.episodes import match
from stenobird.discovery.feeds.reader import read_feed
from stenobird.errors import DirectoryLookupFailed, UnsupportedURL

pytestmark = pytest.mark.anyio

ID = "4rOoJ6Egrf8K2IrywzwOMk"
URL = f"https://open.spotify.com/episode/{ID}?si=abc"
EMBED = f"https://open.spotify.com/embed/episode/{ID}"


def search(term: str) -> str:
    query = {"media": "podcast", "entity": "podcast", "limit": "25", "term": term}
    return f"https://itunes.apple.com/search?{urlencode(query)}"


def shows(*rows: tuple[str, str]) -> dict[str, object]:
    return {
        "results": [
            {"kind": "podcast", "collectionId": number, "collectionName": name, "feedUrl": feed}
            for number, (name, feed) in enumerate(rows, 1)
        ]
    }


def embed(script: Any, **entity: object) -> str:
    fields = {
        "type": "episode",
        "id": ID,
        "title": "Über Bäume",
        "subtitle": "Die Sendung",
        "duration": 1_800_000,
        "releaseDate": {"isoString": "2026-03-01T00:00:00Z"},
        "audioPreview": {"url": "https://podz-content.spotifycdn.com/audio/clips/0/clip_1_2.mp3"},
    }
    state = {"props": {"pageProps": {"state": {"data": {"entity": fields | entity}}}}}
    return str(script("__NEXT_DATA__", state))


class TestSpotifyEpisode:
    async def test_show_and_title_lead_to_the_feed(self, world: Any, page: Any, script: Any) -> None:
        documents = {
            EMBED: page(body=embed(script)),
            search("Die Sendung"): shows(
                ("Die Sendung mit dem Wald", "https://feeds.example/wrong"),
                ("die sendung", "https://feeds.example/right"),
            ),
        }
        asked = await world.ask(URL, documents)
        assert asked.media == []
        assert asked.feeds == [("https://feeds.example/right", False)]
        assert asked.found.final
        wanted = asked.found.feeds[0].wanted
        assert (wanted.title, wanted.duration_seconds) == ("Über Bäume", 1800.0)
        feed = read_feed(
            b"<rss xmlns:itunes='http://www.itunes.com/dtds/podcast-1.0.dtd'><channel>"
            b"<title>Die Sendung</title>"
            b"<item><title>Newest</title><enclosure url='https://cdn.example/n.mp3'/></item>"
            b"<item><title>&#220;ber B&#228;ume</title><itunes:duration>1200</itunes:duration>"
            b"<enclosure url='https://cdn.example/short.mp3' type='audio/mpeg'/></item>"
            b"<item><title>&#220;ber B&#228;ume</title><itunes:duration>30:01</itunes:duration>"
            b"<enclosure url='https://cdn.example/long.mp3' type='audio/mpeg'/></item>"
            b"</channel></rss>",
            url="https://feeds.example/right",
            content_type="text/xml",
        )
        assert feed is not None
        chosen, _ = match(feed, wanted)
        assert chosen is not None
        assert chosen.enclosures[0].url == "https://cdn.example/long.mp3"

    async def test_the_clip_that_the_page_offers_is_never_taken(
        self, world: Any, page: Any, script: Any
    ) -> None:
        documents = {EMBED: page(body=embed(script)), search("Die Sendung"): shows()}
        with pytest.raises(UnsupportedURL, match="exclusive"):
            await world.ask(URL, documents)

    async def test_a_show_of_another_name_is_no_answer(self, world: Any, page: Any, script: Any) -> None:
        documents = {
            EMBED: page(body=embed(script)),
            search("Die Sendung"): shows(("Eine Sendung", "https://feeds.example/wrong")),
        }
        with pytest.raises(UnsupportedURL):
            await world.ask(URL, documents)

    async def test_names_in_any_script_are_compared(self, world: Any, page: Any, script: Any) -> None:
        documents = {
            EMBED: page(body=embed(script, title="第1回 はじめに", subtitle="朝のラジオ")),
            search("朝のラジオ"): shows(
                ("夜のラジオ", "https://feeds.example/night"), ("朝のラジオ", "https://feeds.example/morning")
            ),
        }
        asked = await world.ask(URL, documents)
        assert asked.feeds == [("https://feeds.example/morning", False)]

    @pytest.mark.parametrize(
        ("title", "description"),
        [
            ("Über Bäume - Die Sendung | Podcast on Spotify", ""),
            ("Über Bäume", "Listen to this episode from Die Sendung on Spotify. Trees."),
        ],
    )
    async def test_a_changed_embed_leaves_the_page_itself(
        self, world: Any, page: Any, title: str, description: str
    ) -> None:
        own = page(
            '<meta property="og:title" content="Über Bäume">',
            f'<meta property="og:description" content="{description}">',
            title=title,
        )
        documents = {
            EMBED: page(body="<script id='__NEXT_DATA__' type='application/json'>{}</script>"),
            URL: own,
            search("Die Sendung"): shows(("Die Sendung", "https://feeds.example/right")),
        }
        asked = await world.ask(URL, documents)
        assert asked.feeds == [("https://feeds.example/right", False)]
        assert asked.wanted.title == "Über Bäume"

    async def test_another_entity_in_the_embed_is_not_believed(
        self, world: Any, page: Any, script: Any
    ) -> None:
        asked = await world.ask(URL, {EMBED: page(body=embed(script, id="other")), URL: page()})
        assert (asked.media, asked.feeds) == ([], [])

    async def test_a_failing_directory_says_so(self, world: Any, page: Any, script: Any) -> None:
        with pytest.raises(DirectoryLookupFailed):
            await world.ask(URL, {EMBED: page(body=embed(script)), search("Die Sendung"): 503})


class TestSpotifyShow:
    SHOW = "https://open.spotify.com/intl-de/show/2mTUnDkuKUkhiueKcVWoP0"
    EMBED = "https://open.spotify.com/embed/show/2mTUnDkuKUkhiueKcVWoP0"

    def documents(self, page: Any, script: Any, found: object) -> dict[str, object]:
        own = embed(script, id="2mTUnDkuKUkhiueKcVWoP0", type="show", title="Die Sendung", subtitle="Jemand")
        return {self.EMBED: page(body=own), search("Die Sendung"): found}

    async def test_a_show_is_its_newest_episode(self, world: Any, page: Any, script: Any) -> None:
        found = shows(
            ("Die Sendung", "https://feeds.example/a"), ("Die Sendung: Extra", "https://feeds.example/b")
        )
        asked = await world.ask(self.SHOW, self.documents(page, script, found))
        assert asked.feeds == [("https://feeds.example/a", True)]

    async def test_of_two_shows_of_one_name_none_is_guessed(self, world: Any, page: Any, script: Any) -> None:
        found = shows(("Die Sendung", "https://feeds.example/a"), ("Die Sendung", "https://feeds.example/b"))
        asked = await world.ask(self.SHOW, self.documents(page, script, found))
        assert asked.feeds == []


@pytest.mark.parametrize(
    "url",
    [
        f"https://open.spotify.com/track/{ID}",
        f"https://open.spotify.com/embed/playlist/{ID}",
        "https://www.deezer.com/en/track/3135556",
        "https://tidal.com/browse/track/77646168",
        "https://artist.bandcamp.com/album/the-album",
    ],
)
async def test_music_is_refused_with_the_reason(world: Any, url: str) -> None:
    with pytest.raises(UnsupportedURL, match=r"encrypted|several"):
        await world.ask(url)


async def test_a_deezer_episode_leads_to_the_feed(world: Any) -> None:
    api = {"id": 565416092, "title": "Eins", "duration": 1800, "podcast": {"title": "Die Sendung"}}
    documents = {
        "https://api.deezer.com/episode/565416092": api,
        search("Die Sendung"): shows(("Die Sendung", "https://feeds.example/a")),
    }
    asked = await world.ask("https://www.deezer.com/de/episode/565416092", documents)
    assert asked.feeds == [("https://feeds.example/a", False)]
    assert asked.wanted.duration_seconds == 1800.0


class TestBandcamp:
    URL = "https://artist.bandcamp.com/track/the-song"

    def tracks(self, *files: str) -> str:
        rows = [{"title": f"{file}", "duration": 200.5, "file": {"mp3-128": file}} for file in files]
        return f'<script data-tralbum="{html.escape(json.dumps({"trackinfo": rows}))}"></script>'

    async def test_the_tracks_signed_address_is_left_as_it_is(self, world: Any, page: Any) -> None:
        signed = "https://t4.bcbits.com/stream/0/mp3-128/1?p=0&ts=1&t=2&token=1_3"
        asked = await world.ask(self.URL, {self.URL: page(body=self.tracks(signed))})
        assert asked.media == [signed]

    async def test_of_several_tracks_none_is_guessed(self, world: Any, page: Any) -> None:
        own = page(body=self.tracks("https://t4.bcbits.com/1", "https://t4.bcbits.com/2"))
        assert (await world.ask(self.URL, {self.URL: own})).media == []


async def test_youtube_is_left_to_the_extractor_without_a_request(world: Any) -> None:
    asked = await world.ask("https://www.youtube.com/watch?v=dQw4w9WgXcQ")
    assert asked.found.final
    assert asked.search.asked == []
