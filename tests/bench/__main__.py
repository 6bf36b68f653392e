"""`make bench`: ratios to plain faster-whisper and to plain servers, each with its bar.

Exits with 0 whatever the figures are, with 1 when one could not be measured.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console

from stenobird.inference.host import usable_cpus
from tests.bench.audio import Studio
from tests.bench.figures import QUICK, Figure, Scale, table
from tests.bench.measure import MEASUREMENTS


@click.command()
@click.option("--only", help="Letters of the figures to measure, comma-separated, e.g. a,c.")
@click.option("--quick", is_flag=True, help="Little audio, one round: shows that it works, measures little.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.option("--audio", type=click.Path(path_type=Path), help="Keep the audio here, to use it again.")
def main(only: str | None, audio: Path | None, *, quick: bool, as_json: bool) -> None:
    """Measure speed, latency, accuracy, memory and what load costs, mostly as ratios to plain software."""
    letters = list(MEASUREMENTS) if only is None else [letter.strip() for letter in only.split(",")]
    if unknown := [letter for letter in letters if letter not in MEASUREMENTS]:
        raise click.BadParameter(f"{unknown[0]} is not one of {', '.join(MEASUREMENTS)}", param_hint="--only")
    progress = Console(stderr=True)
    with ExitStack() as stack:
        if audio is None:
            audio = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stenobird-bench-")))
        audio.mkdir(parents=True, exist_ok=True)
        figures = _measure(letters, Studio(audio), QUICK if quick else Scale(), progress)
    if as_json:
        report = {"cores": usable_cpus(), "quick": quick, "figures": [each.to_json() for each in figures]}
        click.echo(json.dumps(report, indent=2))
    else:
        # A table that a file or a pipe cuts off at 80 columns can't be read.
        console = Console(width=None if sys.stdout.isatty() else 150)
        title = f"Stenobird against plain software, {usable_cpus()} cores, fixture model"
        if quick:
            title += ": QUICK, the bars are not meant for this"
        console.print(table(figures, title=title))
    sys.exit(any(figure.value is None for figure in figures))


def _measure(letters: list[str], studio: Studio, scale: Scale, progress: Console) -> list[Figure]:
    figures: list[Figure] = []
    for letter in letters:
        measurement = MEASUREMENTS[letter]
        titles = "; ".join(question.title for question in measurement.questions)
        with progress.status(f"({letter}) {titles}"):
            try:
                measured = measurement.run(studio, scale)
            except Exception as exc:  # noqa: BLE001  # one figure that fails must not hide the others
                progress.print(traceback.format_exc(), style="dim")
                note = f"{type(exc).__name__}: {exc}".splitlines()[0]
                measured = [Figure(question, None, note) for question in measurement.questions]
        for figure in measured:
            value = "not measured" if figure.value is None else f"{figure.value:.3g}"
            progress.print(f"({letter}) {figure.question.title}: {value}{figure.question.unit}")
        figures += measured
    return figures


if __name__ == "__main__":
    main()
