"""Feeds as programs write them: where an episode's audio may stand, and what is none."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from stenobird.discovery import urls
from stenobird.errors import JobError
from tests.support.documents import Served, mp3_bytes

if TYPE_CHECKING:
    from typing import Any

pytestmark = pytest.mark.anyio

FEED = "https://f.example/rss"
AUDIO = "https://cdn.example/a/otter-tale-final.mp3"
FOLDER = "https://cdn.example/a/"
NAMELESS = "https://cdn.example/play/7"
ENCLOSURE = f'<enclosure url="{AUDIO}" type="audio/mpeg" length="0"/>'


def rss(item: str, head: str = "") -> str:
    return (
        '<?xml version="1.0"?><rss version="2.0" xmlns:media="http://search.yahoo.com/mrss/"'
        ' xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"'
        ' xmlns:podcast="https://podcastindex.org/namespace/1.0"><channel><title>Otters</title>'
        f"{head}<item><title>One</title>{item}</item></channel></rss>"
    )


def atom(entry: str) -> str:
    return f'<feed xmlns="http://www.w3.org/2005/Atom"><title>o</title><entry><title>a</title>{entry}</entry></feed>'


class Web(dict[str, Served]):
    """One feed, and audio wherever an address ends like it."""

    def __init__(self, feed: bytes, content_type: str) -> None:
        audio = Served(mp3_bytes(), "audio/mpeg", ranges=True)
        super().__init__({FEED: Served(feed, content_type), NAMELESS: audio})
        self.audio = audio

    def get(self, url: str, default: Any = None) -> Any:
        if url in self:
            return self[url]
        return self.audio if urls.is_audio_url(url) else default


async def found(searcher: Any, feed: str | bytes, content_type: str = "application/rss+xml") -> str | None:
    body = feed.encode() if isinstance(feed, str) else feed
    try:
        url: str = await searcher.media_url_in(Web(body, content_type), FEED)
    except JobError:
        return None
    return url


def alternate(media_type: str, *addresses: str, more: str = "") -> str:
    sources = "".join(f'<podcast:source uri="{address}"/>' for address in addresses)
    return f'<podcast:alternateEnclosure type="{media_type}"{more}>{sources}</podcast:alternateEnclosure>'


def prefixed(feed: str) -> str:
    return feed.replace("<", "<a:").replace("<a:/", "</a:").replace('xmlns="', 'xmlns:a="')


VIDEO_AND_AUDIO = (
    '<media:group><media:content url="https://cdn.example/v.mp4" type="video/mp4" isDefault="true"/>'
    f'<media:content url="{AUDIO}" type="audio/mpeg"/></media:group>'
)
TORRENT_AND_MP3 = alternate("application/x-bittorrent", "https://cdn.example/o.torrent") + alternate(
    "audio/mpeg", "ipfs://abc", AUDIO
)
JSON_FEED = {
    "version": "https://jsonfeed.org/version/1.1",
    "items": [{"id": 1, "attachments": [{"url": AUDIO, "mime_type": "audio/mpeg"}]}],
}
CAPITALS = (
    f'<RSS><CHANNEL><ITEM><TITLE>a</TITLE><ENCLOSURE URL="{AUDIO}" TYPE="audio/mpeg"/></ITEM></CHANNEL></RSS>'
)
STYLED = f'?><?xml-stylesheet type="text/xsl" href="/x.xsl"?><!-- {"x" * 3000} -->'
TRACKED = "https://dts.podtrac.com/redirect.mp3/chtbl.com/track/1/cdn.example/z.mp3"


@pytest.mark.parametrize(
    ("feed", "expected"),
    [
        (
            rss(ENCLOSURE + alternate("audio/opus", "https://cdn.example/o.opus", more=' default="true"')),
            AUDIO,
        ),
        (rss(TORRENT_AND_MP3), AUDIO),
        (
            rss(alternate("video/mp4", "https://cdn.example/o.mp4") + alternate("audio/mpeg", NAMELESS)),
            NAMELESS,
        ),
        (rss(ENCLOSURE + "<itunes:block>Yes</itunes:block>", "<itunes:block>Yes</itunes:block>"), AUDIO),
        (rss(VIDEO_AND_AUDIO), AUDIO),
        (rss(f'<media:content url="{NAMELESS}" medium="audio"/>'), NAMELESS),
        (rss(f'<enclosure url="{AUDIO}" type="application/pdf"/>'), AUDIO),
        (rss(f'<enclosure url="{NAMELESS}"/>'), NAMELESS),
        (rss(f"<enclosure><![CDATA[{AUDIO}]]></enclosure>"), AUDIO),
        (rss(f"<enclosure><url>{AUDIO}</url></enclosure>"), AUDIO),
        (rss(f"<guid>{AUDIO}</guid>"), AUDIO),
        (rss(f'<enclosure url="{AUDIO}?a=1&amp;amp;b=2" type="audio/mpeg"/>'), f"{AUDIO}?a=1&b=2"),
        (rss('<enclosure url=" https://cdn.example/my otter.mp3 "/>'), "https://cdn.example/my%20otter.mp3"),
        (rss(f'<enclosure url="{TRACKED}"/>'), TRACKED),
        (rss(f'<enclosure url="\u200e{AUDIO}\u200b"/>'), AUDIO),
        (atom(f'<link href="https://o.example/"/><link rel="enclosure" href="{AUDIO}"/>'), AUDIO),
        (
            atom(f'<link rel="http://www.iana.org/assignments/relation/enclosure" href="{NAMELESS}"/>'),
            NAMELESS,
        ),
        (atom(f'<link rel="Enclosure" href="{NAMELESS}"/>'), NAMELESS),
        (atom(f'<content type="audio/mpeg" src="{AUDIO}"/>'), AUDIO),
        (prefixed(atom(f'<link rel="enclosure" href="{AUDIO}"/>')), AUDIO),
        (CAPITALS, AUDIO),
        (f"<br /><b>Warning</b>: in <b>/x.php</b> on line 3<br />{rss(ENCLOSURE)}", AUDIO),
        (rss(ENCLOSURE).replace("?>", STYLED), AUDIO),
        (json.dumps(JSON_FEED), AUDIO),
        (json.dumps(JSON_FEED | {"items": [{"id": 1, "content_html": f"<audio src='{AUDIO}'>"}]}), AUDIO),
        (atom(f'<content type="xhtml"><div><audio src="{AUDIO}"/></div></content>'), AUDIO),
        (atom('<link rel="enclosure" xml:base="https://cdn.example/a/" href="x.mp3"/>'), f"{FOLDER}x.mp3"),
        (rss(f"<enclosure><type>audio/mpeg</type><url>{NAMELESS}</url></enclosure>"), NAMELESS),
        (rss(f'<enclosure xmlns:e="urn:e"><e:Enclosure e:url="{NAMELESS}"/></enclosure>'), NAMELESS),
        (rss('<enclosure url="www.cdn.example/x.mp3"/>'), "https://www.cdn.example/x.mp3"),
    ],
    ids=range(30),
)
async def test_audio_of_an_episode_is_found_wherever_a_feed_puts_it(
    searcher: Any, feed: str, expected: str
) -> None:
    assert await found(searcher, feed) == expected


async def test_feed_in_a_gzip_file_is_read(searcher: Any) -> None:
    assert await found(searcher, gzip.compress(rss(ENCLOSURE).encode()), "application/gzip") == AUDIO


@pytest.mark.parametrize("encoding", ["windows-1251", "koi8-r", "utf-16"])
async def test_declared_encodings_are_read(searcher: Any, encoding: str) -> None:
    feed = rss(ENCLOSURE).replace('"1.0"?', f'"1.0" encoding="{encoding}"?').replace("Otters", "Выдры")
    assert await found(searcher, feed.encode(encoding)) == AUDIO
    assert "Выдры" in " ".join(verdict.message for verdict in searcher.verdicts)


async def test_wrong_declared_encoding_does_not_lose_the_feed(searcher: Any) -> None:
    feed = rss(ENCLOSURE).replace('"1.0"?', '"1.0" encoding="utf-8"?').replace("Otters", "Été")
    assert await found(searcher, feed.encode("latin-1")) == AUDIO


@pytest.mark.parametrize(
    ("feed", "content_type"),
    [
        ("<html><title>Otters</title><h1>Subscribe</h1></html>", "application/rss+xml"),
        (rss('<enclosure url="https://cdn.example/page" type="audio/mpeg"/>'), "application/rss+xml"),
        (rss('<enclosure url="ftp://cdn.example/a.mp3" type="audio/mpeg"/>'), "application/rss+xml"),
        (rss('<enclosure url="file:///etc/passwd" type="audio/mpeg"/>'), "application/rss+xml"),
        ('<opml><body><outline xmlUrl="https://f.example/2"/></body></opml>', "text/xml"),
        ("<urlset><url><loc>https://x.example/a.mp3</loc></url></urlset>", "text/xml"),
        (atom('<content type="text/html" src="https://cdn.example/page"/>'), "application/atom+xml"),
    ],
    ids=range(7),
)
async def test_documents_without_audio_give_none(searcher: Any, feed: str, content_type: str) -> None:
    assert await found(searcher, feed, content_type) is None


def two(broken: str) -> str:
    """Return a feed whose first item is the newest, and written like this."""
    date = "<pubDate>Tue, 28 May 2024 08:00:00 GMT</pubDate>"
    old = f'<item><title>Old</title>{date}<enclosure url="/old.mp3"/></item>'
    return (
        f'<?xml version="1.0"?><rss version="2.0"><channel><title>Otters</title>{broken}{old}</channel></rss>'
    )


DATE = "<pubDate>Tue, 04 Jun 2024 08:00:00 GMT</pubDate>"
MISMATCHED = {
    "a stray end tag": f"<item><guid>b</guid></guid>{DATE}{ENCLOSURE}</item>",
    "an end tag in capitals": f"<item><title>New</TITLE>{DATE}{ENCLOSURE}</item>",
    "an item in capitals": f"<ITEM><title>New</title>{DATE}{ENCLOSURE}</ITEM>",
    "an element without an end": f"<item><guid>b{DATE}{ENCLOSURE}</item>",
    "an enclosure without an end": f'<item>{DATE}<enclosure url="{AUDIO}" type="audio/mpeg"></item>',
    "markup without an end": f"<item><description>a<br>b<p>c</description>{DATE}{ENCLOSURE}</item>",
    "an end tag of nothing": f"<item></b></x:y>{DATE}{ENCLOSURE}</item>",
}


@pytest.mark.parametrize("item", MISMATCHED.values(), ids=MISMATCHED)
async def test_tags_that_do_not_match_cost_no_item(searcher: Any, item: str) -> None:
    assert await found(searcher, two(item)) == AUDIO


@pytest.mark.parametrize("written", ["{}\r\n", "\n\t{}", "https://cdn.example/a/\r\n\totter-tale-final.mp3"])
async def test_line_breaks_in_the_address_of_an_enclosure_are_dropped(searcher: Any, written: str) -> None:
    enclosure = f'<enclosure url="{written.format(AUDIO)}" type="audio/mpeg"/>'
    assert await found(searcher, rss(enclosure)) == AUDIO
