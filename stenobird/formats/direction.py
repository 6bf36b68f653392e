"""The direction of text: by its characters, and where those are misleading, by the spoken language."""

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
"""Right-to-left languages that Whisper knows, and their tags in word processors."""


def speaks_right_to_left(language: str | None) -> bool:
    """Return whether the language (ISO 639-1) is written from right to left."""
    return language in _TAGS


def tag_of(language: str | None) -> str | None:
    """Return the full tag of a right-to-left language, `None` for others."""
    return _TAGS.get(language or "")


def is_right_to_left(text: str, language: str | None = None) -> bool:
    """Return whether a paragraph is set from right to left.

    It is if its first strong character is right-to-left (Unicode bidi rule P2). In a right-to-left language
    it also is if any character is right-to-left, since a sentence may start with a foreign name, or if no
    character is strong.
    """
    directions = [kind != "L" for char in text if (kind := unicodedata.bidirectional(char)) in _STRONG]
    if speaks_right_to_left(language):
        return any(directions) or not directions
    return bool(directions) and directions[0]


def marked(line: str, language: str | None) -> str:
    """Return the line with a right-to-left mark if software that follows rule P2 would misjudge it.

    Players and browsers use the first strong character of a line. If that is left-to-right, or there is none,
    an invisible mark at the start sets the direction.
    """
    if is_right_to_left(line, language) and not is_right_to_left(line):
        return RIGHT_TO_LEFT_MARK + line
    return line
