"""Pages as the web writes them: odd JSON-LD, markup that browsers mend, addresses unlike audio."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from stenobird.discovery import urls
from stenobird.discovery.parsing.lenient import parse_json
from stenobird.errors import AudioSourceNotFound
from tests.support.documents import Served, mp3_bytes

if TYPE_CHECKING:
    from typing import Any

pytestmark = pytest.mark.anyio

PAGE = "https://x.example/2024/the-otter-tale"
AUDIO = "https://cdn.example/a/otter-tale-final.mp3"
PLAYER = f"https://player.example/embed?url={AUDIO.replace('/', '%2F').replace(':', '%3A')}"
STREAMED = '<script>self.__next_f.push([1,"5:{\\"audioUrl\\":\\"https://cdn.exam|ple/a/otter-tale-final.mp3\\"}"])</script>'
NAMELESS = "https://play.example/episodes/8af3/stream-file"
"""Audio whose address does not end like it."""
EPISODE = {"@context": "https://schema.org", "@type": "PodcastEpisode", "name": "The otter tale"}
MEDIA = {"@type": "MediaObject", "contentUrl": AUDIO}


class Web(dict[str, Served]):
    """One page, and audio wherever an address ends like it."""

    def __init__(self, page: str | bytes, content_type: str, more: dict[str, str]) -> None:
        super().__init__()
        self.audio = Served(mp3_bytes(), "audio/mpeg", ranges=True)
        self[PAGE] = Served(page.encode() if isinstance(page, str) else page, content_type)
        self[NAMELESS] = self.audio
        for url, body in more.items():
            self[url] = Served(body.encode())

    def get(self, url: str, default: Any = None) -> Any:
        if url in self:
            return self[url]
        return self.audio if urls.is_audio_url(url) else default


async def found(
    searcher: Any, page: str | bytes, *, content_type: str = "text/html; charset=utf-8", **more: str
) -> str | None:
    """Return the address that is chosen for the page, `None` if none is."""
    try:
        url: str = await searcher.media_url_in(Web(page, content_type, more), PAGE)
    except AudioSourceNotFound:
        return None
    return url


def script(data: object) -> str:
    text = data if isinstance(data, str) else json.dumps(data)
    return f'<script type="application/ld+json">{text}</script>'


def structured(data: object) -> str:
    return f"<html><head><title>The otter tale</title>{script(data)}</head><body><h1>The otter tale</h1>"


@pytest.mark.parametrize(
    "data",
    [
        EPISODE | {"associatedMedia": {"@type": "MediaObject", "contentUrl": NAMELESS}},
        EPISODE | {"associatedMedia": [{"@type": "MediaObject", "contentUrl": NAMELESS}]},
        EPISODE | {"associatedMedia": {"contentUrl": NAMELESS}},
        EPISODE | {"audio": {"contentUrl": NAMELESS}},
        EPISODE | {"audio": {"@type": "AudioObject", "url": NAMELESS}},
        EPISODE | {"associatedMedia": NAMELESS},
        EPISODE
        | {"@type": ["PodcastEpisode", "Episode"], "audio": {"@type": ["MediaObject"], "url": NAMELESS}},
        EPISODE
        | {
            "@type": "http://schema.org/PodcastEpisode",
            "audio": {"@type": "https://schema.org/AudioObject", "contentUrl": NAMELESS},
        },
        EPISODE
        | {"encoding": [{"@type": "MediaObject", "encodingFormat": "audio/mpeg", "contentUrl": NAMELESS}]},
        {
            "@graph": [
                {"@type": "MediaObject", "@id": "#m", "contentUrl": NAMELESS},
                EPISODE | {"associatedMedia": {"@id": "#m"}},
            ]
        },
    ],
    ids=range(10),
)
async def test_media_of_an_episode_needs_no_audio_extension(searcher: Any, data: object) -> None:
    assert await found(searcher, structured(data)) == NAMELESS


@pytest.mark.parametrize(
    "data",
    [
        {"@type": "WebPage", "associatedMedia": {"@type": "MediaObject", "contentUrl": NAMELESS}},
        EPISODE | {"associatedMedia": {"@type": "ImageObject", "contentUrl": NAMELESS}},
        EPISODE
        | {"associatedMedia": {"@type": "MediaObject", "encodingFormat": "text/vtt", "contentUrl": NAMELESS}},
        EPISODE | {"url": NAMELESS},
    ],
    ids=range(4),
)
async def test_other_audio_needs_an_audio_extension(searcher: Any, data: object) -> None:
    assert await found(searcher, structured(data)) is None


@pytest.mark.parametrize(
    "data",
    [
        EPISODE | {"@type": ["schema:PodcastEpisode"], "associatedMedia": {"schema:contentUrl": AUDIO}},
        EPISODE | {"associatedMedia": {"@type": "AudioObject", "contentURL": AUDIO}},
        EPISODE | {"associatedMedia": {"@type": "AudioObject", "contentUrl": [f" {AUDIO}\n"]}},
        EPISODE | {"associatedMedia": {"@type": "AudioObject", "contentUrl": AUDIO.removeprefix("https:")}},
        [[EPISODE | {"associatedMedia": [[MEDIA]]}]],
        {"@type": "WebPage", "mainEntity": EPISODE | {"associatedMedia": MEDIA}},
        {
            "@type": "NewsArticle",
            "headline": "The otter tale",
            "audio": {"@type": "AudioObject", "contentUrl": AUDIO},
        },
        [
            {"@type": "VideoObject", "contentUrl": "https://cdn.example/v.mp4"},
            {"@type": "AudioObject", "contentUrl": AUDIO},
        ],
    ],
    ids=range(8),
)
async def test_oddly_nested_and_spelt_structured_data_is_read(searcher: Any, data: object) -> None:
    assert await found(searcher, structured(data)) == AUDIO


TEXT = json.dumps(EPISODE | {"associatedMedia": MEDIA})


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace('"', "&quot;"),
        TEXT.replace("}}", "},}"),
        TEXT.replace('"name"', '/* the\nname */ "name"').replace('", ', '", // so\n'),
        TEXT.replace("otter tale", "otter\x01\x0b tale\n"),
        TEXT.replace("otter tale", "otter\\' \\x tale"),
        TEXT.replace("otter tale", 'otter "tale"'),
        TEXT[:-2],
        f'{{"@type": "WebSite"}}{TEXT};',
        f"<!--\n{TEXT}\n//-->",
        f"//<![CDATA[\n{TEXT}\n//]]>",
    ],
    ids=[
        "entities",
        "trailing comma",
        "comments",
        "control characters",
        "bad escapes",
        "bare quotes",
        "cut off",
        "two values",
        "html comment",
        "cdata",
    ],
)
async def test_broken_json_ld_is_repaired_or_searched_as_text(searcher: Any, text: str) -> None:
    assert await found(searcher, structured(text)) == AUDIO


@pytest.mark.parametrize("escaped", ["&amp;", "&#038;", "&amp;amp;"])
async def test_ampersand_escaped_in_json_is_one(searcher: Any, escaped: str) -> None:
    data = EPISODE | {"associatedMedia": MEDIA | {"contentUrl": f"{AUDIO}?a=1{escaped}b=2"}}
    assert await found(searcher, structured(data)) == f"{AUDIO}?a=1&b=2"


async def test_blocks_that_repeat_are_one_and_blocks_that_differ_are_two_episodes(searcher: Any) -> None:
    mine, other = (
        EPISODE | {"name": name, "associatedMedia": MEDIA | {"contentUrl": f"https://cdn.example/{file}.mp3"}}
        for name, file in (("First half", "the-first-half-of-it"), ("Second half", "the-second-half-of-it"))
    )
    assert (
        await found(searcher, structured(mine) + script(mine))
        == "https://cdn.example/the-first-half-of-it.mp3"
    )
    assert await found(searcher, structured(mine) + script(other)) is None


async def test_article_with_several_audios_is_ambiguous(searcher: Any) -> None:
    audios = [
        {
            "@type": "AudioObject",
            "name": f"Part {part}",
            "contentUrl": f"https://c.example/interview-{part}.mp3",
        }
        for part in ("one", "two")
    ]
    data = {"@type": "NewsArticle", "headline": "The otter tale", "audio": audios}
    assert await found(searcher, structured(data)) is None


@pytest.mark.parametrize(
    "markup",
    [
        f"</body></html><audio src='{AUDIO}'></audio>",
        f"</body></html><!-- cached --><html><head>{script(EPISODE | {'audio': AUDIO})}</head></html>",
        f'<base target=_blank><base href="https://cdn.example/a/"><audio src="{AUDIO.rpartition("/")[2]}">',
        f'<base href="javascript:alert(1)"><audio src="{AUDIO}">',
        f'<div data-sources="{AUDIO} 128k, https://cdn.example/a/otter-tale-final-hq.mp3 320k"></div>',
        f'<video><source src="{AUDIO}" type="audio/mpeg"></video>',
        f'<object data="{AUDIO}" type="audio/mpeg"></object>',
        f'<iframe srcdoc="&lt;audio src=&quot;{AUDIO}&quot;&gt;&lt;/audio&gt;"></iframe>',
        f'<my-player><template shadowrootmode=open><audio src="{AUDIO}"></audio></template></my-player>',
        '<script>self.__next_f.push([1,"{\\"audioUrl\\":\\"' + AUDIO.replace("/", "\\/") + '\\"}"])</script>',
        f'<iframe src="{PLAYER}"></iframe>',
        f'<iframe src="about:blank" data-cookieblock-src="{PLAYER}"></iframe>',
        *(STREAMED.replace("|", cut) for cut in ("", '"])</script><script>self.__next_f.push([1,"')),
        f'<script>window.__STATE__ = "{quote(json.dumps({"audioUrl": AUDIO}))}";</script>',
        f'<div data-config="{quote(json.dumps({"audioUrl": AUDIO}))}"></div>',
        f'<div data-player="{b64encode(json.dumps({"audioUrl": AUDIO}).encode()).decode()}"></div>',
        f'<iframe src="/p?f={b64encode(AUDIO.encode()).decode()}"></iframe>',
        f'<script id="app-state">{{&q;episode&q;:{{&q;audioUrl&q;:&q;{AUDIO}&q;}}}}</script>',
        f"""<a href="javascript:play('{AUDIO}')">Play</a>""",
    ],
    ids=range(20),
)
async def test_markup_is_read_as_browsers_read_it(searcher: Any, markup: str) -> None:
    page = f"<html><title>The otter tale</title><h1>The otter tale</h1>{markup}"
    assert await found(searcher, page, **{PLAYER: "<script src=player.js></script>"}) == AUDIO


@pytest.mark.parametrize(
    "markup",
    [
        f'<audio src="{NAMELESS}"></audio>',
        f'<audio><source src="{NAMELESS}" type=audio/mpeg></audio>',
        f'<button data-audio-src="{NAMELESS}">Play</button>',
        f'<a href="{NAMELESS}" type="audio/mpeg">Listen</a>',
        f'<a href="{NAMELESS}" download="otter.mp3">MP3</a>',
        f'<link rel="enclosure" type="audio/mpeg" href="{NAMELESS}">',
        f'<script type="application/json">{{"title": "The otter tale", "audioUrl": "{NAMELESS}"}}</script>',
        f'<a href="{NAMELESS}">Download (<b>MP3</b>, 20 MB)</a>',
        f'<p itemscope itemtype="https://schema.org/AudioObject"><a itemprop="contentUrl" href="{NAMELESS}">',
        f'<p typeof="AudioObject"><link property="contentUrl" href="{NAMELESS}">',
        f'<a href="{NAMELESS}" download>Save this episode</a>',
    ],
    ids=range(11),
)
async def test_element_marked_as_audio_needs_no_audio_extension(searcher: Any, markup: str) -> None:
    assert await found(searcher, f"<title>The otter tale</title><h1>The otter tale</h1>{markup}") == NAMELESS


@pytest.mark.parametrize(
    "markup",
    [
        f'<a href="{NAMELESS}">MP3 feed</a>',
        f'<a href="{NAMELESS}">How we brought the mp3 to each living room in the country, and what then</a>',
        f'<p itemscope itemtype="https://schema.org/ImageObject"><a itemprop="contentUrl" href="{NAMELESS}">',
        f'<a href="{NAMELESS}">Part 1 (MP3)</a> <a href="{NAMELESS}2">Part 2 (MP3)</a>',
    ],
    ids=["feed", "prose", "image", "two"],
)
async def test_element_that_only_mentions_audio_is_none(searcher: Any, markup: str) -> None:
    assert await found(searcher, f"<title>The otter tale</title><h1>The otter tale</h1>{markup}") is None


VIDEO = "https://cdn.example/v/77.mp4"


@pytest.mark.parametrize(
    "markup",
    [
        f"<video><source src='{VIDEO}' type='video/mp4'></video>",
        script({"@type": "VideoObject", "name": "The otter tale", "contentUrl": VIDEO}),
    ],
    ids=["element", "JSON-LD"],
)
async def test_only_video_of_a_page_is_used(searcher: Any, markup: str) -> None:
    page, video = f"<h1>The otter tale</h1>{markup}", VIDEO
    assert await found(searcher, page, **{video: "\0\0\0\x18ftypmp42\0\0\0\0mp42isom"}) == video


async def test_formats_of_one_player_are_tried_mp3_first(searcher: Any) -> None:
    sources = "".join(f'<source src="o.{ending}">' for ending in ("opus", "m4a", "mp3"))
    assert await found(searcher, f"<h1>T</h1><audio>{sources}</audio>") == "https://x.example/2024/o.mp3"


@pytest.mark.parametrize(
    ("page", "content_type"),
    [
        (f'<h1>Café</h1><audio src="{AUDIO}">'.encode("utf-16"), "text/html"),
        (f'<h1>Café</h1><audio src="{AUDIO}">'.encode(), "text/html; charset=foo-bar"),
        (
            b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><audio src="%b"/></html>'
            % AUDIO.encode(),
            "application/xhtml+xml",
        ),
    ],
    ids=["utf-16", "unknown charset", "xhtml"],
)
async def test_encoding_is_detected(searcher: Any, page: bytes, content_type: str) -> None:
    assert await found(searcher, page, content_type=content_type) == AUDIO


async def test_chinese_page_declared_as_its_smaller_encoding_is_read(searcher: Any) -> None:
    page = '<meta charset=gb2312><title>水獭的故事</title><h1>水獭的故事</h1><a href="/水獭.mp3">收听</a>'
    assert (
        await found(searcher, page.encode("gb18030"), content_type="text/html")
        == "https://x.example/水獭.mp3"
    )


@pytest.mark.parametrize(
    "first",
    [
        '<meta http-equiv="refresh" content="0; url=/second">',
        '<script>window.location.href = "https:\\/\\/x.example\\/second";</script>',
        "<p>Please wait</p><script>setTimeout(function(){ location.replace('/second') }, 10)</script>",
    ],
)
async def test_redirects_of_pages_are_followed_twice(searcher: Any, first: str) -> None:
    second = '<meta http-equiv="refresh" content="1;URL=\'/third\'">'
    more = {"https://x.example/second": second, "https://x.example/third": f"<audio src={AUDIO}></audio>"}
    assert await found(searcher, first, **more) == AUDIO
    more["https://x.example/third"] = '<meta http-equiv="refresh" content="0; url=/fourth">'
    assert (
        await found(searcher, first, **more, **{"https://x.example/fourth": f"<audio src={AUDIO}>"}) is None
    )


async def test_a_script_redirect_on_a_page_with_text_is_not_followed(searcher: Any) -> None:
    page = f"<p>{'Words to read. ' * 30}</p><script>location = '/second'</script>"
    assert await found(searcher, page, **{"https://x.example/second": f"<audio src={AUDIO}>"}) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://cdnt-preview.dzcdn.net/api/1/1/a/b/c.mp3?hdnea=exp",
        "https://cdns-preview-d.dzcdn.net/stream/c-abc-8.mp3",
        "https://e-cdns-preview-d.dzcdn.net/stream/c-abc-8.mp3",
        "https://p.scdn.co/mp3-preview/abc.mp3",
    ],
)
async def test_sample_of_a_music_platform_is_never_the_episode(searcher: Any, url: str) -> None:
    assert (
        await found(searcher, f"<title>The otter tale</title><meta property=og:audio content='{url}'>")
        is None
    )
    assert await found(searcher, structured(EPISODE | {"audio": url})) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://cdn.example/live/2024-05-01-show.mp3",
        "https://cdn.example/live/otter-tale-live-in-london.mp3",
        "https://cdn.example/episodes/live-stream-disaster.mp3",
        "https://audio.example/livestream/2024-05-01.mp3",
        "https://radio.example/otter-tale.mp3",
        "https://live.example.com/otter-tale-episode.mp3",
        "https://listen.example.com/12-otter-tale.mp3",
        "https://cdn.example:8443/otter-tale.mp3",
        "https://direct-rec.example/icecast-history.mp3",
        "https://rss.streamguys1.com/shows/2024-05-01-otters.mp3",
    ],
)
async def test_recording_is_not_taken_for_a_live_stream(searcher: Any, url: str) -> None:
    page = (
        f"<title>The otter tale</title><h1>The otter tale</h1><article><audio src='{url}'></audio></article>"
    )
    assert await found(searcher, page) == url
    assert await found(searcher, structured(EPISODE | {"audio": url})) == url


@pytest.mark.parametrize(
    "url",
    [
        "https://stream.example.org/live",
        "http://ice1.somafm.com/groovesalad-128-mp3",
        "https://playerservices.streamtheworld.com/api/livestream-redirect/KQED.mp3",
        "https://streams.example.org/e24_mp3.mp3",
        "https://live.example.com/stream.mp3",
        "http://192.0.2.1:8000/;",
        "https://wnyc-iheart.streamguys1.com/wnycfm.aac",
        "https://example.com/radio/live.m3u8",
        "https://example.com/live/station/index.m3u8",
        "https://stream.example.org/jazz-fm-128.mp3",
    ],
)
async def test_a_station_stream_is_refused_from_every_source(searcher: Any, url: str) -> None:
    page = f"<title>Radio Otter</title><h1>Radio Otter</h1><audio src='{url}'></audio>"
    assert await found(searcher, page) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a":1,}', {"a": 1}),
        ('// hi\n{"a":"http://x", /** b **/ "b":2 // c\n}', {"a": "http://x", "b": 2}),
        ('{"a":"x\\\'y"}', {"a": "x'y"}),
        ('{"a":"\\u00e9\\/"}', {"a": "é/"}),
        ('{"a":1}{"b":2}', [{"a": 1}, {"b": 2}]),
        ("{&quot;a&quot;:&quot;b&quot;}", {"a": "b"}),
        ("[1,2", None),
        ('{"a":"b', None),
        ("var a = 1", None),
        ("", None),
    ],
)
def test_json_is_parsed_as_pages_write_it(text: str, expected: object) -> None:
    assert parse_json(text) == expected
