"""`stenobird openapi`: the OpenAPI document of this version, which is checked in as openapi.json."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from stenobird.web.app import api_document
from stenobird.web.openapi.document import as_text


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file, not to the screen.",
)
@click.option(
    "--check",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Only check that this file is up to date; exit status 1 if not.",
)
def openapi(output: Path | None, check: Path | None) -> None:
    """Print the OpenAPI 3.1 document of this version."""
    text = as_text(api_document())
    if check is not None:
        if check.read_text(encoding="utf-8") != text:
            click.echo(f"{check} is out of date. Run: stenobird openapi -o {check}", err=True)
            sys.exit(1)
    elif output is not None:
        output.write_text(text, encoding="utf-8")
    else:
        click.echo(text, nl=False)
