"""Keywords: names in the client's spelling, where the model wrote something that sounds like them.

A prompt that holds names makes Whisper write them over silence and other words. Here a window is decoded
without them first, as any other. Only where that text has words that resemble a keyword is it decoded once
more with the keyword as its prompt, and only those words are replaced. So a keyword never appears where
nothing similar was spoken, and all other text stays as it was.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIMILARITY = 0.5
"""The least share of common letters of words that sound alike, as `difflib` counts them."""
LETTERS_AT_LEAST = 4
"""Shorter keywords resemble too much; only their spelling is corrected."""

_WORD = re.compile(r"\s*\S+")
_MAX_EXTRA_WORDS = 1
_TAIL = re.compile(r"(?:['’]s)?[^\w]*$")  # noqa: RUF001  # a possessive and punctuation stay
_HEAD = re.compile(r"^\s*[^\w\s]*")


class _Resemblance(NamedTuple):
    """Words `first` to before `after` that resemble a keyword; `same` if all letters are equal."""

    keyword: str
    first: int
    after: int
    same: bool


def spell(texts: Sequence[str], keywords: Sequence[str], decode: Callable[[list[str]], str]) -> list[str]:
    """Return the texts of a window's pieces with keywords spelled as the client does.

    Equal letters are enough ("open ai" for OpenAI). Words that only sound alike are replaced where the window
    has the keyword at the same place when it is decoded with it as its prompt, which `decode` does, once at
    most.
    """
    words = [_WORD.findall(text) for text in texts]
    flat = [word for piece in words for word in piece]
    found = _resembling(flat, keywords)
    alike = [one for one in found if not one.same]
    if alike:
        biased = _WORD.findall(decode(list(dict.fromkeys(one.keyword for one in alike))))
        confirmed = _confirmed(alike, flat, biased)
        found = [one for one in found if one.same or one in confirmed]
    start = 0
    for piece in words:
        end = start + len(piece)
        for one in reversed(found):
            if start <= one.first and one.after <= end:
                first, last = flat[one.first], flat[one.after - 1]
                piece[one.first - start : one.after - start] = [_replaced(first, last, one.keyword)]
        start = end
    return ["".join(piece) for piece in words]


def _resembling(words: Sequence[str], keywords: Sequence[str]) -> list[_Resemblance]:
    """Return where words resemble or equal a keyword, each word once at most, in order."""
    letters = [_letters(word) for word in words]
    found: list[tuple[float, _Resemblance]] = []
    for keyword in keywords:
        target = _letters(keyword)
        matcher = SequenceMatcher(None, "", target, autojunk=False)
        longest = len(keyword.split()) + _MAX_EXTRA_WORDS
        for first in range(len(letters)):
            for after in range(first + 1, min(first + longest, len(letters)) + 1):
                run = "".join(letters[first:after])
                if run and (ratio := _similarity(run, target, matcher)):
                    found.append((ratio, _Resemblance(keyword, first, after, run == target)))
    chosen: list[_Resemblance] = []
    for _, one in sorted(found, key=lambda item: (-item[0], item[1].first, item[1].after)):
        if all(one.after <= other.first or other.after <= one.first for other in chosen):
            chosen.append(one)
    return sorted(chosen, key=lambda one: one.first)


def _confirmed(
    alike: Sequence[_Resemblance], words: Sequence[str], biased: Sequence[str]
) -> set[_Resemblance]:
    """Return those whose keyword the biased text has at the same place."""
    before, after = ([_letters(word) for word in side] for side in (words, biased))
    codes = SequenceMatcher(None, before, after, autojunk=False).get_opcodes()
    changes = [(i1, i2, "".join(after[j1:j2])) for code, i1, i2, j1, j2 in codes if code == "replace"]
    return {
        one
        for one in alike
        for i1, i2, instead in changes
        if i1 <= one.first and one.after <= i2 and _letters(one.keyword) in instead
    }


def _replaced(first: str, last: str, keyword: str) -> str:
    """Return a keyword with what surrounds the words it replaces."""
    head, tail = _HEAD.match(first), _TAIL.search(last)
    if keyword.islower() and first.strip()[:1].isupper():  # an ordinary word at the start of a sentence
        keyword = keyword[:1].upper() + keyword[1:]
    return (head.group() if head else "") + keyword + (tail.group() if tail else "")


def _similarity(run: str, target: str, matcher: SequenceMatcher[str]) -> float:
    """Return how alike letters are, 0 where they don't resemble each other."""
    if run == target:
        return 1.0
    shorter, longer = sorted((len(run), len(target)))
    if shorter < LETTERS_AT_LEAST or 2 * shorter / (shorter + longer) < SIMILARITY:
        return 0.0
    matcher.set_seq1(run)
    if matcher.quick_ratio() < SIMILARITY:
        return 0.0
    ratio = matcher.ratio()
    return ratio if ratio >= SIMILARITY else 0.0


def _letters(word: str) -> str:
    return "".join(filter(str.isalnum, word.casefold()))
