"""HLS through a real server and a real decoder: decoded like the file it was cut from, within egress."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from stenobird.errors import (
    AudioContentTypeNotSupported,
    AudioTooLarge,
    AudioUnreachable,
    JobError,
    UnsupportedURL,
)
from stenobird.media.hls import Fetcher
from stenobird.media.playlist import Part
from tests.support.audio import FORMATS, encode, pitches
from tests.support.canary import open_canary
from tests.support.media_server import Resource
from tests.support.media_world import collect, limits_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from stenobird.ports import PCM
    from tests.support.canary import Canary
    from tests.support.media_world import MediaWorld

pytestmark = pytest.mark.anyio

PIECE_BYTES = 188 * 200


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    # 127.0.0.2 is not among the networks that this client may reach.
    async with open_canary("127.0.0.2") as canary:
        yield canary


def encrypted(data: bytes, key: bytes, vector: bytes) -> bytes:
    padding = 16 - len(data) % 16
    encryptor = Cipher(algorithms.AES(key), modes.CBC(vector)).encryptor()
    return encryptor.update(data + bytes([padding]) * padding) + encryptor.finalize()


class Show:
    """A file cut into segments of one size, served under /hls."""

    def __init__(self, world: MediaWorld, file: bytes, *, key: bytes | None = None) -> None:
        pieces = [file[at : at + PIECE_BYTES] for at in range(0, len(file), PIECE_BYTES)]
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:10", "#EXT-X-MEDIA-SEQUENCE:3"]
        if key is not None:
            lines.append('#EXT-X-KEY:METHOD=AES-128,URI="key"')
            world.server.resources["/hls/key"] = Resource(key)
        for number, piece in enumerate(pieces, 3):
            body = piece if key is None else encrypted(piece, key, number.to_bytes(16, "big"))
            world.server.resources[f"/hls/{number}.ts"] = Resource(body, content_type="video/mp2t")
            lines += ["#EXTINF:2.5,", f"{number}.ts"]
        lines.append("#EXT-X-ENDLIST")
        self.count = len(pieces)
        self.text = "\n".join(lines)
        world.server.resources["/hls/index.m3u8"] = Resource(self.text.encode())
        master = '#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="mp4a.40.2"\nindex.m3u8\n'
        world.server.resources["/hls/master.m3u8"] = Resource(master.encode())


async def hear(world: MediaWorld, path: str, **wishes: Any) -> PCM:
    request = world.request(path, **wishes)
    request = replace(request, source=replace(request.source, kind="hls"))
    async with world.opener.open(request) as stream:
        return await collect(stream)


@pytest.mark.parametrize("key", [None, b"sixteen bytes..."], ids=["clear", "aes-128"])
async def test_a_stream_is_decoded_like_the_file_it_was_cut_from(
    world: MediaWorld, audio: Callable[..., bytes], key: bytes | None
) -> None:
    file = audio("mpegts-video", seconds=30.0)
    world.server.resources["/whole"] = Resource(file)
    whole = await world.hear("/whole", job_id="tr_whole")
    Show(world, file, key=key)
    np.testing.assert_array_equal(await hear(world, "/hls/master.m3u8"), whole.pcm)


async def test_a_variant_that_is_gone_is_replaced_by_the_next_best(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    Show(world, audio("mpegts-video", seconds=30.0))
    variants = ("gone", "other/gone", "index")
    rows = [f"#EXT-X-STREAM-INF:BANDWIDTH={number}\n{name}.m3u8\n" for number, name in enumerate(variants, 1)]
    world.server.resources["/hls/master.m3u8"] = Resource("".join(["#EXTM3U\n", *rows]).encode())
    assert len(await hear(world, "/hls/master.m3u8", limits=limits_of(stop_seconds=1.0))) == 16_000
    rows.pop()
    world.server.resources["/hls/master.m3u8"] = Resource("".join(["#EXTM3U\n", *rows]).encode())
    with pytest.raises(AudioUnreachable):
        await hear(world, "/hls/master.m3u8", job_id="tr_2")


async def test_fragmented_mp4_with_an_initialisation_section_is_decoded(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    file = audio("mp4-fragmented")
    world.server.resources["/whole"] = Resource(file)
    whole = await world.hear("/whole", job_id="tr_whole")
    first = file.index(b"moof") - 4
    middle = file.index(b"moof", len(file) // 2) - 4
    text = (
        f'#EXTM3U\n#EXT-X-MAP:URI="all.mp4",BYTERANGE="{first}@0"\n'
        f"#EXTINF:4,\n#EXT-X-BYTERANGE:{middle - first}@{first}\nall.mp4\n"
        f"#EXTINF:4,\n#EXT-X-BYTERANGE:{len(file) - middle}\nall.mp4\n#EXT-X-ENDLIST\n"
    )
    world.server.resources["/all.mp4"] = Resource(file)
    world.server.resources["/index.m3u8"] = Resource(text.encode())
    np.testing.assert_array_equal(await hear(world, "/index.m3u8"), whole.pcm)


async def test_an_advertisement_with_another_initialisation_section_is_decoded_by_its_own(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    """Behind each splice the times start anew, and the sample rate and the channels may be others."""
    how = FORMATS["mp4-fragmented"]
    files = {
        "show": audio("mp4-fragmented", seconds=4.0),
        "ad": encode(replace(how, rate=44_100, layout="mono"), 3),
    }
    for name, file in files.items():
        first = file.index(b"moof") - 4
        world.server.resources[f"/{name}.init"] = Resource(file[:first])
        world.server.resources[f"/{name}.m4s"] = Resource(file[first:])
    show, ad = (f'#EXT-X-MAP:URI="{name}.init"\n#EXTINF:4,\n{name}.m4s\n' for name in files)
    splice = "#EXT-X-DISCONTINUITY\n"
    text = f"#EXTM3U\n{show}{splice}{ad}{splice}{show}{splice}#EXTINF:4,\nshow.m4s\n#EXT-X-ENDLIST\n"
    world.server.resources["/index.m3u8"] = Resource(text.encode())
    pcm = await hear(world, "/index.m3u8")
    assert len(pcm) / 16_000 == pytest.approx(15.0, abs=0.3)
    expected = [*range(300, 700, 100), *range(300, 600, 100), *range(300, 700, 100)]
    assert [round(pitch, -1) for pitch in pitches(pcm)][:11] == [pytest.approx(p, abs=20) for p in expected]


async def test_packed_audio_segments_lose_their_timestamp_tags(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    file = audio("aac")
    world.server.resources["/whole"] = Resource(file)
    whole = await world.hear("/whole", job_id="tr_whole")
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x0a" + b"\xff\xf1\x50\x80\x02\x1f\xfc\x00\x00\x00"
    half = file.index(b"\xff\xf1", len(file) // 2)
    world.server.resources |= {
        "/1.aac": Resource(tag + file[:half]),
        "/2.aac": Resource(tag + file[half:]),
        "/index.m3u8": Resource(b"#EXTM3U\n#EXTINF:4,\n1.aac\n#EXTINF:4,\n2.aac\n#EXT-X-ENDLIST\n"),
    }
    np.testing.assert_array_equal(await hear(world, "/index.m3u8"), whole.pcm)


async def test_a_preview_fetches_only_the_segments_that_it_decodes(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    show = Show(world, audio("mpegts-video", seconds=60.0))
    pcm = await hear(world, "/hls/index.m3u8", limits=limits_of(stop_seconds=15.0))
    assert len(pcm) == 15 * 16_000
    fetched = [request.path for request in world.server.requests if request.path.endswith(".ts")]
    assert len(fetched) < show.count // 2


async def test_a_resumed_stream_fetches_no_segment_twice(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    show = Show(world, audio("mpegts-video", seconds=60.0))
    whole = await hear(world, "/hls/index.m3u8", job_id="tr_whole")
    world.server.requests.clear()
    request = world.request("/hls/index.m3u8")
    request = replace(request, source=replace(request.source, kind="hls"))
    async with world.opener.open(request) as stream:
        assert stream.duration_seconds == 2.5 * show.count  # what the playlist says
        await anext(aiter(stream))
    rest = await hear(world, "/hls/index.m3u8", start_sample=20_000)
    np.testing.assert_array_equal(rest, whole[20_000:])
    segments = [seen.path for seen in world.server.requests if seen.path.endswith(".ts")]
    assert len(segments) <= len(set(segments)) + 1  # the one that was under way when the first reader left


async def test_a_segment_that_is_gone_ends_the_audio_with_a_warning(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    Show(world, audio("mpegts-video", seconds=60.0))
    world.server.resources["/hls/9.ts"] = Resource(status=404)
    request = world.request("/hls/index.m3u8")
    request = replace(request, source=replace(request.source, kind="hls"))
    async with world.opener.open(request) as stream:
        pcm = await collect(stream)
        assert stream.warning is not None
        assert "broke off" in stream.warning
    assert 0 < len(pcm) < 60 * 16_000


async def test_a_failing_segment_is_requested_again(world: MediaWorld, audio: Callable[..., bytes]) -> None:
    Show(world, audio("mpegts-video", seconds=30.0))
    good = world.server.resources["/hls/4.ts"]
    assert isinstance(good, Resource)
    world.server.resources["/hls/4.ts"] = lambda request: Resource(status=503) if request.number < 3 else good
    assert len(await hear(world, "/hls/index.m3u8")) == pytest.approx(30 * 16_000, rel=0.02)


async def test_a_busy_segment_is_requested_again_when_its_server_says(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    Show(world, audio("mpegts-video", seconds=30.0))
    good = world.server.resources["/hls/4.ts"]
    assert isinstance(good, Resource)
    busy = Resource(status=429, headers={"Retry-After": "7"})
    world.server.resources["/hls/4.ts"] = lambda request: busy if request.number < 3 else good
    assert len(await hear(world, "/hls/index.m3u8")) == pytest.approx(30 * 16_000, rel=0.02)
    assert world.clock.slept == [7.0, 7.0]


async def test_a_busy_playlist_is_requested_again(world: MediaWorld, audio: Callable[..., bytes]) -> None:
    Show(world, audio("mpegts-video", seconds=5.0))
    good = world.server.resources["/hls/index.m3u8"]
    assert isinstance(good, Resource)
    busy = Resource(status=503, headers={"Retry-After": "0"})
    world.server.resources["/hls/index.m3u8"] = lambda request: busy if request.number < 2 else good
    assert len(await hear(world, "/hls/index.m3u8")) == pytest.approx(5 * 16_000, rel=0.05)


BAD: Mapping[str, tuple[str, type[JobError]]] = {
    "no playlist": ("<!doctype html>", AudioContentTypeNotSupported),
    "a loop": ("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nindex.m3u8\n", UnsupportedURL),
    "a plain list": ("#EXTM3U\nindex.m3u8\n", AudioContentTypeNotSupported),
    "a dead segment": ("#EXTM3U\n#EXTINF:6,\nnone.ts\n#EXT-X-ENDLIST\n", AudioUnreachable),
    "a dead key": (
        '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="none"\n#EXTINF:6,\na.ts\n#EXT-X-ENDLIST\n',
        AudioUnreachable,
    ),
    "a page as a segment": (
        "#EXTM3U\n#EXTINF:6,\nindex.m3u8\n#EXT-X-ENDLIST\n",
        AudioContentTypeNotSupported,
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_what_can_not_be_decoded_is_refused_with_its_reason(name: str, world: MediaWorld) -> None:
    text, error = BAD[name]
    world.server.resources["/index.m3u8"] = Resource(text.encode())
    world.server.resources["/a.ts"] = Resource(bytes(1600))
    with pytest.raises(error):
        await hear(world, "/index.m3u8")


async def test_a_playlist_of_more_than_the_byte_limit_is_refused(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    Show(world, audio("mpegts-video", seconds=60.0))
    with pytest.raises(AudioTooLarge):
        await hear(world, "/hls/index.m3u8", limits=limits_of(max_bytes=100_000))


INSIDE = {
    "a segment": "#EXTM3U\n#EXTINF:6,\n{url}\n#EXT-X-ENDLIST\n",
    "an initialisation section": '#EXTM3U\n#EXT-X-MAP:URI="{url}"\n#EXTINF:6,\na.ts\n#EXT-X-ENDLIST\n',
    "a key": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{url}"\n#EXTINF:6,\na.ts\n#EXT-X-ENDLIST\n',
    "a variant": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}\n",
    "a rendition": (
        '#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",URI="{url}"\n'
        '#EXT-X-STREAM-INF:BANDWIDTH=1,AUDIO="a"\nv.m3u8\n'
    ),
}


@pytest.mark.parametrize("where", INSIDE)
@pytest.mark.parametrize("kind", ["inside", "file"])
async def test_no_playlist_leads_to_an_address_or_a_file_of_ours(
    where: str, kind: str, world: MediaWorld, canary: Canary, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.mp3"
    secret.write_bytes(b"secret")
    url = f"http://127.0.0.2:{canary.port}/x" if kind == "inside" else secret.as_uri()
    world.server.resources["/index.m3u8"] = Resource(INSIDE[where].format(url=url).encode())
    world.server.resources["/a.ts"] = Resource(bytes(1600))
    with pytest.raises(UnsupportedURL) as caught:
        await hear(world, "/index.m3u8")
    assert "secret" not in caught.value.message
    assert await canary.settle() == 0


async def test_a_key_that_a_page_was_sent_for_is_requested_again(world: MediaWorld) -> None:
    key = b"sixteen bytes..."
    world.server.resources["/key"] = Resource(b"come back later")
    world.server.resources["/1.ts"] = Resource(encrypted(b"audio", key, (1).to_bytes(16, "big")))
    fetcher = Fetcher(world.client, replace(world.request("/1.ts").source, live=True))
    segment = Part(world.server.url("/1.ts"), 1, key=(world.server.url("/key"), None))

    with pytest.raises(AudioUnreachable, match="encryption"):
        await fetcher.part(segment)
    world.server.resources["/key"] = Resource(key)

    assert await fetcher.part(segment) == b"audio"
