"""The examples of CONTRIBUTING.md, applied to a copy of the code and checked there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.guides import Block, blocks

ROOT = Path(__file__).parents[3]
EXAMPLES = [block for block in blocks(ROOT / "CONTRIBUTING.md") if block.language == "diff"]
MAX_LINES = 10


def applied(source: str, example: str) -> str:
    """Return the source with the lines that `+` marks in the example.

    They go after the line above them; where none is above, before the line below. `…` at the end of such a
    line stands for the rest of it. Raises `ValueError` if the source does not have the line just once.
    """
    lines = source.splitlines()
    for part in example.split("\n\n"):
        above: int | None = None
        waiting: list[str] = []
        for shown in part.splitlines():
            if not shown.startswith("+"):
                place = _line(lines, shown)
                lines[place:place] = waiting
                above = place + len(waiting)
                waiting = []
            elif above is None:
                waiting.append(shown[1:])
            else:
                above += 1
                lines.insert(above, shown[1:])
    return "\n".join([*lines, ""])


def _line(lines: list[str], shown: str) -> int:
    start = shown[1:].removesuffix("…").rstrip()
    found = [
        number
        for number, line in enumerate(lines)
        if (line.startswith(start) if shown.endswith("…") else line == start)
    ]
    if len(found) != 1:
        raise ValueError(f"{len(found)} lines are {shown!r}")
    return found[0]


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the code and the docs with every example in it."""
    folder = tmp_path_factory.mktemp("copy")
    heavy = shutil.ignore_patterns("__pycache__", "model", "*.mp3", "data", "screenshots")
    for name in ("stenobird", "tools", "docs", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=heavy)
    shutil.copy(ROOT / "pyproject.toml", folder)
    for example in EXAMPLES:
        path = folder / example.note
        path.write_text(applied(path.read_text(encoding="utf-8"), example.text), encoding="utf-8")
    return folder


def run(copy: Path, *arguments: str, **environment: str) -> str:
    """Run Python on the copy, whose folder comes before the installed package, and return its output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=copy,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_is_an_example_of_each_kind_of_at_most_ten_lines() -> None:
    kinds = [example.note for example in EXAMPLES]
    assert kinds == [
        "stenobird/discovery/platforms/hosting.py",
        "tests/unit/discovery/platforms/examples.py",
        "stenobird/web/v1/account.py",
        "stenobird/config.py",
        "stenobird/jobs/events.py",
        "tools/reference/events.py",
        "stenobird/errors.py",
    ]
    assert [example.place for example in EXAMPLES if len(example.text.splitlines()) > MAX_LINES] == []


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.note for example in EXAMPLES])
def test_an_example_is_formatted_and_passes_the_linter(example: Block, copy: Path) -> None:
    run(copy, "-m", "ruff", "check", "--quiet", example.note)
    run(copy, "-m", "ruff", "format", "--check", "--quiet", example.note)


def test_the_platform_passes_the_tests_of_all_platforms(copy: Path) -> None:
    tests = "tests/unit/discovery/platforms/test_platforms.py"
    passed = run(copy, "-m", "pytest", "-p", "no:cacheprovider", "-v", tests, "-k", "example")
    assert "test_an_example_matches_its_own_entry_first[https://examplecast.com/e/123] PASSED" in passed


def test_the_route_is_registered_and_described(copy: Path) -> None:
    code = "from stenobird.web.v1 import dialect; print([e.path for e in dialect().endpoints])"
    assert "'/v1/key'" in run(copy, "-c", code)
    run(copy, "-m", "stenobird", "openapi", "-o", "openapi.json")
    paths = json.loads((copy / "openapi.json").read_text(encoding="utf-8"))["paths"]
    assert paths["/v1/key"]["get"]["summary"] == "Try your key"


def test_the_setting_is_read_from_the_environment(copy: Path) -> None:
    code = "from stenobird.config import Settings; print(Settings().sse_retry_seconds)"
    assert run(copy, "-c", code) == "2.0\n"
    assert run(copy, "-c", code, STENOBIRD_SSE_RETRY_SECONDS="5") == "5.0\n"


def test_setting_event_field_and_error_are_in_the_reference(copy: Path) -> None:
    run(copy, "-m", "tools.reference")
    reference = copy / "docs" / "reference"
    assert "| `STENOBIRD_SSE_RETRY_SECONDS` | number > 0 | `2` | seconds |" in (
        reference / "settings.md"
    ).read_text(encoding="utf-8")
    assert "| `duration_seconds` | number, or left out | how long the audio is |" in (
        reference / "events.md"
    ).read_text(encoding="utf-8")
    assert "| `audio_too_quiet` | The audio is too quiet to transcribe. | Send a louder recording. |" in (
        reference / "errors.md"
    ).read_text(encoding="utf-8")


def test_an_example_whose_surroundings_are_gone_is_noticed() -> None:
    with pytest.raises(ValueError, match="0 lines are"):
        applied("one\n", " two\n+three\n")
    with pytest.raises(ValueError, match="2 lines are"):
        applied("one\none\n", "+zero\n one\n")
    assert applied("one\ntwo\n", "+zero\n one\n+more\n\n tw…\n+three\n") == "zero\none\nmore\ntwo\nthree\n"
