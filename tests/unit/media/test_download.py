"""Downloads that break, stall, lie and change: what is decoded, what is requested again, what is reported."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from stenobird.errors import (
    AudioContentTypeNotSupported,
    AudioTooLarge,
    AudioUnreachable,
    ConnectFailed,
    TranscriptionFailed,
    UnsupportedURL,
    WorkerTrouble,
)
from stenobird.media.opener import MediaOpener
from stenobird.media.spool import SpoolFolder
from stenobird.ports import Gap, Title
from tests.support.media_server import Resource
from tests.support.media_world import collect, limits_of, media_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from stenobird.ports import PCM, OpenedMedia
    from stenobird.sources import AudioSource
    from tests.support.media_world import MediaWorld

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def minute(audio: Callable[..., bytes]) -> bytes:
    return audio("flac", seconds=60.0)


@pytest.fixture(scope="module")
async def undisturbed(tmp_path_factory: pytest.TempPathFactory, minute: bytes) -> PCM:
    async with media_world(tmp_path_factory.mktemp("spool")) as world:
        world.server.resources["/whole"] = Resource(minute)
        return (await world.hear("/whole")).pcm


async def test_a_broken_download_resumes_where_it_broke(
    world: MediaWorld, minute: bytes, undisturbed: PCM
) -> None:
    breaks = [len(minute) // 4, len(minute) // 2, len(minute) // 2 + 1]
    world.server.resources["/a"] = Resource(minute, breaks_at=breaks)
    heard = await world.hear("/a")
    np.testing.assert_array_equal(heard.pcm, undisturbed)
    assert heard.warning is None
    assert len(world.server.ranges("/a")) == 4
    assert world.server.sent_bytes["/a"] < len(minute) + 4 * 1024 * 1024
    assert world.clock.slept


async def test_a_download_without_a_length_that_breaks_while_its_pace_is_watched_is_resumed(
    world: MediaWorld, minute: bytes, undisturbed: PCM
) -> None:
    chunk = Resource(
        f"{len(minute):x}\r\n".encode() + minute,
        chunked=True,
        headers={"Transfer-Encoding": "chunked"},
        breaks_at=[200_000],
    )
    world.server.resources["/a"] = lambda request: chunk if request.number == 1 else Resource(minute)
    heard = await world.hear("/a")
    np.testing.assert_array_equal(heard.pcm, undisturbed)
    assert heard.warning is None


async def test_a_server_that_ignores_ranges_on_resume_is_read_again_and_compared(
    world: MediaWorld, minute: bytes, undisturbed: PCM
) -> None:
    world.server.resources["/a"] = Resource(minute, ranges=False, breaks_at=[len(minute) // 2])
    heard = await world.hear("/a")
    np.testing.assert_array_equal(heard.pcm, undisturbed)
    assert len(world.server.requests) == 2


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_file_that_changes_in_mid_download_is_not_stitched_together(
    world: MediaWorld, minute: bytes, audio: Callable[..., bytes], *, ranges: bool
) -> None:
    other = audio("flac", seconds=61.0)

    half = len(minute) // 2
    first = Resource(minute, pauses_at=half, breaks_at=[half], ranges=ranges, etag=None)
    second = Resource(other, ranges=ranges, etag=None)
    world.server.resources["/a"] = lambda request: first if request.number == 1 else second
    await expect_change(world, first)


async def expect_change(world: MediaWorld, first: Resource) -> None:
    """Hear something, let the first answer break, and expect that the next one is not heard."""
    async with world.opener.open(world.request("/a")) as stream:
        await anext(aiter(stream))
        first.go_on.set()
        with pytest.raises(AudioUnreachable, match="changed"):
            await collect(stream)


async def test_a_file_that_changes_but_keeps_its_size_is_noticed_by_its_etag(
    world: MediaWorld, minute: bytes
) -> None:
    other = minute[:-1000] + bytes(1000)

    half = len(minute) // 2
    first = Resource(minute, pauses_at=half, breaks_at=[half], etag='"one"')
    second = Resource(other, etag='"two"')
    world.server.resources["/a"] = lambda request: first if request.number == 1 else second
    await expect_change(world, first)


async def test_a_download_that_breaks_for_good_yields_the_audio_before_the_break(
    world: MediaWorld, minute: bytes, undisturbed: PCM
) -> None:
    half = len(minute) // 2
    world.server.resources["/a"] = lambda request: (
        Resource(minute, breaks_at=[half]) if request.number == 1 else Resource(status=503)
    )
    heard = await world.hear("/a")
    assert 20 * 16_000 < len(heard.pcm) < 40 * 16_000
    # The last frame is incomplete, and what a damaged frame sounds like is the decoder's affair.
    np.testing.assert_array_equal(heard.pcm[:-16_000], undisturbed[: len(heard.pcm) - 16_000])
    assert heard.warning is not None
    assert "broke off" in heard.warning
    assert sum(world.clock.slept) > 20


async def test_a_content_length_beyond_the_end_of_the_file_ends_with_a_warning(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    file = audio("mp3")
    world.server.resources["/a"] = Resource(file, declared_bytes=2 * len(file), ranges=False)
    heard = await world.hear("/a")
    assert len(heard.pcm) == pytest.approx(8 * 16_000, rel=0.05)
    assert heard.warning is not None
    assert sum(world.clock.slept) < 4  # a server with nothing more to give is soon believed


async def test_a_first_length_that_was_too_long_is_corrected_by_the_resume(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    file = audio("mp3")
    world.server.resources["/a"] = lambda request: (
        Resource(file, declared_bytes=2 * len(file), ranges=False) if request.number == 1 else Resource(file)
    )
    heard = await world.hear("/a")
    assert len(heard.pcm) == pytest.approx(8 * 16_000, rel=0.05)
    assert heard.warning is None


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_a_refused_download_reports_the_server_s_status(world: MediaWorld, status: int) -> None:
    world.server.resources["/a"] = Resource(b"no", status=status)
    with pytest.raises(AudioUnreachable, match=str(status)):
        await world.hear("/a")
    assert not world.clock.slept


async def test_a_request_to_a_failing_server_is_repeated(
    world: MediaWorld, minute: bytes, undisturbed: PCM
) -> None:
    world.server.resources["/a"] = lambda request: Resource(minute, status=503 if request.number < 3 else 200)
    heard = await world.hear("/a")
    np.testing.assert_array_equal(heard.pcm, undisturbed)


async def test_a_closed_port_is_unreachable(world: MediaWorld) -> None:
    with pytest.raises(AudioUnreachable):
        await world.hear("http://127.0.0.1:1/a.mp3")


async def test_an_address_that_is_not_public_is_unsupported(world: MediaWorld) -> None:
    with pytest.raises(UnsupportedURL):
        await world.hear("http://10.0.0.1/a.mp3")


async def test_an_expired_signature_is_renewed_through_the_original_link(
    world: MediaWorld, minute: bytes, undisturbed: PCM
) -> None:
    half = len(minute) // 2
    world.server.resources["/link"] = lambda request: Resource(
        redirect_to=world.server.url(f"/signed{request.number}")
    )
    world.server.resources["/signed1"] = lambda request: (
        Resource(minute, breaks_at=[half]) if request.number == 1 else Resource(status=403)
    )
    world.server.resources["/signed2"] = Resource(minute)
    heard = await world.hear("/link")
    np.testing.assert_array_equal(heard.pcm, undisturbed)


async def test_an_index_at_the_end_is_fetched_while_the_front_still_downloads(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    file = audio("m4a-index-last", seconds=60.0, bit_rate=256_000)
    assert len(file) > 1_500_000
    world.server.resources["/whole"] = Resource(file)
    whole = await world.hear("/whole", job_id="tr_whole")
    first = Resource(file, pauses_at=100_000)
    world.server.resources["/a"] = lambda request: first if request.number == 1 else Resource(file)
    async with world.opener.open(world.request("/a")) as stream:
        blocks = aiter(stream)
        block = await anext(blocks)
        assert world.server.sent_bytes["/a"] < len(file)
        first.go_on.set()
        rest = [later async for later in blocks]
    np.testing.assert_array_equal(np.concatenate([block, *rest]), whole.pcm)
    assert any(wanted != "bytes=0-" for wanted in world.server.ranges("/a"))


async def test_a_length_beyond_the_limit_is_refused_at_once(world: MediaWorld) -> None:
    world.server.resources["/a"] = Resource(bytes(1000), declared_bytes=10 * 1024**4, stalls_at=500)
    with pytest.raises(AudioTooLarge, match="1073741824"):
        await world.hear("/a")


async def test_a_body_beyond_the_limit_is_refused_when_it_gets_there(
    world: MediaWorld, minute: bytes
) -> None:
    world.server.resources["/a"] = Resource(minute, chunked=True)
    with pytest.raises(AudioTooLarge, match="1000000 bytes"):
        await world.hear("/a", limits=limits_of(max_bytes=1_000_000))


async def test_a_station_is_live_for_a_whole_job_and_no_file_on_disk(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    world.server.resources["/live"] = Resource(
        audio("mp3", seconds=60.0)[64:], endless=True, headers={"icy-name": "Radio"}
    )
    limits = replace(limits_of(max_bytes=1000), live_samples=20 * 16_000)
    async with world.opener.open(world.request("/live", limits)) as stream:
        assert stream.live
        blocks = [block async for block in stream if not isinstance(block, (Gap, Title))]
    assert sum(map(len, blocks)) == 20 * 16_000
    assert await world.opener.held() == set()
    heard = await world.hear("/live", job_id="tr_2", limits=limits_of(stop_seconds=15.0))
    assert len(heard.pcm) == 15 * 16_000


async def test_an_endless_download_ends_at_the_longest_audio_allowed(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    world.server.resources["/endless"] = Resource(
        audio("mp3", seconds=60.0)[64:], endless=True, bytes_per_second=4_000_000
    )
    with pytest.raises(AudioTooLarge, match="0:05:00"):
        await world.hear("/endless", limits=limits_of(max_seconds=300.0))


async def test_an_empty_file_is_not_audio(world: MediaWorld) -> None:
    world.server.resources["/a"] = Resource(b"")
    with pytest.raises(AudioContentTypeNotSupported, match="empty"):
        await world.hear("/a")


async def test_a_full_spool_quota_is_trouble_of_the_worker(world: MediaWorld, minute: bytes) -> None:
    spools = SpoolFolder(world.spool_dir, quota_bytes=len(minute) + 1000)
    spools.charge("tr_other", 2000)
    opener = MediaOpener(world.client, spools=spools, clock=world.clock)
    world.server.resources["/a"] = Resource(minute)
    async with opener.open(world.request("/a")) as stream:
        with pytest.raises(WorkerTrouble, match="disk space") as caught:
            await collect(stream)
    assert caught.value.retry_after_seconds is not None


async def test_a_file_beyond_the_whole_quota_is_too_large(world: MediaWorld, minute: bytes) -> None:
    spools = SpoolFolder(world.spool_dir, quota_bytes=100_000)
    opener = MediaOpener(world.client, spools=spools, clock=world.clock)
    world.server.resources["/a"] = Resource(minute)
    async with opener.open(world.request("/a")) as stream:
        with pytest.raises(AudioTooLarge, match="disk space"):
            await collect(stream)


class NoDescriptors:
    """An origin whose connections fail, because the process has no descriptor left."""

    async def open(self, *_: Any, **__: Any) -> Any:
        raise ConnectFailed("No socket.") from OSError(errno.EMFILE, os.strerror(errno.EMFILE))


async def test_a_download_without_descriptors_is_trouble_of_the_worker(tmp_path: Path) -> None:
    async with media_world(tmp_path, origins={"http": NoDescriptors()}) as world:
        with pytest.raises(WorkerTrouble, match="Too many open files"):
            await world.hear("/a")


@pytest.mark.parametrize("stop_seconds", [None, 15.0], ids=["full", "preview"])
async def test_a_server_that_breaks_every_few_bytes_is_given_up(
    world: MediaWorld, minute: bytes, stop_seconds: float | None
) -> None:
    world.server.resources["/a"] = Resource(
        minute, breaks_at=list(range(1000, len(minute), 1000)), ranges=stop_seconds is None
    )
    with pytest.raises((AudioUnreachable, TranscriptionFailed)):
        await world.hear("/a", limits=limits_of(stop_seconds=stop_seconds))
    assert len(world.server.requests) < 10


async def test_a_download_that_takes_too_long_yields_the_audio_so_far(tmp_path: Path, minute: bytes) -> None:
    # Every break costs half a second of the clock.
    breaks = list(range(66_000, len(minute), 66_000))
    async with media_world(tmp_path, download_seconds=4.0) as world:
        world.server.resources["/a"] = Resource(minute, breaks_at=breaks)
        heard = await world.hear("/a")
    assert sum(world.clock.slept) < 6
    assert 20 * 16_000 < len(heard.pcm) < 40 * 16_000
    assert heard.warning is not None
    assert "took longer" in heard.warning


class UploadedFile:
    """An `OpenedMedia` over bytes."""

    status = 206
    headers: Mapping[str, str] = {}

    def __init__(self, url: str, data: bytes, first: int) -> None:
        self.final_url = url
        self.offset = first
        self.end: int | None = len(data)
        self.total_bytes: int | None = len(data)
        self._data = data

    async def body(self) -> AsyncIterator[bytes]:
        for at in range(self.offset, len(self._data), 50_000):
            yield self._data[at : at + 50_000]

    async def aclose(self) -> None:
        pass


class Uploads:
    """An `Origin` whose addresses mean something to us only."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    async def open(
        self, url: str, source: AudioSource, *, first: int, last: int | None, if_range: str | None
    ) -> OpenedMedia:
        return UploadedFile(url, self._files[url], first)


async def test_an_upload_comes_from_an_origin_of_its_own(
    tmp_path: Path, minute: bytes, world: MediaWorld, undisturbed: PCM
) -> None:
    opener = MediaOpener(
        world.client,
        SpoolFolder(tmp_path / "own", quota_bytes=1 << 30),
        world.clock,
        origins={"upload": Uploads({"upload:1": minute})},
    )
    async with opener.open(world.request("upload:1")) as stream:
        np.testing.assert_array_equal(await collect(stream), undisturbed)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "upload:1", "ftp://127.0.0.1/a", "data:audio/mp3,x"])
async def test_an_address_of_another_scheme_is_never_opened(world: MediaWorld, url: str) -> None:
    request = world.request("/a")
    request = replace(request, source=replace(request.source, media_url=url, final_url=url))
    with pytest.raises(UnsupportedURL):
        async with world.opener.open(request):
            pass


async def test_an_error_of_the_reader_comes_out_as_it_is(world: MediaWorld, minute: bytes) -> None:
    world.server.resources["/a"] = Resource(minute)

    async def read() -> None:
        async with world.opener.open(world.request("/a")) as stream:
            async for _block in stream:
                raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        await read()


async def test_a_stream_that_is_never_read_closes_without_a_trace(world: MediaWorld, minute: bytes) -> None:
    world.server.resources["/a"] = Resource(minute, stalls_at=1000)
    async with world.opener.open(world.request("/a")) as stream:
        assert stream.duration_seconds is None


@pytest.mark.parametrize("stop_seconds", [None, 15.0], ids=["full", "preview"])
@pytest.mark.parametrize("status", [400, 403, 416, 501])
async def test_a_server_that_refuses_ranges_is_asked_for_the_whole_file(
    status: int, stop_seconds: float | None, world: MediaWorld, minute: bytes, undisturbed: PCM
) -> None:
    world.server.resources["/a"] = Resource(minute, range_status=status)
    heard = await world.hear("/a", limits=limits_of(stop_seconds=stop_seconds))
    np.testing.assert_array_equal(heard.pcm, undisturbed[: len(heard.pcm)])
    assert len(heard.pcm) == (len(undisturbed) if stop_seconds is None else 15 * 16_000)
    assert heard.warning is None
    assert not world.clock.slept


@pytest.mark.parametrize("status", [400, 403, 416, 501])
async def test_a_resume_whose_range_is_refused_reads_again_and_compares(
    status: int, world: MediaWorld, minute: bytes, undisturbed: PCM
) -> None:
    half = len(minute) // 2
    world.server.resources["/a"] = lambda request: (
        Resource(minute, breaks_at=[half]) if request.number == 1 else Resource(minute, range_status=status)
    )
    heard = await world.hear("/a")
    np.testing.assert_array_equal(heard.pcm, undisturbed)
    assert heard.warning is None


EXTENTS = {
    "no length": "bytes {first}-{last}/*",
    "none": None,
    "another unit": "octets {first}-{last}/{size}",
    "nonsense": "{first}",
}


@pytest.mark.parametrize("stop_seconds", [None, 15.0], ids=["full", "preview"])
@pytest.mark.parametrize("extent", EXTENTS.values(), ids=EXTENTS)
async def test_a_part_that_does_not_say_which_is_used_or_replaced_by_the_whole(
    extent: str | None, stop_seconds: float | None, world: MediaWorld, minute: bytes, undisturbed: PCM
) -> None:
    half = len(minute) // 2
    resource = Resource(minute, extent=extent, breaks_at=[half] if stop_seconds is None else [])
    world.server.resources["/a"] = resource
    heard = await world.hear("/a", limits=limits_of(stop_seconds=stop_seconds))
    np.testing.assert_array_equal(heard.pcm, undisturbed[: len(heard.pcm)])
    assert len(heard.pcm) == (len(undisturbed) if stop_seconds is None else 15 * 16_000)
    assert heard.warning is None


@pytest.mark.parametrize(
    ("status", "retry_after", "slept"),
    [(429, "7", 7), (503, "90", 90), (503, "86400", 120), (502, "soon", 1)],
)
async def test_a_busy_server_is_asked_again_when_it_says_within_bounds(
    status: int, retry_after: str, slept: float, world: MediaWorld, minute: bytes
) -> None:
    answers = {
        1: Resource(minute, breaks_at=[len(minute) // 2]),
        2: Resource(status=status, headers={"Retry-After": retry_after}),
    }
    world.server.resources["/a"] = lambda request: answers.get(request.number, Resource(minute))
    heard = await world.hear("/a")
    assert len(heard.pcm) == 60 * 16_000
    assert heard.warning is None
    assert max(world.clock.slept) == slept
