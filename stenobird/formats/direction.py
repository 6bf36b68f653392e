"""Which way text is set: by its own letters, and where those mislead, by the language that was spoken."""

from __future__ import annotations

import unicodedata
from typing import Final

RIGHT_TO_LEFT_MARK: Final = "\u200f"

_STRONG: Final = frozenset({"L", "R", "AL"})
"""Classes of characters that have a direction of their own."""

_TAGS: Final = {
    "ar": "ar-SA",
    "fa": "fa-IR",
    "he": "he-IL",
    "ps": "ps-AF",
    "sd": "sd-Arab-PK",
    "ur": "ur-PK",
    "yi": "yi-001",
}
"""Languages of right-to-left scripts that Whisper knows, as word processors call them."""


def speaks_right_to_left(language: str | None) -> bool:
    """Whether the language (ISO 639-1) is written from right to left."""
    return language in _TAGS


def tag_of(language: str | None) -> str | None:
    """Return the full tag of a right-to-left language, `None` for others."""
    return _TAGS.get(language or "")


def is_right_to_left(text: str, language: str | None = None) -> bool:
    """Whether a paragraph is set from right to left.

    By itself it is if its first strong character is (Unicode bidi rule P2). In a right-to-left language it is
    also if any character is, since a sentence may begin with a foreign name, or if none is strong.
    """
    directions = [kind != "L" for char in text if (kind := unicodedata.bidirectional(char)) in _STRONG]
    if speaks_right_to_left(language):
        return any(directions) or not directions
    return bool(directions) and directions[0]


def marked(line: str, language: str | None) -> str:
    """Return a line of plain text that shows the way `is_right_to_left` says in whatever obeys rule P2.

    Players and browsers go by the first strong character of a line: where that is a Latin name or there is
    none, an invisible mark before it says what the line is.
    """
    if is_right_to_left(line, language) and not is_right_to_left(line):
        return RIGHT_TO_LEFT_MARK + line
    return line
