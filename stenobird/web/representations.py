"""Responses: JSON bodies, documents with their format, ETag and file name, and the cookie of a browser."""

from __future__ import annotations

import asyncio
import hashlib
import re
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

from starlette.responses import Response

from stenobird.bodies import Body
from stenobird.web.requests import BROWSER_COOKIE, is_secure

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from starlette.requests import Request

    from stenobird.formats import Format
    from stenobird.transcript import Transcript

MAX_RANGES: Final = 32
"""How many media ranges of an `Accept` header are read; browsers send about ten."""
MAX_NAME_CHARS: Final = 120
BROWSER_SECONDS: Final = 2 * 86_400
"""Longer than a Checkout Session, which is open for a day."""

_REVALIDATE: Final[Mapping[str, str]] = {
    "Cache-Control": "private, no-cache",
    "Vary": "Accept, Authorization",
}
_QUALITY = re.compile(r"(?:^|;)\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*(?:;|$)", re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?("[^"]*")|\*')
_SEPARATORS = re.compile(r'[\x00-\x1f\x7f-\x9f/\\:*?"<>|]+')
"""Path separators, and what Windows forbids in file names."""
_DIRECTIONS = re.compile(r"[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]")
"""Characters that change the reading direction; with them a name could appear to have another suffix."""

_Offer = TypeVar("_Offer", bound="Format")


def json_response(
    body: Body | Sequence[Body], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the body, or an array of them, as a response that nobody may cache."""
    content = (
        body.encode() if isinstance(body, Body) else b"[" + b",".join(one.encode() for one in body) + b"]"
    )
    return Response(content, status, {"Cache-Control": "no-store", **(headers or {})}, "application/json")


def no_content() -> Response:
    """Return a response without a body: 204."""
    return Response(status_code=204, headers={"Cache-Control": "no-store"})


def remember_browser(request: Request, response: Response, browser: str) -> None:
    """Set the cookie that `browser_of` reads."""
    response.set_cookie(
        BROWSER_COOKIE,
        browser,
        max_age=BROWSER_SECONDS,
        path="/",
        secure=is_secure(request),
        httponly=True,
        # Sent when Stripe redirects back here, but not with requests that another site posts.
        samesite="lax",
    )


def field_values(request: Request, name: str) -> str:
    """Return a list header as one value, also when it is sent in several lines (RFC 9110, 5.3)."""
    return ", ".join(request.headers.getlist(name))


def accepted(accept: str, offers: Iterable[_Offer]) -> _Offer | None:
    """Return the offer that `Accept` prefers, `None` if it accepts none of them.

    RFC 9110, 12.5.1: the quality of an offer is that of the most specific range that matches it; 0 excludes
    it. Of offers with equal quality, the one with the more specific range wins, then the one whose range
    comes first, then the first offer. A range can name any media type of an offer; wildcards match only the
    first.
    """
    ranges = [_media_range(item) for item in accept.split(",")[:MAX_RANGES]]

    def rank(offer: _Offer) -> tuple[float, int, int]:
        fits = [
            (exactness, -position, quality)
            for position, (name, quality) in enumerate(ranges)
            if (exactness := _exactness(name, offer.accepts))
        ]
        exactness, place, quality = max(fits, default=(0, 0, 0.0))
        return quality, exactness, place

    best = max(offers, key=rank)
    return best if rank(best)[0] > 0 else None


def _media_range(item: str) -> tuple[str, float]:
    name, _, parameters = item.partition(";")
    found = _QUALITY.search(parameters)
    return name.strip().lower(), float(found[1]) if found else 1.0


def _exactness(name: str, types: Sequence[str]) -> int:
    if name in types:
        return 3
    if name == f"{types[0].partition('/')[0]}/*":
        return 2
    return 1 if name == "*/*" else 0


def revalidated(request: Request, document: bytes, media_type: str) -> Response:
    """Return the document with its ETag, or 304 if `If-None-Match` contains it, as a weak tag or not."""
    etag = f'"{hashlib.sha256(document).hexdigest()[:32]}"'
    headers = {**_REVALIDATE, "ETag": etag}
    for found in _TAG.finditer(field_values(request, "if-none-match")):
        if found[0] == "*" or found[1] == etag:
            return Response(status_code=304, headers=headers)
    return Response(document, headers={**headers, "Content-Type": media_type})


async def document(request: Request, job_id: str, transcript: Transcript, wanted: Format) -> Response:
    """Return the transcript as a file in this format, or 304, see `revalidated`."""
    # In a thread: formatting hours of text would block the event loop.
    content = await asyncio.to_thread(wanted.encode, transcript)
    response = revalidated(request, content, wanted.media_type)
    response.headers["Content-Disposition"] = attachment(job_id, transcript.title, wanted.name)
    return response


def attachment(identity: str, title: str | None, suffix: str) -> str:
    """Return a `Content-Disposition` (RFC 6266) with the id in `filename` and the title in `filename*`.

    `filename` is ASCII, since clients disagree on anything else; `filename*` (RFC 8187) allows any script.
    """
    name = f'attachment; filename="{identity}.{suffix}"'
    words = _SEPARATORS.sub(" ", _DIRECTIONS.sub("", title or "")).split()
    readable = " ".join(words)[:MAX_NAME_CHARS].strip(" .")
    if readable:
        name += f"; filename*=UTF-8''{quote(f'{readable}.{suffix}', safe='', errors='replace')}"
    return name
