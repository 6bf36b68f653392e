"""The translation host from outside: what ends it, what bounds it, and what its jobs notice of that."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stenobird.config import Settings
from stenobird.errors import TranslationFailed, TranslationUnavailable
from stenobird.inference.child import MEMORY_BYTES, WEIGHT_COPIES
from stenobird.ports import Clock
from stenobird.translation.translator import HostTranslator, open_translator
from tests.support.hub import REPOSITORY, FakeHub, hub_environment, serve_hub
from tests.support.impatient_clock import ImpatientClock
from tests.support.translation_host import FAKE_TRANSLATION_HOST
from tests.support.translation_model import spell, write_translation_model
from tests.support.until import async_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


pytestmark = pytest.mark.anyio

TIMEOUT_SECONDS = 600.0
"""For a request; only a test whose request hangs puts its clock forward so far."""


@asynccontextmanager
async def obedient(clock: ImpatientClock | None = None) -> AsyncIterator[HostTranslator]:
    """A translator whose host does as the texts say."""
    settings = Settings.model_construct(translation_model="fake", translation_timeout_seconds=TIMEOUT_SECONDS)
    async with open_translator(
        settings, clock=clock or ImpatientClock(), host_command=FAKE_TRANSLATION_HOST
    ) as translator:
        yield translator


async def say(translator: HostTranslator, *texts: str, job: str = "job") -> list[str | None]:
    return list(await translator.translate(texts, source="en", target="he", job_id=job))


def time_out(clock: ImpatientClock, translator: HostTranslator, *, ended: bool) -> bool:
    """Let the time of the requests in flight run out, unless what that leads to has happened."""
    if not ended and translator.status()["windows_in_flight"]:
        clock.ahead_seconds += TIMEOUT_SECONDS
    return ended


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


async def test_a_host_killed_in_mid_request_costs_time_only(gate: Path) -> None:
    async with obedient() as translator, asyncio.TaskGroup() as tasks:
        await say(translator, "warm")
        text = f"gate {gate}"
        window = tasks.create_task(say(translator, text))
        behind = tasks.create_task(say(translator, "behind", job="other"))
        await async_until(lambda: translator.status()["windows_in_flight"] == 2)
        killed = translator.status()["host_pid"]
        os.kill(killed, signal.SIGKILL)
        await async_until(
            lambda: (
                translator.status()["windows_in_flight"] >= 1
                and translator.status()["host_pid"] not in {killed, None}
            )
        )
        await asyncio.to_thread(gate.write_bytes, b"open")

        assert await window == [spell(text)]
        assert await behind == [spell("behind")]
        assert translator.status()["restarts"] == 1


async def test_a_request_that_hangs_once_is_translated_by_the_next_host(tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    flag.touch()
    clock = ImpatientClock()
    async with obedient(clock) as translator, asyncio.TaskGroup() as tasks:
        text = f"once {flag} hang"
        said = tasks.create_task(say(translator, text))
        await async_until(lambda: not flag.exists())
        await async_until(lambda: time_out(clock, translator, ended=translator.status()["restarts"] == 1))

        assert await said == [spell(text)]
        assert translator.status()["restarts"] == 1


@pytest.mark.parametrize("fault", ["hang", "crash", "raise"])
async def test_a_request_that_fails_twice_fails_alone(fault: str) -> None:
    clock = ImpatientClock()
    async with obedient(clock) as translator, asyncio.TaskGroup() as tasks:
        bad = tasks.create_task(failure_of(translator, fault))
        good = tasks.create_task(say(translator, "good", job="good"))
        if fault == "hang":
            await async_until(lambda: time_out(clock, translator, ended=bad.done()))

        assert type(await bad) is TranslationFailed
        assert await good == [spell("good")]


async def test_a_cancelled_request_gives_up_its_place(gate: Path) -> None:
    async with obedient() as translator, asyncio.TaskGroup() as tasks:
        await say(translator, "warm")
        running = tasks.create_task(say(translator, f"gate {gate}"))
        await async_until(lambda: translator.status()["windows_in_flight"] == 1)
        running.cancel()
        await asyncio.to_thread(gate.write_bytes, b"open")

        assert await say(translator, "next") == [spell("next")]


async def test_the_host_dies_with_the_translator() -> None:
    async with obedient() as translator:
        await say(translator, "warm")
        pid = translator.status()["host_pid"]

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_model_that_is_not_there_is_refused_with_the_remedy(tmp_path: Path) -> None:
    settings = Settings.model_construct(translation_model=str(tmp_path / "nothing"))
    async with open_translator(settings, clock=Clock()) as translator:
        error = await failure_of(translator, "hello")

        assert type(error) is TranslationUnavailable
        assert "STENOBIRD_TRANSLATION_MODEL" in str(error)
        assert translator.refusal() == str(error)
        assert translator.status()["state"] == "failed"
        assert not await translator.ready()


async def test_a_broken_model_is_refused_with_the_settings_to_check(tmp_path: Path) -> None:
    write_translation_model(tmp_path)
    (tmp_path / "model.bin").write_bytes(b"no model")
    async with open_translator(
        Settings.model_construct(translation_model=str(tmp_path)), clock=Clock()
    ) as translator:
        error = await failure_of(translator, "hello")

        assert type(error) is TranslationUnavailable
        assert "can't be loaded on auto (auto)" in str(error)


async def test_a_broken_tokenizer_is_refused(tmp_path: Path) -> None:
    write_translation_model(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    async with open_translator(
        Settings.model_construct(translation_model=str(tmp_path)), clock=Clock()
    ) as translator:
        assert type(await failure_of(translator, "hello")) is TranslationUnavailable


async def test_a_model_is_downloaded_once_and_its_progress_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_translation_model(tmp_path / "model", "m2m")
    hub = FakeHub(tmp_path / "model")
    settings = Settings.model_construct(translation_model=REPOSITORY)
    with serve_hub(hub) as url:
        for name, value in hub_environment(url).items():
            monkeypatch.setenv(name, value)
        async with open_translator(settings, clock=Clock(), cache_dir=str(tmp_path / "cache")) as translator:
            await async_until(lambda: translator.status()["state"] == "downloading")
            assert 0 < translator.status()["progress"] <= 1
            assert not await translator.ready()
            assert translator.sources("he") is None
            hub.go_on.set()
            assert await say(translator, "hello") == [spell("hello")]
            assert translator.model == REPOSITORY
        downloads = len(hub.served)
        async with open_translator(settings, clock=Clock(), cache_dir=str(tmp_path / "cache")) as translator:
            assert await say(translator, "hello") == [spell("hello")]

    assert len(hub.served) == downloads


async def test_a_name_unknown_to_the_hub_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_translation_model(tmp_path / "model")
    settings = Settings.model_construct(translation_model="someone/else")
    with serve_hub(FakeHub(tmp_path / "model")) as url:
        for name, value in hub_environment(url).items():
            monkeypatch.setenv(name, value)
        async with open_translator(settings, clock=Clock(), cache_dir=str(tmp_path / "cache")) as translator:
            error = await failure_of(translator, "hello")

    assert "check the name in STENOBIRD_TRANSLATION_MODEL" in str(error)


async def test_the_host_is_isolated_and_bounded(tmp_path: Path) -> None:
    write_translation_model(tmp_path)
    settings = Settings.model_construct(translation_model=str(tmp_path), translation_device="cpu")
    async with open_translator(settings, clock=Clock()) as translator:
        await say(translator, "hello")
        process = Path(f"/proc/{translator.status()['host_pid']}")
        arguments = (process / "cmdline").read_bytes().split(b"\0")
        limits = (process / "limits").read_text()
        status = (process / "status").read_text()

    bound = MEMORY_BYTES + WEIGHT_COPIES * (tmp_path / "model.bin").stat().st_size
    assert b"-I" in arguments
    assert "NoNewPrivs:\t1" in status
    assert f"{bound}" in next(line for line in limits.splitlines() if line.startswith("Max data size"))
    assert next(line for line in limits.splitlines() if line.startswith("Max core")).split()[4] == "0"


def test_memory_beyond_the_bound_is_not_given() -> None:
    code = (
        "from stenobird.inference.child import limit_memory, MEMORY_BYTES\n"
        "limit_memory(0)\n"
        "try:\n    bytearray(MEMORY_BYTES)\n"
        "except MemoryError:\n    print('refused')\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "refused\n"


async def failure_of(translator: HostTranslator, text: str) -> BaseException:
    try:
        said: object = await say(translator, text, job="bad")
    except (TranslationFailed, TranslationUnavailable) as exc:
        return exc
    raise AssertionError(f"it did not fail: {said}")
