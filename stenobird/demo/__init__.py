"""What `stenobird demo` and the tests run on: a talk for real models, and a fixture model with its clip.

Both compare what was recognized with what was said by the word error rate.

The fixture model knows 178 words and nothing else; it must never be offered as a speech model. README.md in
this folder says where it came from.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

TALK_PATH = Path(__file__).parent / "talk.mp3"
TALK_TEXT_PATH = Path(__file__).parent / "talk.txt"
MODEL_DIR = Path(__file__).parent / "model"
CLIP_PATH = Path(__file__).parent / "clip.mp3"
CLIP_TEXT_PATH = Path(__file__).parent / "clip.txt"


_NOT_A_WORD = re.compile(r"[^\w']+")


def words(text: str) -> list[str]:
    """Split into words: lower case, without punctuation."""
    return _NOT_A_WORD.sub(" ", text.lower()).split()


def word_errors(reference: Sequence[str], heard: Sequence[str]) -> int:
    """Return the least number of substitutions, deletions and insertions (Levenshtein, on words).

    Costs time in the product of the lengths, memory in their sum; an hour of speech takes a second.
    """
    number: dict[str, int] = {}
    expected, actual = (
        np.array([number.setdefault(word, len(number)) for word in text], np.int64)
        for text in (reference, heard)
    )
    columns = np.arange(len(actual) + 1)
    row = columns
    for count, word in enumerate(expected, 1):
        # Without insertions every cell depends on the row above only; a running minimum adds them.
        best = np.concatenate([[count], np.minimum(row[1:] + 1, row[:-1] + (actual != word))])
        row = np.minimum.accumulate(best - columns) + columns
    return int(row[-1])


def word_error_rate(reference: str, heard: str) -> float:
    """Return errors over the reference's words, 0.0 for a perfect transcript; can exceed 1.

    Raises `ValueError` when the reference has no words.
    """
    expected = words(reference)
    if not expected:
        raise ValueError("The reference text has no words: a word error rate needs at least one.")
    return word_errors(expected, words(heard)) / len(expected)
