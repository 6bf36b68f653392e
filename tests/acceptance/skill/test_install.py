"""Installing the skill: each agent's folder, twice, cut off, tampered with, and away again."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from stenobird.web.site.skill_files import CHECKSUMS, INSTALLER, SKILL, SKILL_FILES, skill_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.web_world import WebWorld

pytestmark = pytest.mark.anyio

AGENTS = (".agents", ".claude", ".codex", ".pi/agent", ".hermes", ".openclaw")


def _installed(agent: str) -> list[str]:
    return [f"{agent}/skills/{SKILL}/{name}" for name in SKILL_FILES]


def _files(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


def _links(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_symlink()]


async def _installer(world: WebWorld) -> bytes:
    async with httpx.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{world.url}/skills/{SKILL}/{INSTALLER}")
    assert answer.status_code == 200
    assert f'source_url="{world.url}/skills/{SKILL}"' in answer.text
    return answer.content


@contextmanager
def _serving(tampered: dict[str, bytes | None]) -> Iterator[bytes]:
    """Serve the skill with some files replaced (`None`: broken off); yield the installer for it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.removeprefix(f"/skills/{SKILL}/")
            content: dict[str, bytes | None] = {**files, **tampered}
            body = content.get(name, b"")
            self.send_response(200 if name in content else 404)
            self.send_header("Content-Length", str(len(body) if body is not None else 1000))
            self.end_headers()
            self.wfile.write(body if body is not None else b"cut")
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        files = skill_files(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield files[INSTALLER]
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("present", [(agent,) for agent in AGENTS] + [AGENTS, AGENTS[1:3]])
async def test_every_agent_that_is_there_gets_it_and_no_other(
    world: WebWorld, shell: Any, home: Path, present: tuple[str, ...]
) -> None:
    for agent in present:
        (home / agent).mkdir(parents=True)
    installer = await _installer(world)
    ran = await shell(stdin=installer)
    assert (ran.status, ran.err) == (0, "")
    holders = [".agents"] if ".agents" in present else present
    expected = sorted(name for agent in holders for name in _installed(agent))
    assert _files(home) == expected
    for agent in present:
        done = "installed" if agent in holders else "linked"
        assert f"{done}: {home}/{agent}/skills/{SKILL}" in ran.out
        assert (home / agent / "skills" / SKILL).is_symlink() == (agent not in holders)
        script = home / agent / "skills" / SKILL / "scripts" / "transcribe.sh"
        assert script.stat().st_mode & 0o777 == 0o755
        assert f"STENOBIRD_API_URL:-{world.url}}}" in script.read_text()

    again = await shell(stdin=installer)
    assert (again.status, again.err) == (0, "")
    assert again.out.count("up to date:") == len(present)
    assert _files(home) == expected

    gone = await shell("-s", "--", "--uninstall", stdin=installer)
    assert gone.status == 0
    assert gone.out.count("removed:") == len(present)
    assert _files(home) == []
    assert _links(home) == []


async def test_the_copy_of_an_older_installer_becomes_a_link(world: WebWorld, shell: Any, home: Path) -> None:
    copy = home / ".codex" / "skills" / SKILL
    copy.mkdir(parents=True)
    (copy / "SKILL.md").write_text(f"---\nname: {SKILL}\n---\nold")
    (home / ".agents").mkdir()
    ran = await shell(stdin=await _installer(world))
    assert (ran.status, ran.err) == (0, "")
    assert copy.readlink() == home / ".agents" / "skills" / SKILL
    assert _files(home) == _installed(".agents")
    assert [path.name for path in copy.parent.iterdir()] == [SKILL]


async def test_where_no_link_is_possible_the_skill_is_installed_once(
    world: WebWorld, shell: Any, home: Path, tmp_path: Path
) -> None:
    for name in (".agents", ".codex"):
        (home / name).mkdir()
    copy = home / ".pi" / "agent" / "skills" / SKILL
    copy.mkdir(parents=True)
    (copy / "SKILL.md").write_text(f"---\nname: {SKILL}\n---\nold")
    _program(tmp_path / "tools", "ln", "exit 1")
    shell.environment["PATH"] = f"{tmp_path / 'tools'}:{os.environ['PATH']}"
    ran = await shell(stdin=await _installer(world))
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.count("not linked:") == 2
    assert _files(home) == _installed(".agents")


async def test_without_any_agent_it_goes_to_the_common_folder(
    world: WebWorld, shell: Any, home: Path
) -> None:
    ran = await shell(stdin=await _installer(world))
    assert ran.status == 0
    assert _files(home) == _installed(".agents")


async def test_installed_script_transcribes(world: WebWorld, shell: Any, home: Path) -> None:
    await shell(stdin=await _installer(world))
    ran = await shell(str(home / _installed(".agents")[-1]), "--help")
    assert ran.status == 0
    assert world.url in ran.out


async def test_old_version_is_replaced_whole(world: WebWorld, shell: Any, home: Path) -> None:
    skill = home / ".claude" / "skills" / SKILL
    skill.mkdir(parents=True)
    (skill / "SKILL.md").write_text(f"---\nname: {SKILL}\n---\nold")
    (skill / "no-longer.md").write_text("old")
    ran = await shell(stdin=await _installer(world))
    assert ran.status == 0
    assert f"updated: {skill}" in ran.out
    assert _files(home) == _installed(".claude")
    assert "old" not in (skill / "SKILL.md").read_text().splitlines()


async def test_installer_that_is_cut_anywhere_does_nothing(world: WebWorld, shell: Any) -> None:
    installer = await _installer(world)
    last_line = installer.rindex(b"main")
    # A shell that gets only the start of the last line would look for a command of that name.
    for length in [*range(0, last_line, 400), last_line, last_line + 3]:
        await shell(stdin=installer[:length])
        assert shell.tree() == [], length


@pytest.mark.parametrize(
    "tampered",
    [
        {"SKILL.md": b"---\nname: stenobird-transcribe\n---\nevil"},
        {"scripts/transcribe.sh": None},
        {CHECKSUMS: b""},
        {CHECKSUMS: None},
        {CHECKSUMS: f"{hashlib.sha256(b'').hexdigest()}  ../../evil\n".encode()},
        {CHECKSUMS: f"{hashlib.sha256(b'').hexdigest()}  /tmp/evil\n".encode()},
        {CHECKSUMS: f"{hashlib.sha256(b'hm').hexdigest()}  other.md\n".encode(), "other.md": b"hm"},
    ],
)
async def test_download_that_is_wrong_installs_nothing_and_leaves_what_was_there(
    shell: Any, home: Path, tampered: dict[str, bytes | None]
) -> None:
    with _serving({}) as installer:
        assert (await shell(stdin=installer)).status == 0
    before = {name: (home / name).read_bytes() for name in _files(home)}
    (home / ".codex").mkdir()
    (home / "tmp").mkdir()
    shell.environment["TMPDIR"] = str(home / "tmp")
    with _serving(tampered) as installer:
        ran = await shell(stdin=installer)
    assert ran.status == 1
    assert "nothing was installed" in ran.err
    assert {name: (home / name).read_bytes() for name in _files(home)} == before
    assert list((home / "tmp").iterdir()) == []
    assert list((home / ".codex").iterdir()) == []


async def test_what_is_not_ours_is_left_alone(world: WebWorld, shell: Any, home: Path) -> None:
    theirs = home / ".claude" / "skills" / SKILL
    theirs.mkdir(parents=True)
    (theirs / "SKILL.md").write_text("---\nname: something-else\n---\n")
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    (home / ".codex" / "skills").mkdir(parents=True)
    (home / ".codex" / "skills" / SKILL).symlink_to(elsewhere)
    before = _files(home)
    ran = await shell(stdin=await _installer(world))
    assert ran.status == 1
    assert "is something else" in ran.err
    assert _files(home) == before
    await shell("-s", "--", "--uninstall", stdin=await _installer(world))
    assert _files(home) == before


async def test_folder_of_ones_own_choice(world: WebWorld, shell: Any, home: Path) -> None:
    (home / ".claude").mkdir()
    ran = await shell("-s", "--", "--to", f"{home}/my skills", stdin=await _installer(world))
    assert ran.status == 0
    assert _files(home) == [f"my skills/{SKILL}/{name}" for name in SKILL_FILES]


async def test_folders_that_the_agents_variables_name(world: WebWorld, shell: Any, home: Path) -> None:
    names = ("CLAUDE_CONFIG_DIR", "CODEX_HOME", "PI_CODING_AGENT_DIR", "HERMES_HOME", "OPENCLAW_STATE_DIR")
    for name in names:
        (home / name).mkdir()
        shell.environment[name] = str(home / name)
    assert (await shell(stdin=await _installer(world))).status == 0
    assert _files(home) == sorted(path for name in names for path in _installed(name))


def _program(folder: Path, name: str, body: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("program", "body"),
    [
        # A disk that is full in the middle, and a folder that takes no new name.
        ("cp", 'for last; do :; done; echo half >"$last/SKILL.md"; exit 1'),
        ("mv", "exit 1"),
    ],
)
async def test_folder_that_cannot_be_written_keeps_what_it_had(  # noqa: PLR0917  # fixtures
    world: WebWorld, shell: Any, home: Path, tmp_path: Path, program: str, body: str
) -> None:
    installer = await _installer(world)
    await shell(stdin=installer)
    skill = home / ".agents" / "skills" / SKILL
    (skill / "SKILL.md").write_text(f"---\nname: {SKILL}\n---\nold")
    before = shell.tree()
    _program(tmp_path / "tools", program, body)
    shell.environment["PATH"] = f"{tmp_path / 'tools'}:{os.environ['PATH']}"
    ran = await shell(stdin=installer)
    assert ran.status == 1
    assert f"{home}/.agents/skills could not be written" in ran.err
    assert "installed:" not in ran.out
    assert "updated:" not in ran.out
    assert shell.tree() == before
    assert (skill / "SKILL.md").read_text().endswith("old")


async def test_one_folder_that_is_none_does_not_keep_the_others_from_it(
    world: WebWorld, shell: Any, home: Path
) -> None:
    for agent in (".claude", ".codex", ".hermes"):
        (home / agent).mkdir()
    (home / ".claude" / "skills").write_text("a file")
    (home / ".codex" / "skills").symlink_to("nowhere")
    ran = await shell(stdin=await _installer(world))
    assert ran.status == 1
    assert ran.err.count("could not be written") == 2
    assert f"installed: {home}/.hermes/skills/{SKILL}" in ran.out


async def test_skills_folder_that_two_agents_share_is_written_once(
    world: WebWorld, shell: Any, home: Path
) -> None:
    (home / ".agents" / "skills").mkdir(parents=True)
    (home / ".claude").mkdir()
    (home / ".claude" / "skills").symlink_to("../.agents/skills")
    ran = await shell(stdin=await _installer(world))
    assert (ran.status, ran.out.count("installed:"), ran.out.count("up to date:")) == (0, 1, 1)
    assert _files(home) == _installed(".agents")


async def test_what_a_killed_run_left_is_removed_and_what_a_live_one_has_is_not(
    world: WebWorld, shell: Any, home: Path
) -> None:
    skills = home / ".agents" / "skills"
    gone = await asyncio.create_subprocess_exec("true")
    await gone.wait()
    for leftover in (
        f".{SKILL}.{gone.pid}.abc",
        f".{SKILL}.{gone.pid}.abc.old",
        f".{SKILL}.{os.getpid()}.abc",
    ):
        (skills / leftover).mkdir(parents=True)
    (skills / f".{SKILL}.lock").mkdir()
    (skills / f".{SKILL}.lock" / "owner").write_text(str(gone.pid))
    (skills / SKILL).mkdir()
    ran = await shell(stdin=await _installer(world))
    assert (ran.status, ran.err) == (0, "")
    assert sorted(path.name for path in skills.iterdir()) == [f".{SKILL}.{os.getpid()}.abc", SKILL]
    assert _files(home) == _installed(".agents")


async def test_several_installers_at_once_leave_one_skill(world: WebWorld, shell: Any, home: Path) -> None:
    installer = await _installer(world)
    for _ in range(2):
        async with asyncio.TaskGroup() as tasks:
            runs = [tasks.create_task(shell(stdin=installer)) for _ in range(3)]
        assert [run.result().status for run in runs] == [0] * 3, [run.result().err for run in runs]
        assert [path.name for path in (home / ".agents" / "skills").iterdir()] == [SKILL]
        assert _files(home) == _installed(".agents")
        # The next round replaces an old version.
        (home / ".agents" / "skills" / SKILL / "SKILL.md").write_text(f"name: {SKILL}\n")


async def test_uninstalling_tells_what_there_was_and_leaves_nothing_half_removed(
    world: WebWorld, shell: Any, home: Path, tmp_path: Path
) -> None:
    installer = await _installer(world)
    assert f"not there: {home}/.agents" in (await shell("-s", "--", "--uninstall", stdin=installer)).out
    await shell(stdin=installer)
    _program(tmp_path / "tools", "rm", "exit 1")
    shell.environment["PATH"] = f"{tmp_path / 'tools'}:{os.environ['PATH']}"
    ran = await shell("-s", "--", "--uninstall", stdin=installer)
    assert (ran.status, "could not be changed" in ran.err) == (1, True)
    assert not (home / ".agents" / "skills" / SKILL).exists()
    shell.environment["PATH"] = os.environ["PATH"]
    assert (await shell("-s", "--", "--uninstall", stdin=installer)).status == 0
    assert _files(home) == []


@pytest.mark.parametrize("arguments", [("--to",), ("--to", ""), ("--nope",)])
async def test_wrong_usage_does_nothing(world: WebWorld, shell: Any, arguments: tuple[str, ...]) -> None:
    ran = await shell("-s", "--", *arguments, stdin=await _installer(world))
    assert (ran.status, shell.tree()) == (1, [])


async def test_a_missing_checksum_program_is_reported(world: WebWorld, shell: Any, tmp_path: Path) -> None:
    for name in ("curl", "mktemp", "mkdir", "dirname", "grep", "cut", "rm", "chmod", "cat", "sh"):
        _program(tmp_path / "tools", name, f'exec {shutil.which(name)} "$@"')
    shell.environment["PATH"] = str(tmp_path / "tools")
    shell.program = (str(shutil.which("sh")),)
    ran = await shell(stdin=await _installer(world))
    assert (ran.status, shell.tree()) == (1, [])
    assert "sha256sum, shasum or openssl is needed" in ran.err


async def test_llms_txt_and_files_have_our_address(world: WebWorld) -> None:
    async with httpx.AsyncClient(base_url=world.url, trust_env=False) as http:
        llms = await http.get("/llms.txt")
        assert llms.status_code == 200
        assert f"POST {world.url}/v1/transcripts" in llms.text
        assert "stenobird.com" not in llms.text
        # The format of llmstxt.org: a title, a summary, and sections of links that can be read.
        assert llms.text.startswith("# Stenobird\n\n> ")
        links = re.findall(r"\]\((http[^)]+)\)", llms.text)
        assert len(links) >= 8
        for link in links:
            assert (await http.get(link)).status_code == 200, link
        sums = (await http.get(f"/skills/{SKILL}/{CHECKSUMS}")).text
        for line in sums.splitlines():
            expected, name = line.split("  ")
            content = (await http.get(f"/skills/{SKILL}/{name}")).content
            assert hashlib.sha256(content).hexdigest() == expected
        assert (await http.get(f"/skills/{SKILL}/../{SKILL}/nope")).status_code == 404
        forged = await http.get(f"/skills/{SKILL}/{INSTALLER}", headers={"Host": "$(touch x)"})
        assert "touch" not in forged.text
