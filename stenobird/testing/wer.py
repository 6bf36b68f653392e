"""Word error rate: the one measure of a transcript's text in tests, tools and benches."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_NOT_A_WORD = re.compile(r"[^\w']+")


def words(text: str) -> list[str]:
    """Split into words: lower case, without punctuation."""
    return _NOT_A_WORD.sub(" ", text.lower()).split()


def word_errors(reference: Sequence[str], heard: Sequence[str]) -> int:
    """Return the least number of substitutions, deletions and insertions (Levenshtein, on words).

    Costs time in the product of the lengths, memory in the length of `heard`.
    """
    row = list(range(len(heard) + 1))
    for count, expected in enumerate(reference, 1):
        diagonal, row[0] = row[0], count
        for column, actual in enumerate(heard, 1):
            best = min(row[column] + 1, row[column - 1] + 1, diagonal + (expected != actual))
            diagonal, row[column] = row[column], best
    return row[-1]


def word_error_rate(reference: str, heard: str) -> float:
    """Return errors over the reference's words, 0.0 for a perfect transcript; can exceed 1.

    Raises `ValueError` when the reference has no words.
    """
    expected = words(reference)
    if not expected:
        raise ValueError("The reference text has no words: a word error rate needs at least one.")
    return word_errors(expected, words(heard)) / len(expected)
