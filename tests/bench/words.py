"""`make bench-words`: what the service writes for recordings with known texts, beside plain faster-whisper.

Both use the same model, in one run, file by file. Run from the repository's root.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from stenobird.cli.models import fetch_model
from stenobird.demo import TALK_PATH, TALK_TEXT_PATH, word_errors, words
from tests.bench import plain
from tests.bench.service import Service, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

AUDIO_SUFFIXES = (".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wav", ".webm")
_BAR_PIXELS, _ROW_PIXELS, _LABEL_PIXELS = 360, 44, 130


@dataclass(frozen=True, slots=True)
class Recording:
    """One file of a set. `text` is empty where nobody speaks, and `None` where nobody wrote it down."""

    path: Path
    set_name: str
    text: str | None


@dataclass(frozen=True, slots=True)
class Written:
    """What one side wrote for a recording, and what it took."""

    text: str
    wall_seconds: float
    cpu_seconds: float
    first_words_seconds: float


Pair = tuple[Recording, Written, Written]
"""A recording, ours and plain's."""


@dataclass(frozen=True, slots=True)
class SetFigures:
    """The figures of one set: of each pair, ours first. `None` where the set has nothing to measure.

    Errors are percent of the reference's words: normalised (lower case, no punctuation), and exact, on the
    recordings whose texts have capitals. Invented words are those written where the text is empty.
    """

    set_name: str
    recordings: int
    errors: tuple[float, float] | None
    exact_errors: tuple[float, float] | None
    invented_words: tuple[int, int]
    first_words_seconds: tuple[float, float]
    wall_ratio: float
    cpu_ratio: float


def read_recordings(folder: Path) -> list[Recording]:
    """Return what `manifest.jsonl` lists; without one, each audio file that has a text file of its name.

    The manifest's lines have `file` and `text`, and may have `set`; a file's folder is its set otherwise.
    """
    manifest = folder / "manifest.jsonl"
    if manifest.exists():
        rows = [json.loads(line) for line in manifest.read_text().splitlines() if line.strip()]
        return [Recording(folder / row["file"], row.get("set", folder.name), row["text"]) for row in rows]
    return [
        Recording(path, path.parent.name, path.with_suffix(".txt").read_text())
        for path in sorted(folder.rglob("*"))
        if path.suffix in AUDIO_SUFFIXES and path.with_suffix(".txt").exists()
    ]


def measure(set_name: str, pairs: Sequence[Pair]) -> SetFigures:
    """Return the figures of the pairs of one set."""
    spoken = [pair for pair in pairs if pair[0].text]
    exact = [pair for pair in spoken if (pair[0].text or "") != (pair[0].text or "").lower()]
    silent = [pair for pair in pairs if pair[0].text == ""]

    def both(compute: Callable[[int], float]) -> tuple[float, float]:
        return compute(1), compute(2)

    def total(side: int, name: str) -> float:
        return sum(float(getattr(pair[side], name)) for pair in pairs)

    return SetFigures(
        set_name,
        len(pairs),
        both(lambda side: _error_percent(spoken, side, words)) if spoken else None,
        both(lambda side: _error_percent(exact, side, str.split)) if exact else None,
        (sum(len(words(ours.text)) for _, ours, _ in silent), sum(len(words(p.text)) for _, _, p in silent)),
        both(lambda side: total(side, "first_words_seconds") / len(pairs)),
        total(1, "wall_seconds") / total(2, "wall_seconds"),
        total(1, "cpu_seconds") / total(2, "cpu_seconds"),
    )


def _error_percent(pairs: Iterable[Pair], side: int, split: Callable[[str], list[str]]) -> float:
    errors = count = 0
    for pair in pairs:
        reference = split(pair[0].text or "")
        written = pair[1] if side == 1 else pair[2]
        errors += word_errors(reference, split(written.text))
        count += len(reference)
    return 100 * errors / count


def table(figures: Iterable[SetFigures]) -> str:
    """Return a Markdown table, in which each pair of figures is ours / plain's."""
    head = ("set", "recordings", "errors, %", "with case and punctuation, %", "invented words")
    rows = [
        (*head, "first words, s", "wall, ours over plain", "CPU, ours over plain"),
        ("---", *("--:",) * 7),
        *(
            (
                each.set_name,
                str(each.recordings),
                _pair(each.errors),
                _pair(each.exact_errors),
                f"{each.invented_words[0]} / {each.invented_words[1]}",
                _pair(each.first_words_seconds),
                f"{each.wall_ratio:.2f}",
                f"{each.cpu_ratio:.2f}",
            )
            for each in figures
        ),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _pair(values: tuple[float, float] | None) -> str:
    return "-" if values is None else f"{values[0]:.1f} / {values[1]:.1f}"


def chart(figures: Iterable[SetFigures], title: str) -> str:
    """Return an SVG with two bars a set: the errors of ours and of plain."""
    rows = [(each.set_name, each.errors) for each in figures if each.errors is not None]
    longest = max((value for _, errors in rows for value in errors), default=1.0) or 1.0
    parts = []
    for number, (name, errors) in enumerate(rows):
        top = 40 + number * _ROW_PIXELS
        parts.append(f'<text x="0" y="{top + 22}">{name}</text>')
        for offset, value, colour in ((0, errors[0], "#b3261e"), (17, errors[1], "#8a8a8a")):
            width = _BAR_PIXELS * value / longest
            place = f'x="{_LABEL_PIXELS}" y="{top + offset}" width="{width:.0f}" height="14"'
            label = f'x="{_LABEL_PIXELS + width + 6:.0f}" y="{top + offset + 12}"'
            parts.append(f'<rect {place} fill="{colour}"/><text {label}>{value:.1f}</text>')
    size = f'width="{_LABEL_PIXELS + _BAR_PIXELS + 60}" height="{50 + len(rows) * _ROW_PIXELS}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="13" fill="#777">'
        f'<text x="0" y="16">{title}: word errors in percent, Stenobird red, plain faster-whisper grey</text>'
        f"{''.join(parts)}</svg>\n"
    )


@click.command()
@click.option("--folder", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Recordings.")
@click.option("--model", default="tiny.en", show_default=True, help="Name of a model, or a folder.")
@click.option("--sets", help="Sets to measure, comma-separated; default: all.")
@click.option("--limit", type=click.IntRange(1), help="Recordings of each set.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of the table.")
@click.option("--chart", "chart_path", type=click.Path(path_type=Path), help="Write an SVG chart here.")
def main(
    folder: Path | None,
    model: str,
    sets: str | None,
    limit: int | None,
    *,
    as_json: bool,
    chart_path: Path | None,
) -> None:
    """Compare transcripts with plain faster-whisper's, on your recordings or on the demo's."""
    recordings = [Recording(TALK_PATH, "demo", TALK_TEXT_PATH.read_text())]
    if folder is not None:
        recordings = read_recordings(folder)
    chosen = _choose(recordings, None if sets is None else sets.split(","), limit)
    if not chosen:
        raise click.UsageError("There are no recordings: they need a manifest.jsonl, or a text file each.")
    progress = Console(stderr=True)
    files = fetch_model(model)
    grouped: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in _transcribe(chosen, files.folder, progress):
        grouped[pair[0].set_name].append(pair)
    figures = [measure(name, pairs) for name, pairs in grouped.items()]
    if chart_path is not None:
        chart_path.write_text(chart(figures, model))
    shown = {"model": model, "sets": [asdict(each) for each in figures]}
    click.echo(json.dumps(shown, indent=2) if as_json else table(figures))


def _choose(
    recordings: Iterable[Recording], sets: Sequence[str] | None, limit: int | None
) -> list[Recording]:
    taken: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        if recording.text is not None and (sets is None or recording.set_name in sets):
            taken[recording.set_name].append(recording)
    return [recording for each in taken.values() for recording in each[:limit]]


def _transcribe(recordings: Sequence[Recording], model: Path, progress: Console) -> Iterator[Pair]:
    """Yield each recording with both texts; the sides take turns, so that they share the machine's moods."""
    settings: Mapping[str, str] = {"MODEL": str(model)}
    with (
        Service(TALK_PATH, settings=settings) as service,
        served([each.path for each in recordings]) as (_, urls),
    ):
        for recording, url in zip(recordings, urls, strict=True):
            progress.print(f"{recording.set_name}: {recording.path.name}", highlight=False)
            run = service.transcribe(url)
            ours = Written(run.texts[0], run.wall_seconds, run.cpu_seconds, run.first_words_seconds[0])
            [theirs] = plain.transcribe(model, recording.path, TALK_PATH)
            yield (
                recording,
                ours,
                Written(theirs.text, theirs.wall_seconds, theirs.cpu_seconds, theirs.first_segment_seconds),
            )


if __name__ == "__main__":
    main()
