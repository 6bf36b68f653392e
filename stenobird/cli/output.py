"""How commands print text, tables and a running job."""

from __future__ import annotations

import os
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Self

import click
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Column, Table
from rich.text import Text

from stenobird.client import DoneEvent, PreviewLockedEvent, StatusEvent, TranscriptEvent
from stenobird.formats.cues import clean
from stenobird.formats.documents import clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from stenobird.client import Event


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
            click.echo("\t".join(" ".join(cell.split()) for cell in row))
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


def writable_file(_context: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
    """Return the path of an option `-o`. Raises `BadParameter` (status 2) if no file can be written there."""
    if path is None:
        return None
    try:
        if path.is_file():
            os.close(os.open(path, os.O_WRONLY))
        elif not path.exists():
            if not path.parent.is_dir():
                raise click.BadParameter(f"{path} can't be written: there is no folder {path.parent}.")
            TemporaryFile(dir=path.parent).close()
    except OSError as exc:
        raise click.BadParameter(f"{path} can't be written: {exc.strerror}.") from exc
    return path


class LiveTranscript:
    """Shows the events of one job on standard error; standard output is left to the transcript.

    The error of a job that fails is left to the command, which ends with it.

    With `text_out`, its text goes to standard output as it comes. Use it as a context manager, and pass every
    event to `show`, in order.
    """

    def __init__(self, *, quiet: bool = False, text_out: bool = False) -> None:
        self._text_out = text_out
        self._console = Console(stderr=True, quiet=quiet)
        self._progress = Progress(
            TextColumn("[progress.description]{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[position]}"),
            console=self._console,
            transient=True,
            # Without a terminal, the bar would only leave empty lines; it also takes over standard output.
            disable=quiet or text_out or not self._console.is_terminal,
        )
        self._task = self._progress.add_task("waiting", total=None, position="")

    def show(self, event: Event) -> None:
        """Show one event."""
        match event:
            case StatusEvent():
                self._show_status(event)
            case TranscriptEvent() if self._text_out:
                click.echo(clean(event.text.strip()))
            case TranscriptEvent():
                self._line(f"[dim]{clock(event.start)}[/dim] ", event.text.strip())
                self._progress.update(self._task, completed=event.end, position=clock(event.end))
            case PreviewLockedEvent():
                self._line("[yellow]preview ended[/yellow] ", f"{event.message} {event.upgrade_url}")
            case DoneEvent():
                if event.warning:
                    self._line("[yellow]warning[/yellow] ", event.warning)

    def _show_status(self, event: StatusEvent) -> None:
        if event.title:
            self._line("[cyan]now playing[/cyan] ", event.title)
            return
        if event.seconds is None:
            self._progress.update(self._task, description=event.stage.replace("_", " "))
        if event.audio_seconds_total:
            self._progress.update(self._task, total=event.audio_seconds_total)
        if event.audio_seconds is not None:
            self._progress.update(
                self._task, completed=event.audio_seconds, position=clock(event.audio_seconds)
            )
        if event.message and event.stage != "source_resolved":  # the stage before it has said why
            self._line(f"[dim]{event.stage}[/dim] ", event.message)
        if event.stage == "source_resolved" and event.source:
            found = event.source.get("title") or event.source.get("media_url")
            self._line("[green]found[/green] ", f"{found} ({event.source.get('technique')})")

    def _line(self, label: str, text: str) -> None:
        self._console.print(label, end="", highlight=False)
        self._console.print(plain(text), highlight=False)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
