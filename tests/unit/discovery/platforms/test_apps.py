from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

pytestmark = pytest.mark.anyio

FEED = "https://feeds.example/show?format=xml&x=ü"
LOOKUP = "https://itunes.apple.com/lookup?id=1234567890&media=podcast&entity=podcastEpisode&limit=200"


class TestOvercast:
    URL = "https://overcast.fm/+Kebtyd8dg"

    async def test_the_stream_meta_names_the_file_without_its_time(self, world: Any, page: Any) -> None:
        own = page('<meta name="twitter:player:stream" content="https://cdn.example/a.mp3?x=1#t=0">')
        asked = await world.ask(self.URL, {self.URL: own})
        assert asked.media == ["https://cdn.example/a.mp3?x=1"]

    async def test_the_player_names_it_when_the_meta_is_gone(self, world: Any, page: Any) -> None:
        player = (
            '<audio id="other" src="https://cdn.example/jingle.mp3"></audio>'
            '<audio id="audioplayer" preload="none">\n '
            '<source src="https://cdn.example/a.mp3#t=0" type="audio/mp3"/></audio>'
        )
        asked = await world.ask(self.URL, {self.URL: page(body=player)})
        assert asked.media == ["https://cdn.example/a.mp3"]

    async def test_the_shows_place_in_the_directory_is_the_last_way(
        self, world: Any, page: Any, itunes: Any
    ) -> None:
        link = '<h1>The episode</h1><a href="https://podcasts.apple.com/podcast/id1234567890">Apple</a>'
        documents = {
            self.URL: page('<meta property="og:site_name" content="Overcast">', body=link),
            LOOKUP: itunes(name="The Show"),
        }
        asked = await world.ask(self.URL, documents)
        assert asked.feeds == [("https://feeds.example/show", False)]
        wanted = asked.found.feeds[0].wanted
        assert (wanted.title, wanted.show) == ("The episode", "The Show")

    async def test_a_show_by_its_apple_id_is_its_newest_episode(self, world: Any, itunes: Any) -> None:
        asked = await world.ask("https://overcast.fm/itunes1234567890/the-show", {LOOKUP: itunes()})
        assert asked.feeds == [("https://feeds.example/show", True)]


class TestPocketCasts:
    URL = "https://pca.st/episode/c51cd5a1-9cb2-4d11-8a0f-1b5e9d4e8d11"

    def node(self, name: str) -> dict[str, object]:
        return {
            "@context": "https://schema.org",
            "@type": "PodcastEpisode",
            "name": name,
            "associatedMedia": {"@type": "MediaObject", "contentUrl": f"https://cdn.example/{name}.mp3"},
            "partOfSeries": {"@type": "PodcastSeries", "name": "The Show"},
        }

    async def test_json_ld_names_the_file(self, world: Any, page: Any) -> None:
        own = page(f'<script type="application/ld+json">{json.dumps(self.node("one"))}</script>')
        asked = await world.ask(self.URL, {self.URL: own})
        assert asked.media == ["https://cdn.example/one.mp3"]
        assert asked.wanted.show == "The Show"

    async def test_a_list_of_episodes_is_not_an_episode(self, world: Any, page: Any) -> None:
        nodes = [self.node("one"), self.node("two")]
        own = page(f'<script type="application/ld+json">{json.dumps(nodes)}</script>')
        assert (await world.ask(self.URL, {self.URL: own})).media == []

    async def test_the_player_names_it_on_older_pages(self, world: Any, page: Any) -> None:
        asked = await world.ask(
            self.URL, {self.URL: page(body='<audio id="audio_player" src="https://cdn.example/a.mp3">')}
        )
        assert asked.media == ["https://cdn.example/a.mp3"]


class TestCastbox:
    URL = "https://castbox.fm/episode/The-title-id1234567-id456789012?country=us"
    API = "https://everest.castbox.fm/data/episode/v4?eid=456789012"

    async def test_the_api_names_the_file(self, world: Any) -> None:
        data = {"eid": 456789012, "url": "https://cdn.example/a.mp3", "title": "The title"}
        asked = await world.ask(self.URL, {self.API: {"data": data}})
        assert asked.media == ["https://cdn.example/a.mp3"]

    async def test_another_episode_is_ignored(self, world: Any, page: Any) -> None:
        data = {"eid": 1, "url": "https://cdn.example/other.mp3"}
        asked = await world.ask(self.URL, {self.API: {"data": data}, self.URL: page()})
        assert asked.media == []

    async def test_the_player_names_it_when_the_api_is_gone(self, world: Any, page: Any) -> None:
        own = page(body='<audio preload><source src="https://cdn.example/a.mp3"></audio>')
        assert (await world.ask(self.URL, {self.URL: own})).media == ["https://cdn.example/a.mp3"]


class TestPodcastAddict:
    URL = "https://podcastaddict.com/the-show/episode/123456789"

    @pytest.mark.parametrize("mark", ["?from=PodcastAddict", "?a=b&amp;from=PodcastAddict"])
    async def test_what_the_page_adds_to_the_address_is_dropped(
        self, world: Any, page: Any, mark: str
    ) -> None:
        own = page(body=f'<audio controls><source src="https://cdn.example/a.mp3{mark}"></audio>')
        asked = await world.ask(self.URL, {self.URL: own})
        expected = "https://cdn.example/a.mp3" + ("?a=b" if "a=b" in mark else "")
        assert asked.media == [expected]

    async def test_several_players_are_no_answer(self, world: Any, page: Any) -> None:
        own = page(body="".join(f'<audio src="https://cdn.example/{key}.mp3"></audio>' for key in "ab"))
        assert (await world.ask(self.URL, {self.URL: own})).media == []

    async def test_an_enclosure_in_the_url_needs_no_request(self, world: Any) -> None:
        asked = await world.ask(
            f"https://podcastaddict.com/episode/{quote('https://cdn.example/a.mp3?x=1', safe='')}"
        )
        assert asked.media == ["https://cdn.example/a.mp3?x=1"]
        assert asked.search.asked == []

    async def test_a_feed_in_the_url_is_its_newest_episode(self, world: Any) -> None:
        asked = await world.ask(f"https://podcastaddict.com/feed/{quote('https://feeds.example/a', safe='')}")
        assert asked.feeds == [("https://feeds.example/a", True)]


def b64(text: str, *, padded: bool = True) -> str:
    encoded = base64.urlsafe_b64encode(text.encode()).decode()
    return quote(encoded if padded else encoded.rstrip("="))


class TestGooglePodcasts:
    @pytest.mark.parametrize("padded", [True, False])
    @pytest.mark.parametrize(
        "form", ["/feed/{feed}/episode/{guid}?hl=de&ved=2ah", "/?feed={feed}&episode={guid}"]
    )
    async def test_feed_and_guid_are_in_the_url(self, world: Any, form: str, padded: bool) -> None:  # noqa: FBT001
        feed, guid = "https://feeds.example/show", "tag:example,2026:/a?b=ü"
        path = form.format(feed=b64(feed, padded=padded), guid=b64(guid, padded=padded))
        asked = await world.ask(f"https://podcasts.google.com{path}")
        assert asked.feeds == [(feed, False)]
        assert asked.found.feeds[0].wanted.guid == guid
        assert asked.search.asked == []

    async def test_a_show_is_its_newest_episode(self, world: Any) -> None:
        asked = await world.ask(f"https://podcasts.google.com/feed/{b64('https://feeds.example/show')}")
        assert asked.feeds == [("https://feeds.example/show", True)]

    @pytest.mark.parametrize("feed", ["%%%", "AAAA", b64("file:///etc/passwd"), b64("no link at all")])
    async def test_what_is_no_link_is_no_feed(self, world: Any, feed: str) -> None:
        asked = await world.ask(f"https://podcasts.google.com/feed/{feed}")
        assert asked.feeds == []

    async def test_an_unreadable_guid_does_not_turn_an_episode_into_the_newest(self, world: Any) -> None:
        feed = b64("https://feeds.example/show")
        asked = await world.ask(f"https://podcasts.google.com/feed/{feed}/episode/AAAA")
        assert asked.feeds == [("https://feeds.example/show", False)]


class TestPodbay:
    URL = "https://podbay.fm/p/the-show/e/1647338400"

    @pytest.mark.parametrize(
        ("moment", "media"),
        [(1647338400, ["https://cdn.example/a.mp3"]), (1, []), (None, ["https://cdn.example/a.mp3"])],
    )
    async def test_the_state_must_be_of_this_very_episode(
        self, world: Any, page: Any, script: Any, moment: int | None, media: list[str]
    ) -> None:
        episode = {"title": "One", "mediaURL": "https://cdn.example/a.mp3", "timestamp": moment}
        state = script("__NEXT_DATA__", {"props": {"pageProps": {"episode": episode}}})
        assert (await world.ask(self.URL, {self.URL: page(body=state)})).media == media


@pytest.mark.parametrize(
    "url",
    [
        f"https://antennapod.org/deeplink/subscribe?url={quote('https://feeds.example/show', safe='')}",
        f"https://player.fm/subscribe?id={quote('https://feeds.example/show', safe='')}",
        f"https://pcasts.in/feed/{quote('https://feeds.example/show', safe='')}",
        "https://subscribeonandroid.com/feeds.example/show",
        "https://radiopublic.com/https%3A%2F%2Ffeeds.example%2Fshow",
    ],
)
async def test_a_link_that_holds_a_feed_is_its_newest_episode(world: Any, url: str) -> None:
    asked = await world.ask(url)
    assert asked.feeds == [("https://feeds.example/show", True)]
    assert asked.search.asked == []


async def test_a_link_that_holds_feed_and_guid_is_that_episode(world: Any) -> None:
    feed = quote("https://feeds.example/show", safe="")
    asked = await world.ask(f"https://breez.link/p?feedURL={feed}&episodeID=guid%201%2F2")
    assert asked.feeds == [("https://feeds.example/show", False)]
    assert asked.found.feeds[0].wanted.guid == "guid 1/2"


async def test_a_link_that_holds_apple_id_and_guid_is_that_episode(world: Any, itunes: Any) -> None:
    asked = await world.ask("https://podfriend.com/podcast/1234567890/guid%2F1", {LOOKUP: itunes()})
    assert asked.feeds == [("https://feeds.example/show", False)]
    assert asked.found.feeds[0].wanted.guid == "guid/1"


@pytest.mark.parametrize(
    "url",
    [
        "https://castro.fm/itunes/1234567890",
        "https://www.listennotes.com/itunes/id1234567890/",
        "https://www.podbean.com/itunes/1234567890",
        "https://pca.st/itunes/1234567890",
        "https://castbox.fm/vic/1234567890",
    ],
)
async def test_a_link_that_holds_an_apple_id_is_the_shows_newest_episode(
    world: Any, itunes: Any, url: str
) -> None:
    asked = await world.ask(url, {LOOKUP: itunes()})
    assert asked.feeds == [("https://feeds.example/show", True)]
