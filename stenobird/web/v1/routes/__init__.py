"""The endpoints of `/v1`, one module for each resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stenobird.web.routing import Dialect
from stenobird.web.v1.routes import account, billing, transcripts, webhooks

if TYPE_CHECKING:
    from stenobird.errors import StenobirdError


def dialect() -> Dialect:
    """Return the dialect at `/v1`, whose errors are flat."""
    modules = (transcripts, account, billing, webhooks)
    return Dialect(
        roots=("/v1",),
        render=_render,
        endpoints=[endpoint for module in modules for endpoint in module.ENDPOINTS],
    )


def _render(error: StenobirdError, _request_id: str | None) -> tuple[int, dict[str, Any]]:
    return error.http_status, error.body()
