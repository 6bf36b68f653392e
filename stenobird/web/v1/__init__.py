"""The endpoints of `/v1`, one module for each resource."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import ConfigDict, Field

from stenobird.bodies import Body, Number, Omittable
from stenobird.web.routing import Dialect
from stenobird.web.v1 import account, billing, transcripts, webhooks

if TYPE_CHECKING:
    from stenobird.errors import StenobirdError
    from stenobird.web.routing import Render


class FlatError(Body):
    """Every error of `/v1`: a stable code, and a message that says what to do."""

    model_config = ConfigDict(extra="allow")

    error: str
    message: str
    accepted_url_examples: Omittable[list[str]] = None
    unsupported_url_examples: Omittable[list[str]] = None
    retry_after_seconds: Omittable[Number] = None
    field: Annotated[Omittable[str], Field(description="The field at fault.")] = None


def dialect(
    render_for_sdk: Render | None = None,
) -> Dialect:
    """Return the dialect at `/v1`, whose errors are flat, except for OpenAI's SDKs."""
    modules = (transcripts, account, billing, webhooks)
    return Dialect(
        roots=("/v1/",),
        render=_render,
        render_for_sdk=render_for_sdk,
        endpoints=[endpoint for module in modules for endpoint in module.ENDPOINTS],
        error_body=FlatError,
    )


def _render(error: StenobirdError, _request_id: str | None) -> tuple[int, FlatError]:
    return error.http_status, FlatError.model_validate(error.body())
