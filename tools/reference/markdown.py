"""Helpers that write the Markdown of the generated pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_CODE = re.compile(r"(`[^`]*`)")
_SPECIAL = re.compile(r"([\\*<>\[\]]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


def generated(title: str, *parts: str) -> str:
    """Return a page with a note that it is generated."""
    note = "<!-- Generated from the code by `make reference`. -->"
    return "\n\n".join([f"# {title}", note, *(part.strip("\n") for part in parts)]) + "\n"


def text(value: str) -> str:
    """Return plain text escaped for Markdown; `code` in backticks stays."""
    return "".join(
        part if part.startswith("`") else _SPECIAL.sub(r"\\\1", part)
        for part in _CODE.split(" ".join(value.split()))
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells are Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def fence(language: str, content: str) -> str:
    """Return a fenced block."""
    return f"```{language}\n{content.strip()}\n```"
