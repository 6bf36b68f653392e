"""Cookies that servers set on the way of one request, for the later hops of that request only."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stenobird.egress.policy import PublicURL

MAX_COOKIES = 32
MAX_COOKIE_BYTES = 4096
MAX_HEADER_BYTES = 8192

# Names and values as RFC 6265 lets servers write them, and a little more: blanks and commas occur.
_PAIR = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*=\s*([\x20-\x3a\x3c-\x7e]*?)\s*(?:;|$)")
_MAX_AGE = re.compile(r";\s*max-age\s*=\s*(-?\d{1,12})", re.IGNORECASE)
_LONG_AGO = re.compile(r";\s*expires\s*=[^;]*\b(?:19[0-9]{2}|200[0-9])\b", re.IGNORECASE)
_SECURE = re.compile(r";\s*secure\s*(?:;|$)", re.IGNORECASE)


class HopCookies:
    """What the hops of one request have set. Nothing is kept past it, nothing reaches another host.

    A cookie goes back to the very host (and odd port) that set it, whatever `Domain` it asks for: without a
    list of public suffixes a wider one is not safe. `Secure` ones are set and sent over https only. What is
    past the bounds is left out: the first `MAX_COOKIES`, each of at most `MAX_COOKIE_BYTES`.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], tuple[str, bool]] = {}

    def store(self, url: PublicURL, headers: Iterable[tuple[str, str]]) -> None:
        """Take the `Set-Cookie` headers (lower-case names) of an answer from this URL."""
        for name, value in headers:
            pair = _PAIR.match(value) if name == "set-cookie" and len(value) <= MAX_COOKIE_BYTES else None
            if pair is None:
                continue
            key, rest = (url.authority, pair[1]), value[pair.end(2) :]
            age, secure = _MAX_AGE.search(rest), bool(_SECURE.search(rest))
            if (age is not None and int(age[1]) <= 0) or (age is None and _LONG_AGO.search(rest)):
                self._kept.pop(key, None)
            elif (url.scheme == "https" or not secure) and (
                key in self._kept or len(self._kept) < MAX_COOKIES
            ):
                self._kept[key] = (pair[2], secure)

    def header(self, url: PublicURL, own: str | None) -> str | None:
        """Return the `Cookie` header for a request to this URL, after what the caller wants sent there."""
        pairs = [own] if own else []
        length = len(own or "")
        for (authority, name), (value, secure) in self._kept.items():
            if authority != url.authority or (secure and url.scheme != "https"):
                continue
            length += len(name) + len(value) + 3
            if length > MAX_HEADER_BYTES:
                break
            pairs.append(f"{name}={value}")
        return "; ".join(pairs) or None
