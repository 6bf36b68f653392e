"""`stenobird reference`: the pages of docs/reference, and the guides as `/docs` shows them.

They are checked in, and a test fails when they differ from what this command writes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stenobird.cli.reference.commands import commands_page
from stenobird.cli.reference.errors import errors_page
from stenobird.cli.reference.events import events_page
from stenobird.cli.reference.settings import settings_page

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PAGES: Mapping[str, Callable[[], str]] = {
    "settings": settings_page,
    "errors": errors_page,
    "events": events_page,
    "cli": commands_page,
}
"""The generated pages by the name of their file in docs/reference."""


@click.command()
@click.argument("page", type=click.Choice(list(PAGES)), required=False)
@click.option(
    "--docs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Write all pages into this checkout's docs, and the guides' HTML for the web pages.",
)
@click.option("--check", is_flag=True, help="With --docs: change nothing; exit status 1 if a file differs.")
def reference(page: str | None, docs: Path | None, *, check: bool) -> None:
    """Print a reference page in Markdown: every setting, error, event or command of this version."""
    if (page is None) == (docs is None):
        raise click.UsageError("Give a page, or --docs.")
    if page is not None:
        click.echo(PAGES[page](), nl=False)
        return
    assert docs is not None
    # Needed by whoever changes the docs, not by whoever runs the service.
    from stenobird.cli.reference.guides import guide_files  # noqa: PLC0415

    files = {docs / "reference" / f"{name}.md": make() for name, make in PAGES.items()}
    if not check:
        for path, text in files.items():
            _write(path, text)
    # The guides' HTML has the reference pages in it.
    files |= guide_files(docs, {name: make() for name, make in PAGES.items()})
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
    if check and stale:
        click.echo(f"Out of date: {', '.join(map(str, stale))}. Run: make reference", err=True)
        sys.exit(1)
    for path in stale:
        _write(path, files[path])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
