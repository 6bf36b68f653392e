"""The skill's script against the live server: with and without a key, cut off, refused, resumed."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from stenobird.errors import AudioSourceNotFound
from stenobird.web.site.skill_files import skills_folder
from tests.support.free_port import free_port
from tests.support.web_world import web_settings, web_world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.web_world import WebWorld

pytestmark = pytest.mark.anyio

SKILL = skills_folder() / "stenobird-transcribe"
SCRIPT = str(SKILL / "scripts" / "transcribe.sh")
URL = "https://example.com/episode?a=1&b=2"


async def _during(world: WebWorld, running: Any, *texts: str) -> tuple[Any, str]:
    """Run the script, play the worker for it, and return how it ended and the job's id."""
    async with asyncio.TaskGroup() as tasks:
        work = tasks.create_task(world.worker.carry_out(*texts))
        ran = await running
        assert work.done(), ran.err
    return ran, work.result()


async def test_without_a_key_it_is_a_preview_that_says_so(world: WebWorld, shell: Any, home: Path) -> None:
    shell.environment["STENOBIRD_API_URL"] = world.url
    ran, job_id = await _during(world, shell(SCRIPT, URL), "Hello", " there.")
    assert (ran.status, ran.out) == (0, "Hello there.\n")
    assert "Preview ended" in ran.err
    assert f"{world.url}/pricing" in ran.err
    assert (home / f"stenobird-{job_id}.txt").read_text() == "Hello there.\n"
    job = await world.store.get(job_id)
    assert job is not None
    assert (job.mode, job.audio_url) == ("preview", URL)


async def test_words_are_printed_as_they_are_said(world: WebWorld, shell: Any, api_key: str) -> None:
    shell.environment |= {"STENOBIRD_API_URL": world.url, "STENOBIRD_API_KEY": api_key}
    process = await shell.start(SCRIPT, "-q", URL)
    job_id = await world.worker.start_next()
    for text in ("Hello", " there", "."):
        await world.worker.say(job_id, text)
        assert await process.stdout.readexactly(len(text)) == text.encode()
    await world.worker.complete(job_id)
    assert await process.communicate() == (b"\n", b"")


async def test_with_a_key_it_is_whole_in_the_format_asked_for(
    world: WebWorld, shell: Any, home: Path, api_key: str
) -> None:
    shell.environment |= {"STENOBIRD_API_URL": f"{world.url}/", "STENOBIRD_API_KEY": api_key}
    options = (
        "-f",
        "srt",
        "-o",
        "out.srt",
        "-l",
        "en",
        "-p",
        'A "B" \\ C',
        "--words",
        "--translate",
        "--speakers",
    )
    ran, job_id = await _during(world, shell(SCRIPT, *options, URL), "Hello.")
    assert (ran.status, ran.out) == (0, "Hello.\n")
    assert (home / "out.srt").read_text().startswith("1\n00:00:00,000 --> 00:00:01,000\nSpeaker 1: Hello.\n")
    assert shell.tree() == ["out.srt"]
    job = await world.store.get(job_id)
    assert job is not None
    assert job.mode == "full"
    assert (job.options.language, job.options.prompt) == ("en", 'A "B" \\ C')
    assert (job.options.word_timestamps, job.options.speakers, job.options.task) == (True, True, "translate")


async def test_words_arrive_exactly_once_though_the_connection_is_cut_three_times(
    world: WebWorld, shell: Any, api_key: str, cutting: Any, home: Path
) -> None:
    texts = [f" word{number}" for number in range(30)]
    async with cutting(world, b"/events", [900, 1500, 1200]).running() as proxy:
        shell.environment |= {"STENOBIRD_API_URL": proxy.url, "STENOBIRD_API_KEY": api_key}
        ran, job_id = await _during(world, shell(SCRIPT, "-q", URL), *texts)
    assert proxy.made == 3
    assert (ran.status, ran.out, ran.err) == (0, "".join(texts) + "\n", "")
    assert (home / f"stenobird-{job_id}.txt").read_text().split() == [text.strip() for text in texts]


async def test_restart_of_the_service_is_a_pause(tmp_path: Path, shell: Any) -> None:
    port = free_port()
    async with web_world(tmp_path, web_settings(port=port)) as world:
        worker = world.worker
        shell.environment["STENOBIRD_API_URL"] = world.url
        process = await shell.start(SCRIPT, "-q", "-o", "it", URL)
        job_id = await world.worker.start_next()
        await worker.say(job_id, "Hello")
        assert await process.stdout.readexactly(5) == b"Hello"
        world.server.should_exit = True
        await world.services.shutting_down.wait()
    # Nobody listens meanwhile.
    async with web_world(tmp_path, web_settings(port=port)) as second:
        worker.store, worker.wakeups = second.store, second.worker.wakeups
        await worker.say(job_id, " again.")
        await worker.complete(job_id)
        assert await process.communicate() == (b" again.\n", b"")
    assert (shell.home / "it").read_text() == "Hello again.\n"


async def test_creating_and_fetching_survive_a_cut_and_make_one_transcript(
    world: WebWorld, shell: Any, api_key: str, cutting: Any
) -> None:
    async with cutting(world, b"/v1/transcripts HTTP", [20]).running() as proxy:
        shell.environment |= {"STENOBIRD_API_URL": proxy.url, "STENOBIRD_API_KEY": api_key}
        ran, _ = await _during(world, shell(SCRIPT, "-q", URL), "Hello.")
    assert proxy.made == 1
    assert (ran.status, ran.out) == (0, "Hello.\n")
    assert sum((await world.store.counts()).values()) == 1

    async with cutting(world, b"/result", [400, 300]).running() as proxy:
        shell.environment["STENOBIRD_API_URL"] = proxy.url
        ran, _ = await _during(world, shell(SCRIPT, "-q", "-o", "it", URL), "Hello again.")
    assert proxy.made == 2
    assert (shell.home / "it").read_text() == "Hello again.\n"


async def test_every_character_gets_through(world: WebWorld, shell: Any) -> None:
    text = 'A "quote", a back\\slash, a\ttab, a\nline, ünïcödé, 漢字, 🎙, %s $HOME `id` \x1b[31m'
    shell.environment["STENOBIRD_API_URL"] = world.url
    ran, _ = await _during(world, shell(SCRIPT, "-q", URL), text, " end")
    # What would control the terminal is left out.
    assert ran.out == text.replace("\x1b", "") + " end\n"


async def test_transcript_that_fails_says_why(world: WebWorld, shell: Any) -> None:
    async def fail() -> None:
        await world.worker.fail(await world.worker.start_next(), AudioSourceNotFound())

    shell.environment["STENOBIRD_API_URL"] = world.url
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(fail())
        ran = await shell(SCRIPT, URL)
    assert (ran.status, ran.out) == (1, "")
    assert "No audio was found behind this URL" in ran.err
    assert "(audio_source_not_found)" in ran.err
    assert shell.tree() == []


async def test_full_queue_is_waited_for(tmp_path: Path, shell: Any, cutting: Any) -> None:
    async with (
        web_world(tmp_path, web_settings(max_queued=1)) as world,
        cutting(world, b"", []).running() as proxy,
        httpx.AsyncClient(base_url=world.url, trust_env=False) as http,
    ):
        assert (await http.post("/v1/transcripts", json={"audio_url": URL})).status_code == 202
        shell.environment["STENOBIRD_API_URL"] = proxy.url
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(shell(SCRIPT, URL))
            await proxy.busy.wait()
            for text in ("somebody else's", "mine"):
                await world.worker.carry_out(text)
        ran = running.result()
    assert (ran.status, ran.out) == (0, "mine\n")
    assert "(queue_busy)" in ran.err


async def test_resume_reads_from_the_start(world: WebWorld, shell: Any) -> None:
    shell.environment["STENOBIRD_API_URL"] = world.url
    ran, job_id = await _during(world, shell(SCRIPT, "-q", URL), "Hello.")
    again = await shell(SCRIPT, "-q", "--resume", job_id)
    assert (again.status, again.out) == (0, ran.out)


async def test_live_audio_is_stopped_and_its_text_saved(world: WebWorld, shell: Any, api_key: str) -> None:
    shell.environment |= {"STENOBIRD_API_URL": world.url, "STENOBIRD_API_KEY": api_key}
    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(shell(SCRIPT, "--minutes", "5", URL))
        job_id = await world.worker.start_next()
        await world.worker.go_live(job_id)
        await world.worker.go_live(job_id)  # the source comes again with its time
        await world.worker.say(job_id, "On air.")
        stopping = tasks.create_task(shell(SCRIPT, "-o", "again.txt", "--stop", job_id))
        async with world.worker.wakeups.watch(job_id) as watch:
            while (job := await world.store.get(job_id)) is not None and job.stop_request is None:
                await watch.wait(5.0)
        await world.worker.complete(job_id)
    assert job is not None
    assert job.extra.max_minutes == 5
    followed, stopped = following.result(), stopping.result()
    assert (followed.status, followed.out, stopped.status, stopped.out) == (0, "On air.\n") * 2
    assert (
        followed.err.count(
            f"The audio is live. To end the transcript early and keep its text, use --stop {job_id}\n"
        )
        == 1
    )
    assert "Saved again.txt" in stopped.err
    again = await shell(SCRIPT, "-q", "--stop", job_id)
    assert (again.status, again.out) == (0, "On air.\n")


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        ((), {}, (2, "Usage")),
        (("--minutes", "0", URL), {}, (2, "whole number")),
        (("--stop", "tr_unknown"), {}, (4, "(transcript_not_found)")),
        (("--nope",), {}, (2, "no option")),
        (("-f", "pdf", URL), {}, (2, "no format")),
        (("--resume", "../x"), {}, (2, "no id")),
        (("http://127.0.0.1/",), {}, (4, "(invalid_url)")),
        ((URL,), {"STENOBIRD_API_KEY": "sb_live_wrong"}, (4, "(invalid_api_key)")),
        ((URL,), {"STENOBIRD_API_KEY": 'a"b'}, (4, "characters that no key has")),
        (("--resume", "tr_unknown"), {}, (4, "(transcript_not_found)")),
        (
            (URL,),
            {"STENOBIRD_API_URL": "http://127.0.0.1:9", "STENOBIRD_ATTEMPTS": "1"},
            (3, "can't be reached"),
        ),
    ],
)
async def test_refusal_has_its_exit_status_and_message(
    world: WebWorld, shell: Any, arguments: Any, environment: Any, expected: Any
) -> None:
    status, message = expected
    shell.environment |= {"STENOBIRD_API_URL": world.url, **environment}
    ran = await shell(SCRIPT, *arguments)
    assert (ran.status, ran.out) == (status, "")
    assert message in ran.err


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_scripts_are_clean_to_shellcheck() -> None:
    checked = subprocess.run(
        ["shellcheck", SCRIPT, str(SKILL / "install.sh")], capture_output=True, text=True, check=False
    )
    assert checked.stdout == ""
