"""The skill's scripts in the shells and with the awks that agents' machines have."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from stenobird.web.site.skill_files import INSTALLER, SKILL, SKILL_FILES, skill_files, skills_folder

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.web_world import WebWorld

pytestmark = pytest.mark.anyio

SCRIPT = str(skills_folder() / SKILL / "scripts" / "transcribe.sh")
URL = "https://example.com/episode?a=1&b='2'&c=$HOME;`id`\""
SAID = ('A "quote", a back\\slash, a\ttab, a\nline, ünïcödé, שלום, 🎙, %s \\n $HOME `id` \x1b[31m', " end\n")
# What would control the terminal is left out.
PRINTED = "".join(SAID).replace("\x1b", "") + "\n"

PAIRS = (
    (("dash",), "mawk"),
    (("bash", "--posix"), "gawk"),
    (("busybox", "ash"), "busybox"),
    # Android's, which has no printf of its own.
    (("mksh",), "mawk"),
    # What people run by mistake on a Mac; it splits no words unless told to.
    (("zsh",), "mawk"),
)


def _needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


@pytest.mark.parametrize(("program", "awk"), PAIRS, ids=[program[0] for program, _ in PAIRS])
async def test_script_in_every_shell(  # noqa: PLR0917  # fixtures
    world: WebWorld, shell: Any, cutting: Any, api_key: str, tmp_path: Path, program: Any, awk: str
) -> None:
    _needs(program[0], awk)
    seen = _telling(tmp_path / "tools", "printf", "curl", "sed", "cat", "sleep", "od", "tr", "mv", "rm")
    (tmp_path / "tools" / "awk").symlink_to(str(shutil.which(awk)))
    shell.program = program
    shell.environment["PATH"] = f"{tmp_path / 'tools'}:{os.environ['PATH']}"

    async with cutting(world, b"/events", [900]).running() as proxy:
        shell.environment |= {"STENOBIRD_API_URL": proxy.url, "STENOBIRD_API_KEY": api_key}
        async with asyncio.TaskGroup() as tasks:
            working = tasks.create_task(world.worker.carry_out(*SAID))
            ran = await shell(SCRIPT, "-o", "the text", "-p", SAID[0], URL)
            assert working.done(), ran
    assert proxy.made == 1
    assert (ran.status, ran.out) == (0, PRINTED)
    assert shell.tree() == ["the text"]
    job = await world.store.get(working.result())
    assert job is not None
    assert unquote(job.audio_url or "") == URL
    assert job.options.prompt == SAID[0].replace("\t", " ").replace("\x1b", "")
    # Arguments are for everybody on the machine to see. What a shell does itself has none.
    told = seen.read_text()
    assert f"-K {shell.environment.get('TMPDIR', '/tmp')}" in told  # the script's own default
    assert api_key not in told + ran.err


@pytest.mark.parametrize("program", [program for program, _ in PAIRS], ids=[pair[0][0] for pair in PAIRS])
async def test_installer_in_every_shell(world: WebWorld, shell: Any, home: Path, program: Any) -> None:
    _needs(program[0])
    shell.program = program
    agents = ("an agent", ".claude", ".hermes")
    for agent in agents:
        (home / agent).mkdir()
    shell.environment["CODEX_HOME"] = str(home / "an agent")
    installer = skill_files(world.url)[INSTALLER]
    ran = await shell("-s", stdin=installer)
    assert (ran.status, ran.err, ran.out.count("installed: ")) == (0, "", 3)
    expected = sorted(f"{agent}/skills/{SKILL}/{name}" for agent in agents for name in SKILL_FILES)
    assert [path for path in shell.tree() if (home / path).is_file()] == expected
    assert (await shell("-s", stdin=installer)).out.count("up to date: ") == 3
    assert (await shell("-s", "--", "--uninstall", stdin=installer)).out.count("removed: ") == 3


def _telling(folder: Path, *programs: str) -> Path:
    """Put programs into a folder that note their arguments and do their work; return the file of notes."""
    folder.mkdir()
    notes = folder / "notes"
    for name in programs:
        note = f'echo "$0 $*" >>{shlex.quote(str(notes))}'
        (folder / name).write_text(f'#!/bin/sh\n{note}\nexec {shutil.which(name)} "$@"\n')
        (folder / name).chmod(0o755)
    return notes
