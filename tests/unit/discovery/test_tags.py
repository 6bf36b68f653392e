"""The titles in the tags of media files."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import av
import pytest

from stenobird.discovery.tags import title_of

if TYPE_CHECKING:
    from pathlib import Path

TITLE = "The birds — ציפורים"


def _file(path: Path, container: str, codec: str, title: str, **options: str) -> bytes:
    """Return a tenth of a second of silence with a title, written by FFmpeg."""
    with av.open(path, "w", format=container, options={"fflags": "+bitexact", **options}) as media:
        media.metadata["title"] = title
        stream: Any = media.add_stream(codec, rate=48_000)
        stream.layout = "mono"
        frame = av.AudioFrame(stream.format.name if stream.format else "s16", "mono", 4_800)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        frame.sample_rate = 48_000
        media.mux(stream.encode(frame))
        media.mux(stream.encode(None))
    return path.read_bytes()


def _id3(version: int, *frames: bytes, flags: int = 0) -> bytes:
    body = b"".join(frames)
    size = bytes((len(body) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3" + bytes((version, 0, flags)) + size + body + b"\xff\xfb\x90\x00" * 10


def _frame(name: bytes, content: bytes, *, flags: int = 0) -> bytes:
    return name + len(content).to_bytes(4) + bytes((0, flags)) + content


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("mp3", "libmp3lame", {"id3v2_version": "3"}),
        ("mp3", "libmp3lame", {"id3v2_version": "4"}),
        ("ogg", "libopus", {}),
        ("flac", "flac", {}),
        ("mp4", "aac", {"movflags": "+faststart"}),
        ("wav", "pcm_s16le", {}),
    ],
)
def test_the_title_that_ffmpeg_writes_is_read(
    tmp_path: Path, container: str, codec: str, options: dict[str, str]
) -> None:
    assert title_of(_file(tmp_path / "audio", container, codec, TITLE, **options)) == TITLE


@pytest.mark.parametrize(
    ("head", "title"),
    [
        (_id3(2, b"TT2\0\0\x06\x00Birds"), "Birds"),
        (_id3(3, _frame(b"TALB", b"\0Show"), _frame(b"TIT2", b"\0Caf\xe9 noir")), "Café noir"),
        (_id3(3, _frame(b"TIT2", b"\0" + "שלום".encode())), "שלום"),
        (_id3(4, _frame(b"TIT2", b"\x03One\0Two\0")), "One"),
        (
            _id3(3, _frame(b"TIT2", b"\x01\xff\xfeB\0i\0").replace(b"\xff", b"\xff\0"), flags=0x80),
            "Bi",
        ),
        (_id3(4, _frame(b"TIT2", b"\0\0\0\x07\x01\xff\0\xfeB\0i\0", flags=0x03)), "Bi"),
        (_id3(3, _frame(b"TIT2", b"\x03a\x07b\n  c")), "a b c"),
        (_id3(3, _frame(b"TIT2", b"\x03" + b"x" * 999)), "x" * 300),
        (b"OggS" + b"\x0d\0\0\0SUBTITLE=More\x0a\0\0\0TiTle=Main", "Main"),
    ],
)
def test_titles_are_read_in_every_spelling(head: bytes, title: str) -> None:
    assert title_of(head) == title


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"ID3",
        b"\xff\xfb\x90\x00" * 100,
        _id3(3, _frame(b"TIT2", b"\x03Track 01")),
        _id3(3, _frame(b"TIT2", b"\x03untitled")),
        _id3(3, _frame(b"TIT2", b"\x03 ")),
        _id3(3, _frame(b"TIT2", b"\x09Birds")),
        _id3(3, _frame(b"TIT2", b"\x03Birds", flags=0x80)),
        _id3(3, _frame(b"TIT2", b"\x03Birds of the north"))[:25],
        b"RIFF\0\0\0\0WAVE",
        b"\0\0\0\x18ftypM4A ",
    ],
)
def test_what_has_no_title_of_use_has_none(head: bytes) -> None:
    assert title_of(head) is None


def test_damaged_tags_are_read_without_an_error() -> None:
    heads = [
        _id3(3, _frame(b"TALB", b"\0Show"), _frame(b"TIT2", b"\0Birds")),
        b"OggS" + b"\x0b\0\0\0TITLE=Birds",
        b"\0\0\0\x18ftypM4A \0\0\0\x1d\xa9nam\0\0\0\x15data\0\0\0\1\0\0\0\0Birds",
        b"RIFF\0\0\0\0WAVELIST\0\0\0\0INFOINAM\5\0\0\0Birds",
    ]
    assert [title_of(head) for head in heads] == ["Birds"] * 4
    rng = random.Random(7)
    for head in heads:
        for _ in range(2000):
            damaged = bytearray(head)
            for _ in range(rng.randrange(1, 6)):
                damaged[rng.randrange(len(head))] = rng.randrange(256)
            title = title_of(bytes(damaged[: rng.randrange(len(head)) + 1]))
            assert title is None or (title.isprintable() and len(title) <= 300)
