"""Tells a translation from what a model writes when it has lost its way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

LONGEST_PERIOD: Final = 8
REPEATS: Final = 4
"""So often one after the other, tokens are a loop, unless the source says them as often."""
LONG_SOURCE: Final = 16
SHORTEST: Final = 0.2
"""A long source in fewer tokens than this share of its own has been left out for the most part."""


def says_something(text: str) -> bool:
    """Whether there is a letter in the text, of any script."""
    return any(char.isalpha() for char in text)


def is_usable(text: str, tokens: Sequence[str], source_tokens: Sequence[str], *, ended: bool) -> bool:
    """Whether a translation may be shown.

    It may not when it is empty or all punctuation, when it goes round in circles that the source does not go,
    when most of a long source is missing, or when it had not ended where it had to. The source is one with
    letters.
    """
    if not ended or not says_something(text):
        return False
    if len(source_tokens) >= LONG_SOURCE and len(tokens) < SHORTEST * len(source_tokens):
        return False
    return not loops(tokens) or loops(source_tokens)


def loops(tokens: Sequence[str]) -> bool:
    """Whether a run of up to `LONGEST_PERIOD` tokens is there `REPEATS` times or more, in a row."""
    for period in range(1, LONGEST_PERIOD + 1):
        same = 0
        for index in range(period, len(tokens)):
            same = same + 1 if tokens[index] == tokens[index - period] else 0
            if same >= period * (REPEATS - 1):
                return True
    return False
