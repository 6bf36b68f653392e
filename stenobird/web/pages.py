"""HTML pages from templates: the only module that imports `jinja2`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import jinja2
from starlette.responses import HTMLResponse

from stenobird.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

MAX_FORM_BYTES = 16 * 1024
STATIC_DIR: Final = Path(__file__).parent / "static"

_NOTHING_INLINE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; "
)

BUYING: Mapping[str, str] = MappingProxyType(
    {
        "Cache-Control": "no-store",
        # A form may lead to Stripe's page, whose address Stripe names.
        "Content-Security-Policy": _NOTHING_INLINE + "form-action 'self' https: http://127.0.0.1:*",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
)
"""Headers of pages that lead to a checkout and back; nobody keeps a copy of them."""

LISTENING: Mapping[str, str] = MappingProxyType(
    {
        "Cache-Control": "no-store",
        # The player plays the audio from where it was found, and only when somebody presses play.
        "Content-Security-Policy": _NOTHING_INLINE + "form-action 'self'; media-src 'self' https: http:",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
)
"""Headers of pages with a player."""

READING: Mapping[str, str] = MappingProxyType(
    {
        "Cache-Control": "no-cache",
        "Content-Security-Policy": _NOTHING_INLINE + "form-action 'self'",
        "Cross-Origin-Opener-Policy": "same-origin",
    }
)
"""Headers of every other page."""


class Pages:
    """The templates of `stenobird/web/templates`, with everything put into them escaped.

    `asset(name)` in a template is the address of a file of `stenobird/web/static`, with a mark of its
    content, so that browsers may keep it for ever.
    """

    def __init__(self) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("stenobird.web", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        marks: dict[str, str] = {}

        def asset(name: str) -> str:
            if name not in marks:
                marks[name] = hashlib.sha256((STATIC_DIR / name).read_bytes()).hexdigest()[:12]
            return f"/static/{name}?v={marks[name]}"

        self._templates.globals["asset"] = asset
        self._templates.filters["clock"] = clock_time

    def render(
        self, name: str, status: int = 200, *, headers: Mapping[str, str] = BUYING, **context: Any
    ) -> HTMLResponse:
        """Return a page whose scripts and styles are files of ours."""
        return HTMLResponse(self._templates.get_template(name).render(**context), status, dict(headers))


def clock_time(seconds: float) -> str:
    """Return a position in audio as people write it: `0:07`, `12:30`, `1:02:03`."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


async def read_form(request: Request) -> Mapping[str, str]:
    """Return the fields of a small form as browsers send it. Raises `InvalidRequest`."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM_BYTES:
            raise InvalidRequest(f"The form is larger than {MAX_FORM_BYTES} bytes.")
    try:
        fields = parse_qs(body.decode(), max_num_fields=50, errors="strict")
    except ValueError as exc:
        raise InvalidRequest("The form can't be read. Go back and send it again.") from exc
    return {name: values[0] for name, values in fields.items()}
