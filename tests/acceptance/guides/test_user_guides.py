"""The commands of the guides for users, as they stand there, against the real service."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from stenobird.demo import CLIP_PATH
from tests.support.guides import blocks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.guides import Session
    from tests.support.server_process import ServerProcess

MAKE_TARGETS = re.compile(r"^make (\w+)", re.MULTILINE)


def test_quickstart(docs: Path, reader: Callable[..., Session]) -> None:
    reader().run_all(docs / "quickstart.md")


def test_readme(docs: Path, reader: Callable[..., Session]) -> None:
    session = reader()

    session.run_all(docs.parent / "README.md")

    assert (session.folder / "episode.srt").read_text().startswith("1\n00:00:00")


def test_accounts(docs: Path, reader: Callable[..., Session]) -> None:
    reader().run_all(docs / "how-to" / "accounts.md")


def test_openai_sdk(docs: Path, reader: Callable[..., Session], api_key: str) -> None:
    session = reader(**{"sb_live_…": api_key})
    (session.folder / "talk.mp3").symlink_to(CLIP_PATH)
    session.shell(f"export STENOBIRD_API_KEY={api_key}")

    session.run_all(docs / "how-to" / "openai-sdk.md")


def test_agents(docs: Path, reader: Callable[..., Session], server: ServerProcess) -> None:
    session = reader(**{"https://stenobird.com": server.url})
    session.shell('mkdir "$HOME/.claude"')

    session.run_all(docs / "how-to" / "agents.md")

    assert session.shell('cat "$HOME/.claude/skills/stenobird-transcribe/SKILL.md"').startswith("---\n")


def test_add_a_platform(docs: Path, reader: Callable[..., Session]) -> None:
    reader().run_all(docs / "how-to" / "add-a-platform.md")


def test_how_audio_is_found(docs: Path, reader: Callable[..., Session]) -> None:
    reader().run_all(docs / "explanation" / "how-audio-is-found.md")


def test_every_make_target_that_is_named_exists(docs: Path) -> None:
    targets = set(re.findall(r"^(\w+):", (docs.parent / "Makefile").read_text(), re.MULTILINE))
    named = {
        target
        for guide in (docs.parent / "README.md", *docs.rglob("*.md"))
        for block in blocks(guide)
        for target in MAKE_TARGETS.findall(block.text)
    }

    assert {"demo", "test", "serve"} <= named <= targets
