"""Files that are no audio, or only look like it: a clear error, soon, and nothing touched on the way."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from stenobird.errors import AudioContentTypeNotSupported, JobError, TranscriptionFailed
from stenobird.media.recognition import Refusal, recognise
from tests.support.audio import FORMATS
from tests.support.canary import open_canary
from tests.support.media_server import Resource
from tests.support.media_world import limits_of, pcm_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from tests.support.canary import Canary
    from tests.support.media_world import MediaWorld

pytestmark = pytest.mark.anyio


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    async with open_canary() as canary:
        yield canary


def riff(kind: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    body = kind + b"".join(name + struct.pack("<I", len(data)) + data for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def atom(name: bytes, *children: bytes) -> bytes:
    body = b"".join(children)
    return struct.pack(">I", 8 + len(body)) + name + body


# Documents that make careless players open what they name. {url} is the canary, {file} a local file.
POINTERS = {
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n",
    "hls with a file": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{file}\n#EXT-X-ENDLIST\n",
    "hls with a map": '#EXTM3U\n#EXT-X-MAP:URI="{file}"\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n',
    "hls with a byte order mark": "\ufeff#EXTM3U\n#EXTINF:10,\n{url}\n#EXT-X-ENDLIST\n",
    "concat": "ffconcat version 1.0\nfile '{file}'\nfile '{url}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{url}</BaseURL></MPD>',
    "asx": '<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
    "pls": "[playlist]\nFile1={url}\nNumberOfEntries=1\n",
    "xspf": "<playlist><trackList><track><location>{url}</location></track></trackList></playlist>",
    "smil": '<smil><body><audio src="{url}"/></body></smil>',
    "html": "<!doctype html><audio src='{url}'></audio>",
    "json": '{{"audio": "{url}"}}',
    "text": "{url}\n",
}


@pytest.mark.parametrize("name", POINTERS)
async def test_a_document_that_points_elsewhere_is_not_followed(
    name: str, world: MediaWorld, canary: Canary, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{canary.port}/x.ts"
    body = POINTERS[name].format(url=url, file=(tmp_path / "secret.wav").as_uri()).encode()
    world.server.resources["/a.mp3"] = Resource(body)
    with pytest.raises(AudioContentTypeNotSupported) as caught:
        await world.hear("/a.mp3")
    assert "secret" not in caught.value.message
    assert await canary.settle() == 0


async def test_a_movie_whose_media_lies_elsewhere_is_not_followed(
    world: MediaWorld, canary: Canary, audio: Callable[..., bytes]
) -> None:
    """`dref` may name another file or URL; ours replaces the self-reference of a good file."""
    file = audio("m4a-index-last")
    good = atom(b"url ", b"\x00\x00\x00\x01")
    assert file.count(good) == 1
    for kind in (b"url ", b"alis"):
        location = f"http://127.0.0.1:{canary.port}/x".encode()
        other = atom(kind, b"\x00\x00\x00\x00", location + b"\x00")
        # The index stands last, so that nothing but the enclosing sizes has to grow.
        grown = len(other) - len(good)
        hostile = bytearray(file.replace(good, other))
        for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
            at = hostile.rindex(name) - 4
            size = int.from_bytes(hostile[at : at + 4], "big") + grown
            hostile[at : at + 4] = size.to_bytes(4, "big")
        world.server.resources["/a.m4a"] = Resource(bytes(hostile))
        with suppress(JobError):
            await world.hear("/a.m4a", job_id=f"tr_{kind.decode().strip()}")
        assert await canary.settle() == 0


async def test_a_subtitle_that_is_a_playlist_is_not_followed(world: MediaWorld, canary: Canary) -> None:
    playlist = f"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:{canary.port}/x.ts\n#EXT-X-ENDLIST\n".encode()
    gab2 = (
        b"GAB2\x00\x02\x00" + struct.pack("<I", 2) + b"x\x00" + b"\x04\x00" + struct.pack("<I", len(playlist))
    )
    header = (b"strh", b"txts" + bytes(52))
    file = riff(
        b"AVI ",
        (b"LIST", b"hdrl" + b"strh" + struct.pack("<I", 56) + header[1]),
        (b"LIST", b"movi" + b"00tx" + struct.pack("<I", len(gab2 + playlist)) + gab2 + playlist),
    )
    world.server.resources["/a"] = Resource(file)
    with pytest.raises(AudioContentTypeNotSupported):
        await world.hear("/a")
    assert await canary.settle() == 0


def archives(mp3: bytes) -> dict[str, bytes]:
    zipped, tarred = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.mp3", mp3)
    with tarfile.open(fileobj=tarred, mode="w") as archive_file:
        entry = tarfile.TarInfo("a.mp3")
        entry.size = len(mp3)
        archive_file.addfile(entry, io.BytesIO(mp3))
    return {
        "zip": zipped.getvalue(),
        "tar": tarred.getvalue(),
        "gzip": gzip.compress(mp3),
        "7z": b"7z\xbc\xaf\x27\x1c\x00\x04" + mp3,
        "rar": b"Rar!\x1a\x07\x01\x00" + mp3,
    }


@pytest.mark.parametrize("kind", ["zip", "tar", "gzip", "7z", "rar"])
async def test_an_archive_with_audio_in_it_is_not_audio(
    kind: str, world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    world.server.resources["/a.mp3"] = Resource(archives(audio("mp3"))[kind])
    with pytest.raises(AudioContentTypeNotSupported):
        await world.hear("/a.mp3")


@pytest.mark.parametrize(
    "body",
    [
        bytes(100_000),
        b"\x89PNG\r\n\x1a\n" + bytes(1000),
        b"\xff\xd8\xff\xe0" + bytes(1000),
        b"GIF89a" + bytes(1000),
        b"%PDF-1.7\n" + bytes(1000),
        b"\x7fELF" + bytes(1000),
        b"x",
        b"\xff",
        b"\xff" * 70_000,
        "Forbidden. Нельзя.\n".encode() * 100,
    ],
    ids=["zeros", "png", "jpeg", "gif", "pdf", "elf", "one byte", "one 0xff", "many 0xff", "text"],
)
async def test_bytes_that_are_not_audio_are_refused(world: MediaWorld, body: bytes) -> None:
    world.server.resources["/a"] = Resource(body)
    with pytest.raises(AudioContentTypeNotSupported):
        await world.hear("/a")


class Memory:
    """A `recognition.Source` over bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def read_at(self, offset: int, size: int) -> bytes:
        return self._data[offset : offset + size]

    def size(self, *, wait: bool) -> int | None:
        del wait
        return len(self._data)


def test_random_bytes_are_not_recognised() -> None:
    for seed in range(200):
        with pytest.raises(Refusal):
            recognise(Memory(random.Random(seed).randbytes(65_536)))  # noise, not a secret


@pytest.mark.parametrize(
    "before",
    [b"", bytes(1000), b"\xff\xfb\x90" + bytes(99), b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10), b"\r\n"],
    ids=["nothing", "padding", "the rest of a frame", "a tag", "a line break"],
)
def test_mp3_is_found_behind_what_precedes_it_in_the_wild(before: bytes, audio: Callable[..., bytes]) -> None:
    mp3 = audio("mp3")
    frames = mp3[mp3.index(b"\xff\xfb") :]
    assert recognise(Memory(before + frames)) == ("mp3", len(before))


async def test_a_file_without_an_audio_track_is_refused(world: MediaWorld) -> None:
    import av  # noqa: PLC0415  # only this test makes a silent film
    import numpy as np  # noqa: PLC0415

    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as output:
        stream = output.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(10):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        output.mux(stream.encode(None))
    world.server.resources["/film"] = Resource(file.getvalue())
    with pytest.raises(AudioContentTypeNotSupported, match="no audio track"):
        await world.hear("/film")


# --- resources ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "mp4-fragmented"])
async def test_a_file_cut_off_in_the_middle_is_decoded_as_far_as_it_goes_or_refused(
    name: str, world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    file = audio(name)
    world.server.resources["/a"] = Resource(file[: len(file) // 2])
    if name in {"m4a-index-last", "mp4-video", "mp4-mp3", "mov-alac", "mov-adpcm", "3gp", "caf"}:
        # Without its index nothing in it can be found.
        with pytest.raises(TranscriptionFailed):
            await world.hear("/a")
        return
    heard = await world.hear("/a")
    assert 3 * 16_000 < len(heard.pcm) < 5 * 16_000
    if name in {"m4a", "webm", "mkv-video", "flac", "mp3", "aiff"}:
        assert heard.warning is not None
        assert "cut off" in heard.warning


@pytest.mark.parametrize("missing", [1, 100, 1000])
async def test_an_index_that_is_cut_off_is_refused_or_decoded_as_far_as_it_goes(
    missing: int, world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    file = audio("m4a-index-last", seconds=60.0)
    world.server.resources["/a"] = Resource(file[:-missing])
    try:
        heard = await world.hear("/a")
    except TranscriptionFailed:
        return
    assert len(heard.pcm) <= 60.1 * 16_000


async def test_damage_in_the_middle_costs_only_what_is_damaged(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    file = bytearray(audio("mp3", seconds=60.0))
    noise = random.Random(1).randbytes(20_000)  # noise, not a secret
    file[200_000:220_000] = noise
    world.server.resources["/a"] = Resource(bytes(file))
    heard = await world.hear("/a")
    assert len(heard.pcm) > 55 * 16_000


async def test_a_header_that_claims_centuries_is_ignored(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    file = bytearray(audio("webm"))
    at = file.index(b"\x44\x89\x88") + 3  # the Duration element: a double, in milliseconds
    assert struct.unpack_from(">d", file, at)[0] == pytest.approx(8000, abs=100)
    struct.pack_into(">d", file, at, 1e12)
    world.server.resources["/a"] = Resource(bytes(file))
    async with world.opener.open(world.request("/a")) as stream:
        samples = 0
        async for block in pcm_of(stream):
            assert stream.duration_seconds is None
            samples += len(block)
        assert samples == pytest.approx(8 * 16_000, rel=0.02)
        assert stream.duration_seconds == samples / 16_000


async def test_a_low_sample_rate_can_not_blow_up_the_audio(world: MediaWorld) -> None:
    fmt = struct.pack("<HHIIHH", 1, 1, 1, 1, 1, 8)
    world.server.resources["/a"] = Resource(riff(b"WAVE", (b"fmt ", fmt), (b"data", bytes(1_000_000))))
    with pytest.raises(JobError):
        await world.hear("/a")


async def test_a_small_file_that_decodes_to_hours_is_stopped_at_the_limit(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    world.server.resources["/a"] = Resource(audio("flac", seconds=8.0))
    with pytest.raises(JobError, match="0:00:05"):
        await world.hear("/a", limits=limits_of(max_seconds=5.0))
    exact = await world.hear("/a", limits=limits_of(max_seconds=8.0))
    assert len(exact.pcm) == 8 * 16_000


async def test_cover_art_of_impossible_size_is_never_decoded(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    """A picture block in FLAC: FFmpeg makes a video stream of it, whose size only its decoder could tell."""
    side = 65_535
    ihdr = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(ihdr)) + b"IHDR" + ihdr + bytes(4)
    block = (
        struct.pack(">II", 3, 9) + b"image/png" + struct.pack(">IIIIII", 0, side, side, 32, 0, len(png)) + png
    )
    file = audio("flac")
    picture = bytes([6]) + len(block).to_bytes(3, "big") + block
    world.server.resources["/a"] = Resource(file[:42] + picture + file[42:])
    heard = await world.hear("/a")
    assert len(heard.pcm) == 8 * 16_000


@pytest.mark.parametrize("size", [0, 1, 7, 8, 100])
async def test_the_first_bytes_of_audio_alone_are_refused(
    size: int, world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    world.server.resources["/a"] = Resource(audio("m4a")[:size])
    with pytest.raises(JobError) as caught:
        await world.hear("/a")
    assert caught.value.code in {"audio_content_type_not_supported", "transcription_failed"}


async def test_an_index_that_claims_gigabytes_is_stopped_by_the_memory_limit(world: MediaWorld) -> None:
    entries = struct.pack(">II", 0, 0x3FFF_FFF0)
    moov = atom(
        b"moov",
        atom(b"mvhd", bytes(100)),
        atom(
            b"trak",
            atom(b"tkhd", bytes(84)),
            atom(
                b"mdia",
                atom(b"mdhd", bytes(24)),
                atom(b"hdlr", bytes(8), b"soun", bytes(13)),
                atom(b"minf", atom(b"stbl", atom(b"stsz", bytes(4), entries), atom(b"stts", entries))),
            ),
        ),
    )
    world.server.resources["/a"] = Resource(
        atom(b"ftyp", b"M4A ", bytes(4)) + moov + atom(b"mdat", bytes(99))
    )
    with pytest.raises(JobError):
        await world.hear("/a")
