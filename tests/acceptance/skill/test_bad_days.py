"""The skill's script on bad days: odd answers, a reader that leaves, signals, and files it can't write."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from stenobird.web.site.skill_files import skills_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.web_world import WebWorld

pytestmark = pytest.mark.anyio

SCRIPT = str(skills_folder() / "stenobird-transcribe" / "scripts" / "transcribe.sh")
URL = "https://example.com/episode"

CREATED = b'HTTP/1.1 202 Accepted\r\nContent-Length: 18\r\n\r\n{"id": "tr_one"}\r\n'
DONE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    b'id: 1\nevent: transcript\ndata: {"text":"Hello."}\n\n'
    b'id: 2\nevent: done\ndata: {"status":"completed"}\n\n'
)
RESULT = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nHello.\n"


@dataclass
class Scripted:
    """Answers each request with the next bytes, as they are, and hangs up; the last ones come again."""

    answers: list[bytes]
    requests: list[str] = field(default_factory=list)
    url: str = ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scripted]:
        """Listen while the context lasts."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if "content-length: " in head:
            await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
        self.requests.append(head)
        writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
        await writer.drain()
        writer.close()
        await writer.wait_closed()


def _quick_sleep(tmp_path: Path, shell: Any) -> Path:
    """Let the script's sleeps take no time; return the file that notes how long they would have been."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "sleep").write_text(f"#!/bin/sh\necho $1 >>'{folder}/slept'\n")
    (folder / "sleep").chmod(0o755)
    shell.environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    return folder / "slept"


def _http(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode() + body


BUSY = _http("429 Too Many Requests", b"<html>slow down</html>", "Retry-After: 7")


@pytest.mark.parametrize(
    ("answers", "slept"),
    [
        pytest.param([BUSY, CREATED, DONE, RESULT], ["7"], id="busy at create, by a proxy's header alone"),
        pytest.param([CREATED, BUSY, DONE, RESULT], ["7"], id="busy at the events"),
        pytest.param([CREATED, DONE, BUSY, RESULT], ["7"], id="busy at the result"),
        pytest.param(
            [_http("429 X", b'{"error":"queue_busy","retry_after_seconds":0.5}'), CREATED, DONE, RESULT],
            ["1"],
            id="less than a second",
        ),
        pytest.param(
            [_http("503 X", b'{"retry_after_seconds":99999999999999999999}'), CREATED, DONE, RESULT],
            ["120"],
            id="longer than anybody waits",
        ),
        pytest.param(
            [_http("429 X", b"", "Retry-After: Wed, 21 Oct 2026 07:28:00 GMT"), CREATED, DONE, RESULT],
            ["1"],
            id="a date",
        ),
        # Had the answer been believed, the transcript would be called "tr_o".
        pytest.param([CREATED[:-8], CREATED, DONE, RESULT], ["1"], id="an answer cut in its id"),
        pytest.param([CREATED, DONE[:100], DONE, RESULT], ["1"], id="an event cut in the middle"),
        pytest.param([CREATED, DONE[:140], DONE, RESULT], ["1"], id="events that come again"),
        pytest.param([CREATED, DONE, RESULT[:-3], RESULT], ["1"], id="a result cut in the middle"),
        pytest.param([CREATED, _http("502 X", b"<html>"), DONE, RESULT], ["1"], id="a bad gateway"),
    ],
)
async def test_retry_after_of_a_failing_service_is_respected(
    shell: Any, tmp_path: Path, answers: list[bytes], slept: list[str]
) -> None:
    notes = _quick_sleep(tmp_path, shell)
    async with Scripted(answers).running() as service:
        shell.environment["STENOBIRD_API_URL"] = service.url
        ran = await shell(SCRIPT, "-o", "it", URL)
    assert (ran.status, ran.out) == (0, "Hello.\n"), ran
    assert notes.read_text().split() == slept
    assert (shell.home / "it").read_text() == "Hello.\n"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (_http("402 X", b'{"error":"billing_failed","message":"Pay."}'), (4, "Pay. (billing_failed)")),
        (_http("401 X", b'{"message":"No.","error":"invalid_api_key"}'), (4, "No. (invalid_api_key)")),
        (_http("404 X", b"<html>nothing</html>"), (4, "answered with HTTP status 404")),
        (
            _http("308 X", b"", "Location: https://x.example/"),
            (4, "https://x.example/; set STENOBIRD_API_URL"),
        ),
        (_http("200 OK", b"<html>sign in to this network</html>"), (3, "does not look like a Stenobird")),
    ],
)
async def test_a_refusal_is_printed_in_words(shell: Any, answer: bytes, expected: tuple[int, str]) -> None:
    async with Scripted([answer]).running() as service:
        shell.environment["STENOBIRD_API_URL"] = service.url
        ran = await shell(SCRIPT, URL)
    assert (ran.status, len(service.requests)) == (expected[0], 1)
    assert expected[1] in ran.err
    assert shell.tree() == []


async def test_service_that_is_not_there_is_given_up_soon_and_not_in_silence(
    shell: Any, tmp_path: Path
) -> None:
    notes = _quick_sleep(tmp_path, shell)
    shell.environment["STENOBIRD_API_URL"] = "http://127.0.0.1:9"
    ran = await shell(SCRIPT, URL)
    assert ran.status == 3
    assert ran.err.count("Trying again: ") == 5
    assert sum(map(int, notes.read_text().split())) == 15


async def test_reader_that_leaves_still_gets_the_file(world: WebWorld, shell: Any) -> None:
    shell.environment["STENOBIRD_API_URL"] = world.url
    running = asyncio.create_task(shell("-c", 'sh "$0" -o it "$1" | head -c 5', SCRIPT, URL))
    await world.worker.carry_out(*[f" word{number}" for number in range(30)])
    ran = await running
    assert ran.out == " word"
    assert "rror" not in ran.err
    assert (shell.home / "it").read_text().split()[-1] == "word29"


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_signal_to_the_script_alone_ends_all_of_it_at_once(
    world: WebWorld, shell: Any, tmp_path: Path, stop: signal.Signals
) -> None:
    (tmp_path / "tmp").mkdir()
    shell.environment |= {"STENOBIRD_API_URL": world.url, "TMPDIR": str(tmp_path / "tmp")}
    process = await shell.start(SCRIPT, URL)
    job_id = await world.worker.start_next()
    await world.worker.say(job_id, "Hello")
    assert await process.stdout.readexactly(5) == b"Hello"
    process.send_signal(stop)
    # Both ends are closed only when curl and the reader of its events are gone, too.
    out, err = await process.communicate()
    assert (process.returncode, out) == (130, b"")
    assert f"--resume {job_id}" in err.decode()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert shell.tree() == []


async def test_audio_without_speech_says_so(world: WebWorld, shell: Any) -> None:
    shell.environment["STENOBIRD_API_URL"] = world.url
    running = asyncio.create_task(shell(SCRIPT, "-o", "it", URL))
    await world.worker.complete(await world.worker.start_next())
    ran = await running
    assert (ran.status, ran.out) == (0, "")
    assert "Nobody speaks in it." in ran.err
    assert (shell.home / "it").read_text().strip() == ""


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("missing/it", "there is no folder missing/"),
        (".", "is a folder"),
        ("new/", "is a folder"),
    ],
)
async def test_file_that_could_not_be_saved_is_refused_before_anything_is_paid_for(
    shell: Any, output: str, message: str
) -> None:
    async with Scripted([CREATED]).running() as service:
        shell.environment["STENOBIRD_API_URL"] = service.url
        ran = await shell(SCRIPT, "-o", output, URL)
    assert (ran.status, service.requests) == (2, [])
    assert message in ran.err


async def test_file_that_can_no_longer_be_written_is_whole_or_not_there(shell: Any, tmp_path: Path) -> None:
    _quick_sleep(tmp_path, shell)
    (tmp_path / "tools" / "mv").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "tools" / "mv").chmod(0o755)
    (shell.home / "it").write_text("old")
    async with Scripted([CREATED, DONE, RESULT]).running() as service:
        shell.environment["STENOBIRD_API_URL"] = service.url
        ran = await shell(SCRIPT, "-o", "it", URL)
    assert ran.status == 2
    assert "it can't be written. Name another file with -o and --resume tr_one" in ran.err
    assert shell.tree() == ["it"]
    assert (shell.home / "it").read_text() == "old"


async def test_saved_file_has_the_mode_of_any_other_and_odd_names_work(shell: Any) -> None:
    old = os.umask(0o022)
    try:
        async with Scripted([CREATED, DONE, RESULT]).running() as service:
            shell.environment["STENOBIRD_API_URL"] = service.url
            ran = await shell(SCRIPT, "-o", "-a file", URL)
    finally:
        os.umask(old)
    assert ran.status == 0
    assert stat.S_IMODE((shell.home / "-a file").stat().st_mode) == 0o644


async def test_link_stays_a_link_and_a_pipe_a_pipe(shell: Any) -> None:
    (shell.home / "real").write_text("old")
    (shell.home / "link").symlink_to("real")
    async with Scripted([CREATED, DONE, RESULT]).running() as service:
        shell.environment["STENOBIRD_API_URL"] = service.url
        assert (await shell(SCRIPT, "-o", "link", URL)).status == 0
    assert (shell.home / "link").is_symlink()
    assert (shell.home / "real").read_text() == "Hello.\n"
    async with Scripted([CREATED, DONE, RESULT]).running() as service:
        shell.environment["STENOBIRD_API_URL"] = service.url
        ran = await shell("-c", 'mkfifo p; cat p & sh "$0" -o p "$1" >/dev/null; wait', SCRIPT, URL)
    assert ran.out == "Hello.\n"
    assert (shell.home / "p").is_fifo()


async def test_transcript_on_standard_output_comes_alone(shell: Any) -> None:
    srt = b"1\n00:00:00,000 --> 00:00:01,000\nHello.\n"
    async with Scripted([CREATED, DONE, _http("200 OK", srt)]).running() as service:
        shell.environment["STENOBIRD_API_URL"] = service.url
        ran = await shell(SCRIPT, "-f", "srt", "-o", "-", URL)
    assert (ran.status, ran.out.encode()) == (0, srt)
    assert shell.tree() == []


async def test_without_a_home_it_works_all_the_same(shell: Any) -> None:
    async with Scripted([CREATED, DONE, RESULT]).running() as service:
        shell.environment["STENOBIRD_API_URL"] = service.url
        ran = await shell("-c", 'unset HOME; exec sh "$0" "$1"', SCRIPT, URL)
    assert (ran.status, ran.out) == (0, "Hello.\n")
