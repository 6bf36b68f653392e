"""Addresses as documents write them: unescaped exactly once, repaired as browsers do."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

import pytest

from stenobird.errors import JobError
from tests.support.documents import Served, mp3_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

FEED = "https://x.example/feed"
PAGE = "https://x.example/2026/the-otter-tale"
AUDIO = "https://cdn.example/otter-tale.mp3?token=a1&timestamp=1&region=eu&copy=2&para=3&order=4&lt=5&not=6&sect=7&curren=8&copy=9&amp=1"
"""Its parameters start like entities that need no semicolon."""


class Web(dict[str, Served]):
    """The given documents, and audio at exactly one address."""

    def __init__(self, audio: str, **documents: str) -> None:
        super().__init__()
        self[audio] = Served(mp3_bytes(), "audio/mpeg", ranges=True)
        for url, body in ((FEED, documents.get("feed")), (PAGE, documents.get("page"))):
            if body is not None:
                self[url] = Served(body.encode())


def rss(item: str) -> str:
    return (
        '<?xml version="1.0"?><rss xmlns:media="http://search.yahoo.com/mrss/"'
        ' xmlns:podcast="https://podcastindex.org/namespace/1.0"'
        ' xmlns:feedburner="http://rssnamespace.org/feedburner/ext/1.0" version="2.0">'
        f"<channel><title>Otters</title><item><title>The otter tale</title>{item}</item></channel></rss>"
    )


def atom(entry: str) -> str:
    return (
        '<feed xmlns="http://www.w3.org/2005/Atom"><title>Otters</title>'
        f"<entry><title>The otter tale</title>{entry}</entry></feed>"
    )


def json_feed(url: str) -> str:
    attachment = {"url": url, "mime_type": "audio/mpeg"}
    item = {"id": "1", "title": "The otter tale", "attachments": [attachment]}
    return json.dumps({"version": "https://jsonfeed.org/version/1.1", "title": "Otters", "items": [item]})


def download(url: str) -> str:
    return f'<a class="download" href="{escape(url)}">Download the otter tale</a>'


EPISODE = {"@type": "PodcastEpisode", "name": "The otter tale"}
FEEDS: dict[str, Callable[[str], str]] = {
    "enclosure": lambda url: rss(f'<enclosure url="{escape(url)}" type="audio/mpeg"/>'),
    "enclosure-text": lambda url: rss(f"<enclosure><![CDATA[{url}]]></enclosure>"),
    "media": lambda url: rss(f'<media:content url="{escape(url)}" type="audio/mpeg"/>'),
    "alternate": lambda url: rss(
        f'<podcast:alternateEnclosure type="audio/mpeg"><podcast:source uri="{escape(url)}"/>'
        "</podcast:alternateEnclosure>"
    ),
    "feedburner": lambda url: rss(
        f"<feedburner:origEnclosureLink>{escape(url)}</feedburner:origEnclosureLink>"
    ),
    "guid": lambda url: rss(f"<guid>{escape(url)}</guid>"),
    "link": lambda url: rss(f"<link>{escape(url)}</link>"),
    "description": lambda url: rss(f"<description>{escape(download(url))}</description>"),
    "atom": lambda url: atom(f'<link rel="enclosure" type="audio/mpeg" href="{escape(url)}"/>'),
    "atom-content": lambda url: atom(f'<content type="audio/mpeg" src="{escape(url)}"/>'),
    "rdf": lambda url: (
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"'
        ' xmlns:enc="http://purl.oclc.org/net/rss_2.0/enc#"><channel><title>Otters</title></channel>'
        f'<item><title>The otter tale</title><enc:enclosure rdf:resource="{escape(url)}"/></item></rdf:RDF>'
    ),
    "json": json_feed,
    "broken": lambda url: rss(f'<enclosure url="{escape(url)}" type="audio/mpeg"/><b>'),
}
PAGES: dict[str, Callable[[str], str]] = {
    "audio": lambda url: f'<audio src="{escape(url)}"></audio>',
    "audio-raw": lambda url: f'<audio src="{url}"></audio>',
    "og": lambda url: f'<meta property="og:audio" content="{escape(url)}">',
    "json-ld": lambda url: (
        '<script type="application/ld+json">' + json.dumps(EPISODE | {"audio": url}) + "</script>"
    ),
    "state": lambda url: f"<script>var player = {json.dumps({'audioUrl': url})}</script>",
    "attribute": lambda url: f"<div data-player='{escape(json.dumps({'audio': url}))}'></div>",
    "link": download,
}


CASES = [
    pytest.param(kind, write, id=f"{kind}-{name}")
    for kind, documents in (("feed", FEEDS), ("page", PAGES))
    for name, write in documents.items()
]


async def chosen(searcher: Any, kind: str, document: str, audio: str) -> str:
    address = FEED if kind == "feed" else PAGE
    text = document if kind == "feed" else f"<title>The otter tale</title><h1>The otter tale</h1>{document}"
    try:
        url: str = await searcher.media_url_in(Web(audio, **{kind: text}), address)
    except JobError as error:
        return f"{error.code}: {error.message}"
    return url


@pytest.mark.parametrize(("kind", "write"), CASES)
async def test_address_is_unescaped_exactly_once(
    searcher: Any, kind: str, write: Callable[[str], str]
) -> None:
    assert await chosen(searcher, kind, write(AUDIO), AUDIO) == AUDIO


async def test_guid_with_parameters_is_found_by_the_fragment(searcher: Any) -> None:
    guid = "https://x.example/?p=1&timestamp=2"
    items = "</item><item>".join(
        f'<guid>{escape(guid)}{number}</guid><enclosure url="https://cdn.example/{number}.mp3"/>'
        for number in range(3)
    )
    audio = "https://cdn.example/1.mp3"
    web = Web(audio, feed=rss(items))
    assert await searcher.media_url_in(web, f"{FEED}#{guid}1") == audio


@pytest.mark.parametrize(
    ("written", "requested"),
    [
        ("https://cdn.example/Mein\u00a0Titel.mp3", "https://cdn.example/Mein%C2%A0Titel.mp3"),
        ("https://cdn.example/a\u3000b\u2003c d.mp3", "https://cdn.example/a%E3%80%80b%E2%80%83c%20d.mp3"),
        ("https:\\\\cdn.example\\shows\\a.mp3", "https://cdn.example/shows/a.mp3"),
        ("https:///cdn.example/shows/a.mp3", "https://cdn.example/shows/a.mp3"),
        ("\n\t https://cdn.example/sho\nws/\ta.mp3 \n", "https://cdn.example/shows/a.mp3"),
        ("https://cdn.example/a.mp3?path=c:\\b", "https://cdn.example/a.mp3?path=c:%5Cb"),
        ("\u00a0https://cdn.example/shows/a.mp3\u00a0", "https://cdn.example/shows/a.mp3"),
        ("https://cdn.example/\u00fcber uns.mp3", "https://cdn.example/\u00fcber%20uns.mp3"),
    ],
    ids=["nbsp", "spaces", "backslashes", "slashes", "line-breaks", "query", "nbsp-around", "unencoded"],
)
@pytest.mark.parametrize("kind", ["feed", "page"])
async def test_address_is_repaired_as_browsers_do(
    searcher: Any, kind: str, written: str, requested: str
) -> None:
    # Attributes are normalised by XML parsers, so the feed has the address as text.
    document = (
        rss(f"<enclosure><![CDATA[{written}]]></enclosure>")
        if kind == "feed"
        else f"<meta property='og:title' content='The otter tale'><audio src='{escape(written)}'></audio>"
    )
    assert await chosen(searcher, kind, document, requested) == requested


@pytest.mark.parametrize(
    "item",
    [
        "<enclosure url=https://cdn.example/a.mp3 length=1 type=audio/mpeg />",
        "<enclosure type='audio/mpeg' url=https://cdn.example/a.mp3></enclosure>",
        "<enclosure url=https://cdn.example/a.mp3>",
    ],
)
async def test_feed_with_unquoted_attributes_is_read(searcher: Any, item: str) -> None:
    assert (
        await chosen(searcher, "feed", rss(item), "https://cdn.example/a.mp3") == "https://cdn.example/a.mp3"
    )


async def test_pictures_of_a_blog_feed_are_no_audio(searcher: Any) -> None:
    picture = '<media:content url="https://i.example/w/12" medium="image"/>'
    assert (await chosen(searcher, "feed", rss(picture), "https://i.example/w/12")).startswith("audio_")


XML_PLAYLISTS: dict[str, Callable[[str], str]] = {
    "xspf": lambda url: f"<playlist><track><location>{url}</location></track></playlist>",
    "xspf-cdata": lambda url: f"<playlist><location><![CDATA[{url}]]></location></playlist>",
    "asx": lambda url: f'<asx version="3"><entry><ref href="{url}"/></entry></asx>',
}


@pytest.mark.parametrize("name", XML_PLAYLISTS)
@pytest.mark.parametrize("written", ["?a=1&amp;timestamp=2", "?a=1&#38;timestamp=2", "?a=1&#x26;timestamp=2"])
async def test_address_in_an_xml_playlist_is_unescaped_once(searcher: Any, name: str, written: str) -> None:
    url, audio = "https://x.example/list", "https://cdn.example/talk.mp3"
    web = Web(f"{audio}?a=1&timestamp=2")
    web[url] = Served(XML_PLAYLISTS[name](audio + written).encode(), "application/xspf+xml")
    assert await searcher.media_url_in(web, url) == f"{audio}?a=1&timestamp=2"


@pytest.mark.parametrize(
    "playlist",
    [
        "\ufeff#EXTM3U\nhttps://cdn.example/talk.mp3\n".encode(),
        "#EXTM3U\r\n#EXTINF:7,Talk\r\nhttps://cdn.example/talk.mp3\r\n".encode("utf-16"),
        "\ufeff[playlist]\nFile1=https://cdn.example/talk.mp3\nNumberOfEntries=1\n".encode(),
        "\ufeffhttps://cdn.example/talk.mp3\n".encode(),
        b"#EXTM3U\r#EXTINF:7,Talk\rhttps://cdn.example/talk.mp3\r",
        b"[Reference]\r\nRef1=https://cdn.example/talk.mp3\r\nRef2=https://cdn.example/talk.mp3\r\n",
        b'<?wpl version="1.0"?><smil><body><seq><media src="talk.mp3"/></seq></body></smil>',
        b'<smil><body><audio src="https://cdn.example/talk.mp3"/></body></smil>',
        b"\\talk.mp3\n",
        "my talk \u00e4.mp3\n".encode(),
        b"<x:playlist><x:location>/list</x:location><x:trackList><x:location> /talk.mp3</x:location>",
        b'<playlist xml:base="https://cdn.example/"><trackList><track><location>talk.mp3</location></track>',
        b"<playlist><!-- <location>/old.mp3</location> --><trackList><location>/talk.mp3</location>",
        b'<asx version="3"><base href="https://cdn.example/"/><entry><ref href="talk.mp3"/></entry></asx>',
        b"<asx version=3><entry><ref href=https://cdn.example/talk.mp3/></entry></asx>",
    ],
    ids=[
        "m3u",
        "utf-16",
        "pls",
        "bare",
        "old-line-ends",
        "asx",
        "wpl",
        "smil",
        "backslash",
        "spaces",
        "xspf-prefix",
        "xspf-base",
        "xspf-comment",
        "asx-base",
        "asx-unquoted",
    ],
)
async def test_odd_playlist_is_followed(searcher: Any, playlist: bytes) -> None:
    url, audio = "https://cdn.example/list.m3u", "https://cdn.example/talk.mp3"
    web = Web(audio)
    web["https://cdn.example/my%20talk%20\u00e4.mp3"] = web[audio]
    web[url] = Served(playlist, "audio/x-mpegurl")
    assert (await searcher.media_url_in(web, url)) in web.keys() - {url}


@pytest.mark.parametrize("head", ["", "# My talks\n\n"])
async def test_text_of_nothing_but_an_address_is_a_playlist(searcher: Any, head: str) -> None:
    url, audio = "https://x.example/list.m3u", "https://cdn.example/talk.mp3"
    web = Web(audio)
    web[url] = Served(f"{head}{audio}\n".encode(), "text/plain")
    assert await searcher.media_url_in(web, url) == audio
    web[url] = Served(f"{head}talk.mp3\n".encode(), "application/octet-stream")
    web["https://x.example/talk.mp3"] = web[audio]
    assert await searcher.media_url_in(web, url) == "https://x.example/talk.mp3"
    web[url] = Served(f"See {audio}\n{audio}\n".encode(), "text/plain")
    with pytest.raises(JobError):
        await searcher.media_url_in(web, url)
