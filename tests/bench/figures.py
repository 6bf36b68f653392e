"""What a bench measures and reports: its scale, and figures with their bars and verdicts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.bench.audio import Studio

Verdict = Literal["reached", "missed", "not measured"]


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure should be: at most or at least `limit`."""

    direction: Literal["<=", ">="]
    limit: float

    def reached(self, value: float) -> bool:
        """Whether the value is good enough."""
        return value <= self.limit if self.direction == "<=" else value >= self.limit


@dataclass(frozen=True, slots=True)
class Question:
    """One figure before it is measured. `letter` is that of the list in the note on performance."""

    letter: str
    title: str
    bar: Bar
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure.

    `rounds` are the values of single rounds where there were several; `value` is then their median.
    `cpu_share` says what part of all cores each side got while it was measured: CPU seconds of the whole
    process tree, over wall seconds, over cores. `note` says what was compared, and what was computed rather
    than measured.
    """

    question: Question
    value: float | None
    note: str
    rounds: tuple[float, ...] = ()
    cpu_share: dict[str, float] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """Whether the bar was reached."""
        if self.value is None:
            return "not measured"
        return "reached" if self.question.bar.reached(self.value) else "missed"

    def to_json(self) -> dict[str, Any]:
        """Return the figure as a JSON object."""
        return {"verdict": self.verdict, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Scale:
    """How much audio, and how often. The bars hold for the default only."""

    short_minutes: float = 10.0
    medium_minutes: float = 30.0
    long_minutes: float = 180.0
    rounds: int = 3
    throttle_bytes_per_second: float = 64 * 1024
    encoder_rounds: int = 3
    encoder_windows: int = 12
    readers: int = 2000
    many_readers: int = 10_000
    reader_events: int = 40
    posts: int = 400
    previews: int = 7
    long_jobs: int = 8
    filled_jobs: int = 200_000
    worker_minutes: float = 3.0
    idle_seconds: float = 60.0


QUICK = Scale(
    short_minutes=2,
    medium_minutes=5,
    long_minutes=20,
    rounds=1,
    encoder_rounds=1,
    encoder_windows=4,
    readers=200,
    many_readers=1000,
    reader_events=10,
    posts=50,
    previews=2,
    long_jobs=3,
    filled_jobs=2000,
    worker_minutes=0.5,
    idle_seconds=20,
)


@dataclass(frozen=True, slots=True)
class Measurement:
    """What measures the figures of one letter."""

    questions: tuple[Question, ...]
    run: Callable[[Studio, Scale], list[Figure]]


_COLOURS = {"reached": "green", "missed": "red", "not measured": "yellow"}


def table(figures: Iterable[Figure], *, title: str) -> Table:
    """Return the figures as a table, one row each."""
    shown = Table(title=title, title_justify="left", show_lines=True)
    for column, justify in (("", "left"), ("figure", "left"), ("measured", "right"), ("bar", "right")):
        shown.add_column(column, justify=justify)  # type: ignore[arg-type]  # rich's literal type
    shown.add_column("verdict")
    shown.add_column("CPU share", no_wrap=True)
    shown.add_column("how", ratio=1)
    for figure in figures:
        question, colour = figure.question, _COLOURS[figure.verdict]
        shown.add_row(
            question.letter,
            question.title,
            _measured(figure),
            f"{'≤' if question.bar.direction == '<=' else '≥'} {question.bar.limit:g}{question.unit}",
            f"[{colour}]{figure.verdict}[/]",
            "\n".join(f"{side} {share:.0%}" for side, share in figure.cpu_share.items()),
            figure.note,
        )
    return shown


def _measured(figure: Figure) -> str:
    if figure.value is None:
        return "-"
    unit = figure.question.unit
    text = f"[bold]{figure.value:.3g}{unit}[/]"
    if len(figure.rounds) > 1:
        text += f"\n{min(figure.rounds):.3g}–{max(figure.rounds):.3g}"  # noqa: RUF001  # a range
    return text
