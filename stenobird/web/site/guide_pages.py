"""`/docs/{name}`: the hand-written guides and the reference, one page each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.endpoints import HTTPEndpoint
from starlette.routing import Route

from stenobird.errors import NotFound
from stenobird.web.requests import base_url_of
from stenobird.web.site.guides import guides
from stenobird.web.site.pages import around, templates
from stenobird.web.site.templating import READING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute


def routes() -> list[BaseRoute]:
    """Return the routes of this module."""
    return [Route("/docs/{name}", GuidePage)]


class GuidePage(HTTPEndpoint):
    """One guide."""

    async def get(self, request: Request) -> Response:
        """Show it, with this service's address in its examples."""
        name = request.path_params["name"]
        guide = next((guide for guide in guides() if guide.name == name), None)
        if guide is None:
            raise NotFound
        return templates().render(
            "guide.html",
            headers=READING,
            guide=guide,
            body=guide.at(base_url_of(request)),
            guides=guides(),
            **around(request),
        )
