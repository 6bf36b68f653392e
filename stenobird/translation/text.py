# ruff: noqa: RUF001  # the punctuation of other scripts is the point
"""Texts around the model: cutting them into sentences, and recognising unusable translations.

NLLB was trained on single sentences and tends to leave out the first of several, so sentences are translated
one by one, and joined again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_CLOSING = r"[\"'”’»)\]」』）]*"
_SENTENCE_END: Final = re.compile(rf"[.!?…؟।۔።။]+{_CLOSING}\s+|[。！？]+{_CLOSING}\s*")
_ABBREVIATION: Final = re.compile(
    r"(?:^|[\s(\[\"'“])(?:\w|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Gen|Sen|Rep|Mt|vs|e\.g|i\.e|z\.B)\.$"
)
_CLAUSE_END: Final = re.compile(r"[,;:،؛–—]\s+|[、，；：]")
_SPACE: Final = re.compile(r"\s+")

MAX_PERIOD_TOKENS: Final = 8
REPEATS: Final = 4
"""Tokens that repeat so often in a row are a loop, unless the source repeats as often."""
LONG_SOURCE_TOKENS: Final = 16
MIN_SHARE: Final = 0.2
"""A translation of a long source with fewer tokens than this share of it has left most of it out."""


def pieces(text: str, size: Callable[[str], int], limit: int) -> list[str]:
    """Return the text's sentences, stripped; longer ones than `limit` (by `size`) are cut at clauses.

    Where a sentence has no clauses it is cut between words, and where there are no words, anywhere: a piece
    is over the limit only if a single character is.
    """
    return [piece for sentence in sentences(text) for piece in _within(sentence, size, limit)]


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text, in order, stripped; their words are all of its words."""
    start = 0
    for match in _SENTENCE_END.finditer(text):
        before = text[start : match.end()].rstrip()
        after = text[match.end() : match.end() + 1]
        if after.islower() or _ABBREVIATION.search(before):
            continue
        yield before.lstrip()
        start = match.end()
    if rest := text[start:].strip():
        yield rest


def _within(sentence: str, size: Callable[[str], int], limit: int) -> list[str]:
    if len(sentence) <= 1 or size(sentence) <= limit:
        return [sentence]
    middle = _middle(sentence)
    halves = (sentence[:middle].strip(), sentence[middle:].strip())
    return [piece for half in halves if half for piece in _within(half, size, limit)]


def _middle(text: str) -> int:
    """Return the best place to cut near the middle: after a clause, else between words, else anywhere."""
    for mark in (_CLAUSE_END, _SPACE):
        ends = [match.end() for match in mark.finditer(text)]
        inner = [end for end in ends if len(text) / 4 <= end <= len(text) * 3 / 4]
        if inner:
            return min(inner, key=lambda end: abs(end - len(text) / 2))
    return len(text) // 2


def has_letters(text: str) -> bool:
    """Whether there is a letter in the text, of any script."""
    return any(char.isalpha() for char in text)


def is_usable(text: str, tokens: Sequence[str], source_tokens: Sequence[str], *, ended: bool) -> bool:
    """Whether a translation may be shown.

    It may not when it is empty or all punctuation, when it loops and the source does not, when most of a long
    source is missing, or when it reached the length limit before its end. The source has letters.
    """
    if not ended or not has_letters(text):
        return False
    if len(source_tokens) >= LONG_SOURCE_TOKENS and len(tokens) < MIN_SHARE * len(source_tokens):
        return False
    return not loops(tokens) or loops(source_tokens)


def loops(tokens: Sequence[str]) -> bool:
    """Whether a run of up to `MAX_PERIOD_TOKENS` tokens repeats, `REPEATS` times or more in a row."""
    for period in range(1, MAX_PERIOD_TOKENS + 1):
        same = 0
        for index in range(period, len(tokens)):
            same = same + 1 if tokens[index] == tokens[index - period] else 0
            if same >= period * (REPEATS - 1):
                return True
    return False
