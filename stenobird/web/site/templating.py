"""HTML pages from templates: the only module that imports `jinja2`."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import jinja2
from starlette.responses import HTMLResponse

from stenobird.errors import InvalidRequest
from stenobird.web.requests import read_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

MAX_FORM_BYTES = 16 * 1024
STATIC_DIR: Final = Path(__file__).parent / "static"
VENDOR_DIR: Final = STATIC_DIR / "vendor"
MARK: Final = "as-of-"
"""What the name of a folder begins with that stands for the files' content."""

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
        # Not "no-store": browsers keep no such page whole, and Back would lose one's place in it.
        "Cache-Control": "private, no-cache",
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
    """The templates of this package, with everything put into them escaped.

    `asset(name)` in a template is the address of a file of `static/`, below a folder that is
    named by what all of them hold: browsers may keep it for ever, and what it imports lies beside it.
    """

    def __init__(self) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("stenobird.web.site", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.globals.update(asset=asset, modules=modules)
        self._templates.filters["clock"] = clock_time

    @property
    def problems(self) -> Mapping[str, Mapping[str, str]]:
        """What errors are called on pages, by code: title, text, and maybe a link to the remedy."""
        known: Mapping[str, Mapping[str, str]]
        known = vars(self._templates.get_template("_problems.html").module)["problems"]
        return known

    def render(
        self, name: str, status: int = 200, *, headers: Mapping[str, str] = BUYING, **context: Any
    ) -> HTMLResponse:
        """Return a page whose scripts and styles are files of ours."""
        return HTMLResponse(self._templates.get_template(name).render(**context), status, dict(headers))


@functools.cache
def templates() -> Pages:
    """Return the templates, read when they are first needed."""
    return Pages()


@functools.cache
def marked_folder() -> str:
    """Return the name of the folder that stands for what the files of the pages hold now."""
    digest = hashlib.sha256()
    for path in sorted(STATIC_DIR.rglob("*")):
        if path.is_file() and VENDOR_DIR not in path.parents:
            digest.update(f"{path.relative_to(STATIC_DIR)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return f"{MARK}{digest.hexdigest()[:12]}"


def asset(name: str) -> str:
    """Return the address of a file of the pages. Raises `FileNotFoundError`."""
    if not (STATIC_DIR / name).is_file():
        raise FileNotFoundError(name)
    return f"/static/{marked_folder()}/{name}"


@functools.cache
def modules() -> tuple[str, ...]:
    """Return the names of the modules of `app.js`, so that a browser asks for all of them at once."""
    return tuple(sorted(f"app/{path.name}" for path in (STATIC_DIR / "app").glob("*.js")))


def clock_time(seconds: float) -> str:
    """Return a position in audio as people write it: `0:07`, `12:30`, `1:02:03`."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


async def read_form(request: Request) -> Mapping[str, str]:
    """Return the fields of a small form as browsers send it. Raises `InvalidRequest`."""
    body = await read_body(request, MAX_FORM_BYTES, f"The form is larger than {MAX_FORM_BYTES} bytes.")
    try:
        fields = parse_qs(body.decode(), max_num_fields=50, errors="strict")
    except ValueError as exc:
        raise InvalidRequest("The form can't be read. Go back and send it again.") from exc
    return {name: values[0] for name, values in fields.items()}
