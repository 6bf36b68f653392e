"""Pages whose audio is elsewhere: behind a redirect, in a player's configuration, in two formats."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stenobird.errors import AudioContentTypeNotSupported, AudioSourceNotFound, JobError
from tests.support.documents import Served, mp3_bytes

pytestmark = pytest.mark.anyio

PAGE = "https://x.example/garden-hour-1"
AUDIO = "https://x.example/1.mp3"
SOUND = Served(mp3_bytes(), "audio/mpeg", ranges=True)
HEAD = "<title>Garden hour 1</title><h1>Garden hour 1</h1>"


def web(page: str, **documents: Served) -> dict[str, Served]:
    return {
        PAGE: Served(f"<!doctype html><html><head>{page}".encode()),
        **{f"https://x.example/{name}": document for name, document in documents.items()},
    }


def played(*urls: str, title: str = "Garden hour 1") -> Served:
    episodes = [{"title": title, "media": {url.rpartition(".")[2]: url}} for url in urls]
    document: object = {"options": {"theme": "default"}, "episode": episodes[0]}
    if len(episodes) > 1:
        document = {"playlist": episodes}
    return Served(json.dumps(document).encode(), "application/json")


REFRESHES = {
    "meta": '<meta http-equiv="refresh" content="0; url=1.mp3">Your download starts.',
    "no-url": '<meta http-equiv=refresh content="0;1.mp3">',
    "quoted": "<meta http-equiv='Refresh' content='2; URL=\"/1.mp3\"'>",
    "script": '<script>location.href = "/1.mp3"</script>',
}


@pytest.mark.parametrize("page", REFRESHES.values(), ids=REFRESHES)
async def test_redirect_of_a_page_may_lead_to_the_audio(searcher: Any, page: str) -> None:
    documents = web(page) | {AUDIO: SOUND}
    assert await searcher.media_url_in(documents, PAGE) == AUDIO
    assert [request.url for request in searcher.web.asked] == [PAGE, AUDIO]


HEADERS = {"url": "0; url=/1.mp3", "bare": "1;/1.mp3", "quoted": "0;URL='1.mp3'"}


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
@pytest.mark.parametrize("body", [b"", b"Wait.", b"<html><p>Wait.</p></html>"], ids=["empty", "text", "page"])
async def test_refresh_header_of_a_page_may_lead_to_the_audio(
    searcher: Any, header: str, body: bytes
) -> None:
    documents = {PAGE: Served(body, "text/html", headers={"refresh": header}), AUDIO: SOUND}
    assert await searcher.media_url_in(documents, PAGE) == AUDIO
    assert [request.url for request in searcher.web.asked] == [PAGE, AUDIO]


async def test_refresh_after_a_while_is_no_redirect(searcher: Any) -> None:
    documents = {PAGE: Served(b"", "text/html", headers={"refresh": "300; url=/1.mp3"}), AUDIO: SOUND}
    with pytest.raises(JobError):
        await searcher.media_url_in(documents, PAGE)


async def test_redirect_may_lead_to_audio_without_an_extension(searcher: Any) -> None:
    documents = web('<meta http-equiv="refresh" content="0; url=/get?id=1">')
    documents["https://x.example/get?id=1"] = SOUND
    assert await searcher.media_url_in(documents, PAGE) == "https://x.example/get?id=1"


async def test_redirect_may_lead_to_a_feed(searcher: Any) -> None:
    feed = (
        '<rss version="2.0"><channel><title>Garden hour</title><item><title>Garden hour 1</title>'
        f'<enclosure url="{AUDIO}" type="audio/mpeg"/></item></channel></rss>'
    )
    documents = web('<meta http-equiv="refresh" content="0; url=/feed">') | {AUDIO: SOUND}
    documents["https://x.example/feed"] = Served(feed.encode(), "application/rss+xml")
    assert await searcher.media_url_in(documents, PAGE) == AUDIO
    assert len(searcher.web.asked) == 3


CONFIGURED = {
    "podigee": f'{HEAD}<script src="https://p.example/p.js" data-configuration="/player.json"></script>',
    "element": f'{HEAD}<div class="player" data-config-url="https://x.example/player.json"></div>',
    "podlove": f"{HEAD}<div id=p></div><script>podlovePlayer('#p', '/player.json', '/theme')</script>",
    "own-element": f'{HEAD}<podlove-player episode="/player.json"></podlove-player>',
    "data-json": f'{HEAD}<div class="jp" data-json="/player.json?v=2"></div>',
    "fetched": f'{HEAD}<script>fetch("/player.json").then(start)</script>',
    "variable": f"{HEAD}<script>const episodeData = '/player.json';</script>",
    "without-extension": f'{HEAD}<script>setup({{playlist: "https://x.example/v2/list?format=json"}})</script>',
    "preloaded": f'{HEAD}<link rel="preload" as="fetch" href="/player.json"><div id="app"></div>',
    "xml": f'{HEAD}<div class="player" data-config="/player.xml"></div>',
    "m3u": f'{HEAD}<div class="player" data-playlist="/player.m3u"></div>',
    "option": f'{HEAD}<script>setup({{"playlist": "https:\\/\\/x.example\\/player.json"}})</script>',
}


@pytest.mark.parametrize("page", CONFIGURED.values(), ids=CONFIGURED)
async def test_configuration_of_a_player_is_followed(searcher: Any, page: str) -> None:
    names = ("player.json", "player.json?v=2", "v2/list?format=json")
    documents = web(page, **dict.fromkeys(names, played(AUDIO))) | {AUDIO: SOUND}
    xml = f"<config><track><file>{AUDIO}</file></track></config>"
    documents["https://x.example/player.xml"] = Served(xml.encode(), "text/xml")
    documents["https://x.example/player.m3u"] = Served(f"#EXTM3U\n{AUDIO}\n".encode(), "audio/x-mpegurl")
    assert await searcher.media_url_in(documents, PAGE) == AUDIO
    assert len(searcher.web.asked) == 3


NAMELESS = "https://x.example/get/1"
TYPED = {
    "by-its-type": {"media": [{"url": NAMELESS, "mimeType": "audio/mpeg"}], "poster": {"url": "/c.webp"}},
    "by-its-place": {"audio": [{"src": NAMELESS}], "cover": {"src": "/c"}},
    "by-its-key": {"episode": {"media": {"mp3": NAMELESS}}},
}


@pytest.mark.parametrize(
    "written", ['{"name": "1.mp3", "file": "1.mp3"}', f'play({{"mp3": "{AUDIO}"}});'], ids=["name", "script"]
)
async def test_configuration_may_be_a_script_or_name_a_file_next_to_it(searcher: Any, written: str) -> None:
    document = Served(written.encode(), "application/javascript")
    documents = web(CONFIGURED["podlove"], **{"player.json": document}) | {AUDIO: SOUND}
    assert await searcher.media_url_in(documents, PAGE) == AUDIO


@pytest.mark.parametrize("configuration", TYPED.values(), ids=TYPED)
async def test_audio_without_an_extension_is_known_by_what_the_configuration_says(
    searcher: Any, configuration: object
) -> None:
    document = Served(json.dumps(configuration).encode(), "application/json")
    documents = web(CONFIGURED["podlove"], **{"player.json": document}) | {NAMELESS: SOUND}
    assert await searcher.media_url_in(documents, PAGE) == NAMELESS


@pytest.mark.parametrize("second", [played("/7.mp3"), Served(b'{"theme": 1}', "application/json")])
async def test_of_several_configurations_only_one_may_name_audio(searcher: Any, second: Served) -> None:
    page = "".join(f'<div data-config="/{name}.json"></div>' for name in ("player", "other"))
    documents = web(HEAD + page, **{"player.json": played(AUDIO), "other.json": second}) | {AUDIO: SOUND}
    if second.body.startswith(b'{"theme"'):
        assert await searcher.media_url_in(documents, PAGE) == AUDIO
    else:
        with pytest.raises(AudioSourceNotFound):
            await searcher.media_url_in(documents, PAGE)


async def test_configuration_in_the_address_of_a_player_is_followed(searcher: Any) -> None:
    frame = "/player/?config=https%3A%2F%2Fx.example%2Fplayer.json"
    documents = web(f'{HEAD}<iframe src="{frame}"></iframe>', **{"player.json": played(AUDIO)})
    documents |= {AUDIO: SOUND, f"https://x.example{frame}": Served(b"<div id=p></div>")}
    assert await searcher.media_url_in(documents, PAGE) == AUDIO


async def test_configuration_on_the_page_of_a_player_is_followed(searcher: Any) -> None:
    frame = "https://p.example/embed/1"
    documents = web(f'{HEAD}<iframe src="{frame}"></iframe>') | {AUDIO: SOUND}
    documents[frame] = Served(b'<script src="/p.js" data-configuration="/c/1.json"></script>')
    documents["https://p.example/c/1.json"] = played(AUDIO)
    assert await searcher.media_url_in(documents, PAGE) == AUDIO
    assert len(searcher.web.asked) == 4


async def test_configuration_at_the_host_of_a_known_player_is_followed(searcher: Any) -> None:
    address = "https://show.podigee.io/1-garden-hour/embed?context=external"
    documents = web(f'{HEAD}<script src="/p.js" data-configuration="{address}"></script>')
    documents |= {AUDIO: SOUND, address: played(AUDIO)}
    assert await searcher.media_url_in(documents, PAGE) == AUDIO
    assert len(searcher.web.asked) == 3


@pytest.mark.parametrize(
    "configuration",
    [
        played(
            "https://x.example/1.mp3", "https://x.example/7.mp3", "https://x.example/8.mp3", title="Another"
        ),
        Served(b"{}", "application/json"),
        Served(b"gone", status=404),
        Served(b"not json", "application/json"),
    ],
    ids=["several", "empty", "gone", "broken"],
)
async def test_configuration_that_names_no_single_audio_gives_none(
    searcher: Any, configuration: Served
) -> None:
    documents = web(CONFIGURED["podigee"], **{"player.json": configuration}) | {AUDIO: SOUND}
    with pytest.raises(AudioSourceNotFound):
        await searcher.media_url_in(documents, PAGE)


@pytest.mark.parametrize(
    "markup",
    [
        '<a href="/1.mp3">Download mp3</a> <a href="/1.m4a">Download m4a</a>',
        '<audio src="/1.mp3"></audio><audio src="/1.m4a"></audio>',
        '<audio src="/1.m4a"></audio><p><audio src="/1.mp3"></audio></p>',
        '<a href="/1.ogg?v=2" download>ogg</a> <a href="/1.mp3?v=2" download>mp3</a>',
        '<audio src="/aac/1.m4a"></audio><audio src="/1.mp3"></audio>',
    ],
)
async def test_one_episode_in_two_formats_is_not_ambiguous(searcher: Any, markup: str) -> None:
    documents = web(HEAD + markup) | {
        f"https://x.example/1.{ending}": SOUND for ending in ("mp3", "m4a", "ogg?v=2", "mp3?v=2")
    }
    assert (await searcher.media_url_in(documents, PAGE)).startswith(AUDIO)


SEVERAL = {
    "players": '<audio src="/{}.mp3"></audio>',
    "links": '<p><a download href="/{}.mp3">Download mp3</a></p>',
    "attributes": '<button data-audio-src="/{}.mp3">Play</button>',
}


@pytest.mark.parametrize("markup", SEVERAL.values(), ids=SEVERAL)
async def test_files_of_several_episodes_stay_ambiguous_and_are_listed(searcher: Any, markup: str) -> None:
    page = HEAD + "".join(markup.format(name) for name in "abcd")
    with pytest.raises(AudioSourceNotFound) as caught:
        await searcher.media_url_in(web(page), PAGE)
    assert "4 audio files" in caught.value.message
    assert "https://x.example/a.mp3; https://x.example/b.mp3" in caught.value.message
    assert [row["url"] for row in caught.value.details["candidates"]] == [
        f"https://x.example/{name}.mp3" for name in "abcd"
    ]


@pytest.mark.parametrize(
    ("data", "audio"),
    [
        ({"episode": {"title": "One", "audio_url": AUDIO}}, AUDIO),
        ({"mime_type": "audio/mpeg", "source_url": AUDIO}, AUDIO),
        ({"episodes": [{"mp3": f"https://x.example/{name}.mp3"} for name in "abcd"]}, None),
    ],
    ids=["api", "wordpress", "list"],
)
async def test_data_that_names_one_file_leads_to_it(searcher: Any, data: object, audio: str | None) -> None:
    documents = {PAGE: Served(json.dumps(data).encode(), "application/json"), AUDIO: SOUND}
    if audio is None:
        with pytest.raises(AudioContentTypeNotSupported):
            await searcher.media_url_in(documents, PAGE)
    else:
        assert await searcher.media_url_in(documents, PAGE) == audio


@pytest.mark.parametrize(
    "markup", ['<a href="/dl.php?f=1.mp3">Download</a>', '<p data-file="/dl.php?f=1.mp3">']
)
async def test_file_named_in_the_query_is_found(searcher: Any, markup: str) -> None:
    file = "https://x.example/dl.php?f=1.mp3"
    assert await searcher.media_url_in(web(HEAD + markup) | {file: SOUND}, PAGE) == file


async def test_folder_of_files_in_several_formats_is_ambiguous(searcher: Any) -> None:
    names = ("first.wav", "second.mp3", "third.flac")
    page = "<title>Index of /</title>" + "".join(f'<li><a href="/{name}">{name}</a>' for name in names)
    with pytest.raises(AudioSourceNotFound):
        await searcher.media_url_in(web(page) | {f"https://x.example/{name}": SOUND for name in names}, PAGE)


@pytest.mark.parametrize("dead", ["/old.mp3", "/new.mp3"])
async def test_head_addresses_that_disagree_are_tried_in_turn(searcher: Any, dead: str) -> None:
    page = (
        f"{HEAD}<meta property='og:audio' content='/old.mp3'>"
        "<meta property='og:audio:secure_url' content='/new.mp3'>"
    )
    alive = {"/old.mp3": "/new.mp3", "/new.mp3": "/old.mp3"}[dead]
    documents = web(page) | {f"https://x.example{alive}": SOUND}
    assert await searcher.media_url_in(documents, PAGE) == f"https://x.example{alive}"


async def test_the_third_address_in_the_head_is_tried_after_two_dead_ones(searcher: Any) -> None:
    page = HEAD + "".join(f'<meta property="og:audio" content="/{name}.mp3">' for name in "abc")
    documents = web(page) | {"https://x.example/c.mp3": SOUND}
    assert await searcher.media_url_in(documents, PAGE) == "https://x.example/c.mp3"
