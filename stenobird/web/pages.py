"""HTML pages from templates: the only module that imports `jinja2`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import jinja2
from starlette.responses import HTMLResponse

from stenobird.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

MAX_FORM_BYTES = 16 * 1024

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        # A form may lead to Stripe's page, whose address Stripe names.
        "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "form-action 'self' https: http://127.0.0.1:*; base-uri 'none'; frame-ancestors 'none'"
    ),
}


class Pages:
    """The templates of `stenobird/web/templates`, with everything put into them escaped."""

    def __init__(self) -> None:
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("stenobird.web", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )

    def render(self, name: str, status: int = 200, **context: Any) -> HTMLResponse:
        """Return a page that nobody keeps a copy of and that runs no script."""
        return HTMLResponse(self._templates.get_template(name).render(**context), status, _HEADERS)


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
