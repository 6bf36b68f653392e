"""Inputs from bug reports of similar tools, each as its user sends it: the words, the times, the errors.

Each is one of a kind; the relatives of its kind are in the unit tests of discovery, egress and media. The
last test sends mutated inputs, of which `python -m tests.support.mutations` sends as many as you like.
"""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import struct
from html import escape
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import pytest

from stenobird.demo import words
from tests.support.audio import timed
from tests.support.mutations import SETTINGS, differences, inputs
from tests.support.proxied_web import ProxiedWeb, file, whole
from tests.support.server_process import ServerProcess
from tests.support.speech import load_sentences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from stenobird.ports import PCM
    from tests.support.http_reader import EventReader

SITE = "http://talks.example"
TEXT = "on tuesday we found seven coffee and thirty coffee in madrid"
HEAD = (
    '<?xml version="1.0"?><rss version="2.0" xmlns:atom="http://www.w3.org/2005/Atom"'
    ' xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"><channel><title>Talks</title>'
)


@pytest.fixture(scope="module")
def talk(clips: Path) -> PCM:
    """One sentence, 16 kHz mono, with half a second of silence around it."""
    spoken = next(one.pcm for one in load_sentences(clips / "short.mp3") if one.text == TEXT)
    return np.concatenate([np.zeros(8000, np.int16), spoken, np.zeros(8000, np.int16)])


def encoded(pcm: PCM, codec: str, container: str, layout: str = "mono", **options: str) -> bytes:
    """Return the sentence in a format."""
    target = io.BytesIO()
    with av.open(target, "w", format=container, options=options) as output:
        stream: Any = output.add_stream(codec, rate=48_000)
        stream.layout = layout
        context = stream.codec_context
        resampler = av.AudioResampler(context.format, layout, 48_000, context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(pcm[None, :], "s16", "mono")
        frame.sample_rate, frame.pts = 16_000, 0
        for ready in [*resampler.resample(frame), *resampler.resample(None), None]:
            output.mux(stream.encode(ready))
    return target.getvalue()


@pytest.fixture(scope="module")
def mp3(talk: PCM) -> bytes:
    return encoded(talk, "libmp3lame", "mp3")


@pytest.fixture(scope="module")
def web(mp3: bytes) -> Iterator[ProxiedWeb]:
    with ProxiedWeb(mp3) as web:
        web.answers[f"{SITE}/talk.mp3"] = file(mp3)
        yield web


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, web: ProxiedWeb) -> Iterator[ServerProcess]:
    settings = SETTINGS | {"EGRESS_PROXY": web.url}
    with ServerProcess(tmp_path_factory.mktemp("service") / "data", settings) as process:
        yield process


def heard(reader: EventReader, url: str) -> dict[str, Any]:
    """Post the URL, and return the result with the warning of `done`."""
    done = list(reader.events(reader.create(url)["id"]))[-1].body
    assert done["status"] == "completed", done
    return reader.result(done["id"]) | {"warning": done.get("warning")}


def wav(channels: list[PCM], data_bytes: int | None = None) -> bytes:
    count = len(channels)
    data = np.stack(channels, axis=1).astype("<i2").tobytes()
    form = struct.pack("<HHIIHH", 1, count, 16_000, 32_000 * count, 2 * count, 16)
    size = len(data) if data_bytes is None else data_bytes
    body = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", 36 + size) + body


def id3(size: int) -> bytes:
    lengths = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + lengths + b"\xff\xfb\x90\x64" * (size // 4) + bytes(size % 4)


def sound_of(pcm: PCM) -> Callable[[float, int], PCM]:
    def sound(seconds: float, rate: int) -> PCM:
        at = np.arange(int(seconds * rate)) / rate
        made: PCM = np.interp(at, np.arange(len(pcm)) / 16_000, pcm, right=0.0).astype(np.int16)
        return made

    return sound


MEDIA: Mapping[str, tuple[Callable[[PCM], bytes], int]] = {
    "01 an inverted channel": (lambda talk: wav([talk, -talk]), 1),
    "04 a picture longer than the audio": (
        lambda talk: timed("matroska", [(0, 4)], picture_seconds=20, sound=sound_of(talk)),
        1,
    ),
    "08 a camcorder's transport stream": (
        lambda talk: encoded(talk, "ac3", "mpegts", "stereo", mpegts_m2ts_mode="1"),
        1,
    ),
    "10 chained Ogg of another shape": (
        lambda talk: encoded(talk, "libopus", "ogg", "stereo") + encoded(talk, "libopus", "ogg"),
        2,
    ),
    "12 a WAV longer than its header": (lambda talk: wav([talk], 32_000), 1),
    "14 an mp3 stitched with covers": (
        lambda talk: (encoded(talk, "libmp3lame", "mp3") + id3(60_000)) * 3,
        3,
    ),
}


@pytest.mark.parametrize("case", MEDIA)
def test_a_recording_is_transcribed_whole_and_without_a_warning(
    case: str, reader: EventReader, web: ProxiedWeb, talk: PCM
) -> None:
    make, times = MEDIA[case]
    url = f"{SITE}/{case[:2]}"
    web.answers[url] = file(make(talk), "application/octet-stream")
    result = heard(reader, url)
    assert (words(result["text"]), result["warning"]) == (words(TEXT) * times, None)


def test_02_audio_that_starts_late_has_the_times_of_the_player(
    reader: EventReader, web: ProxiedWeb, talk: PCM
) -> None:
    video = timed("mp4", [(8, 4)], picture_seconds=14, sound=sound_of(talk))
    web.answers[f"{SITE}/02.mp4"] = file(video, "video/mp4")
    result = heard(reader, f"{SITE}/02.mp4")
    assert words(result["text"]) == words(TEXT)
    assert result["segments"][0]["start"] == pytest.approx(8.5, abs=0.5)
    srt = reader.http.get(f"/v1/transcripts/{result['id']}/result", params={"format": "srt"}).text
    assert srt.startswith("1\n00:00:08,")
    assert result["warning"] is None


class Answers:
    """Answers like a file server, but for what `change` makes of a response."""

    def __init__(self, body: bytes, change: Callable[[Mapping[str, str], bytes, int], bytes]) -> None:
        self._answer = file(body)
        self._change = change
        self._number = 0

    def __call__(self, headers: Mapping[str, str]) -> bytes:
        self._number += 1
        return self._change(headers, self._answer(headers), self._number)


BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"
NO_RANGES = b"HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n"
SERVERS: Mapping[str, Callable[[Mapping[str, str], bytes, int], bytes]] = {
    "20 busy once": lambda _headers, good, number: BUSY if number == 1 else good,
    "22 no ranges": lambda headers, good, _number: NO_RANGES if "range" in headers else good,
    "24 a range of an unknown length": lambda _headers, good, _number: _starred(good),
    "25 a header line without a name": lambda _headers, good, _number: good.replace(
        b"Content-Type", b'"X-Frame-Options: DENY"\r\nContent-Type', 1
    ),
}


def _starred(response: bytes) -> bytes:
    head, end, body = response.partition(b"\r\n\r\n")
    lines = [
        line.rpartition(b"/")[0] + b"/*" if line.startswith(b"Content-Range") else line
        for line in head.split(b"\r\n")
    ]
    return b"\r\n".join(lines) + end + body


@pytest.mark.parametrize("case", SERVERS)
def test_an_odd_server_gives_the_words(case: str, reader: EventReader, web: ProxiedWeb, mp3: bytes) -> None:
    url = f"{SITE}/{case[:2]}.mp3"
    web.answers[url] = Answers(mp3, SERVERS[case])
    result = heard(reader, url)
    assert (words(result["text"]), result["warning"]) == (words(TEXT), None)


def rss(*items: str, head: str = "") -> str:
    return f"{HEAD}{head}{''.join(f'<item>{item}</item>' for item in items)}</channel></rss>"


def enclosure(url: str, title: str = "Talk") -> str:
    return f'<title>{title}</title><enclosure url="{escape(url)}" type="audio/mpeg"/>'


PAGE = "<!doctype html><title>Garden hour 1</title><h1>Garden hour 1</h1>"
LISTENED = f"{SITE}/talk.mp3"
DOCUMENTS: Mapping[str, tuple[str, Mapping[str, str], str]] = {
    "27 a space in an enclosure": (
        "/27.xml",
        {"/27.xml": rss(enclosure(f"{SITE}/Mein\u00a0Titel.mp3"))},
        f"{SITE}/Mein%C2%A0Titel.mp3",
    ),
    "30 a parameter like an entity": (
        "/30.xml",
        {"/30.xml": rss(enclosure(f"{LISTENED}?token=a1&timestamp=1767225600"))},
        f"{LISTENED}?token=a1&timestamp=1767225600",
    ),
    "32 a feed in pages": (
        "/32.html",
        {
            "/32.html": f'{PAGE}<link rel="alternate" type="application/rss+xml" href="/32.xml">',
            "/32.xml": rss(
                enclosure(f"{SITE}/4.mp3", "Garden hour 4"), head='<atom:link rel="next" href="/32-2.xml"/>'
            ),
            "/32-2.xml": rss(enclosure(LISTENED, "Garden hour 1")),
        },
        LISTENED,
    ),
    "34 a player configured elsewhere": (
        "/34.html",
        {
            "/34.html": f'{PAGE}<script src="/p.js" data-configuration="34.json"></script>',
            "/34.json": json.dumps({"episode": {"title": "Garden hour 1", "media": {"mp3": LISTENED}}}),
        },
        LISTENED,
    ),
    "36 a playlist with a byte order mark": (
        "/36.m3u",
        {"/36.m3u": f"\ufeff#EXTM3U\n{LISTENED}\n"},
        LISTENED,
    ),
    "37 a page that redirects to audio": (
        "/37.html",
        {"/37.html": '<meta http-equiv=refresh content="0; url=talk.mp3">'},
        LISTENED,
    ),
    "38 unquoted attributes": (
        "/38.xml",
        {"/38.xml": rss(f"<title>Talk</title><enclosure url={LISTENED} type=audio/mpeg>")},
        LISTENED,
    ),
    "39 a feed that has moved": (
        "/39.xml",
        {
            "/39.xml": rss(
                enclosure(f"{SITE}/gone"),
                head="<itunes:new-feed-url>/39-new.xml</itunes:new-feed-url>",
            ),
            "/39-new.xml": rss(enclosure(LISTENED)),
        },
        LISTENED,
    ),
}
TYPES = {
    "xml": "application/rss+xml",
    "html": "text/html",
    "json": "application/json",
    "m3u": "audio/x-mpegurl",
}


@pytest.mark.parametrize("case", DOCUMENTS)
def test_a_document_leads_to_the_words(case: str, reader: EventReader, web: ProxiedWeb, mp3: bytes) -> None:
    path, documents, audio = DOCUMENTS[case]
    for name, text in documents.items():
        web.answers[f"{SITE}{name}"] = whole(text.encode(), TYPES[name.rpartition(".")[2]])
    web.answers[audio] = file(mp3)
    result = heard(reader, f"{SITE}{path}")
    assert result["source"]["media_url"] == audio
    assert words(result["text"]) == words(TEXT)


def test_40_a_file_name_that_is_not_utf_8_is_transcribed(tmp_path: Path, talk: PCM) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    (tmp_path / name).write_bytes(wav([talk]))
    assert words(ServerProcess(tmp_path).command("transcribe", name)) == words(TEXT)


def test_41_a_body_with_a_byte_order_mark_is_read_and_a_compressed_one_refused(
    reader: EventReader, web: ProxiedWeb
) -> None:
    body = json.dumps({"audio_url": LISTENED}).encode()
    headers = {"Content-Type": "application/json"}
    answer = reader.http.post("/v1/transcripts", content=b"\xef\xbb\xbf" + body, headers=headers)
    assert answer.status_code == 202
    assert list(reader.events(answer.json()["id"]))[-1].body["status"] == "completed"
    headers["Content-Encoding"] = "gzip"
    refused = reader.http.post("/v1/transcripts", content=gzip.compress(body), headers=headers)
    assert refused.status_code == 415
    assert "Content-Encoding" in refused.json()["message"]


def test_mutated_inputs_give_what_reference_parsers_and_decoders_give(
    server: ServerProcess, api_key: str, web: ProxiedWeb
) -> None:
    assert asyncio.run(differences(server.url, api_key, web, inputs(1, 0, 60))) == []
    assert "Traceback" not in server.log()
