"""Spools: what they claim, what they count, and what they forget."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stenobird.errors import AudioUnreachable, TranscriptionFailed
from stenobird.media.spool import Intervals, SpoolFolder
from tests.support.media_server import Resource
from tests.support.media_world import pcm_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.media_world import MediaWorld

pytestmark = pytest.mark.anyio

RANGES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=12)


@given(RANGES)
def test_intervals_are_the_set_of_what_was_added(ranges: list[tuple[int, int]]) -> None:
    intervals, model = Intervals(), set[int]()
    for start, end in ranges:
        assert intervals.add(start, end) == len(set(range(start, end)) - model)
        model |= set(range(start, end))
    assert {at for start, end in intervals for at in range(start, end)} == model
    assert all(end < start for (_, end), (start, _) in zip(intervals, list(intervals)[1:], strict=False))
    for offset in range(42):
        run = next(at for at in range(offset, 50) if at not in model)
        assert intervals.end_from(offset) == run
        later = [start for start, _ in intervals if start > offset]
        assert intervals.next_start(offset) == (later[0] if later else None)


async def test_a_spool_remembers_what_it_synced(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path, quota_bytes=1000)
    spool = await folder.open("tr_1")
    await spool.write(0, b"abc")
    await spool.write(10, b"xyz")
    spool.facts.etag = '"e"'
    await spool.flush()
    await spool.write(20, b"not claimed")
    spool.close()  # as a kill would: without a last flush

    spool = await SpoolFolder(tmp_path, quota_bytes=1000).open("tr_1")
    assert list(spool.present) == [(0, 3), (10, 13)]
    assert spool.facts.etag == '"e"'
    assert await spool.read(0, 100) == b"abc"
    assert await spool.read(5, 100) == b""
    assert await spool.read(11, 1) == b"y"
    await spool.aclose()


@pytest.mark.parametrize(
    "state",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 99, "facts": {}, "present": []}',
        b'{"version": 1, "facts": {"unknown": 1}, "present": []}',
        json.dumps({"version": 1, "facts": {}, "present": [[0, 99]]}).encode(),
    ],
)
async def test_an_impossible_sidecar_means_an_empty_spool(tmp_path: Path, state: bytes) -> None:
    folder = SpoolFolder(tmp_path, quota_bytes=1000)
    spool = await folder.open("tr_1")
    await spool.write(0, b"abc")
    await spool.aclose()
    (tmp_path / "tr_1" / "state.json").write_bytes(state)
    spool = await folder.open("tr_1")
    assert spool.front == 0
    assert await spool.read(0, 3) == b""
    await spool.aclose()


async def test_a_preview_spool_claims_nothing(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path, quota_bytes=1000)
    spool = await folder.open("tr_1", durable=False)
    await spool.write(0, b"abc")
    await spool.aclose()
    spool = await folder.open("tr_1", durable=False)
    assert spool.front == 0
    await spool.aclose()


async def test_the_quota_counts_all_spools_and_bytes_once(tmp_path: Path) -> None:
    folder = SpoolFolder(tmp_path, quota_bytes=100)
    one, two = await folder.open("tr_1"), await folder.open("tr_2")
    await one.write(0, bytes(60))
    await one.write(0, bytes(40))
    assert folder.used_bytes == 60
    with pytest.raises(TranscriptionFailed) as caught:
        await two.write(0, bytes(50))
    assert caught.value.retry_after_seconds is not None
    await one.aclose()
    await folder.discard("tr_1")
    await two.write(0, bytes(50))
    await two.aclose()


async def test_a_sweep_removes_the_spools_of_unknown_jobs(tmp_path: Path) -> None:
    before = SpoolFolder(tmp_path, quota_bytes=10_000_000)
    for job_id in ("tr_1", "tr_2"):
        spool = await before.open(job_id)
        await spool.write(0, bytes(100_000))
        await spool.aclose()
    (tmp_path / ".keep").touch()
    after = SpoolFolder(tmp_path, quota_bytes=10_000_000)
    assert await after.sweep(["tr_1", "tr_9"]) == 1
    assert sorted(entry.name for entry in os.scandir(tmp_path)) == [".keep", "tr_1"]
    assert after.used_bytes >= 100_000


async def test_a_sweep_of_a_folder_that_is_not_there_finds_nothing(tmp_path: Path) -> None:
    assert await SpoolFolder(tmp_path / "none", quota_bytes=1).sweep([]) == 0


@pytest.mark.parametrize("job_id", ["", "..", "../tr_1", "a/b", "/etc", "a\0", "." * 3])
async def test_a_job_id_is_never_a_path(tmp_path: Path, job_id: str) -> None:
    folder = SpoolFolder(tmp_path / "spool", quota_bytes=1)
    with pytest.raises(ValueError, match="job id"):
        await folder.open(job_id)
    with pytest.raises(ValueError, match="job id"):
        await folder.discard(job_id)


async def test_a_folder_that_can_not_be_written_fails_the_job_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file where the folder should be")
    with pytest.raises(TranscriptionFailed, match="can't store"):
        await SpoolFolder(tmp_path / "spool", quota_bytes=1).open("tr_1")


# --- going on after the worker has changed ------------------------------------------------------------------


async def hear_some(world: MediaWorld, path: str, blocks: int) -> tuple[int, dict[str, object]]:
    """Hear some blocks, as a worker does that is then drained; return what its checkpoint would hold."""
    async with world.opener.open(world.request(path)) as stream:
        samples = 0
        async for block in pcm_of(stream):
            samples += len(block)
            blocks -= 1
            if blocks == 0:
                break
        while stream.fingerprint["prefix_bytes"] == 0:
            await anext(aiter(stream))
        return samples, dict(stream.fingerprint)


async def test_a_job_resumes_from_its_spool_without_downloading_twice(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    world.server.resources["/a"] = Resource(audio("flac", seconds=60.0))
    whole = await world.hear("/a", job_id="tr_whole")
    sent = world.server.sent_bytes["/a"]
    samples, heard = await hear_some(world, "/a", 20)
    rest = await world.hear("/a", start_sample=samples, fingerprint=heard)
    np.testing.assert_array_equal(rest.pcm, whole.pcm[samples:])
    assert world.server.sent_bytes["/a"] - sent <= sent + 16 * 1024


async def test_a_lost_spool_is_downloaded_again_and_compared(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    world.server.resources["/a"] = Resource(audio("flac", seconds=60.0))
    whole = await world.hear("/a", job_id="tr_whole")
    samples, heard = await hear_some(world, "/a", 20)
    await world.opener.discard("tr_1")
    rest = await world.hear("/a", start_sample=samples, fingerprint=heard)
    np.testing.assert_array_equal(rest.pcm, whole.pcm[samples:])


async def test_a_lost_spool_of_a_file_that_has_changed_since_fails_the_job(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    file = audio("flac", seconds=60.0)
    world.server.resources["/a"] = Resource(file)
    samples, heard = await hear_some(world, "/a", 20)
    await world.opener.discard("tr_1")
    at = 100_000
    world.server.resources["/a"] = Resource(file[:at] + bytes([file[at] ^ 1]) + file[at + 1 :])
    with pytest.raises(AudioUnreachable, match="changed"):
        await world.hear("/a", start_sample=samples, fingerprint=heard)


async def test_discarding_leaves_nothing_on_disk(world: MediaWorld, audio: Callable[..., bytes]) -> None:
    world.server.resources["/a"] = Resource(audio("mp3"))
    await world.hear("/a")
    assert list(world.spool_dir.iterdir())
    await world.opener.discard("tr_1")
    await world.opener.discard("tr_1")
    assert not list(world.spool_dir.iterdir())
