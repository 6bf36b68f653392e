# ruff: noqa: RUF001  # the punctuation of other scripts is the point
"""Cuts a text into what a translation model does well: one sentence at a time, of bounded length.

NLLB was trained on single sentences and tends to leave out the first of several, so sentences are translated
one by one, and joined again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CLOSING = r"[\"'”’»)\]」』）]*"
_SENTENCE_END: Final = re.compile(rf"[.!?…؟।۔።။]+{_CLOSING}\s+|[。！？]+{_CLOSING}\s*")
_ABBREVIATION: Final = re.compile(
    r"(?:^|[\s(\[\"'“])(?:\w|Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|Gen|Sen|Rep|Mt|vs|e\.g|i\.e|z\.B)\.$"
)
_CLAUSE_END: Final = re.compile(r"[,;:،؛–—]\s+|[、，；：]")
_SPACE: Final = re.compile(r"\s+")


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
