"""`stenobird resolve`: find the audio behind a URL without transcribing it."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
from rich.console import Console

from stenobird.cli.output import plain
from stenobird.config import Settings
from stenobird.discovery.finder import checked_url, open_finder
from stenobird.egress.policy import EgressPolicy
from stenobird.errors import StenobirdError
from stenobird.ports import Clock

if TYPE_CHECKING:
    from stenobird.sources import AudioSource, Verdict


@click.command()
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, the error body on failure.")
def resolve(url: str, *, as_json: bool) -> None:
    """Find the audio behind URL; show how it was found, and why other candidates were rejected."""
    verdicts: list[Verdict] = []
    held: list[Verdict] = []

    async def report(verdict: Verdict) -> None:
        verdicts.append(verdict)
        _show_verdicts(held)
        # The last one repeats what the result or the error says, unless it only passes the URL on.
        held[:] = [] if as_json else [verdict]
        if verdict.outcome == "passed":
            _show_verdicts(held)

    async def run() -> AudioSource:
        settings = Settings()
        policy = EgressPolicy(settings.egress_allow, settings.egress_ports)
        async with open_finder(settings, policy, Clock()) as finder:
            found = await finder.find(checked_url(policy, url), preview=True, report=report)
            if found.opened is not None:
                await found.opened.aclose()
            return found.source

    try:
        source = asyncio.run(run())
    except StenobirdError as error:
        if as_json:
            click.echo(json.dumps({**error.body(), "verdicts": list(map(asdict, verdicts))}))
            sys.exit(1)
        _show_verdicts([verdict for verdict in held if verdict.message != error.message])
        raise
    if as_json:
        found = {"candidates": list(map(asdict, source.candidates)), "verdicts": list(map(asdict, verdicts))}
        click.echo(json.dumps({"title": None, **source.public(), **found}))
    else:
        _show(source)


def _show_verdicts(verdicts: list[Verdict]) -> None:
    """Show verdicts, and empty the list."""
    console = Console(stderr=True)
    for verdict in verdicts:
        console.print(f"[dim]{verdict.stage}[/dim] ", end="", highlight=False)
        console.print(plain(f"{verdict.outcome}: {verdict.message}"), highlight=False)
    verdicts.clear()


def _show(source: AudioSource) -> None:
    console = Console()
    console.print(plain(source.media_url, "bold"), soft_wrap=True)
    if source.title:
        console.print(plain(source.title))
    console.print(plain(f"{source.technique}: {source.reason}", "dim"))
    for candidate in source.candidates:
        if candidate.rejected:
            console.print("  ", plain(f"not {candidate.url}: {candidate.rejected}", "dim"), sep="")
