"""`/v1/transcripts/{id}/share`: links that open one transcript, made and revoked by its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.endpoints import HTTPEndpoint
from starlette.responses import Response
from starlette.routing import Route

from stenobird.errors import NotFound
from stenobird.jobs.schemas import ShareLink, ShareLinks
from stenobird.web.representations import json_response
from stenobird.web.requests import base_url_of, caller_of, services_of, transcript_id

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from stenobird.jobs.sharing import ShareService

_NO_STORE = {"Cache-Control": "no-store"}


def routes() -> list[BaseRoute]:
    """Return the routes of this module."""
    return [Route("/v1/transcripts/{id}/share", Share)]


class Share(HTTPEndpoint):
    """The share links of one transcript. Their tokens are shown when they are made, and never again."""

    async def get(self, request: Request) -> Response:
        """Say how many links there are."""
        links = await _shares(request).count(transcript_id(request), await caller_of(request))
        return json_response(ShareLinks(links=links))

    async def post(self, request: Request) -> Response:
        """Make a link: 201, the page's address, and the token for `?share=` on status, events and result."""
        job_id = transcript_id(request)
        token = await _shares(request).create(job_id, await caller_of(request))
        url = f"{base_url_of(request)}/t/{job_id}?share={token}"
        return json_response(ShareLink(share_url=url, token=token), 201)

    async def delete(self, request: Request) -> Response:
        """Revoke every link of the transcript, whether there were any or not: 204."""
        await _shares(request).revoke(transcript_id(request), await caller_of(request))
        return Response(status_code=204, headers=_NO_STORE)


def _shares(request: Request) -> ShareService:
    shares = services_of(request).shares
    if shares is None:
        raise NotFound
    return shares
