"""What a response is, by its first bytes."""

from __future__ import annotations

import pytest

from stenobird.discovery.sniff import estimate_seconds, sniff
from tests.support.documents import mp3_bytes

MP3 = mp3_bytes()
ID3_OF_200_KIB = b"ID3\x04\x00\x00" + bytes([0, 12, 64, 0]) + b"APIC" + bytes(4000)


@pytest.mark.parametrize(
    ("head", "content_type", "expected"),
    [
        (MP3, "text/html", ("media", "mp3")),
        (MP3[100:], "application/octet-stream", ("media", "mp3")),
        (MP3[:4] + b"\x00" * 100 + b"\xff\xfb", "text/plain", ("other", "unknown")),
        (b"\x00" * 300 + MP3, "", ("media", "mp3")),
        (b"\xef\xbb\xbf" + MP3, "", ("media", "mp3")),
        (ID3_OF_200_KIB, "", ("media", "mp3")),
        (b"ID3\x04\x00\x00\x00\x00\x00\x00fLaC" + bytes(50), "", ("media", "flac")),
        (b"OggS" + bytes(50), "application/octet-stream", ("media", "ogg")),
        (b"fLaC" + bytes(50), "", ("media", "flac")),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", "text/plain", ("media", "wav")),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "", ("media", "avi")),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "", ("other", "riff")),
        (b"BW64\xff\xff\xff\xffWAVEds64", "", ("media", "wav")),
        (b"\x00\x00\x00\x08wide\x00\x00\x10\x00mdat", "", ("media", "mp4")),
        (b"\x00\x00\x01\x00free" + bytes(300), "", ("media", "mp4")),
        (b"Feel free to write to us.", "text/plain", ("other", "text")),
        ((b"\x00\x00\x00\x00\x47" + bytes(187)) * 4, "application/octet-stream", ("media", "mpegts")),
        ((b"\x47" + bytes(203)) * 4, "", ("media", "mpegts")),
        (b"\x00\x00\x01\xba\x44", "", ("media", "mpeg")),
        (b"FLV\x01\x04\x00\x00\x00\x09", "", ("media", "flv")),
        (b"\x7f\xfe\x80\x01\xfc", "", ("media", "dts")),
        (b"\x0b\x77\x00\x00\x14\x40" + bytes(762) + b"\x0b\x77", "", ("media", "ac3")),
        (b"\x0b\x77\x00\x00\x14\x40" + bytes(900), "", ("other", "unknown")),
        (b"FORM\x00\x00\x00\x00AIFF", "", ("media", "aiff")),
        (b"\x00\x00\x00\x20ftypM4A ", "", ("media", "mp4")),
        (b"\x00\x00\x00\x20ftypavif", "", ("other", "image")),
        (b"\x1a\x45\xdf\xa3" + bytes(40), "", ("media", "webm")),
        (b"\x47" + bytes(187) + b"\x47" + bytes(187) + b"\x47" + bytes(9), "", ("media", "mpegts")),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n", "", ("playlist", "hls")),
        (b"#EXTM3U\nhttp://x.example/a.mp3\n", "", ("playlist", "m3u")),
        (b"http://x.example/a.mp3\n", "audio/x-mpegurl", ("playlist", "m3u")),
        (b"[playlist]\nFile1=http://x.example/a\n", "audio/x-scpls", ("playlist", "pls")),
        (b'<?xml version="1.0"?><playlist xmlns="http://xspf.org/ns/0/">', "", ("playlist", "xspf")),
        (b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011">', "", ("playlist", "dash")),
        (b"<!doctype html><html>", "audio/mpeg", ("html", "html")),
        (b"\n\n <HTML><body>", "audio/mpeg", ("html", "html")),
        (b"<div>fragment</div>", "text/html", ("html", "html")),
        (b'<?xml version="1.0"?>\n<!-- x --><rss version="2.0">', "text/html", ("feed", "rss")),
        (b'<?xml version="1.0"?><feed xmlns="http://www.w3.org/2005/Atom">', "", ("feed", "atom")),
        (b'<?xml version="1.0"?><rdf:RDF xmlns="http://purl.org/rss/1.0/">', "", ("feed", "rdf")),
        (b'<?xml version="1.0"?><!DOCTYPE html><html xmlns="x">', "", ("html", "html")),
        (b'\xef\xbb\xbf<rss version="2.0">', "", ("feed", "rss")),
        ('<?xml version="1.0"?><rss version="2.0">'.encode("utf-16"), "", ("feed", "rss")),
        (b'Warning: x in y.php\n<?xml version="1.0"?><rss version="2.0">', "", ("feed", "rss")),
        (b'<opml version="2.0">', "text/xml", ("other", "opml")),
        (b"<svg xmlns='x'>", "image/svg+xml", ("other", "svg")),
        (b'{"a": 1}', "application/json", ("json", "json")),
        (b"PK\x03\x04" + bytes(100), "audio/mpeg", ("other", "zip")),
        (b"%PDF-1.4", "audio/mpeg", ("other", "pdf")),
        (b"\xff\xd8\xff\xe0", "audio/mpeg", ("other", "jpeg")),
        (b"\x89PNG\r\n", "audio/mpeg", ("other", "png")),
        (b"plain words", "text/plain", ("other", "text")),
        (b"", "audio/mpeg", ("empty", "empty")),
        (bytes(range(128, 256)) * 20, "audio/mpeg", ("media", "unknown")),
        (bytes(range(128, 256)) * 20, "application/octet-stream", ("other", "unknown")),
    ],
)
def test_bytes_decide_and_the_header_only_if_they_are_unknown(
    head: bytes, content_type: str, expected: tuple[str, str]
) -> None:
    verdict = sniff(head, {"content-type": content_type}, complete=True)
    assert (verdict.kind, verdict.container) == expected


def test_one_header_that_looks_like_a_frame_is_not_enough() -> None:
    assert sniff(b"\xff\xfb\x90\x64" + bytes(2000), {}, complete=True).kind == "other"


def test_length_of_constant_rate_mp3_follows_from_its_size() -> None:
    ten_minutes = 600 * 16000
    assert estimate_seconds(MP3[:4096], "mp3", ten_minutes) == pytest.approx(600, rel=0.01)


@pytest.mark.parametrize("container", ["mp3", "wav", "mp4", "flac", "ogg"])
def test_length_of_garbage_is_unknown(container: str) -> None:
    assert estimate_seconds(b"ID3", container, 100) is None
