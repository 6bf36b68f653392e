from __future__ import annotations

import html
import json
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs

import pytest

from stenobird.errors import ConnectFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

pytestmark = pytest.mark.anyio

UUID = "8319b776-4153-4d22-8630-631f204a03dd"
OTHER = "11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize(
    ("url", "media"),
    [
        (
            f"https://art19.com/shows/the-show/episodes/{UUID}?utm=x",
            [f"https://rss.art19.com/episodes/{UUID}.mp3"],
        ),
        (
            "https://player.megaphone.fm/GLT9749789991?light=true",
            [
                "https://traffic.megaphone.fm/GLT9749789991.mp3",
                "https://dcs.megaphone.fm/GLT9749789991.mp3",
            ],
        ),
        (
            "https://playlist.megaphone.fm/?e=GLT9749789991&p=GLT1",
            [
                "https://traffic.megaphone.fm/GLT9749789991.mp3",
                "https://dcs.megaphone.fm/GLT9749789991.mp3",
            ],
        ),
        (
            "https://audioboom.com/posts/7398103-the-title?playlist=1",
            ["https://audioboom.com/posts/7398103.mp3"],
        ),
        (
            "https://embeds.audioboom.com/posts/7398103/embed/v4?eid=1",
            ["https://audioboom.com/posts/7398103.mp3"],
        ),
        (
            "https://podcloud.fr/podcast/the-show/episode/the-episode",
            ["https://podcloud.fr/ext/the-show/the-episode/enclosure.mp3"],
        ),
        (
            "https://the-show.lepodcast.fr/the-episode",
            ["https://podcloud.fr/ext/the-show/the-episode/enclosure.mp3"],
        ),
        (f"https://pinecast.com/player/{UUID}?theme=flat", [f"https://pinecast.com/listen/{UUID}.mp3"]),
        (
            "https://show.pinecast.co/episode/dc80cdb6dcb54e76/the-title",
            ["https://pinecast.com/listen/dc80cdb6dcb54e76.mp3"],
        ),
        (
            f"https://redcircle.com/shows/the-show/ep/{UUID}",
            [f"https://stream.redcircle.com/episodes/{UUID}/stream.mp3"],
        ),
        (
            "https://w.soundcloud.com/player/?url=https%3A//api.soundcloud.com/tracks/1234567&color=%23f50",
            ["https://feeds.soundcloud.com/stream/1234567-episode.mp3"],
        ),
    ],
)
async def test_the_file_follows_from_the_id_without_a_request(world: Any, url: str, media: list[str]) -> None:
    asked = await world.ask(url)
    assert asked.media == media
    assert asked.search.asked == []


@pytest.mark.parametrize(
    ("url", "feed"),
    [
        ("https://art19.com/shows/the-show/", "https://rss.art19.com/the-show"),
        ("https://shows.acast.com/the-show", "https://feeds.acast.com/public/shows/the-show"),
        ("https://play.acast.com/s/the-show/", "https://feeds.acast.com/public/shows/the-show"),
        ("https://www.buzzsprout.com/1234567", "https://rss.buzzsprout.com/1234567.rss"),
        ("https://audioboom.com/channels/5003904", "https://audioboom.com/channels/5003904.rss"),
        ("https://omny.fm/shows/the-show", "https://omny.fm/shows/the-show/playlists/podcast.rss"),
        (
            "https://omny.fm/shows/the-show/playlists/extras",
            "https://omny.fm/shows/the-show/playlists/extras.rss",
        ),
        (
            "https://www.spreaker.com/podcast/the-show--5918323",
            "https://www.spreaker.com/show/5918323/episodes/feed",
        ),
        ("https://theshow.podbean.com/", "https://feed.podbean.com/theshow/feed.xml"),
        (f"https://redcircle.com/shows/{UUID}", f"https://feeds.redcircle.com/{UUID}"),
        ("https://rss.com/podcasts/the-show/", "https://media.rss.com/the-show/feed.xml"),
        ("https://the-show.podigee.io/", "https://the-show.podigee.io/feed/mp3"),
        ("https://playlist.megaphone.fm?p=GLT123456789", "https://feeds.megaphone.fm/GLT123456789"),
    ],
)
async def test_a_shows_page_means_its_newest_episode(world: Any, url: str, feed: str) -> None:
    asked = await world.ask(url)
    assert asked.media == []
    assert asked.feeds[0] == (feed, True)


async def test_buzzsprout_names_the_file_and_the_guid_in_the_feed(world: Any) -> None:
    asked = await world.ask("https://www.buzzsprout.com/1234567/episodes/8901234-the-title")
    assert asked.media[0] == "https://www.buzzsprout.com/1234567/episodes/8901234-the-title.mp3"
    assert asked.feeds == [("https://rss.buzzsprout.com/1234567.rss", False)]
    assert asked.wanted.guid == "Buzzsprout-8901234"


class TestAcast:
    URL = "https://shows.acast.com/the-show/episodes/the-episode"
    API = "https://feeder.acast.com/api/v1/shows/the-show/episodes/the-episode?showInfo=true"

    async def test_the_api_names_the_file(self, world: Any) -> None:
        answer = {
            "id": UUID,
            "episodeUrl": "the-episode",
            "url": "https://sphinx.acast.com/p/open/s/1/e/2/media.mp3",
            "title": "The episode",
            "duration": 2766,
            "publishDate": "2026-03-01T05:00:00.000Z",
            "show": {"title": "The Show"},
        }
        asked = await world.ask(self.URL, {self.API: answer})
        assert asked.media == ["https://sphinx.acast.com/p/open/s/1/e/2/media.mp3"]
        assert (asked.wanted.show, asked.wanted.title) == ("The Show", "The episode")
        assert asked.found.media[0].episode.duration_seconds == 2766

    async def test_another_episode_than_the_one_asked_for_is_not_believed(
        self, world: Any, page: Any
    ) -> None:
        answer = {"id": OTHER, "episodeUrl": "another", "url": "https://sphinx.acast.com/other.mp3"}
        asked = await world.ask(self.URL, {self.API: answer, self.URL: page()})
        assert asked.media == []

    async def test_when_the_api_has_changed_the_pages_own_meta_is_read(self, world: Any, page: Any) -> None:
        own = page('<meta property="og:audio" content="https://sphinx.acast.com/own.mp3">')
        asked = await world.ask(self.URL, {self.API: {"data": {}}, self.URL: own})
        assert asked.media == ["https://sphinx.acast.com/own.mp3"]

    async def test_when_nothing_can_be_reached_the_ladder_hears_of_it(self, world: Any) -> None:
        with pytest.raises(ConnectFailed):
            await world.ask(self.URL)


class TestSimplecast:
    ANSWER: ClassVar[dict[str, object]] = {
        "id": UUID,
        "slug": "the-episode",
        "title": "The episode",
        "enclosure_url": "https://cdn.simplecast.com/audio/default.mp3?aid=rss_feed",
        "audio_file_url": "https://cdn.simplecast.com/audio/default.mp3",
        "podcast": {"title": "The Show"},
    }

    async def test_a_player_is_looked_up_by_its_id(self, world: Any) -> None:
        asked = await world.ask(
            f"https://player.simplecast.com/{UUID}?dark=true",
            {f"https://api.simplecast.com/episodes/{UUID}": self.ANSWER},
        )
        assert asked.media[0] == "https://cdn.simplecast.com/audio/default.mp3"

    async def test_a_page_is_searched_by_its_address(self, world: Any) -> None:
        asked = await world.ask(
            "https://the-show.simplecast.com/episodes/the-episode",
            {"https://api.simplecast.com/episodes/search": self.ANSWER},
        )
        method, _, content = asked.search.sent[0]
        assert method == "POST"
        assert parse_qs(content.decode()) == {"url": ["https://the-show.simplecast.com/episodes/the-episode"]}
        assert asked.media[0] == "https://cdn.simplecast.com/audio/default.mp3"

    async def test_another_episode_is_ignored(self, world: Any) -> None:
        asked = await world.ask(
            f"https://player.simplecast.com/{OTHER}",
            {f"https://api.simplecast.com/episodes/{OTHER}": self.ANSWER},
        )
        assert asked.is_nothing

    async def test_an_answer_in_another_form_leaves_it_to_the_generic_rungs(self, world: Any) -> None:
        asked = await world.ask(
            f"https://player.simplecast.com/{UUID}",
            {f"https://api.simplecast.com/episodes/{UUID}": ["nothing", "known"]},
        )
        assert asked.is_nothing


class TestSpreaker:
    URL = "https://www.spreaker.com/episode/the-title--60269615"
    API = "https://api.spreaker.com/v2/episodes/60269615"

    async def test_the_api_comes_first_and_the_template_behind_it(self, world: Any) -> None:
        episode = {
            "episode_id": 60269615,
            "download_url": "https://api.spreaker.com/v2/episodes/60269615/download.mp3",
            "title": "The episode",
            "duration": 818830,
        }
        asked = await world.ask(self.URL, {self.API: {"response": {"episode": episode}}})
        assert asked.media == [
            "https://api.spreaker.com/v2/episodes/60269615/download.mp3",
            "https://api.spreaker.com/download/episode/60269615/episode.mp3",
        ]
        assert asked.wanted.duration_seconds == pytest.approx(818.83)

    async def test_another_episode_in_the_answer_leaves_only_the_template(self, world: Any) -> None:
        episode = {"episode_id": 1, "download_url": "https://api.spreaker.com/wrong.mp3"}
        asked = await world.ask(self.URL, {self.API: {"response": {"episode": episode}}})
        assert asked.media == ["https://api.spreaker.com/download/episode/60269615/episode.mp3"]

    async def test_the_template_stands_when_the_api_is_gone(self, world: Any) -> None:
        asked = await world.ask("https://widget.spreaker.com/player?episode_id=60269615", {self.API: 404})
        assert asked.media == ["https://api.spreaker.com/download/episode/60269615/episode.mp3"]


class TestIHeart:
    URL = "https://www.iheart.com/podcast/105-the-show-29236323/episode/part-one-70346499/?embed=true"
    API = "https://api.iheart.com/api/v3/podcast/episodes/70346499"

    async def test_the_api_names_the_file(self, world: Any) -> None:
        episode = {"id": 70346499, "mediaUrl": "https://chtbl.com/track/1/cdn.example/x.mp3", "title": "Part"}
        asked = await world.ask(self.URL, {self.API: {"episode": episode}})
        assert asked.media == ["https://chtbl.com/track/1/cdn.example/x.mp3"]

    async def test_another_episode_is_ignored(self, world: Any) -> None:
        asked = await world.ask(
            self.URL, {self.API: {"episode": {"id": 1, "mediaUrl": "https://cdn.example/wrong.mp3"}}}
        )
        assert asked.is_nothing

    async def test_a_show_is_its_newest_episode(self, world: Any) -> None:
        api = "https://api.iheart.com/api/v3/podcast/podcasts/29236323/episodes?limit=1"
        asked = await world.ask(
            "https://www.iheart.com/podcast/105-the-show-29236323/",
            {api: {"data": [{"id": 9, "mediaUrl": "https://cdn.example/new.mp3"}]}},
        )
        assert asked.media == ["https://cdn.example/new.mp3"]


class TestOmny:
    URL = "https://omny.fm/shows/the-show/the-episode/embed?style=cover"

    def clip(self, script: Callable[..., str], slug: str = "the-episode") -> str:
        clip = {
            "Slug": slug,
            "Title": "The episode",
            "AudioUrl": "https://traffic.omny.fm/d/clips/a/b/c/audio.mp3",
            "DurationSeconds": 1840.274,
            "Program": {"Name": "The Show"},
        }
        return script("__NEXT_DATA__", {"props": {"pageProps": {"clip": clip}}})

    async def test_the_pages_state_names_the_file(self, world: Any, page: Any, script: Any) -> None:
        asked = await world.ask(self.URL, {self.URL: page(body=self.clip(script))})
        assert asked.media == ["https://traffic.omny.fm/d/clips/a/b/c/audio.mp3"]
        assert asked.wanted.show == "The Show"

    async def test_another_clip_in_the_state_is_not_believed(
        self, world: Any, page: Any, script: Any
    ) -> None:
        asked = await world.ask(self.URL, {self.URL: page(body=self.clip(script, "another-episode"))})
        assert asked.media == []

    async def test_without_state_the_meta_is_read(self, world: Any, page: Any) -> None:
        own = page('<meta property="og:audio" content="//traffic.omny.fm/d/own/audio.mp3">')
        asked = await world.ask(self.URL, {self.URL: own})
        assert asked.media == ["https://traffic.omny.fm/d/own/audio.mp3"]


class TestSubstack:
    URL = "https://example.substack.com/p/the-episode"

    def preloads(self, **post: object) -> str:
        state = json.dumps(
            {"post": {"type": "podcast", "slug": "the-episode", "title": "The episode"} | post}
        )
        return f"<script>window._preloads        = JSON.parse({json.dumps(state)})</script>"

    async def test_a_podcast_post_names_its_upload(self, world: Any, page: Any) -> None:
        upload = "https://example.substack.com/api/v1/audio/upload/0a1b/src"
        own = page(body=self.preloads(podcast_url=upload, podcast_duration=1234.5))
        asked = await world.ask(self.URL, {self.URL: own})
        assert asked.media == [upload]
        assert asked.wanted.duration_seconds == 1234.5

    async def test_a_newsletter_read_out_by_a_machine_is_no_podcast(self, world: Any, page: Any) -> None:
        narrated = [{"audio_url": "https://substack.example/tts.mp3", "type": "tts"}]
        own = page(body=self.preloads(type="newsletter", audio_items=narrated, podcast_url=""))
        asked = await world.ask(self.URL, {self.URL: own})
        assert asked.media == []

    async def test_another_post_in_the_state_is_not_believed(self, world: Any, page: Any) -> None:
        own = page(body=self.preloads(slug="another", podcast_url="https://substack.example/other"))
        asked = await world.ask(self.URL, {self.URL: own})
        assert asked.media == []


class TestLibsyn:
    URL = "https://html5-player.libsyn.com/embed/episode/id/6385796/height/90/"

    def player(self, **item: object) -> str:
        fields = {
            "item_id": 6385796,
            "item_title": "The episode",
            "media_url": "https://traffic.libsyn.com/b.mp3",
        }
        return f"<script>var playlistItem = {json.dumps(fields | item)}; playlistItem.x = 1;</script>"

    async def test_the_players_script_names_the_file(self, world: Any, page: Any) -> None:
        own = page(body=self.player(media_url_libsyn="https://traffic.libsyn.com/a.mp3"))
        asked = await world.ask(self.URL, {self.URL: own})
        assert asked.media == ["https://traffic.libsyn.com/a.mp3", "https://traffic.libsyn.com/b.mp3"]

    async def test_another_item_is_not_believed(self, world: Any, page: Any) -> None:
        asked = await world.ask(self.URL, {self.URL: page(body=self.player(item_id=1))})
        assert asked.media == []

    @pytest.mark.parametrize("body", ["<script>var playlistItem = {broken</script>", "<p>nothing</p>"])
    async def test_another_layout_is_left_to_the_generic_rungs(
        self, world: Any, page: Any, body: str
    ) -> None:
        asked = await world.ask(self.URL, {self.URL: page(body=body)})
        assert (asked.media, asked.feeds) == ([], [])


class TestTransistor:
    def player(self, *episodes: Mapping[str, object]) -> str:
        return f'<div class="player" data-episodes="{html.escape(json.dumps(episodes))}"></div>'

    async def test_an_embed_names_its_episode(self, world: Any, page: Any) -> None:
        url = "https://share.transistor.fm/e/0a1b2c3d"
        row = {"title": "The episode", "trackable_media_url": "https://pdst.fm/e/media.transistor.fm/1/2.mp3"}
        asked = await world.ask(url, {url: page(body=self.player(row))})
        assert asked.media == ["https://pdst.fm/e/media.transistor.fm/1/2.mp3"]

    async def test_of_several_episodes_the_one_with_the_urls_id_is_taken(self, world: Any, page: Any) -> None:
        url = "https://share.transistor.fm/e/0a1b2c3d"
        rows = [
            {
                "share_url": f"https://share.transistor.fm/s/{key}",
                "trackable_media_url": f"https://m.example/{key}.mp3",
            }
            for key in ("ffff0000", "0a1b2c3d")
        ]
        asked = await world.ask(url, {url: page(body=self.player(*rows))})
        assert asked.media == ["https://m.example/0a1b2c3d.mp3"]

    async def test_of_several_episodes_none_is_guessed(self, world: Any, page: Any) -> None:
        url = "https://share.transistor.fm/e/0a1b2c3d"
        rows = [{"trackable_media_url": f"https://m.example/{number}.mp3"} for number in range(2)]
        asked = await world.ask(url, {url: page(body=self.player(*rows))})
        assert asked.media == []

    async def test_a_share_page_names_its_stream_and_its_feed(self, world: Any, page: Any) -> None:
        url = "https://share.transistor.fm/s/0a1b2c3d"
        own = page(
            '<meta name="twitter:player:stream" content="https://media.transistor.fm/1/2.mp3#t=0">',
            '<link rel="alternate" type="application/rss+xml" href="https://feeds.transistor.fm/the-show">',
        )
        asked = await world.ask(url, {url: own})
        assert asked.media == ["https://media.transistor.fm/1/2.mp3"]


class TestSoundCloud:
    async def test_a_tracks_page_gives_its_number_away(self, world: Any, page: Any) -> None:
        url = "https://soundcloud.com/the-user/the-track"
        own = page('<meta property="al:ios:url" content="soundcloud://sounds:1234567">')
        asked = await world.ask(url, {url: own})
        assert asked.media == ["https://feeds.soundcloud.com/stream/1234567-episode.mp3"]
        assert asked.found.final

    async def test_a_changed_page_leaves_the_track_to_the_extractor(self, world: Any, page: Any) -> None:
        url = "https://soundcloud.com/the-user/the-track"
        asked = await world.ask(url, {url: page()})
        assert asked.media == []
        assert asked.found.final

    @pytest.mark.parametrize("path", ["the-user/sets/the-set", "discover/sets", "the-user", ""])
    def test_sets_and_users_are_no_tracks(self, world: Any, path: str) -> None:
        assert not any(rule.matches(f"https://soundcloud.com/{path}") for rule in world.rules)


@pytest.mark.parametrize(
    ("url", "feed"),
    [
        ("https://theshow.podbean.com/e/the-episode/", "https://feed.podbean.com/theshow/feed.xml"),
        ("https://rss.com/podcasts/the-show/1234567/", "https://media.rss.com/the-show/feed.xml"),
        ("https://the-show.podigee.io/12-the-episode", "https://the-show.podigee.io/feed/mp3"),
    ],
)
async def test_the_feed_is_the_fallback_for_the_pages_own_audio(
    world: Any, page: Any, url: str, feed: str
) -> None:
    own = page('<meta property="og:audio" content="https://cdn.example/one.mp3">')
    asked = await world.ask(url, {url: own})
    assert asked.media == ["https://cdn.example/one.mp3"]
    assert asked.feeds == [(feed, False)]
    assert url in asked.found.feeds[0].wanted.page_urls
    changed = await world.ask(url, {url: page()})
    assert (changed.media, changed.feeds) == ([], [(feed, False)])


async def test_ausha_uses_the_only_audio_link_and_none_of_several(world: Any, page: Any) -> None:
    url = "https://podcast.ausha.co/the-show/the-episode"
    one, two = (f'<a href="https://audio.ausha.co/{key}.mp3?t=1">Download</a>' for key in "ab")
    assert (await world.ask(url, {url: page(body=one)})).media == ["https://audio.ausha.co/a.mp3?t=1"]
    assert (await world.ask(url, {url: page(body=one + two)})).media == []
