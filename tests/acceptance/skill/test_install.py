"""Installing the skill: each agent's folder, twice, cut off, tampered with, and away again."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from stenobird.web.routes.skills import CHECKSUMS, INSTALLER, SKILL, SKILL_FILES, skill_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stenobird.testing.web_world import WebWorld

pytestmark = pytest.mark.anyio

AGENTS = (".agents", ".claude", ".codex", ".pi/agent", ".hermes", ".openclaw")


def _installed(agent: str) -> list[str]:
    return [f"{agent}/skills/{SKILL}/{name}" for name in SKILL_FILES]


def _files(home: Path) -> list[str]:
    return sorted(str(path.relative_to(home)) for path in home.rglob("*") if path.is_file())


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
    expected = sorted(name for agent in present for name in _installed(agent))
    assert _files(home) == expected
    for agent in present:
        assert f"installed: {home}/{agent}/skills/{SKILL}" in ran.out
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


async def test_without_any_agent_it_goes_to_the_common_folder(
    world: WebWorld, shell: Any, home: Path
) -> None:
    ran = await shell(stdin=await _installer(world))
    assert ran.status == 0
    assert _files(home) == _installed(".agents")


async def test_installed_script_transcribes(world: WebWorld, shell: Any, home: Path) -> None:
    await shell(stdin=await _installer(world))
    ran = await shell(str(home / _installed(".agents")[1]), "--help")
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


async def test_llms_txt_and_files_have_our_address(world: WebWorld) -> None:
    async with httpx.AsyncClient(base_url=world.url, trust_env=False) as http:
        llms = await http.get("/llms.txt")
        assert llms.status_code == 200
        assert f"POST {world.url}/v1/transcripts" in llms.text
        assert "stenobird.com" not in llms.text
        sums = (await http.get(f"/skills/{SKILL}/{CHECKSUMS}")).text
        for line in sums.splitlines():
            expected, name = line.split("  ")
            content = (await http.get(f"/skills/{SKILL}/{name}")).content
            assert hashlib.sha256(content).hexdigest() == expected
        assert (await http.get(f"/skills/{SKILL}/../{SKILL}/nope")).status_code == 404
        forged = await http.get(f"/skills/{SKILL}/{INSTALLER}", headers={"Host": "$(touch x)"})
        assert "touch" not in forged.text
