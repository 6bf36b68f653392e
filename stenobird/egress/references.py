"""Resolves the addresses that pages, feeds and playlists refer to, the way browsers do.

What comes out is no more trusted than what went in: the policy checks it before anything is opened.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import quote, urljoin, urlsplit

_PLAIN_ABSOLUTE = re.compile(r"https?://[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::\d{1,4})?(?=[/?#]|$)")
_ESCAPED_AMPERSAND = re.compile(r"&(?:amp|#0*38|#x0*26);(?:amp;)*", re.IGNORECASE)
"""No valid address contains it."""
_STRIPPED: Final = "".join(map(chr, range(0x21))) + "\u00a0\u200b\u200e\u200f\u2060\ufeff"
"""Browsers drop the first 33 only; the others are invisible, and come with addresses that were pasted."""
_ENCODED = re.compile(r"[\s\x00-\x1f\x7f-\x9f\\\ud800-\udfff]")
_TO_REPAIR = re.compile(rf"{_ENCODED.pattern}|:///")


def absolute(base: str, reference: str) -> str | None:
    """Resolve a reference found in a document; `None` if the result is not an http(s) URL.

    It is repaired as browsers do (WHATWG URL): controls and spaces around it, tabs and line breaks are
    dropped, other spaces and controls percent-encoded, and backslashes read as slashes. An ampersand that a
    template has escaped once too often is restored; nothing else is unescaped.
    """
    reference = re.sub(r"[\t\r\n]", "", reference.strip(_STRIPPED))
    if "&" in reference:
        reference = _ESCAPED_AMPERSAND.sub("&", reference)
    if _TO_REPAIR.search(reference):
        reference = _repaired(reference)
    if not reference or len(reference) > 8192:
        return None
    # Most references need no parsing, which halves the time for a page of links.
    if "/." not in reference:
        if _PLAIN_ABSOLUTE.match(reference):
            return reference
        if reference[0] == "/" and reference[1:2] != "/" and (start := _plain_origin(base)):
            return start + reference
    try:
        url = urljoin(base, reference)
        parts = urlsplit(url)
        usable = parts.scheme.lower() in {"http", "https"} and bool((parts.hostname or "").strip("."))
    except ValueError:
        return None
    return url if usable else None


def _repaired(reference: str) -> str:
    path = re.match(r"[^?#]*", reference)
    end = path.end() if path else 0
    address = re.sub(r"^(https?:)/{3,}", r"\1//", re.sub(r"\\/?", "/", reference[:end]), flags=re.IGNORECASE)
    return _ENCODED.sub(lambda match: quote(match[0], safe="", errors="replace"), address + reference[end:])


@lru_cache(maxsize=64)
def _plain_origin(base: str) -> str | None:
    match = _PLAIN_ABSOLUTE.match(base)
    return match[0] if match else None
