"""The guides' code blocks as tests run them: parsed from the Markdown, carried out in one shell per guide.

A fence says what its block is, in the words after the language:

    ```sh run                         a test carries it out, in the guide's order, and it must succeed
    ```sh manual: why no test can     a reason, at least three words
    ```text output                    what the block before it prints; `…` stands for anything
    ```ini stenobird.service          a file, which a test takes by this name

Blocks in a language that can be run must be `run` or `manual`; see `untagged`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from tests.support.forked import fork_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

RUNNABLE = frozenset({"sh", "bash", "shell", "console", "python", "py"})
TIMEOUT_SECONDS = 300.0
"""For one block; two busy cores transcribe the clips of the guides in a few seconds."""

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_MARK = "\x1e"


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a guide; `note` is what follows the language."""

    guide: Path
    line: int
    language: str
    note: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands, for messages."""
        return f"{self.guide.name}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether a test carries it out."""
        return self.note == "run"

    @property
    def manual(self) -> str | None:
        """Why no test can carry it out, where that is said."""
        kind, _, reason = self.note.partition(":")
        return reason.strip() if kind == "manual" else None


def blocks(guide: Path) -> list[Block]:
    """Return the fenced blocks of a Markdown file, in order."""
    source = guide.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(source):
        language, _, note = match["info"].strip().partition(" ")
        text = re.sub(f"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        line = source.count("\n", 0, match.start()) + 1
        found.append(Block(guide, line, language, note.strip(), text))
    return found


def untagged(guide: Path) -> list[str]:
    """Return what is wrong with the fences of a guide: nothing may be neither run nor excused."""
    problems = []
    for block in blocks(guide):
        if not block.language:
            problems.append(f"{block.place}: a fence without a language")
        elif block.language in RUNNABLE and not block.runs:
            if block.manual is None:
                problems.append(
                    f"{block.place}: say `{block.language} run` or `{block.language} manual: why`"
                )
            elif len(block.manual.split()) < 3:
                problems.append(f"{block.place}: a reason has at least three words")
    return problems


def file_block(guide: Path, name: str) -> str:
    """Return the block whose note is this file name."""
    (text,) = [block.text for block in blocks(guide) if block.note == name]
    return text


def matches(expected: str, printed: str) -> bool:
    """Return whether a guide's output is what was printed; `…` stands for anything."""
    pattern = "".join(".*?" if part == "…" else re.escape(part) for part in re.split("(…)", expected.strip()))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


@dataclass
class Session:
    """One shell that carries a guide's blocks out, in order, as its reader would. Use as a context manager.

    `folder` is where it works: a bare stand-in for a clone, with `.venv/bin/stenobird` and `.venv/bin/python`
    in it; `stenobird` and `python` are on the PATH, too. `values` are put in place of what the guide says,
    for example ports and addresses, in commands and in outputs alike.
    """

    folder: Path
    environment: Mapping[str, str]
    values: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        programs = self.folder / ".venv" / "bin"
        programs.mkdir(parents=True, exist_ok=True)
        (programs / "stenobird").unlink(missing_ok=True)
        (programs / "stenobird").symlink_to(fork_server().program)
        for name in ("python", "python3"):
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
            (programs / name).chmod(0o755)
        self._commands_read, commands_write = os.pipe()
        self._commands = os.fdopen(commands_write, "w", buffering=1)
        self._errors_path = self.folder / ".stderr"
        self._count = 0
        with self._errors_path.open("ab") as errors:
            self._shell = subprocess.Popen(
                ["bash", "-eu", "-o", "pipefail", f"/dev/fd/{self._commands_read}"],
                pass_fds=[self._commands_read],
                env={**self.environment, "PATH": f"{programs}:{self.environment['PATH']}"},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        os.close(self._commands_read)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shell.kill()
        self._shell.wait()
        assert self._shell.stdout is not None
        self._shell.stdout.close()
        try:
            self._commands.close()
        except BrokenPipeError:
            return

    def filled(self, text: str) -> str:
        """Return the text with the values in it, longest name first."""
        for name in sorted(self.values, key=len, reverse=True):
            text = text.replace(name, self.values[name])
        return text

    def shell(self, commands: str) -> str:
        """Carry commands out and return what they print. Raises `AssertionError` when one of them fails."""
        self._count += 1
        script = self.folder / f".block-{self._count}.sh"
        script.write_text(self.filled(commands))
        # The errors of a block are its own; the mark tells its output from the next one's.
        self._errors_path.write_bytes(b"")
        self._commands.write(f". {script}\nprintf '\\n{_MARK}\\n'\n")
        lines: list[str] = []
        timer = threading.Timer(TIMEOUT_SECONDS, self._shell.kill)
        timer.start()
        try:
            assert self._shell.stdout is not None
            for line in self._shell.stdout:
                if line == f"{_MARK}\n":
                    return "".join(lines)[:-1]
                lines.append(line)
        finally:
            timer.cancel()
        errors = self._errors_path.read_text(errors="replace")
        raise AssertionError(f"failed:\n{script.read_text()}\nprinted:\n{''.join(lines)}\n{errors}")

    def python(self, source: str) -> str:
        """Carry a Python example out, in the shell's folder and environment, and return what it prints."""
        self._count += 1
        script = self.folder / f"example_{self._count}.py"
        script.write_text(self.filled(source))
        return self.shell(f"python {script.name}")

    def run(self, block: Block) -> str:
        """Carry a block out and return what it prints."""
        assert block.runs, block.place
        try:
            return self.python(block.text) if block.language == "python" else self.shell(block.text)
        except AssertionError as error:
            raise AssertionError(f"{block.place} {error}") from error

    def run_all(self, guide: Path) -> dict[int, str]:
        """Carry out all that a guide says to run, and compare what it prints; return that by line."""
        return dict(self.steps(blocks(guide)))

    def steps(self, guide_blocks: list[Block]) -> Iterator[tuple[int, str]]:
        """Carry out blocks one by one, yielding line and output after each."""
        printed: str | None = None
        for block in guide_blocks:
            if block.runs:
                printed = self.run(block)
                yield block.line, printed
            elif block.note == "output" and printed is not None:
                expected = self.filled(block.text)
                assert matches(expected, printed), (
                    f"{block.place} says:\n{expected}\nbut there was:\n{printed}"
                )
                printed = None
            elif block.language in RUNNABLE:
                printed = None
