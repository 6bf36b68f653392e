from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytest

from stenobird.config import Settings
from stenobird.errors import EngineUnavailable, TranscriptionFailed
from stenobird.inference.lanes import URGENT_IN_A_ROW
from stenobird.inference.pool import KILLS_BEFORE_SUSPECT
from stenobird.speech.pool import SpeechPool
from stenobird.speech.protocol import WindowRequest
from tests.support.impatient_clock import ImpatientClock
from tests.support.speech_host import FAKE_HOST_COMMAND, tone
from tests.support.until import async_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

pytestmark = pytest.mark.anyio

TIMEOUT_SECONDS = 600.0
"""For a window; only a test whose window hangs puts its clock forward so far."""


@asynccontextmanager
async def open_pool(
    *,
    replicas: int = 1,
    clock: ImpatientClock | None = None,
    device: Literal["cpu", "cuda"] = "cpu",
    command: Sequence[str] = FAKE_HOST_COMMAND,
    **changes: Any,
) -> AsyncIterator[SpeechPool]:
    settings = Settings.model_construct(
        replicas=replicas, window_timeout_seconds=TIMEOUT_SECONDS, device=device, **changes
    )
    pool = SpeechPool(settings, clock=clock or ImpatientClock(), host_command=command)
    async with asyncio.TaskGroup() as tasks:
        keeper = tasks.create_task(pool.run())
        try:
            yield pool
        finally:
            keeper.cancel()


async def say(pool: SpeechPool, prompt: str | None = None, *, job: str = "job", urgent: bool = False) -> int:
    """Decode a window; return how many were decoded before it by the same host."""
    request = WindowRequest(np.zeros(1600, np.int16), 0, ((0, 1600),), "en", prompt=prompt)
    decoded = await pool.decode(job, request, urgent=urgent)
    return int(decoded.segments[0].text)


def has_reader(pipe: Path) -> int | None:
    """Return a descriptor that writes to a named pipe, once it is being read."""
    try:
        return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return None


def in_flight(pool: SpeechPool) -> int:
    return int(pool.status()["windows_in_flight"])


def time_out(clock: ImpatientClock, pool: SpeechPool, *, ended: bool) -> bool:
    """Let the time of the windows in flight run out, unless what that leads to has happened."""
    if not ended and in_flight(pool):
        clock.ahead_seconds += TIMEOUT_SECONDS
    return ended


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


async def test_windows_and_speech_are_answered() -> None:
    async with open_pool() as pool:
        probabilities, state = await pool.find_speech("job", tone(0.128), b"")

        assert await say(pool) == 0
        assert await say(pool) == 1
        assert probabilities.tolist() == [1.0, 1.0, 1.0, 1.0]
        assert len(state) == 1284
        assert pool.status()["state"] == "ready"


async def test_urgent_windows_go_ahead_and_jobs_take_turns(gate: Path) -> None:
    async with open_pool() as pool, asyncio.TaskGroup() as tasks:
        await pool.loaded()
        first = tasks.create_task(say(pool, f"gate {gate}", job="a"))
        second = tasks.create_task(say(pool, job="a"))
        await async_until(lambda: in_flight(pool) == 2)  # one window decodes, one is ready in the host
        a = [tasks.create_task(say(pool, job="a")) for _ in range(3)]
        b = [tasks.create_task(say(pool, job="b")) for _ in range(2)]
        preview = tasks.create_task(say(pool, job="p", urgent=True))
        await async_until(lambda: pool.status()["windows_waiting"] == 5)
        await asyncio.to_thread(gate.write_bytes, b"open")

        assert await first == 0
        assert await preview == 1
        assert await second == 2
        assert [await task for task in a] == [3, 5, 7]
        assert [await task for task in b] == [4, 6]


async def test_speech_of_long_jobs_is_searched_only_now_and_then_beside_urgent_requests(gate: Path) -> None:
    async with open_pool() as pool, asyncio.TaskGroup() as tasks:
        await pool.loaded()
        preview = tasks.create_task(say(pool, f"gate {gate}", job="p", urgent=True))
        await async_until(lambda: in_flight(pool) == 1)
        long = tasks.create_task(pool.find_speech("long", tone(0.1), b""))
        for _ in range(URGENT_IN_A_ROW):
            assert not long.done()
            await pool.find_speech("q", tone(0.1), b"", urgent=True)
        await long
        assert not preview.done()
        await asyncio.to_thread(gate.write_bytes, b"open")


async def test_a_window_that_is_ready_in_the_host_does_not_wait_for_ever(gate: Path) -> None:
    async with open_pool() as pool, asyncio.TaskGroup() as tasks:
        await pool.loaded()
        first = tasks.create_task(say(pool, f"gate {gate}", job="a"))
        ready = tasks.create_task(say(pool, job="a"))
        await async_until(lambda: in_flight(pool) == 2)
        previews = [tasks.create_task(say(pool, job=f"p{n}", urgent=True)) for n in range(9)]
        await async_until(lambda: pool.status()["windows_waiting"] == 7)
        await asyncio.to_thread(gate.write_bytes, b"open")
        assert await first == 0
        assert 3 <= await ready <= URGENT_IN_A_ROW + 1
        assert max([await task for task in previews]) == 10


async def test_during_a_preview_other_jobs_leave_room_in_the_host(gate: Path) -> None:
    async with open_pool(replicas=2) as pool, asyncio.TaskGroup() as tasks:
        await pool.loaded()
        with pool.urgent_job():
            long = [tasks.create_task(say(pool, f"gate {gate}"))]
            long += [tasks.create_task(say(pool, job=job)) for job in "ab"]
            await async_until(lambda: pool.status()["windows_waiting"] == 2)
            assert in_flight(pool) == 1
            assert await say(pool, job="p", urgent=True) == 1
        # Afterwards they get all of it.
        assert [await task for task in long[1:]] == [2, 3]
        await asyncio.to_thread(gate.write_bytes, b"open")


async def test_an_urgent_window_does_not_wait_for_a_batch_which_has_the_time_of_its_windows(
    gate: Path, tmp_path: Path
) -> None:
    clock, second_gate = ImpatientClock(), tmp_path / "second"
    os.mkfifo(second_gate)
    async with open_pool(clock=clock, model="batches") as pool, asyncio.TaskGroup() as tasks:
        await pool.loaded()
        first = tasks.create_task(say(pool, f"gate {gate}"))
        await async_until(lambda: in_flight(pool) == 1)
        batch = [tasks.create_task(say(pool, f"gate {second_gate}")), tasks.create_task(say(pool))]
        await async_until(lambda: in_flight(pool) == 3)
        assert await say(pool, urgent=True) == 1
        await asyncio.to_thread(gate.write_bytes, b"open")
        await first
        opened = await async_until(lambda: has_reader(second_gate))

        # The answer comes after the news that the batch has begun.
        assert await say(pool, urgent=True) == 3
        clock.ahead_seconds += 1.5 * TIMEOUT_SECONDS
        watched = clock.sleeps + 2
        await async_until(lambda: clock.sleeps >= watched)
        os.close(opened)

        assert [await window for window in batch] == [2, 4]
        assert pool.status()["restarts"] == 0


async def test_as_many_urgent_windows_go_ahead_of_a_batch_as_of_its_windows_one_by_one(gate: Path) -> None:
    async with open_pool(model="batches") as pool, asyncio.TaskGroup() as tasks:
        await pool.loaded()
        long = [tasks.create_task(say(pool, f"gate {gate}"))]
        await async_until(lambda: in_flight(pool) == 1)
        long += [tasks.create_task(say(pool)) for _ in range(3)]
        await async_until(lambda: in_flight(pool) == 4)
        urgent = [await say(pool, job="p", urgent=True) for _ in range(2 * URGENT_IN_A_ROW)]
        await asyncio.to_thread(gate.write_bytes, b"open")

        assert urgent == list(range(1, 2 * URGENT_IN_A_ROW + 1))
        assert len([await window for window in long]) == 4


async def test_a_cancelled_window_gives_up_its_place(gate: Path) -> None:
    async with open_pool() as pool, asyncio.TaskGroup() as tasks:
        await pool.loaded()
        running = tasks.create_task(say(pool, f"gate {gate}"))
        ready = tasks.create_task(say(pool))
        await async_until(lambda: in_flight(pool) == 2)
        waiting = tasks.create_task(say(pool))
        behind = tasks.create_task(say(pool))
        await async_until(lambda: pool.status()["windows_waiting"] == 2)
        waiting.cancel()
        running.cancel()
        await asyncio.to_thread(gate.write_bytes, b"open")

        assert await ready == 1
        assert await behind == 2
        assert pool.status()["windows_waiting"] == 0


async def test_a_killed_host_loses_nothing(gate: Path) -> None:
    async with open_pool() as pool, asyncio.TaskGroup() as tasks:
        await pool.loaded()
        windows = [
            tasks.create_task(say(pool, f"gate {gate}")),
            *(tasks.create_task(say(pool)) for _ in "abc"),
        ]
        await async_until(lambda: in_flight(pool) == 2)
        killed = pool.status()["host_pid"]
        os.kill(killed, signal.SIGKILL)
        await async_until(lambda: in_flight(pool) == 2 and pool.status()["host_pid"] != killed)
        await asyncio.to_thread(gate.write_bytes, b"open")

        assert [await window for window in windows] == [0, 1, 2, 3]
        assert pool.status()["restarts"] == 1
        assert pool.status()["state"] == "ready"


async def test_a_host_killed_again_and_again_by_others_loses_nothing(gate: Path) -> None:
    async with open_pool() as pool, asyncio.TaskGroup() as tasks:
        window = tasks.create_task(say(pool, f"gate {gate}"))
        killed: set[int | None] = {None}
        for _ in range(KILLS_BEFORE_SUSPECT + 1):
            await async_until(lambda: in_flight(pool) == 1 and pool.status()["host_pid"] not in killed)
            killed.add(pool.status()["host_pid"])
            os.kill(pool.status()["host_pid"], signal.SIGKILL)
        await async_until(lambda: in_flight(pool) == 1 and pool.status()["host_pid"] not in killed)
        await asyncio.to_thread(gate.write_bytes, b"open")

        assert await window == 0


async def test_a_window_that_hangs_once_is_decoded_by_the_next_host(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    clock = ImpatientClock()
    async with open_pool(clock=clock) as pool, asyncio.TaskGroup() as tasks:
        await pool.loaded()
        hung = tasks.create_task(say(pool, f"once {flag} hang"))
        other = tasks.create_task(say(pool))
        await async_until(lambda: not flag.exists())
        await async_until(lambda: time_out(clock, pool, ended=pool.status()["restarts"] == 1))

        assert {await hung, await other} == {0, 1}
        assert pool.status()["restarts"] == 1


@pytest.mark.parametrize("fault", ["hang", "crash"])
async def test_a_window_that_ends_two_hosts_fails_alone(fault: str) -> None:
    clock = ImpatientClock()
    async with open_pool(replicas=2, clock=clock) as pool, asyncio.TaskGroup() as tasks:
        await pool.loaded()
        bad = tasks.create_task(failure_of(say(pool, fault, job="bad")))
        good = [tasks.create_task(say(pool, job="good")) for _ in range(6)]
        for window in good:
            await window
        if fault == "hang":
            await async_until(lambda: time_out(clock, pool, ended=bad.done()))

        assert isinstance(await bad, TranscriptionFailed)
        assert await say(pool) >= 0


async def test_a_window_that_raises_twice_fails_and_the_host_lives(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    async with open_pool() as pool:
        assert await say(pool, f"once {flag} raise") == 1
        assert isinstance(await failure_of(say(pool, "raise")), TranscriptionFailed)
        assert pool.status()["restarts"] == 0


async def test_audio_whose_speech_cannot_be_found_fails_and_the_host_lives() -> None:
    async with open_pool() as pool:
        broken = pool.find_speech("bad", np.zeros(3, np.uint8).view(np.int8), b"")
        assert isinstance(await failure_of(broken), TranscriptionFailed)
        assert len((await pool.find_speech("good", tone(0.1), b""))[0]) > 0
        assert pool.status()["restarts"] == 0


async def test_audio_in_which_the_search_for_speech_ends_two_hosts_fails_alone() -> None:
    async with open_pool() as pool, asyncio.TaskGroup() as tasks:
        bad = tasks.create_task(failure_of(pool.find_speech("bad", tone(0.1), b"crash")))
        good = [tasks.create_task(pool.find_speech("good", tone(0.1), b"")) for _ in range(3)]

        assert isinstance(await bad, TranscriptionFailed)
        assert [len((await found)[0]) for found in good] == [4, 4, 4]


async def test_on_a_gpu_whose_errors_last_a_window_that_fails_is_tried_on_a_new_host(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    async with open_pool(device="cuda", replicas=2) as pool:
        windows = [say(pool, f"once {flag} raise", job="bad"), *(say(pool, job="good") for _ in range(4))]

        assert len(await asyncio.gather(*windows)) == 5
        assert pool.status()["restarts"] == 1
        assert isinstance(await failure_of(say(pool, "raise")), TranscriptionFailed)
        assert await say(pool) == 0


async def test_a_host_that_ends_while_it_starts_is_an_engine_that_is_unavailable() -> None:
    async with open_pool(command=(sys.executable, "-c", "raise SystemExit(3)")) as pool:
        window = failure_of(say(pool))

        assert isinstance(await window, EngineUnavailable)
        assert pool.status()["state"] == "failed"
        assert "status 3" in pool.status()["message"]
        assert isinstance(await failure_of(say(pool)), EngineUnavailable)


async def test_a_host_that_cannot_be_started_is_an_engine_that_is_unavailable() -> None:
    async with open_pool(command=("/nonexistent/python",)) as pool:
        assert isinstance(await failure_of(pool.loaded()), EngineUnavailable)


async def test_the_host_dies_with_the_pool() -> None:
    async with open_pool() as pool:
        await pool.loaded()
        pid = pool.status()["host_pid"]

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


OWNER = """
import asyncio, structlog, sys
from stenobird.config import Settings
from stenobird.ports import Clock
from stenobird.speech.recognizer import open_recognizer
from tests.support.speech_host import FAKE_HOST_COMMAND

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))

async def main():
    opening = open_recognizer(Settings.model_construct(), clock=Clock(), host_command=FAKE_HOST_COMMAND)
    async with opening as recognizer:
        await recognizer.loaded()
        print(recognizer.status()["host_pid"], flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_host_dies_with_a_service_that_is_killed() -> None:
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", OWNER, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.DEVNULL
    )
    assert owner.stdout is not None
    pid = int(await owner.stdout.readline())
    os.kill(pid, 0)
    owner.kill()
    await owner.wait()

    await async_until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped yet does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def failure_of(call: object) -> BaseException:
    try:
        await call  # type: ignore[misc]
    except (TranscriptionFailed, EngineUnavailable) as exc:
        return exc
    raise AssertionError("it did not fail")
