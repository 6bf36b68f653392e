"""The ladder: its order, its economy, and its errors."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from stenobird.discovery.outcome import refusal
from stenobird.discovery.parsing.parser import DocumentParser
from stenobird.errors import (
    AudioContentTypeNotSupported,
    AudioSourceNotFound,
    AudioSourceUnreachable,
    AudioUnreachable,
    ConnectFailed,
    JobError,
    UnsupportedURL,
)
from tests.support.documents import Served, mp3_bytes

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from typing import Any

pytestmark = pytest.mark.anyio


FEED = """<rss version="2.0" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"><channel>
<title>Walkers</title><link>https://walkers.example/</link>
<item><title>Old walk</title><guid>w-1</guid><link>https://walkers.example/old</link>
<pubDate>Mon, 05 Jan 2026 10:00:00 GMT</pubDate>
<enclosure url="https://cdn.example/old.mp3" type="audio/mpeg"/></item>
<item><title>New walk</title><guid>w-2</guid><link>https://walkers.example/new</link>
<pubDate>Mon, 12 Jan 2026 10:00:00 GMT</pubDate>
<enclosure url="https://cdn.example/new.mp3" type="audio/mpeg"/></item>
</channel></rss>"""


async def test_direct_link_costs_one_request_and_hands_over_the_open_response(
    searcher: Any, mp3: bytes
) -> None:
    found = await searcher.find({"https://cdn.example/a.mp3": mp3}, "https://cdn.example/a.mp3")
    assert found.source.technique == "direct"
    assert [asked.byte_range for asked in searcher.web.asked] == [(0, None)]
    assert b"".join([block async for block in found.opened.body()]) == mp3
    await found.opened.aclose()
    assert searcher.web.left_open == []


async def test_preview_requests_64_kib_only(searcher: Any, mp3: bytes) -> None:
    found = await searcher.find({"https://cdn.example/a.mp3": mp3}, "https://cdn.example/a.mp3", preview=True)
    assert [asked.byte_range for asked in searcher.web.asked] == [(0, 65535)]
    await found.opened.aclose()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://f.example/rss", "https://cdn.example/new.mp3"),
        ("feed://f.example/rss", "https://cdn.example/new.mp3"),
        ("https://f.example/rss#w-1", "https://cdn.example/old.mp3"),
        ("https://f.example/rss#guid=w-1", "https://cdn.example/old.mp3"),
        ("https://f.example/rss#https://walkers.example/old", "https://cdn.example/old.mp3"),
        ("https://f.example/rss#Old%20walk", "https://cdn.example/old.mp3"),
    ],
)
async def test_feed_gives_the_newest_or_the_named_episode(
    searcher: Any, mp3: bytes, url: str, expected: str
) -> None:
    web = {
        "https://f.example/rss": Served(FEED.encode(), "text/xml"),
        "https://cdn.example/new.mp3": mp3,
        "https://cdn.example/old.mp3": mp3,
    }
    assert await searcher.media_url(web, url) == expected
    assert searcher.web.left_open == []


async def test_feed_query_that_names_an_episode_is_followed_or_refused(searcher: Any, mp3: bytes) -> None:
    feed = Served(FEED.encode(), "text/xml")
    web = {"https://f.example/rss?guid=w-1": feed, "https://cdn.example/old.mp3": mp3}
    assert await searcher.media_url(web, "https://f.example/rss?guid=w-1") == "https://cdn.example/old.mp3"
    web = {"https://f.example/rss?guid=w-9": feed, "https://cdn.example/new.mp3": mp3}
    with pytest.raises(AudioSourceNotFound):
        await searcher.find(web, "https://f.example/rss?guid=w-9")


@pytest.mark.parametrize(
    ("served", "error"),
    [
        (Served(status=404), AudioSourceUnreachable),
        (Served(status=503), AudioSourceUnreachable),
        (Served(fails=True), AudioSourceUnreachable),
        (Served(status=401), UnsupportedURL),
        (Served(status=403), UnsupportedURL),
        (Served(forbidden=True), UnsupportedURL),
        (Served(b"", "audio/mpeg"), AudioContentTypeNotSupported),
        (Served(b"PK\x03\x04" + bytes(5000), "audio/mpeg"), AudioContentTypeNotSupported),
        (Served(b"%PDF-1.7 " + bytes(5000), "application/pdf"), AudioContentTypeNotSupported),
        (Served(b'{"a": 1}', "application/json"), AudioContentTypeNotSupported),
        (Served(b"<html><p>Hello</html>"), AudioSourceNotFound),
        (Served(b"<html><form action=/login><input type=password></form></html>"), AudioSourceNotFound),
        (
            Served(b"<html><title>Log in</title><form><input type=password></form></html>"),
            UnsupportedURL,
        ),
        (Served(b"<rss><channel><title>x</title></channel></rss>"), AudioSourceNotFound),
    ],
)
async def test_submitted_url_that_gives_no_audio_has_its_own_code(
    searcher: Any, served: Served, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        await searcher.find({"https://x.example/page": served}, "https://x.example/page")
    assert type(caught.value) is error
    assert searcher.web.left_open == []


@pytest.mark.parametrize(
    ("name", "error"),
    [("page", AudioSourceUnreachable), ("a.mp3", AudioUnreachable), ("rss", AudioSourceUnreachable)],
)
@pytest.mark.parametrize(
    ("served", "remedy"),
    [
        (Served(status=404), "moved or taken away: check the URL"),
        (Served(status=410), "moved or taken away: check the URL"),
        (Served(status=503), "Try again later"),
        (Served(status=429), "Try again later"),
        (Served(status=400), "Check that the URL opens in a browser"),
        (Served(fails=True), "Check that the URL opens in a browser"),
    ],
    ids=["404", "410", "503", "429", "400", "silent"],
)
async def test_url_that_ends_like_audio_is_media_and_any_other_is_a_source(
    searcher: Any, name: str, error: type[JobError], served: Served, remedy: str
) -> None:
    url = f"https://x.example/{name}"
    with pytest.raises(error) as caught:
        await searcher.find({url: served}, url)
    assert type(caught.value) is error
    assert remedy in caught.value.message
    assert ("You can also send the direct audio URL" in caught.value.message) is (
        error is AudioSourceUnreachable
    )


@pytest.mark.parametrize("url", ["https://x.example/page", "https://x.example/a.mp3"])
@pytest.mark.parametrize(
    "reason", [ConnectFailed("It did not answer within 5 s.", remedy="Try again later."), 503]
)
def test_a_remedy_is_named_once(url: str, reason: ConnectFailed | int) -> None:
    message = refusal(url, reason).message
    assert message.lower().count("try again") == 1


def test_a_remedy_of_the_error_itself_is_the_only_one() -> None:
    error = ConnectFailed("It refused the connection on port 443.", remedy="Check that it is online.")
    message = refusal("https://x.example/a.mp3", error).message
    assert "port 443. Check that it is online." in message
    assert "in a browser" not in message


async def test_audio_whose_server_does_not_place_parts_is_requested_whole(searcher: Any) -> None:
    url = "https://x.example/talk.mp3"
    found = await searcher.find({url: Served(mp3_bytes(), "audio/mpeg", unplaced=True)}, url)
    assert found.source.media_url == url
    assert [asked.byte_range is None for asked in searcher.web.asked] == [False, True]


async def test_chosen_media_that_is_dead_is_audio_unreachable(searcher: Any) -> None:
    page = '<h1>Talk</h1><audio src="https://cdn.example/talk.mp3"></audio>'
    with pytest.raises(AudioUnreachable) as caught:
        await searcher.find({"https://x.example/talk": page}, "https://x.example/talk")
    assert "404" in caught.value.message
    assert caught.value.details["candidates"][0]["url"] == "https://cdn.example/talk.mp3"


@pytest.mark.parametrize("remedy", ["", "Try again later."])
async def test_audio_that_is_not_delivered_has_one_remedy(searcher: Any, remedy: str) -> None:
    page = '<h1>Talk</h1><audio src="https://cdn.example/talk.mp3"></audio>'
    web = {"https://x.example/talk": page, "https://cdn.example/talk.mp3": Served(fails=True, remedy=remedy)}
    with pytest.raises(AudioUnreachable) as caught:
        await searcher.find(web, "https://x.example/talk")
    assert caught.value.message.lower().count("try again") == 1


async def test_media_on_an_address_that_is_not_public_is_unsupported(searcher: Any) -> None:
    page = '<h1>Talk</h1><audio src="http://10.0.0.1/talk.mp3"></audio>'
    web = {"https://x.example/talk": page, "http://10.0.0.1/talk.mp3": Served(forbidden=True)}
    with pytest.raises(UnsupportedURL):
        await searcher.find(web, "https://x.example/talk")


async def test_tracking_prefix_is_left_out_only_when_it_is_dead(searcher: Any, mp3: bytes) -> None:
    tracked = "https://chtbl.com/track/12/cdn.example/talk-one.mp3"
    web = {
        "https://x.example/talk": f'<h1>Talk</h1><audio src="{tracked}"></audio>',
        "https://cdn.example/talk-one.mp3": mp3,
    }
    assert await searcher.media_url(web, "https://x.example/talk") == "https://cdn.example/talk-one.mp3"
    web[tracked] = mp3
    assert await searcher.media_url(web, "https://x.example/talk") == tracked


async def test_page_cut_by_the_range_of_a_preview_is_read_whole(searcher: Any, mp3: bytes) -> None:
    page = "<h1>Talk</h1>" + "<p>words words words</p>" * 4000 + '<audio src="/talk.mp3"></audio>'
    web = {"https://x.example/talk": Served(page.encode(), ranges=True), "https://x.example/talk.mp3": mp3}
    found = await searcher.find(web, "https://x.example/talk", preview=True)
    assert found.source.media_url == "https://x.example/talk.mp3"
    await found.opened.aclose()
    assert searcher.web.left_open == []


async def test_every_rung_reports_and_the_failure_names_what_was_rejected(searcher: Any) -> None:
    page = '<h1>News</h1><audio src="/wp-content/plugins/x/click.mp3"></audio><p>text</p>'
    with pytest.raises(AudioSourceNotFound) as caught:
        await searcher.find({"https://x.example/news": page}, "https://x.example/news")
    assert [verdict.stage for verdict in searcher.verdicts] == ["resolving_direct", "resolving_page"]
    candidate = caught.value.details["candidates"][0]
    assert candidate["reason"] == "a sound of the site, not its content"
    assert "Send the direct audio URL" in caught.value.message


async def test_playlist_that_points_to_one_file_is_followed(searcher: Any, mp3: bytes) -> None:
    web = {
        "https://x.example/a.m3u": Served(b"#EXTM3U\n/one.mp3\n", "audio/x-mpegurl"),
        "https://x.example/one.mp3": mp3,
    }
    assert await searcher.media_url(web, "https://x.example/a.m3u") == "https://x.example/one.mp3"


@pytest.mark.parametrize("outcome", ["found", "passed"])
async def test_nothing_stays_open_when_a_report_is_refused(searcher: Any, mp3: bytes, outcome: str) -> None:
    class LeaseLostNow(Exception):
        pass

    async def refuse(verdict: Any) -> None:
        if verdict.outcome == outcome:
            raise LeaseLostNow

    searcher.report = refuse
    web = {
        "https://x.example/talk": '<h1>T</h1><audio src="/talk.mp3"></audio>',
        "https://x.example/talk.mp3": mp3,
    }
    for url in web:
        with (
            pytest.raises(LeaseLostNow)
            if (url, outcome) != ("https://x.example/talk.mp3", "passed")
            else nullcontext()
        ):
            found = await searcher.find(web, url)
            await found.opened.aclose()
        assert searcher.web.left_open == []


async def test_hls_playlist_is_handed_over_as_hls(searcher: Any) -> None:
    text = b"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\ns.ts\n"
    found = await searcher.find(
        {"https://x.example/a.m3u8": Served(text, "application/vnd.apple.mpegurl")},
        "https://x.example/a.m3u8",
    )
    assert found.source.kind == "hls"
    await found.opened.aclose()


class RecordingExecutor(ThreadPoolExecutor):
    """The event loop's threads, and the names of the functions they ran."""

    def __init__(self) -> None:
        super().__init__(1)
        self.asked: list[str] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Note what `asyncio.to_thread` hands over: `partial(context.run, function, ...)`."""
        if isinstance(fn, functools.partial):
            self.asked.append(getattr(fn.args[0], "func", fn.args[0]).__name__)
        return super().submit(fn, *args, **kwargs)


async def test_matching_a_large_feed_does_not_block_the_event_loop(searcher: Any) -> None:
    items = "".join(
        f"<item><title>wörd{number}</title><guid>{number}</guid>"
        "<pubDate>Mon, 05 Jan 2026 10:00:00 GMT</pubDate>"
        f'<enclosure url="https://cdn.example/{number}.mp3" type="audio/mpeg"/></item>'
        for number in range(5000)
    )
    page = (
        "<meta property=og:title content='Of otters and men'><meta property=article:published_time content="
        "2026-01-05><link rel=alternate type=application/rss+xml href=/rss><p>Otters"
    )
    web = {
        "https://x.example/otters": Served(page.encode()),
        "https://x.example/rss": Served(f"<rss><channel><title>F</title>{items}</channel></rss>".encode()),
    }
    threads = RecordingExecutor()
    asyncio.get_running_loop().set_default_executor(threads)
    async with DocumentParser() as parser:
        searcher.parser = parser
        with pytest.raises(AudioSourceNotFound):
            await searcher.find_in(web, "https://x.example/otters")
    # Matching such a feed takes up to a second, so it must not block the event loop.
    assert "choose" in threads.asked


@pytest.mark.parametrize("how", ["redirect", "refresh"])
async def test_front_page_does_not_stand_for_an_episode_that_is_gone(
    searcher: Any, mp3: bytes, how: str
) -> None:
    moved = (
        Served(status=302, headers={"location": "https://x.example/"})
        if how == "redirect"
        else Served(b'<meta http-equiv="refresh" content="0; url=/">')
    )
    web = {
        "https://x.example/2024/05/the-otter-tale": moved,
        "https://x.example/listen": moved,
        "https://s.example/8fa3c9d1b2": moved,
        "https://x.example/": "<h1>The Show</h1><audio src='/newest.mp3'></audio>",
        "https://x.example/newest.mp3": mp3,
    }
    with pytest.raises(AudioSourceNotFound, match="front page"):
        await searcher.find(web, "https://x.example/2024/05/the-otter-tale")
    # What names no episode may well mean the show: an alias, a short link elsewhere.
    assert await searcher.media_url(web, "https://x.example/listen") == "https://x.example/newest.mp3"
    if how == "redirect":
        assert await searcher.media_url(web, "https://s.example/8fa3c9d1b2") == "https://x.example/newest.mp3"
