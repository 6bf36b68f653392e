"""`/developers/api-reference`: the OpenAPI document in Swagger UI, where each operation can be tried.

Swagger UI is vendored under `static/vendor/swagger-ui`; the page loads nothing from other sites.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import HTMLResponse, Response

from stenobird.web.routing import Endpoint

if TYPE_CHECKING:
    from starlette.requests import Request

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API reference · Stenobird</title>
<link rel="icon" href="/static/favicon.svg">
<link rel="stylesheet" href="/static/vendor/swagger-ui/swagger-ui.css">
</head>
<body>
<main id="api-reference"></main>
<noscript>The interactive reference needs JavaScript. The same is at
<a href="/openapi.json">/openapi.json</a> and, easier to read, at <a href="/docs">/docs</a>.</noscript>
<script src="/static/vendor/swagger-ui/swagger-ui-bundle.js"></script>
<script src="/static/api_reference.js"></script>
</body>
</html>
"""

_HEADERS: Final = {
    "Content-Security-Policy": (
        # Swagger UI sets styles from scripts, which CSP allows; its icons are data: images.
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cache-Control": "public, max-age=300",
}


async def api_reference(_request: Request) -> Response:
    """Show the page."""
    return HTMLResponse(_PAGE, headers=_HEADERS)


ENDPOINTS: Final = (Endpoint("GET", "/developers/api-reference", api_reference, key="none"),)
