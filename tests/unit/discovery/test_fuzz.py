"""No bytes, page, feed or URL makes discovery crash: it finds audio or says why not.

`STENOBIRD_FUZZ_EXAMPLES=1500` makes it a run of more than 10,000 examples.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stenobird.discovery import urls
from stenobird.discovery.feeds import episodes
from stenobird.discovery.feeds.reader import read_feed
from stenobird.discovery.page.inline_state import attribute_mentions, mentions
from stenobird.discovery.page.reader import read_page
from stenobird.discovery.parsing import lenient
from stenobird.discovery.parsing.facts import EpisodeFacts
from stenobird.discovery.parsing.lenient import parse_json
from stenobird.discovery.platforms.visit import json_after
from stenobird.discovery.sniff import estimate_seconds, sniff
from stenobird.egress.references import absolute
from stenobird.errors import JobError
from tests.support.documents import Served, mp3_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

QUICK = settings(
    max_examples=int(os.environ.get("STENOBIRD_FUZZ_EXAMPLES", "100")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
URL = "https://x.example/dir/page.html"

WORDS = st.sampled_from(
    [
        "a.mp3",
        "https://c.example/e-1.mp3",
        "/x.m4a?b=1",
        "http://[::1",
        "javascript:1",
        "",
        "Otters",
        "\u202e",
        "ø",
    ]
)
ATTRIBUTES = st.dictionaries(
    st.sampled_from(
        ["src", "href", "class", "content", "property", "itemprop", "type", "rel", "data-x", "onclick"]
    ),
    st.one_of(
        WORDS,
        st.text(max_size=30),
        st.sampled_from(
            ["og:audio", "og:title", "alternate", "application/rss+xml", "contentUrl", "audio/mpeg"]
        ),
    ),
    max_size=4,
)
TAGS = st.sampled_from(
    [
        "audio",
        "source",
        "a",
        "meta",
        "link",
        "script",
        "iframe",
        "div",
        "h1",
        "h2",
        "title",
        "base",
        "video",
        "template",
    ]
)


def _escaped(value: str) -> str:
    return value.replace('"', "&quot;")


@st.composite
def pages(draw: Callable[[Any], Any]) -> bytes:
    """HTML that is made of what discovery looks at, well-formed or not."""
    parts = []
    for _ in range(draw(st.integers(0, 12))):
        tag = draw(TAGS)
        attributes = "".join(f' {name}="{_escaped(value)}"' for name, value in draw(ATTRIBUTES).items())
        content = draw(
            st.one_of(WORDS, st.text(max_size=40), st.just('{"audioUrl":"https:\\/\\/c.example\\/z.mp3"}'))
        )
        parts.append(
            f"<{tag}{attributes}>{content}" + draw(st.sampled_from(["", f"</{tag}>", "</", "<", "-->"]))
        )
    text: str = "".join(parts)
    return text.encode("utf-8", "surrogatepass")


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10), WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from(
                [
                    "@type",
                    "@graph",
                    "contentUrl",
                    "audio",
                    "name",
                    "url",
                    "associatedMedia",
                    "duration",
                    "identifier",
                ]
            ),
            st.one_of(inner, st.sampled_from(["AudioObject", "PodcastEpisode", "Article"])),
            max_size=5,
        ),
    ),
    max_leaves=20,
)


@QUICK
@given(st.binary(max_size=6000), st.text(max_size=40), st.booleans())
def test_any_bytes_can_be_sniffed_and_measured(head: bytes, content_type: str, complete: bool) -> None:  # noqa: FBT001
    verdict = sniff(head, {"content-type": content_type}, complete=complete)
    assert verdict.kind in {"media", "playlist", "feed", "html", "json", "empty", "other"}
    for container in ("mp3", "wav", "mp4", "flac"):
        seconds = estimate_seconds(head, container, len(head))
        assert seconds is None or seconds >= 0 or container in {"wav", "mp3"}


@QUICK
@given(
    st.one_of(st.binary(max_size=3000), pages()),
    st.sampled_from(["", "text/html; charset=utf-7", "text/html"]),
)
def test_any_page_can_be_read(body: bytes, content_type: str) -> None:
    page = read_page(body, url=URL, content_type=content_type)
    assert all(absolute(URL, candidate.url) for candidate in page.candidates)
    assert page.accepted <= len(page.candidates)


@QUICK
@given(JSON)
def test_any_json_ld_can_be_read(data: Any) -> None:
    script = json.dumps(data).replace("</", "<\\/")
    body = f'<script type="application/ld+json">{script}</script><script>window.__STATE__={script}</script>'
    page = read_page(body.encode(), url=URL, content_type="text/html")
    assert page.outcome in {"found", "ambiguous", "none"}


@QUICK
@given(
    st.one_of(
        st.binary(max_size=2000), st.text(max_size=800).map(lambda text: text.encode("utf-8", "replace"))
    )
)
def test_any_feed_can_be_read(noise: bytes) -> None:
    for body in (
        noise,
        b"<rss><channel><item>" + noise,
        b'<rss><channel><item><enclosure url="' + noise + b'" type="audio/mpeg"/></item></channel></rss>',
        b'<feed xmlns="http://www.w3.org/2005/Atom"><entry><title>' + noise + b"</title></entry></feed>",
        b'{"version":"https://jsonfeed.org/version/1","items":[' + noise + b"]}",
    ):
        feed = read_feed(body, url=URL, content_type="text/xml")
        for episode in feed.episodes if feed else ():
            assert all(
                found.url.startswith(("http:", "https:", "HTTP", "Http")) for found in episode.enclosures
            )


@QUICK
@given(st.text(max_size=200))
def test_any_text_is_a_url_or_not(text: str) -> None:
    for candidate in (text, "https://" + text, "feed:" + text, "https://x.example/" + text):
        urls.normalised(candidate)
        urls.unwrapped(candidate)
        urls.audio_key(candidate)
        urls.page_key(candidate)
        urls.url_tokens(candidate)
        urls.variant_key(candidate)
        episodes.names_in(candidate)
        resolved = absolute(URL, candidate)
        assert resolved is None or urls.host_of(resolved)


@QUICK
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=12)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=8,
    ),
    st.text(alphabet='{}[]",:/*\\\n a<!->;&', max_size=12),
    st.integers(0, 80),
)
def test_json_is_read_with_anything_around_and_without_its_end(data: Any, noise: str, cut: int) -> None:
    text = json.dumps(data)
    parse_json(noise + text[:cut] + noise)
    if data is not None:
        assert parse_json(f" // <![CDATA[\n{text};\n// ]]> ") == data


@QUICK
@given(st.text(max_size=200), st.text(max_size=60))
def test_any_text_is_a_title_a_date_or_a_script(text: str, show: str) -> None:
    assert episodes.plain(episodes.plain(text)) == episodes.plain(text)
    episodes.Title.of(text, episodes.plain(show))
    lenient.parse_date(text)
    seconds = lenient.parse_duration(text)
    assert seconds is None or seconds > 0
    list(mentions(text + ' "https://c.example/a.mp3" ' + show, URL))
    list(attribute_mentions(text, URL))
    json_after(r"=\s*", text)
    json_after("[\"']", show)


@pytest.mark.anyio
@QUICK
@given(
    body=st.one_of(st.binary(max_size=1500), pages()),
    content_type=st.sampled_from(["text/html", "audio/mpeg", ""]),
)
async def test_any_response_ends_the_search_with_audio_or_a_job_error(
    searcher: Any, body: bytes, content_type: str
) -> None:
    web = {URL: Served(body, content_type), "https://c.example/e-1.mp3": Served(mp3_bytes(), "audio/mpeg")}
    try:
        found = await searcher.find(web, URL)
    except JobError:
        pass
    else:
        await found.opened.aclose()
    assert searcher.web.left_open == []


def test_wanted_without_anything_matches_nothing() -> None:
    feed = read_feed(
        b'<rss><channel><item><title></title><enclosure url="https://c.example/a.mp3"/></item></channel></rss>',
        url=URL,
        content_type="",
    )
    assert feed is not None
    assert episodes.match(feed, EpisodeFacts())[0] is None
