"""`python -m tools.reference`: write the pages of docs/reference, and the guides as `/docs` shows them.

They are checked in, and a test fails when they differ from what this writes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tools.reference import PAGES
from tools.reference.guides import guide_files


@click.command()
@click.option(
    "--docs",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path("docs"),
    show_default=True,
    help="The folder of Markdown pages.",
)
@click.option("--check", is_flag=True, help="Change nothing; exit with status 1 if a file is out of date.")
def main(docs: Path, *, check: bool) -> None:
    """Write docs/reference and the HTML of the guides from the code and the Markdown pages."""
    pages = {name: page() for name, page in PAGES.items()}
    files = {docs / "reference" / f"{name}.md": text for name, text in pages.items()}
    files |= guide_files(docs, pages)
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text("utf-8") != text]
    if check and stale:
        click.echo(f"Out of date: {', '.join(map(str, stale))}. Run: make reference", err=True)
        sys.exit(1)
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path], encoding="utf-8")


if __name__ == "__main__":
    main()
