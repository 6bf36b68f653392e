from __future__ import annotations

from typing import Any

import pytest

from stenobird.discovery.extractor.rung import LEADS, choose, read_extraction
from stenobird.errors import AudioSourceNotFound, ExtractorUnavailable, UnsupportedURL


def form(url: str = "https://cdn.example/a", **fields: object) -> dict[str, object]:
    return {"url": url, "protocol": "https", "ext": "m4a", "acodec": "mp4a", "vcodec": "none"} | fields


def info(*formats: dict[str, object], **fields: object) -> dict[str, object]:
    return {"extractor_key": "Example", "title": "A talk", "formats": list(formats)} | fields


def chosen(*formats: dict[str, object], **fields: object) -> list[str]:
    return [lead.url for lead in choose(read_extraction(info(*formats, **fields)))]


VIDEO = form("https://cdn.example/video", ext="mp4", vcodec="avc1", abr=128.0)
HLS = form("https://cdn.example/list.m3u8", protocol="m3u8_native", ext="mp4")


@pytest.mark.parametrize(
    ("formats", "best"),
    [
        ([VIDEO, HLS, form("https://cdn.example/sound")], "https://cdn.example/sound"),
        ([VIDEO, HLS], "https://cdn.example/list.m3u8"),
        ([form("https://cdn.example/v.m3u8", protocol="m3u8", vcodec="avc1"), VIDEO], "https://cdn.example/video"),
        ([form("https://cdn.example/320", abr=320.0), form("https://cdn.example/128", abr=128.0)], "https://cdn.example/128"),
        ([form("https://cdn.example/24", abr=24.0), form("https://cdn.example/192", abr=192.0)], "https://cdn.example/192"),
        (
            [
                form("https://cdn.example/dub", abr=96.0, language_preference=-1),
                form("https://cdn.example/original", abr=160.0, language_preference=10),
            ],
            "https://cdn.example/original",
        ),
        ([form("http://cdn.example/a", protocol="http"), form("https://cdn.example/a")], "https://cdn.example/a"),
        ([form("https://cdn.example/a.mp3", vcodec=None, acodec=None, ext="mp3"), VIDEO], "https://cdn.example/a.mp3"),
    ],
    ids=["sound first", "sound in segments before video", "whole file first", "no more than needed",
         "enough to understand", "original language", "https first", "codecs unknown"],
)  # fmt: skip
def test_the_best_format_for_listening_comes_first(formats: list[dict[str, object]], best: str) -> None:
    assert chosen(*formats)[0] == best
    assert chosen(*reversed(formats))[0] == best


def test_only_a_few_formats_are_returned() -> None:
    assert len(chosen(*[form(f"https://cdn.example/{number}") for number in range(50)])) == LEADS


@pytest.mark.parametrize(
    ("formats", "fields", "words"),
    [
        ([form()], {"is_live": True}, "live"),
        ([form()], {"live_status": "is_upcoming"}, "live"),
        ([form(has_drm=True)], {}, "DRM"),
        ([], {"has_drm": True}, "DRM"),
        ([form(format_id="http_mp3_preview")], {}, "sample"),
        ([form(format_note="Preview")], {}, "sample"),
    ],
)
def test_formats_that_cannot_be_transcribed_are_refused_with_the_reason(
    formats: list[dict[str, object]], fields: dict[str, object], words: str
) -> None:
    with pytest.raises(UnsupportedURL, match=words):
        chosen(*formats, **fields)


@pytest.mark.parametrize(
    "formats",
    [
        [],
        [form(acodec="none", vcodec="avc1")],
        [form(ext="mhtml", protocol="mhtml", acodec=None)],
        [form(protocol="http_dash_segments")],
        [form(protocol="rtmp", url="rtmp://cdn.example/a")],
        [form(url="file:///etc/passwd")],
        [form(url="ftp://cdn.example/a.mp3", protocol="https")],
        [form(protocol="websocket_frag")],
    ],
    ids=["none", "silent", "storyboard", "dash", "rtmp", "file", "ftp", "socket"],
)
def test_formats_that_can_not_be_fetched_over_http_are_ignored(formats: list[dict[str, object]]) -> None:
    with pytest.raises(AudioSourceNotFound):
        chosen(*formats)


def test_only_the_headers_that_the_server_requires_are_returned() -> None:
    headers = {"Referer": "https://site.example/", "User-Agent": "UA/1", "X-Trick": "a\r\nHost: evil"}
    (lead,) = choose(read_extraction(info(form(headers=headers))))
    assert dict(lead.headers) == {"referer": "https://site.example/", "user-agent": "UA/1"}


def test_the_lead_says_what_is_known_about_the_recording() -> None:
    found = read_extraction(info(form(), series="The Show", timestamp=1_772_341_200, duration=61.5))
    (lead,) = choose(found)
    assert (lead.episode.title, lead.episode.show, lead.episode.duration_seconds) == (
        "A talk",
        "The Show",
        61.5,
    )
    assert (lead.episode.published, lead.technique) == ("2026-03-01T05:00:00Z", "extractor.example")
    assert choose(read_extraction(info(form(), upload_date="20260301")))[0].episode.published == "2026-03-01"


@pytest.mark.parametrize(
    "answer",
    [
        {"formats": "none"},
        {"formats": [None, 3, {"url": 1}, {"nothing": "here"}]},
        {"formats": [form(abr="x"), form(headers=["a"])]},
        {"title": None, "duration": -3.0, "formats": [form(url="x" * 9000)]},
        {"timestamp": 1e30, "upload_date": "20261399x", "formats": [form(url="")]},
    ],
)
def test_a_malformed_result_is_an_error_with_a_remedy(answer: dict[str, Any]) -> None:
    with pytest.raises((AudioSourceNotFound, ExtractorUnavailable)):
        choose(read_extraction(answer))
