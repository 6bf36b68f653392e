"""`stenobird transcribe` with live audio: the text as it comes, and Ctrl-C that stops the job."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from stenobird.demo import MODEL_DIR
from stenobird.testing import a_source
from tests.support.forked import fork_server
from tests.support.radio import Programme, Radio, ScaledClock

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.web_world import WebWorld

pytestmark = pytest.mark.anyio

URL = "https://example.com/radio"


@asynccontextmanager
async def command(world: WebWorld, *options: str) -> AsyncIterator[Process]:
    """Run `stenobird transcribe` on a URL against the world."""
    key, _ = await world.keys.create()
    environment = {**os.environ, "STENOBIRD_API_URL": world.url, "STENOBIRD_API_KEY": key}
    process = await asyncio.create_subprocess_exec(
        fork_server().program,
        *("transcribe", *options, URL),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def line(process: Process) -> str:
    """Return the next line of standard output."""
    assert process.stdout is not None
    async with asyncio.timeout(180):
        return (await process.stdout.readline()).decode()


async def test_the_text_comes_at_once_and_ctrl_c_keeps_it(world: WebWorld) -> None:
    async with command(world, "--live", "--minutes", "5") as process:
        job_id = await world.worker.start_next()
        await world.worker.go_live(job_id)
        await world.worker.play(job_id, "News at Nine")
        await world.worker.say(job_id, "On air.")
        await world.worker.miss(job_id, 6.25)
        assert await line(process) == "On air.\n"
        process.send_signal(signal.SIGINT)
        async with world.worker.wakeups.watch(job_id) as watch:
            while (job := await world.store.get(job_id)) is not None and job.stop_request is None:
                await watch.wait(5.0)
        await world.worker.say(job_id, " Good bye.")
        await world.worker.complete(job_id)
        output, messages = await process.communicate()
    assert job is not None
    assert (job.extra.max_minutes, job.stop_request) == (5, "stop")
    assert (process.returncode, output) == (0, b"Good bye.\n")
    shown = messages.decode()
    assert "now playing News at Nine" in shown
    assert "6.2 seconds are missing" in shown
    assert "On air." not in shown


async def test_ctrl_c_keeps_the_text_of_a_service_inside_the_command(tmp_path: Path) -> None:
    clock = ScaledClock()
    settings = {
        "DATA_DIR": str(tmp_path),
        "ENGINE": "whisper",
        "MODEL": str(MODEL_DIR),
        "EGRESS_ALLOW": "127.0.0.0/8",
        "EGRESS_PORTS": "*",
    }
    async with Radio(Programme(60.0, origin=clock.time() - 1000.0), clock) as radio:
        process = await asyncio.create_subprocess_exec(
            fork_server().program,
            *("transcribe", "--live", radio.url("/icecast")),
            env={**os.environ, **{f"STENOBIRD_{name}": value for name, value in settings.items()}},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert await line(process) != ""
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(180):
                _, messages = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, messages.decode()
    assert "service_unreachable" not in messages.decode()


async def test_ctrl_c_before_the_audio_is_found_does_not_wait_for_the_worker(world: WebWorld) -> None:
    async with command(world, "--live") as process, asyncio.timeout(180):
        job_id = await world.worker.start_next()
        await world.worker.play(job_id, "Soon")
        assert process.stderr is not None
        while "Soon" not in (await process.stderr.readline()).decode():
            assert not process.stderr.at_eof()
        process.send_signal(signal.SIGINT)
        _, messages = await process.communicate()
    assert process.returncode == 1
    assert "transcript_cancelled: The transcript was cancelled." in messages.decode()
    job = await world.store.get(job_id)
    assert job is not None
    assert (job.stop_request, job.terminal) == ("cancel", False)


async def test_ctrl_c_leaves_a_recording_running(world: WebWorld) -> None:
    async with command(world, "--live") as process:
        job_id = await world.worker.start_next()
        await world.worker.find(job_id, a_source())
        await world.worker.say(job_id, "Hello.")
        assert await line(process) == "Hello.\n"
        process.send_signal(signal.SIGINT)
        _, messages = await process.communicate()
    assert process.returncode == 130
    assert f"--resume {job_id}" in messages.decode()
    job = await world.store.get(job_id)
    assert job is not None
    assert job.stop_request is None
