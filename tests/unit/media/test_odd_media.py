"""Recordings as they lie on servers: tagged, joined, cut out of a stream, stating nonsense."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import brotli  # type: ignore[import-untyped]
import numpy as np
import pytest

from stenobird.containers import audio_frame
from stenobird.media.recognition import past_id3
from tests.support.audio import Encoding, encode, pitches, tone
from tests.support.media_server import Resource
from tests.support.media_world import limits_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from tests.support.media_world import MediaWorld

    Audio = Callable[..., bytes]

pytestmark = pytest.mark.anyio


def id3(picture_bytes: int) -> bytes:
    """Return a tag with a picture that is full of what looks like MPEG frames."""
    picture = b"\0\0image/png\0\3\0\x89PNG" + b"\xff\xfb\x90\x64" * (picture_bytes // 4)
    frame = b"APIC" + struct.pack(">I", len(picture)) + picture
    size = bytes(len(frame) >> shift & 0x7F for shift in (21, 14, 7, 0))
    return b"ID3\x03\0\0" + size + frame


def _frame_bytes(head: bytes) -> int:
    frame = audio_frame(head[:6])
    assert frame is not None
    return frame.length


def without_xing(mp3: bytes) -> bytes:
    """Drop the tag and the first frame, which states the length."""
    start = mp3.index(b"\xff\xfb")
    return mp3[start + _frame_bytes(mp3[start:]) :]


def stated(wav: bytes, riff: int, data: int) -> bytes:
    """Replace the lengths of a WAV file, as a program writes them that does not know the end."""
    at = wav.index(b"data")
    sizes = struct.pack("<I", riff), struct.pack("<I", data)
    return wav[:4] + sizes[0] + wav[8 : at + 4] + sizes[1] + wav[at + 8 :]


def rf64(wav: bytes) -> bytes:
    """Return the file in the dialect for more than 4 GB."""
    layout, samples = wav[12:36], wav[wav.index(b"data") + 8 :]
    sizes = struct.pack("<4sIQQQI", b"ds64", 28, len(samples) + 72, len(samples), len(samples) // 4, 0)
    return b"RF64\xff\xff\xff\xffWAVE" + sizes + layout + b"data\xff\xff\xff\xff" + samples


def opened_by(mov: bytes, atom: bytes, size: int) -> bytes:
    """Put an atom in the place of `ftyp`, with the same offsets behind it: the index has them all."""
    length = int.from_bytes(mov[:4], "big")
    rest = mov[length:]
    moved = struct.pack(">I", length) + atom + bytes(length - 8) + rest
    if size < length:
        return moved
    return moved if atom == b"wide" else struct.pack(">I", length) + atom + b"\xff" * (length - 8) + rest


def ape(size: int) -> bytes:
    """Return an APE tag full of what looks like MPEG frames, with a header and a footer."""
    items = b"\xff\xfb\x90\x64" * (size // 4)
    ends = (
        struct.pack("<8sIIII8x", b"APETAGEX", 2000, len(items) + 32, 1, flags)
        for flags in (0xA0000000, 0x80000000)
    )
    header, footer = ends
    return header + items + footer


def tagged_inside(frames: bytes, tag: bytes) -> bytes:
    """Put a tag before three of the frames."""
    at = past_id3(Held(frames))
    parts = [frames[:at]]
    for number in range(100):
        length = _frame_bytes(frames[at:])
        parts += [tag if number in {30, 60, 61} else b"", frames[at : at + length]]
        at += length
    return b"".join([*parts, frames[at:]])


def with_chapters(mp4: bytes) -> bytes:
    """Return an audio book: its chapters are a second track."""
    target = io.BytesIO()
    with av.open(io.BytesIO(mp4), "r") as source, av.open(target, "w", format="ipod") as book:
        stream = book.add_stream_from_template(source.streams.audio[0])
        book.set_chapters(
            [
                {
                    "id": n,
                    "start": 2 * n,
                    "end": 2 * n + 2,
                    "time_base": Fraction(1),
                    "metadata": {"title": "A"},
                }
                for n in range(4)
            ]
        )
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = stream
                book.mux(packet)
    return target.getvalue()


class Held:
    """A source of bytes in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_at(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]

    def size(self, *, wait: bool) -> int:
        return len(self._data)


ODD: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "a picture of 3 MB": ("mp3", lambda mp3: id3(3_000_000) + mp3),
    "two tags": ("mp3", lambda mp3: id3(5_000) + id3(4_000) + mp3),
    "a tag that states less than it holds": ("mp3", lambda mp3: b"ID3\x03\0\0\0\0\0\x0a" + bytes(300) + mp3),
    "a tag before FLAC": ("flac", lambda flac: id3(10_000) + flac),
    "lyrics behind": ("mp3", lambda mp3: mp3 + b"LYRICSBEGININD00003110000012LYRICS200TAG" + bytes(125)),
    "padding behind": ("mp3", lambda mp3: mp3 + bytes(100_000)),
    "a page behind": ("mp3", lambda mp3: mp3 + b"<html><body>" + b"not found " * 2000),
    "a length of 2 GB by its header": ("wav", lambda wav: stated(wav, 0x7FFFFFFF, 0x7FFFFFFF - 36)),
    "tags behind": ("mp3", lambda mp3: mp3 + b"APETAGEX" + bytes(24) + b"TAG" + bytes(125)),
    "no Xing header": ("mp3", without_xing),
    "line breaks before": ("mp3", lambda mp3: b"\r\n\r\n" + mp3),
    "line breaks before Opus": ("opus", lambda opus: b"\r\n\n" + opus),
    "a byte order mark before a WAV": ("wav", lambda wav: b"\xef\xbb\xbf" + wav),
    "line breaks before an mp4": ("m4a-index-last", lambda mp4: b"\n\n" + mp4),
    "a damaged head": ("mp3", lambda mp3: bytes([7, 1, 99, 200, 3]) * 400 + mp3[3000:]),
    "more than 4 GB by its header": ("wav", rf64),
    "more than 4 GB by its header, for broadcasts": (
        "wav",
        lambda wav: rf64(wav).replace(b"RF64", b"BW64", 1),
    ),
    "QuickTime that starts with wide": ("mov-alac", lambda mov: opened_by(mov, b"wide", 0)),
    "QuickTime that starts with skip": ("mov-alac", lambda mov: opened_by(mov, b"skip", 2000)),
    "QuickTime that starts with free": ("m4a", lambda mov: opened_by(mov, b"free", 30)),
    "chapters": ("m4a", with_chapters),
    "no end by its header": ("wav", lambda wav: stated(wav, 0xFFFFFFFF, 0xFFFFFFFF)),
    "no length by its header": ("wav", lambda wav: stated(wav, 0, 0)),
    "too small a length by its header": ("wav", lambda wav: stated(wav, len(wav) - 8, 100_001)),
    "a length of nothing but the first block": ("wav-16k-mono", lambda wav: stated(wav, 36 + 512, 512)),
    "a chunk behind the samples": ("wav", lambda wav: wav + b"LIST\x04\0\0\0INFO"),
    "tags between mp3 frames": ("mp3", lambda mp3: tagged_inside(mp3, id3(200_000))),
    "APE tags between mp3 frames": ("mp3", lambda mp3: tagged_inside(mp3, ape(30_000))),
    "an ID3v1 tag between mp3 frames": ("mp3", lambda mp3: tagged_inside(mp3, b"TAG" + bytes(125))),
    "tags between AAC frames": ("aac", lambda aac: tagged_inside(aac, id3(70_000))),
}


@pytest.mark.parametrize("name", ODD)
async def test_oddly_made_file_is_decoded_whole(name: str, world: MediaWorld, audio: Audio) -> None:
    made, change = ODD[name]
    world.server.resources["/a"] = Resource(change(audio(made)))
    heard = await world.hear("/a")
    assert len(heard.pcm) / 16_000 == pytest.approx(8.0, abs=0.2)
    assert heard.warning is None


async def test_a_dv_tape_is_no_mpeg_audio(world: MediaWorld) -> None:
    target = io.BytesIO()
    with av.open(target, "w", format="dv") as tape:
        picture = tape.add_stream("dvvideo", rate=25)
        picture.width, picture.height, picture.pix_fmt = 720, 576, "yuv420p"
        sound = tape.add_stream("pcm_s16le", rate=48_000, layout="stereo")
        for number in range(10):
            image = av.VideoFrame(720, 576, "yuv420p")
            image.pts = number
            tape.mux(picture.encode(image))
            block = np.repeat(tone(0.4, 48_000)[number * 1920 :][:1920], 2)[None, :]
            frame = av.AudioFrame.from_ndarray(block, "s16", "stereo")
            frame.sample_rate, frame.pts = 48_000, number * 1920
            tape.mux(sound.encode(frame))
    world.server.resources["/a"] = Resource(target.getvalue())
    heard = await world.hear("/a")
    assert len(heard.pcm) / 16_000 == pytest.approx(0.4, abs=0.05)
    assert heard.warning is None


DAMAGED: dict[str, Callable[[bytes], bytes]] = {
    "nut": lambda nut: nut[:20] + b")" + nut[21:],
    "latm": lambda latm: latm[:100] + b"\x56" * 16 + latm[100:],
    "ac3": lambda ac3: ac3[:100] + bytes(700) + ac3[100:],
    "eac3": lambda eac3: eac3[:60] + eac3[100:],
    "mpegts-mp3": lambda mpegts: mpegts[:300] + b"\0" + mpegts[300:],
    "m4a-index-last": lambda mp4: mp4.replace(b"mdat", b"\xffdat", 1),
    "flv-video": lambda flv: flv[:203] + b"\xff" * 64 + flv[267:],
}


@pytest.mark.parametrize("name", DAMAGED)
async def test_damage_near_the_start_costs_only_what_is_damaged(
    name: str, world: MediaWorld, audio: Audio
) -> None:
    world.server.resources["/a"] = Resource(DAMAGED[name](audio(name)))
    heard = await world.hear("/a")
    assert len(heard.pcm) / 16_000 == pytest.approx(8.0, abs=0.5)


REST: dict[str, tuple[str, Callable[[bytes], bytes], bool]] = {
    "samples behind another chunk": ("wav", lambda wav: _chunk_inside(wav, b"LIST\x04\0\0\0INFO"), True),
    "compressed samples": ("wav-adpcm", lambda wav: stated(wav, len(wav) - 8, 40_000), True),
    "samples of an AIFF behind its stated end": ("aiff", lambda aiff: _shortened(aiff, 400_000), True),
    "a chunk behind the samples of an AIFF": (
        "aiff",
        lambda aiff: aiff + b"ID3 \0\1\0\0" + bytes(range(256)) * 256,
        False,
    ),
    "padding behind another chunk": ("wav", lambda wav: wav + b"LIST\x04\0\0\0INFO" + bytes(100_000), False),
}


def _shortened(aiff: bytes, size: int) -> bytes:
    at = aiff.index(b"SSND") + 4
    return aiff[:at] + struct.pack(">I", size) + aiff[at + 4 :]


def _chunk_inside(wav: bytes, chunk: bytes) -> bytes:
    """End the samples after 100,000 bytes of them, by the header, and put a chunk there."""
    end = wav.index(b"data") + 8 + 100_000
    return stated(wav[:end], len(wav), 100_000) + chunk + wav[end:]


@pytest.mark.parametrize("name", REST)
async def test_bytes_behind_the_samples_of_a_wav_are_reported(
    name: str, world: MediaWorld, audio: Audio
) -> None:
    made, change, reported = REST[name]
    world.server.resources["/a"] = Resource(change(audio(made)))
    heard = await world.hear("/a")
    assert (heard.warning is not None) == reported


@pytest.mark.parametrize(
    ("missing_bytes", "warning"),
    [(100, None), (600_000, "The file is cut off: it ends at 0:00:04, though its header states more.")],
)
async def test_a_wav_that_is_cut_off_is_reported(
    missing_bytes: int, warning: str | None, world: MediaWorld, audio: Audio
) -> None:
    world.server.resources["/a"] = Resource(audio("wav")[:-missing_bytes])
    heard = await world.hear("/a")
    assert heard.warning == warning


async def test_what_looks_like_a_tag_longer_than_the_file_hides_no_audio(
    world: MediaWorld, audio: Audio
) -> None:
    tag = b"ID3\x04\0\0\x7f\x7f\x7f\x7f"
    world.server.resources["/a"] = Resource(tagged_inside(audio("mp3"), tag))
    heard = await world.hear("/a")
    assert len(heard.pcm) / 16_000 == pytest.approx(8.0, abs=0.2)


@pytest.mark.parametrize("name", ["opus", "mp3", "ogg-flac", "mp4-fragmented", "m4a"])
async def test_files_joined_end_to_end_are_decoded_to_the_last(
    name: str, world: MediaWorld, audio: Audio
) -> None:
    world.server.resources["/a"] = Resource(audio(name, seconds=4) + audio(name, seconds=5))
    heard = await world.hear("/a")
    assert len(heard.pcm) / 16_000 == pytest.approx(9.0, abs=0.2)
    assert heard.duration_seconds == len(heard.pcm) / 16_000


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Encoding("libopus", "ogg"), Encoding("libopus", "ogg", layout="mono")),
        (Encoding("libopus", "ogg", layout="mono"), Encoding("libopus", "ogg", rate=16_000)),
        (Encoding("flac", "ogg", rate=44_100), Encoding("flac", "ogg", rate=16_000, layout="mono")),
        (Encoding("libopus", "ogg"), Encoding("flac", "ogg")),
        (Encoding("pcm_s16le", "wav"), Encoding("pcm_s16le", "wav", rate=16_000, layout="mono")),
        (Encoding("pcm_s16be", "aiff"), Encoding("pcm_s16be", "aiff", rate=16_000, layout="mono")),
    ],
    ids=lambda how: f"{how.codec}-{how.rate}-{how.layout}",
)
async def test_joined_files_of_different_shapes_are_decoded_to_the_last(
    first: Encoding, second: Encoding, world: MediaWorld
) -> None:
    world.server.resources["/a"] = Resource(encode(first, 4) + encode(second, 5) + encode(first, 3))
    heard = await world.hear("/a")
    assert len(heard.pcm) / 16_000 == pytest.approx(12.0, abs=0.2)
    assert heard.warning is None
    expected = [*range(300, 700, 100), *range(300, 800, 100), *range(300, 600, 100)]
    assert [round(pitch, -1) for pitch in pitches(heard.pcm)] == [pytest.approx(p, abs=20) for p in expected]


@pytest.mark.parametrize(
    ("coding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("br", brotli.compress)]
)
@pytest.mark.parametrize("stop_seconds", [None, 3.0])
async def test_compressed_audio_is_decoded_whole_and_in_part(
    coding: str,
    compress: Callable[[bytes], bytes],
    stop_seconds: float | None,
    world: MediaWorld,
    audio: Audio,
) -> None:
    body = compress(audio("wav"))
    world.server.resources["/a"] = Resource(body, headers={"Content-Encoding": coding}, ranges=False)
    heard = await world.hear("/a", limits=limits_of(stop_seconds=stop_seconds))
    assert len(heard.pcm) / 16_000 == pytest.approx(stop_seconds or 8.0, abs=0.1)


@pytest.mark.parametrize(
    "lie",
    [
        {"status": 203, "ranges": False},
        {"etag": None},
        {"chunked": True, "ranges": False},
        {"headers": {"Content-Encoding": "aws-chunked"}},
    ],
    ids=["203", "no validator", "no length", "a coding that is none"],
)
async def test_answer_with_an_odd_head_is_decoded_whole(
    lie: dict[str, Any], world: MediaWorld, audio: Audio
) -> None:
    world.server.resources["/a"] = Resource(audio("m4a-index-last"), **lie)
    heard = await world.hear("/a")
    assert len(heard.pcm) / 16_000 == pytest.approx(8.0, abs=0.2)
    assert heard.warning is None
