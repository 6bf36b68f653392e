"""Tables of the command line: ruled on a terminal; elsewhere a line a row, tabs between, for cut and grep."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich import box
from rich.console import Console
from rich.table import Column, Table

from stenobird.cli.plain import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows of text under their headings. Nothing is cut off: what does not fit is folded.

    The first column is what other commands take, such as an id, so it is never parted.
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
