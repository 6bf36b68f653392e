"""The decoder child as a process: its limits, its end, and what happens when it is killed or hangs."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import numpy as np
import pytest

from stenobird.errors import TranscriptionFailed
from stenobird.media.decode import DecoderDied, DecoderLimits, SpareDecoder, decode
from stenobird.media.decoder_child import HEADER
from stenobird.media.feed import Feed
from stenobird.media.opener import MediaStream
from stenobird.ports import SAMPLE_RATE
from tests.support.media_server import Resource
from tests.support.media_world import limits_of, media_world, pcm_of
from tests.support.until import async_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from stenobird.ports import AudioStream
    from tests.support.media_world import MediaWorld

pytestmark = pytest.mark.anyio

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def pid_of(stream: AudioStream) -> int:
    assert isinstance(stream, MediaStream)
    assert stream.decoder is not None
    assert stream.decoder.returncode is None
    return stream.decoder.pid


@asynccontextmanager
async def spare_of(world: MediaWorld) -> AsyncIterator[SpareDecoder]:
    async with SpareDecoder(DecoderLimits()) as spare:
        world.opener.spare = spare
        yield spare


async def started(spare: SpareDecoder) -> int:
    await async_until(lambda: spare.ready)
    assert spare.child is not None
    return spare.child.pid


@linux_only
@pytest.mark.parametrize("ready", [False, True], ids=["started for the job", "spare"])
async def test_the_child_can_open_nothing_and_inherits_nothing(
    world: MediaWorld, audio: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch, *, ready: bool
) -> None:
    monkeypatch.setenv("STENOBIRD_DATABASE_URL", "postgresql://secret")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    world.server.resources["/a"] = Resource(audio("mp3", seconds=60.0))
    async with AsyncExitStack() as stack:
        if ready:
            spare = await stack.enter_async_context(spare_of(world))
            await started(spare)
        stream = await stack.enter_async_context(world.opener.open(world.request("/a")))
        await anext(aiter(stream))
        proc = Path("/proc", str(pid_of(stream)))
        limits = dict(re.findall(r"^(Max .+?)  +(\S+)", (proc / "limits").read_text(), re.MULTILINE))
        assert limits["Max open files"] == "0"
        assert limits["Max file size"] == "0"
        assert limits["Max processes"] == "0"
        assert limits["Max core file size"] == "0"
        assert int(limits["Max cpu time"]) <= DecoderLimits().cpu_seconds
        assert int(limits["Max address space"]) < 600 * 1024**2
        status = (proc / "status").read_text()
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
        assert b"secret" not in (proc / "environ").read_bytes()
        assert b"PROXY" not in (proc / "environ").read_bytes()
        assert (proc / "cwd").readlink() == Path("/")
        open_files = {int(entry.name): str(entry.readlink()) for entry in (proc / "fd").iterdir()}
        assert open_files.keys() <= {0, 1, 2}
        assert open_files[2] == "/dev/null"


async def test_a_killed_child_is_replaced_without_a_trace_in_the_audio(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    world.server.resources["/a"] = Resource(audio("mp3", seconds=60.0))
    whole = await world.hear("/a", job_id="tr_whole")
    pids = []
    async with world.opener.open(world.request("/a")) as stream:
        pieces = []
        async for block in pcm_of(stream):
            pieces.append(block)
            if len(pieces) in {1, 15, 30, 31, 45}:
                pids.append(pid_of(stream))
                os.kill(pids[-1], signal.SIGKILL)
        assert stream.warning is None
    np.testing.assert_array_equal(np.concatenate(pieces), whole.pcm)
    assert len(set(pids)) > 1


async def test_a_child_that_dies_at_the_same_place_again_and_again_fails_the_job(
    tmp_path: Path, audio: Callable[..., bytes]
) -> None:
    # No child can say anything within a millisecond of its start.
    async with media_world(tmp_path, decoder=DecoderLimits(stall_seconds=0.001)) as world:
        world.server.resources["/a"] = Resource(audio("mp3"))
        with pytest.raises(TranscriptionFailed, match="repeatedly"):
            await world.hear("/a")


@linux_only
async def test_a_child_that_hangs_is_killed_and_replaced(tmp_path: Path, audio: Callable[..., bytes]) -> None:
    async with media_world(tmp_path, decoder=DecoderLimits(stall_seconds=6.0)) as world:
        world.server.resources["/a"] = Resource(audio("mp3", seconds=60.0))
        whole = await world.hear("/a", job_id="tr_whole")
        async with world.opener.open(world.request("/a")) as stream:
            blocks = aiter(stream)
            first = await anext(blocks)
            hung = pid_of(stream)
            os.kill(hung, signal.SIGSTOP)
            rest = [block async for block in blocks]
            with pytest.raises(ProcessLookupError):
                os.kill(hung, 0)
        np.testing.assert_array_equal(np.concatenate([first, *rest]), whole.pcm)


async def test_waiting_for_a_slow_server_is_not_a_hang(tmp_path: Path, audio: Callable[..., bytes]) -> None:
    async with media_world(tmp_path, decoder=DecoderLimits(stall_seconds=6.0)) as world:
        file = audio("mp3")
        world.server.resources["/a"] = Resource(file, bytes_per_second=len(file) / 8)
        heard = await world.hear("/a")
        assert len(heard.pcm) == pytest.approx(8 * SAMPLE_RATE, rel=0.02)


async def test_a_reader_that_stops_ends_the_child(world: MediaWorld, audio: Callable[..., bytes]) -> None:
    world.server.resources["/a"] = Resource(audio("mp3", seconds=60.0))
    async with world.opener.open(world.request("/a")) as stream:
        await anext(aiter(stream))
        pid = pid_of(stream)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_cancelled_reader_ends_the_child(world: MediaWorld, audio: Callable[..., bytes]) -> None:
    world.server.resources["/a"] = Resource(audio("mp3", seconds=60.0), stalls_at=200_000)
    pids: list[int] = []
    waiting = asyncio.Event()

    async def read() -> None:
        async with world.opener.open(world.request("/a")) as stream:
            async for _block in stream:
                if not pids:
                    pids.append(pid_of(stream))
                    waiting.set()

    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(read())
        await waiting.wait()
        task.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


DECODE_AND_WAIT = """
import asyncio, ipaddress, pathlib, sys
from stenobird.egress.client import EgressClient
from stenobird.egress.policy import EgressPolicy
from stenobird.media.opener import MediaOpener
from stenobird.media.spool import SpoolFolder
from stenobird.ports import AudioLimits, AudioRequest
from stenobird.sources import AudioSource
from tests.support.media_world import QuickClock

async def main(url, folder, blocks):
    policy = EgressPolicy(allow=[ipaddress.ip_network("127.0.0.0/8")], ports=None)
    async with EgressClient(policy) as client:
        opener = MediaOpener(client, SpoolFolder(pathlib.Path(folder), quota_bytes=1 << 30), QuickClock())
        source = AudioSource(url, url, url, "direct", "a test")
        request = AudioRequest("tr_1", source, AudioLimits(1 << 30, 1 << 30))
        async with opener.open(request) as stream:
            samples = 0
            async for block in stream:
                samples += len(block)
                blocks -= 1
                if blocks == 0:
                    print(samples, stream.decoder.pid, flush=True)
                    await asyncio.Event().wait()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


@linux_only
async def test_a_killed_worker_ends_its_child_and_leaves_a_spool_to_resume_from(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    file = audio("wav-16k-mono", seconds=240.0)
    world.server.resources["/a"] = lambda request: Resource(
        file, stalls_at=6_000_000 if request.number == 1 else None
    )
    world.server.resources["/whole"] = Resource(file)
    whole = await world.hear("/whole", job_id="tr_whole")
    worker = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        DECODE_AND_WAIT,
        world.server.url("/a"),
        str(world.spool_dir),
        "150",
        stdout=asyncio.subprocess.PIPE,
    )
    assert worker.stdout is not None
    samples, child = map(int, (await worker.stdout.readline()).split())
    child_end = os.pidfd_open(child)
    worker.kill()
    await worker.wait()
    await worker.stdout.read()
    try:
        await anyio.wait_readable(child_end)
    finally:
        os.close(child_end)
    sent = world.server.sent_bytes["/a"]
    rest = await world.hear("/a", start_sample=samples)
    np.testing.assert_array_equal(rest.pcm, whole.pcm[samples:])
    assert world.server.sent_bytes["/a"] - sent < len(file)
    assert world.server.ranges("/a")[-1] != "bytes=0-"


@linux_only
@pytest.mark.slow
async def test_memory_does_not_grow_with_the_length_of_the_audio(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    world.server.resources["/long"] = Resource(audio("mp3", seconds=60.0, bit_rate=64_000) * 12)

    def resident(pid: int) -> int:
        status = Path("/proc", str(pid), "status").read_text()
        return int(re.findall(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)[0]) * 1024

    async with world.opener.open(world.request("/long", limits=limits_of(max_seconds=7200.0))) as stream:
        early: tuple[int, int] | None = None
        seconds = 0.0
        async for block in pcm_of(stream):
            seconds += len(block) / SAMPLE_RATE
            if early is None and seconds >= 60:
                early = resident(pid_of(stream)), resident(os.getpid())
            if seconds < 710:
                continue
            assert early is not None
            assert resident(pid_of(stream)) - early[0] < 8 * 1024**2
            assert resident(os.getpid()) - early[1] < 16 * 1024**2
            break
    assert seconds >= 710


async def test_a_stream_gives_the_same_audio_however_it_is_delivered(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    file = audio("m4a", seconds=60.0)
    world.server.resources["/fast"] = Resource(file)
    world.server.resources["/slow"] = Resource(file, bytes_per_second=2 * len(file), chunked=True)
    fast = await world.hear("/fast", job_id="tr_fast")
    slow = await world.hear("/slow", job_id="tr_slow")
    again = await world.hear("/fast", job_id="tr_fast")  # from the complete spool, as a regular file
    np.testing.assert_array_equal(slow.pcm, fast.pcm)
    np.testing.assert_array_equal(again.pcm, fast.pcm)
    assert len(world.server.ranges("/fast")) == 1


@linux_only
async def test_no_more_than_a_minute_is_decoded_ahead_of_the_reader(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    file = audio("wav-16k-mono", seconds=240.0)
    world.server.resources["/a"] = Resource(file)
    await world.hear("/a")  # now the child can read the file on its own, as fast as it likes
    async with world.opener.open(world.request("/a")) as stream:
        await anext(aiter(stream))
        proc = Path("/proc", str(pid_of(stream)))

        def read_bytes() -> int:
            return int((proc / "io").read_text().split()[1])

        # In this format, what was read is what was decoded: once the child sleeps, it waits for the reader.
        before = -1

        def sleeps() -> bool:
            nonlocal before
            last, before = before, read_bytes()
            return before == last and "State:\tS" in (proc / "status").read_text()

        await async_until(sleeps)
        libraries = 4 * 1024**2
        assert before < libraries + 60 * 2 * SAMPLE_RATE
        assert len(file) > 2 * before


async def test_a_spare_child_decodes_the_same_audio_and_serves_one_job(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    body = audio("mp3", seconds=60.0)
    world.server.resources["/a"] = Resource(body)
    expected = await world.hear("/a")
    pids = []
    async with spare_of(world) as spare:
        for number in range(3):
            pids.append(await started(spare))
            # A file that is whole when its decoder starts is read in place, by a child of its own.
            resource = world.server.resources["/a"] = Resource(body, pauses_at=len(body) // 2)
            async with world.opener.open(world.request("/a", job_id=f"tr_spare_{number}")) as stream:
                reading = pcm_of(stream)
                blocks = [await anext(reading)]
                assert pid_of(stream) == pids[-1]
                resource.go_on.set()
                blocks += [block async for block in reading]
            np.testing.assert_array_equal(np.concatenate(blocks), expected.pcm)
        pids.append(await started(spare))
    assert len(set(pids)) == 4
    with pytest.raises(ProcessLookupError):
        os.kill(pids[-1], 0)


async def test_a_spare_child_that_was_killed_costs_the_next_job_nothing(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    world.server.resources["/a"] = Resource(audio("mp3"))
    async with spare_of(world) as spare:
        killed = await started(spare)
        os.kill(killed, signal.SIGKILL)
        heard = await world.hear("/a")
        assert len(heard.pcm) / SAMPLE_RATE == pytest.approx(8.0, abs=0.1)
        assert await started(spare) != killed


async def test_jobs_at_once_do_not_wait_for_a_spare_child(
    world: MediaWorld, audio: Callable[..., bytes]
) -> None:
    world.server.resources["/a"] = Resource(audio("mp3"))
    async with spare_of(world), asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(world.hear("/a", job_id=f"tr_{number}"))


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (b"I", b'{"duration_seconds": "long", "duration_exact": true}'),
        (b"E", b'{"samples": 1, "corrupt_packets": 0, "cut_off": false}'),
        (b"E", b'{"samples": 1, "corrupt_packets": 0, "cut_off": false, "note": null, "more": 1}'),
        (b"X", b'{"kind": "broken", "message": ["it is damaged"]}'),
        (b"X", b"nothing that is JSON"),
    ],
)
async def test_what_no_healthy_child_sends_counts_as_its_death(kind: bytes, payload: bytes) -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(HEADER.pack(kind, len(payload)) + payload)
    child: Any = SimpleNamespace(reader=reader)

    with pytest.raises(DecoderDied, match="protocol"):
        await anext(decode(child, Feed(stitched=False), 30.0))
