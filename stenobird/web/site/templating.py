"""Renders pages from templates, and reads the guides under `/docs`. No other module imports `jinja2`."""

from __future__ import annotations

import functools
import hashlib
import html
import json
import re
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

import jinja2
from starlette.responses import HTMLResponse

from stenobird.errors import InvalidRequest
from stenobird.formats.documents import clock
from stenobird.web.requests import read_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

MAX_FORM_BYTES = 16 * 1024
STATIC_DIR: Final = Path(__file__).parent / "static"
GUIDES_DIR: Final = Path(__file__).parent / "guides"
"""HTML that the reference writer makes from the Markdown in docs/."""
GUIDES_ADDRESS: Final = "http://127.0.0.1:8000"
"""The address of the service in the rendered guides; `Guide.at` replaces it."""
VENDOR_DIR: Final = STATIC_DIR / "vendor"
FOLDER_PREFIX: Final = "as-of-"
"""The prefix of the folder in the URLs of static files; the rest is a hash of their content."""


def _headers(cache: str, policy: str) -> Mapping[str, str]:
    """Return the headers of pages without inline scripts and styles, with what `policy` adds to that."""
    nothing_inline = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; frame-ancestors 'none'; "
    )
    return MappingProxyType(
        {
            "Cache-Control": cache,
            "Content-Security-Policy": nothing_inline + policy,
            "Cross-Origin-Opener-Policy": "same-origin",
        }
    )


# The form redirects to Stripe, whose host Stripe chooses.
CHECKOUT_HEADERS: Final = _headers("no-store", "form-action 'self' https: http://127.0.0.1:*")
"""Headers of the pages of a checkout, which nobody may store."""

# Not "no-store": after Back, browsers would not restore the scroll position of such a page. The player loads
# the audio from its source, and only when somebody presses play. A file that the reader has chosen is a blob.
PLAYER_HEADERS: Final = _headers(
    "private, no-cache", "form-action 'self'; media-src 'self' https: http: blob:"
)
"""Headers of pages with a player."""

PAGE_HEADERS: Final = _headers("no-cache", "form-action 'self'")
"""Headers of every other page."""

# Swagger UI sets styles from scripts, which CSP allows; its icons are data: images.
API_REFERENCE_HEADERS: Final = _headers("public, max-age=300", "form-action 'none'; font-src 'self'")
"""Headers of Swagger UI, which is vendored and loads nothing from other sites."""


@functools.cache
def _templates() -> jinja2.Environment:
    """Return the templates of this package, in which values are escaped.

    `asset(name)` in a template is the URL of a file in `static/`. The URL contains a hash of all static
    files, so browsers may cache it forever, and relative imports in scripts have the same hash.
    """
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("stenobird.web.site", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals.update(asset=asset, modules=modules)
    templates.filters["clock"] = clock
    return templates


def problems() -> Mapping[str, Mapping[str, str]]:
    """Return the texts for errors on pages, by code: title, text, and sometimes a link."""
    known: Mapping[str, Mapping[str, str]]
    known = vars(_templates().get_template("_problems.html").module)["problems"]
    return known


def render(
    name: str, status: int = 200, *, headers: Mapping[str, str] = CHECKOUT_HEADERS, **context: Any
) -> HTMLResponse:
    """Return a page."""
    return HTMLResponse(_templates().get_template(name).render(**context), status, dict(headers))


@functools.cache
def hashed_folder() -> str:
    """Return the folder in the URLs of static files, which contains a hash of their content."""
    digest = hashlib.sha256()
    for path in sorted(STATIC_DIR.rglob("*")):
        if path.is_file() and VENDOR_DIR not in path.parents:
            digest.update(f"{path.relative_to(STATIC_DIR)}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return f"{FOLDER_PREFIX}{digest.hexdigest()[:12]}"


def asset(name: str) -> str:
    """Return the URL of a static file. Raises `FileNotFoundError`."""
    if not (STATIC_DIR / name).is_file():
        raise FileNotFoundError(name)
    return f"/static/{hashed_folder()}/{name}"


@functools.cache
def modules(page: str | None) -> tuple[str, ...]:
    """Return what the scripts of a page import, so that it can preload all of it; `page` names its own."""
    waiting, found = ["app.js", *([f"app/{page}.js"] if page else [])], set[str]()
    scripts = tuple(waiting)
    while waiting:
        module = STATIC_DIR / waiting.pop()
        names = re.findall(
            r'^import .*from "\./(?:app/)?(\w+\.js)";$', module.read_text("utf-8"), re.MULTILINE
        )
        new = {f"app/{name}" for name in names} - found
        found |= new
        waiting += new
    return tuple(sorted(found.difference(scripts)))


async def read_form(request: Request) -> Mapping[str, str]:
    """Return the fields of a URL-encoded form. Raises `InvalidRequest`."""
    body = await read_body(request, MAX_FORM_BYTES, f"The form is larger than {MAX_FORM_BYTES} bytes.")
    try:
        fields = parse_qs(body.decode(), max_num_fields=50, errors="strict")
    except ValueError as exc:
        raise InvalidRequest("The form can't be read. Go back and send it again.") from exc
    return {name: values[0] for name, values in fields.items()}


@dataclass(frozen=True, slots=True)
class Guide:
    """A guide. `body` is trusted HTML without the title."""

    name: str
    title: str
    summary: str
    body: str

    def at(self, base_url: str) -> str:
        """Return the HTML for a service at this address."""
        return self.body.replace(GUIDES_ADDRESS, html.escape(base_url))


@functools.cache
def guides() -> tuple[Guide, ...]:
    """Return the guides in the order in which they are listed. They are read at the first call."""
    return tuple(
        Guide(**row, body=(GUIDES_DIR / f"{row['name']}.html").read_text(encoding="utf-8"))
        for row in json.loads((GUIDES_DIR / "index.json").read_text(encoding="utf-8"))
    )
