"""How commands print text and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from stenobird.formats.cues import clean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def plain(text: str, style: str = "") -> Text:
    """Return untrusted text (a title, an address, words) on one line, to be printed as it is.

    Brackets are not markup, `:name:` is not an emoji, and no control character reaches the terminal.
    """
    return Text(clean(text), style)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of text under their headings: a table on a terminal, tab-separated lines elsewhere.

    Nothing is truncated. Long cells wrap, except in the first column, whose ids other commands take.
    """
    console = Console()
    if not console.is_terminal:
        for row in (columns, *rows):
            click.echo("\t".join(_one_line(cell) for cell in row))
        return
    found = [tuple(row) for row in rows]
    first = max((len(row[0]) for row in found), default=0)
    table = Table(
        Column(columns[0], no_wrap=True, min_width=min(first, console.width - 2)),
        *(Column(name, overflow="fold") for name in columns[1:]),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for row in found:
        table.add_row(*(plain(cell) for cell in row))
    console.print(table)


def _one_line(cell: str) -> str:
    return " ".join(cell.split())
