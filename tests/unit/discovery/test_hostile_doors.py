"""Every door through which a document can name an address: none of them leads inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stenobird.discovery.feeds.directory import PodcastDirectory
from stenobird.discovery.ladder import DiscoveryLadder
from stenobird.discovery.platforms import platform_rules
from stenobird.egress.client import EgressClient
from stenobird.egress.policy import EgressPolicy
from stenobird.errors import JobError, UnsupportedURL
from stenobird.testing import FakeClock
from tests.support.connect_proxy import ConnectProxy
from tests.support.raw_server import answer, open_server

if TYPE_CHECKING:
    from anyio.abc import SocketStream

    from stenobird.sources import Verdict
    from tests.support.raw_server import RawRequest

pytestmark = pytest.mark.anyio

INTERNAL = (
    "http://127.0.0.1/a.mp3",
    "http://0x7f.1/a.mp3",
    "http://[::1]/a.mp3",
    "http://[::ffff:169.254.169.254]/latest/meta-data/a.mp3",
    "http://10.0.0.1/a.mp3",
    "http://localhost/a.mp3",
    "http://metadata/computeMetadata/v1/a.mp3",
    "http://public.test:22/a.mp3",
    "file:///etc/passwd",
)
DOORS = {
    "enclosure": (
        '<rss version="2.0"><channel><item><title>T</title>'
        '<enclosure url="{url}" type="audio/mpeg"/></item></channel></rss>'
    ),
    "atom": (
        '<feed xmlns="http://www.w3.org/2005/Atom"><entry>'
        '<link rel="enclosure" type="audio/mpeg" href="{url}"/></entry></feed>'
    ),
    "xml_base": (
        '<feed xmlns="http://www.w3.org/2005/Atom" xml:base="{url}"><entry>'
        '<link rel="enclosure" type="audio/mpeg" href="x.mp3"/></entry></feed>'
    ),
    "page_link": '<h1>T</h1><a download href="{url}">Download mp3</a>',
    "audio_element": '<h1>T</h1><audio src="{url}"></audio>',
    "og_audio": '<meta property="og:audio" content="{url}"><h1>T</h1>',
    "json_ld": (
        '<script type="application/ld+json">'
        '{{"@type":"PodcastEpisode","associatedMedia":{{"contentUrl":"{url}"}}}}</script>'
    ),
    "base_href": '<base href="{url}"><h1>T</h1><audio src="x.mp3"></audio>',
    "inline_state": '<h1>T</h1><script>var s={{"audioUrl":"{url}"}}</script>',
    "iframe": '<h1>T</h1><iframe src="{url}?player=episode"></iframe>',
    "feed_link": '<h1>T</h1><link rel="alternate" type="application/rss+xml" href="{url}">',
    "refresh": '<meta http-equiv="refresh" content="0;url={url}">',
    "oembed": '<link rel="alternate" type="application/json+oembed" href="{url}">',
    "m3u": "#EXTM3U\n{url}\n",
    "pls": "[playlist]\nFile1={url}\n",
    "xspf": (
        '<playlist xmlns="http://xspf.org/ns/0/"><trackList><track>'
        "<location>{url}</location></track></trackList></playlist>"
    ),
    "asx": '<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
    "opml": '<opml version="2.0"><body><outline type="rss" xmlUrl="{url}"/></body></opml>',
    "xxe": (
        '<?xml version="1.0"?><!DOCTYPE rss [<!ENTITY f SYSTEM "{url}">]>'
        '<rss version="2.0"><channel><title>&f;</title>'
        "<item><title>&f;</title></item></channel></rss>"
    ),
    "external_dtd": (
        '<?xml version="1.0"?><!DOCTYPE rss SYSTEM "{url}">'
        '<rss version="2.0"><channel><item/></channel></rss>'
    ),
    "scripted_refresh": '<script>window.location.href = "{url}"</script>',
    "speaking_attribute": '<h1>T</h1><button data-audio-src="{url}">Play</button>',
    "download_name": '<h1>T</h1><a download="a.mp3" href="{url}">Listen</a>',
    "behind_a_prefix": '<h1>T</h1><audio src="https://public.test/track.mp3?u={url}"></audio>',
    "srcdoc": '<h1>T</h1><iframe srcdoc="&lt;audio src=&quot;{url}&quot;&gt;"></iframe>',
    "broken_json_ld": '<script type="application/ld+json">{{"name": "a "b"", "contentUrl": "{url}"</script>',
    "guid": "<rss><channel><item><title>T</title><guid>{url}</guid></item></channel></rss>",
    "enclosure_text": "<rss><channel><item><enclosure>{url}</enclosure></item></channel></rss>",
    "atom_content": (
        '<feed xmlns="http://www.w3.org/2005/Atom"><entry>'
        '<content type="audio/mpeg" src="{url}"/></entry></feed>'
    ),
    "next_page": (
        '<rss xmlns:a="http://www.w3.org/2005/Atom"><channel><a:link rel="next" href="{url}"/>'
        '<item><title>T</title><enclosure url="{url}"/></item></channel></rss>'
    ),
    "moved": (
        '<rss xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"><channel>'
        "<itunes:new-feed-url>{url}</itunes:new-feed-url></channel></rss>"
    ),
    "moved_by_its_root": "<redirect><newLocation>{url}</newLocation></redirect>",
    "json_feed": (
        '{{"version": "https://jsonfeed.org/version/1.1", "next_url": "{url}", "items": [{{"id": "1",'
        ' "attachments": [{{"url": "{url}", "mime_type": "audio/mpeg"}}]}}]}}'
    ),
    "configuration": '<h1>T</h1><div data-config-url="{url}"></div>',
    "configuration_in_a_script": "<h1>T</h1><script>podlovePlayer('#p', '{url}')</script>",
    "redirect": "redirect",
}


@pytest.mark.parametrize("url", INTERNAL)
@pytest.mark.parametrize("door", DOORS)
async def test_no_document_leads_to_an_internal_address(searcher: Any, door: str, url: str) -> None:
    async def serve(_request: RawRequest, stream: SocketStream) -> None:
        if door == "redirect":
            await stream.send(answer(302, b"", {"Location": url}))
        else:
            await stream.send(answer(200, DOORS[door].format(url=url).encode(), {"Refresh": f"0;url={url}"}))

    async def report(verdict: Verdict) -> None:
        assert verdict.message

    directory = PodcastDirectory(FakeClock())
    async with open_server(serve) as server, ConnectProxy() as proxy:
        proxy.route("public.test", server.port)
        trusting = proxy.client_context()
        async with EgressClient(EgressPolicy(), proxy=proxy.url, ssl_context=trusting) as client:
            ladder = DiscoveryLadder(
                client.open,
                searcher.parser,
                platforms=platform_rules(directory),
                directory=directory,
            )
            with pytest.raises(JobError) as caught:
                await ladder.find("https://public.test/page", preview=False, report=report)
        asked = {target for target in proxy.targets if not target.startswith("itunes.apple.com")}
    assert asked == {"public.test:443"}
    if door in {"enclosure", "audio_element", "redirect"} and url.startswith("http:"):
        assert isinstance(caught.value, UnsupportedURL)
