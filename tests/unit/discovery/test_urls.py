"""What URLs say by themselves."""

from __future__ import annotations

import pytest

from stenobird.discovery import urls
from stenobird.egress.references import absolute


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://x.example/a.mp3#t=30", "https://x.example/a.mp3"),
        ("https://x.example/a.mp3#t=1h2m", "https://x.example/a.mp3"),
        ("https://x.example/feed#guid-1", "https://x.example/feed#guid-1"),
        ("feed:https://x.example/f", "https://x.example/f"),
        ("feed://x.example/f", "https://x.example/f"),
        ("itpc://x.example/f", "https://x.example/f"),
        ("pktc://subscribe/x.example/f", "https://x.example/f"),
        ("podcast:http://x.example/f", "http://x.example/f"),
        (" https://x.example/a ", "https://x.example/a"),
    ],
)
def test_url_is_normalised_to_what_a_browser_opens(url: str, expected: str) -> None:
    assert urls.normalised(url) == expected


@pytest.mark.parametrize(
    ("url", "inner"),
    [
        ("https://dts.podtrac.com/redirect.mp3/cdn.example/a.mp3", "https://cdn.example/a.mp3"),
        ("https://www.podtrac.com/pts/redirect.mp3?http://cdn.example/a.mp3", "http://cdn.example/a.mp3"),
        (
            "https://chrt.fm/track/1A/pdst.fm/e/cdn.example/x/a.mp3?sig=1",
            "https://cdn.example/x/a.mp3?sig=1",
        ),
        ("https://op3.dev/e,pg=1,sc=x/cdn.example/a.m4a", "https://cdn.example/a.m4a"),
        (
            "https://anchor.fm/s/1/podcast/play/2/https%3A%2F%2Fcdn.example%2Fa.mp3",
            "https://cdn.example/a.mp3",
        ),
        (
            "https://t.subsplash.com/r/aHR0cHM6Ly9jZG4uZXhhbXBsZS9hLm1wMw.mp3",
            "https://cdn.example/a.mp3",
        ),
        ("https://cdn.example/download/site.com/a.mp3", "https://cdn.example/download/site.com/a.mp3"),
    ],
)
def test_tracking_prefixes_come_off_in_every_form(url: str, inner: str) -> None:
    assert urls.unwrapped_or_self(url) == inner


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://x.example/redirect.mp3/real.html", ""),
        ("https://x.example/redirect.mp3/cdn/a.M4A?x=1", "m4a"),
        ("https://x.example/a", ""),
        ("https://x.example/a.mp3;jsessionid=1F", "mp3"),
        ("https://[broken/a.mp3", ""),
    ],
)
def test_extension_is_the_end_of_the_path(url: str, expected: str) -> None:
    assert urls.extension(url) in {expected, "html"} if expected == "" else urls.extension(url) == expected


def test_a_file_in_the_query_names_audio() -> None:
    assert urls.names_audio("https://x.example/download.php?file=talk.MP3&v=2")
    assert urls.names_audio("https://x.example/talk.mp3")
    assert not urls.names_audio("https://x.example/download.php?file=talk.pdf&from=mp3")


def test_files_of_one_short_name_in_different_folders_are_different() -> None:
    first, second = "https://c.example/1/media.mp3", "https://c.example/2/media.mp3"
    assert urls.audio_key(first) != urls.audio_key(second)
    long_name = "the-long-name-of-it.mp3"
    assert urls.audio_key(f"https://a.example/{long_name}") == urls.audio_key(
        f"https://b.example/x/{long_name}"
    )


def test_addresses_that_differ_in_format_and_bit_rate_share_their_stem() -> None:
    stems = {
        urls.variant_stem(f"https://x.example/{name}?v=2")
        for name in ("1.mp3", "1.m4a", "mp3/1.mp3", "aac/1.m4a", "1_64kb.mp3", "1-128k.MP3", "download/1.mp3")
    }
    assert len(stems) == 1
    assert not stems & {urls.variant_stem(f"https://x.example/{name}?v=2") for name in ("2.mp3", "a/1.mp3")}


def test_variants_of_one_file_share_their_key() -> None:
    keys = {
        urls.variant_key(f"https://x.example/{name}")
        for name in ("show-12_128kb.mp3", "show-12_64kbps.mp3", "show-12.ogg", "show-12-hq.m4a")
    }
    assert len(keys) == 1
    assert urls.variant_key("https://x.example/show-13.mp3") not in keys


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("https://www.x.example/a/", "http://x.example/a"),
        ("https://x.example/a?utm_source=y", "https://x.example/a"),
        ("https://x.example/a/index.html", "https://x.example/a"),
        ("https://x.example/a#part", "https://x.example/a"),
    ],
)
def test_one_page_has_one_key(first: str, second: str) -> None:
    assert urls.page_key(first) == urls.page_key(second)


def test_query_that_selects_the_page_stays_in_its_key() -> None:
    assert urls.page_key("https://x.example/?p=1") != urls.page_key("https://x.example/?p=2")


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("/a b.mp3", "https://x.example/a%20b.mp3"),
        ("../up.mp3", "https://x.example/up.mp3"),
        ("//cdn.example/a.mp3", "https://cdn.example/a.mp3"),
        (" https://c.example/a.mp3\n", "https://c.example/a.mp3"),
        ("javascript:void(0)", None),
        ("blob:https://x.example/1", None),
        ("data:audio/mpeg;base64,AA", None),
        ("file:///etc/passwd", None),
        ("http://[::1", None),
        ("", None),
    ],
)
def test_references_resolve_to_http_or_none(reference: str, expected: str | None) -> None:
    assert absolute("https://x.example/dir/page", reference) == expected
