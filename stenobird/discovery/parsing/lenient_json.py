"""Parses JSON as pages write it: with comments, in CDATA, with quotes as entities.

Runs in the parsing child. Everything is linear in the length of the text.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any, Final

_DECODER = json.JSONDecoder(strict=False)
_OPENING = re.compile(r"(?://\s*)?(?:<!--|<!\[CDATA\[)\s*")
_CLOSING = re.compile(r"(?://\s*)?(?:-->|\]\]>)\s*$")
_BAD_ESCAPE = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})|\\')
# A string that is not closed is taken to the end, so that nothing is read twice.
_STRING_COMMENT_OR_COMMA = re.compile(
    r'("(?:[^"\\]|\\.?)*+(?:"|\Z))|/\*+[^*]{0,5000}\*+/|(?<![:\w])//[^\r\n]*|,(?=\s*[}\]])', re.DOTALL
)
_ENTITY = re.compile(r"&(?:quot|#0*34|#x0*22);", re.IGNORECASE)
MAX_VALUES: Final = 20


def parse_lenient(text: str) -> Any | None:
    """Parse JSON as pages write it.

    In CDATA or comments, with raw line breaks, comments, trailing commas, escapes that JSON does not have,
    quotes as HTML entities; several values one after the other become a list.
    """
    text = text.strip().removeprefix("\ufeff")
    if opening := _OPENING.match(text):
        text = text[opening.end() :]
    text = (text[:-16] + _CLOSING.sub("", text[-16:])).rstrip("; \t\r\n")
    parsed, end = _parse(text)
    if end == len(text):
        return parsed
    if text[:1] not in {"{", "[", "/"}:
        return None
    if end == 0:
        if '"' not in text and _ENTITY.search(text):
            text = html.unescape(text)
        text = _STRING_COMMENT_OR_COMMA.sub(lambda match: match[1] or "", text)
        text = _BAD_ESCAPE.sub(lambda match: match[0] if match[1] else "", text).strip()
        parsed, end = _parse(text)
    values = [parsed] if end else []
    while 0 < end < len(text) and len(values) < MAX_VALUES:
        text = text[end:].lstrip("; \t\r\n,")
        parsed, end = _parse(text)
        values += [parsed] if end else []
    return values[0] if len(values) == 1 else (values or None)


def _parse(text: str) -> tuple[Any, int]:
    """Return the value that the text starts with, and where it ends; 0 if there is none."""
    try:
        value, end = _DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return None, 0
    return value, len(text) if not text[end:].strip() else end
