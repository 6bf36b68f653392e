"""The figures of `make bench-words`, from texts that need no model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.bench.words import Recording, SetFigures, Written, chart, measure, read_recordings, table

if TYPE_CHECKING:
    from pathlib import Path


def test_a_folder_needs_a_manifest_or_a_text_for_each_file(tmp_path: Path) -> None:
    talks = tmp_path / "talks"
    talks.mkdir()
    for name in ("a.mp3", "b.mp3"):
        (talks / name).touch()
    (talks / "a.txt").write_text("What is said.")
    assert read_recordings(tmp_path) == [Recording(talks / "a.mp3", "talks", "What is said.")]

    rows = [{"file": "talks/b.mp3", "text": None}, {"file": "talks/a.mp3", "set": "one", "text": ""}]
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    assert read_recordings(tmp_path) == [
        Recording(talks / "b.mp3", tmp_path.name, None),
        Recording(talks / "a.mp3", "one", ""),
    ]


def test_figures_are_ours_beside_plains(tmp_path: Path) -> None:
    spoken = Recording(tmp_path, "set", "One two, three four.")
    silent = Recording(tmp_path, "set", "")
    pairs = [
        (
            spoken,
            Written("one two three five", 1.0, 2.0, 0.5),
            Written("One two, three four.", 2.0, 2.0, 1.5),
        ),
        (silent, Written("", 1.0, 1.0, 0.5), Written("Thank you.", 2.0, 4.0, 0.5)),
    ]

    figures = measure("set", pairs)

    assert figures == SetFigures("set", 2, (25.0, 0.0), (75.0, 0.0), (0, 2), (0.5, 1.0), 0.5, 0.5)
    assert table([figures]).splitlines()[-1] == (
        "| set | 2 | 25.0 / 0.0 | 75.0 / 0.0 | 0 / 2 | 0.5 / 1.0 | 0.50 | 0.50 |"
    )
    assert chart([figures], "tiny.en").count("<rect") == 2


def test_a_set_without_speech_has_no_errors(tmp_path: Path) -> None:
    written = Written("", 1.0, 1.0, 1.0)

    figures = measure("noise", [(Recording(tmp_path, "noise", ""), written, written)])

    assert figures.errors is None
    assert figures.exact_errors is None
    assert figures.wall_ratio == pytest.approx(1.0)
