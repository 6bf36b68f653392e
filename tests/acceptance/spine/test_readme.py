"""The README's commands, as they stand there, against the real service."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stenobird.demo import CLIP_PATH
from stenobird.testing.http_reader import EventReader
from stenobird.testing.media_server import Resource

if TYPE_CHECKING:
    from stenobird.testing.media_server import MediaServer
    from stenobird.testing.server_process import ServerProcess

README = Path(__file__).parents[3] / "README.md"
MAKE_TARGETS = re.compile(r"^make (\w+)", re.MULTILINE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def page(media: MediaServer) -> str:
    """The address that stands for the README's example."""
    media.resources["/episode.mp3"] = Resource(CLIP_PATH)
    return media.url("/episode.mp3")


def shell(server: ServerProcess, commands: str, page: str, **variables: str) -> str:
    commands = (
        commands.replace("localhost:8000", f"127.0.0.1:{server.port}")
        .replace("http://127.0.0.1:8000", server.url)
        .replace("https://example.com/episode.mp3", page)
        .replace("https://example.com/episode", page)
        .replace(".venv/bin/stenobird", f"{sys.executable} -m stenobird")
    )
    done = subprocess.run(
        ["bash", "-euc", commands],
        env=server.environment | variables,
        cwd=server.data_dir,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_first_transcript_of_your_own(
    server: ServerProcess, media: MediaServer, page: str, api_key: str
) -> None:
    commands = [block for block in blocks("bash") if not MAKE_TARGETS.search(block)]
    preview, with_key, local = commands

    answer = json.loads(shell(server, preview, page))
    assert answer["mode"] == "preview"

    # The README's reader copies the id of the first answer into the last command.
    create, fetch = with_key.rsplit("curl", 1)
    answer = json.loads(shell(server, create, page, KEY=api_key).splitlines()[-1])
    assert answer["mode"] == "full"
    with EventReader(server.url, api_key) as reader:
        list(reader.events(answer["id"]))
    srt = shell(server, "curl" + fetch, page, KEY=api_key, ID=answer["id"])
    assert srt.startswith("1\n00:00:00")

    shell(server, local, page)
    assert (server.data_dir / "episode.srt").read_text().startswith("1\n00:00:00")


def test_the_python_example(server: ServerProcess, page: str, api_key: str) -> None:
    (example,) = blocks("python")
    script = textwrap.dedent(f"key = {api_key!r}\n{example}")
    script = script.replace("http://127.0.0.1:8000", server.url)
    script = script.replace("https://example.com/episode.mp3", page)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "hello and welcome back" in done.stdout


def test_every_make_target_that_is_named_exists() -> None:
    makefile = (README.parent / "Makefile").read_text()
    named = {target for block in blocks("bash") for target in MAKE_TARGETS.findall(block)}
    assert {"demo", "test", "serve"} <= named
    assert named <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))
