"""The output of commands: tables, keys, files and messages."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from stenobird.cli import main
from stenobird.cli.doctor import _port_free, setting_findings
from stenobird.cli.local import local_client
from stenobird.cli.output import LiveTranscript, print_table, writable_file
from stenobird.cli.resolve import _show
from stenobird.cli.transcribe import _Run, _save, _write_whole
from stenobird.client import TranscriptOptions
from stenobird.client.model import parse_event
from stenobird.errors import InvalidRequest
from stenobird.serving import SERVER_FILE
from stenobird.sources import AudioSource, Candidate
from stenobird.storage.engine import locked_data_folder
from tests.support.media_server import Resource, ThreadedMediaServer
from tests.support.web_world import web_settings, web_world

if TYPE_CHECKING:
    from click.testing import Result

IDS = ("key_5f3496dc3155871e7f11", "key_6bf003f9da3b8869d97e")
ROWS = [(IDS[0], "a [bold]name[/bold]\twith\nspace", "שלום"), (IDS[1], "a long name " * 9, "")]


def _printed(**environment: str) -> str:
    @click.command()
    def command() -> None:
        print_table(("id", "name", "note"), ROWS)

    return CliRunner().invoke(command, env={"COLUMNS": "40", **environment}).stdout


def test_a_table_in_a_pipe_is_tab_separated() -> None:
    lines = [line.split("\t") for line in _printed().splitlines()]
    assert lines == [
        ["id", "name", "note"],
        [IDS[0], "a [bold]name[/bold] with space", "שלום"],
        [IDS[1], ("a long name " * 9).strip(), ""],
    ]


def test_a_table_on_a_narrow_terminal_is_not_truncated() -> None:
    printed = _printed(TTY_COMPATIBLE="1", NO_COLOR="1")
    assert all(each in printed for each in IDS)
    assert "…" not in printed
    assert "[bold]" in printed.replace(" ", "").replace("\n", "")
    assert printed.count("long") == 9


def test_resolve_prints_untrusted_text_without_markup(capsys: pytest.CaptureFixture[str]) -> None:
    url = "https://example.com/[a]/x.mp3"
    rejected = Candidate("https://example.com/[/b].mp3", "page.link", rejected="a [trailer] :bell:")
    _show(
        AudioSource(
            url,
            url,
            url,
            "page",
            "the [player]",
            title="[Bonus] Ep. 5\x1b]0;x\x07[/b]",
            candidates=(rejected,),
        )
    )

    assert capsys.readouterr().out.splitlines() == [
        url,
        "[Bonus] Ep. 5]0;x[/b]",
        "page: the [player]",
        "  not https://example.com/[/b].mp3: a [trailer] :bell:",
    ]


def test_words_of_a_transcript_are_shown_without_markup(capsys: pytest.CaptureFixture[str]) -> None:
    said = {"id": "tr_1", "text": " at 5:100:3 \x1b[2J[/b]", "chunk_index": 0, "start": 61.0, "end": 62.0}
    with LiveTranscript() as live:
        live.show(parse_event("transcript", 1, said))

    assert capsys.readouterr().err.strip() == "1:01 at 5:100:3 [2J[/b]"


def test_the_reason_for_a_source_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"id": "tr_1", "status": "queued"}
    verdict = {**row, "stage": "resolving_direct", "message": "The URL itself is audio (mp3)."}
    source = {"media_url": "https://example.com/a.mp3", "technique": "direct"}
    resolved = {
        **row,
        "stage": "source_resolved",
        "message": "the URL itself is audio (mp3)",
        "source": source,
    }
    with LiveTranscript() as live:
        live.show(parse_event("status", 1, verdict))
        live.show(parse_event("status", 2, resolved))

    assert capsys.readouterr().err.splitlines() == [
        "resolving_direct The URL itself is audio (mp3).",
        "found https://example.com/a.mp3 (direct)",
    ]


def test_the_error_of_a_job_is_left_to_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    error = {"id": "tr_1", "status": "failed", "error": "audio_unreachable", "message": "Gone."}
    with LiveTranscript() as live:
        live.show(parse_event("error", 1, error))

    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
def test_doctor_checks_ports_on_ipv4_and_ipv6(host: str) -> None:
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")

    assert _port_free(host, 0)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


def _run(data_dir: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env={"STENOBIRD_DATA_DIR": str(data_dir)})


def test_only_the_key_goes_to_standard_output(data_dir: Path) -> None:
    made = _run(data_dir, "keys", "create")
    assert made.stdout.startswith("sb_live_")
    assert made.stdout.split() == [made.stdout.strip()]
    key_id = made.stderr.partition("Its id is ")[2].partition(".")[0]
    assert f"\n{key_id}\t" in _run(data_dir, "keys", "list").stdout

    rotated = _run(data_dir, "keys", "rotate", key_id)
    assert rotated.stdout.split() == [rotated.stdout.strip()]
    assert rotated.stdout != made.stdout
    assert f"{key_id} is revoked" in rotated.stderr


def test_a_data_folder_in_use_is_storage_that_is_not_available(data_dir: Path) -> None:
    with locked_data_folder(data_dir):
        ran = _run(data_dir, "transcribe", "https://example.com/a.mp3")
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr == (
        f"storage_unavailable: The data folder {data_dir} is in use by process {os.getpid()}. Stop it, or "
        "set STENOBIRD_DATA_DIR to another folder.\n"
    )


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_an_unknown_key_id_names_the_command_that_lists_them(data_dir: Path, command: str) -> None:
    ran = _run(data_dir, "keys", command, "nope")
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr == ('key_not_found: There is no valid key nope. "stenobird keys list" shows the ids.\n')


def test_a_misspelled_command_suggests_the_closest_one(data_dir: Path) -> None:
    assert "Did you mean 'transcribe'?" in _run(data_dir, "transcibe").stderr
    assert "Did you mean" not in _run(data_dir, "xyzzy").stderr


def test_doctor_prints_problems_last(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = _run(tmp_path / "file" / "data", "doctor")
    assert ran.exit_code == 1
    *_, problem, database, summary = ran.stdout.splitlines()
    assert problem.startswith("problem STENOBIRD_DATA_DIR=")
    assert database.startswith("problem database=SQLite: ")
    assert "problems: 2" in summary
    assert "STENOBIRD_PORT " in ran.stdout


def test_an_empty_file_is_refused_before_a_service_starts(data_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.mp3"
    file.touch()
    ran = _run(data_dir, "transcribe", str(file))
    assert (ran.exit_code, ran.stdout) == (1, "")
    assert ran.stderr == f"empty_upload_body: The file {file} is empty. Send one that has audio.\n"
    assert not data_dir.exists()


# --- transcribe -o ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["transcribe", "https://example.com/a.mp3"], ["openapi"]])
def test_an_output_that_can_not_be_written_is_wrong_usage(
    data_dir: Path, tmp_path: Path, command: list[str]
) -> None:
    (tmp_path / "file").write_text("old")
    for output, reason in {
        tmp_path / "nowhere" / "it": f"there is no folder {tmp_path / 'nowhere'}.",
        tmp_path / "file" / "it": f"there is no folder {tmp_path / 'file'}.",
        Path("/proc/it"): "",  # not even by root
    }.items():
        ran = _run(data_dir, *command, "-o", str(output))
        assert (ran.exit_code, ran.stdout) == (2, "")
        assert f"{output} can't be written: {reason}" in ran.stderr
    # No service was started for it, and the check leaves nothing.
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def test_the_check_of_an_output_leaves_it_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    for output in (tmp_path / "file", tmp_path / "link", tmp_path / "new", Path("/dev/null")):
        assert writable_file(click.Context(main), click.Option(["-o"]), output) == output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]
    assert (tmp_path / "file").read_text() == "old"


def test_an_output_that_is_gone_at_the_end_says_how_to_get_the_transcript(tmp_path: Path) -> None:
    run = _Run(
        source=None,
        job_id="tr_1",
        api=None,
        api_key=None,
        format_name="txt",
        options=TranscriptOptions(),
        live=False,
        text_out=False,
    )
    with pytest.raises(InvalidRequest, match=r"No such file or directory.*--resume tr_1 -o"):
        _save(tmp_path / "nowhere" / "it", b"words", run)


def test_a_document_is_written_completely_or_not_at_all(tmp_path: Path) -> None:
    output = tmp_path / "it"
    output.write_text("old")
    with pytest.raises(TypeError):
        _write_whole(output, None)  # type: ignore[arg-type]  # anything that fails in the middle
    assert output.read_text() == "old"
    _write_whole(output, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
    assert output.read_text() == "new"


def test_a_symbolic_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    _write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


# --- this machine -------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_proxy_of_the_environment_is_not_used_for_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    async with web_world(tmp_path) as world, local_client(world.url, api_key=None) as client:
        assert (await client.create("https://example.com/a")).mode == "preview"


@pytest.mark.anyio
async def test_doctor_recognizes_the_service_on_its_port(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    async with web_world(tmp_path / "world") as world:
        (tmp_path / SERVER_FILE).write_text(json.dumps({"url": world.url}))
        settings = web_settings(data_dir=tmp_path, port=int(world.url.rpartition(":")[2]))
        found = await asyncio.to_thread(lambda: {each.name: each for each in setting_findings(settings)})
    port = found["STENOBIRD_PORT"]
    assert (port.level, port.message) == ("ok", f"The service is running here: {world.url}.")


def test_resolve_shows_a_reason_once() -> None:
    settings = {"STENOBIRD_EGRESS_ALLOW": "127.0.0.0/8", "STENOBIRD_EGRESS_PORTS": "*", "COLUMNS": "200"}
    frames = (b"\xff\xfb\x90\x00" + bytes(413)) * 20
    with ThreadedMediaServer({"/a.mp3": Resource(frames), "/b.mp3": Resource(status=404)}) as server:
        found, failed = (
            CliRunner().invoke(main, ["resolve", server.url(path)], env=settings)
            for path in ("/a.mp3", "/b.mp3")
        )
    assert (found.exit_code, failed.exit_code) == (0, 1)
    assert found.stdout.splitlines() == [server.url("/a.mp3"), "direct: the URL itself is audio (mp3)"]
    assert found.stderr == ""
    assert failed.output.startswith("audio_unreachable: ")
    assert failed.output.count("moved or taken away") == 1
