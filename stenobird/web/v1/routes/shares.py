"""`/v1/transcripts/{id}/share`: links that open one transcript, made and revoked by its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from stenobird.errors import NotFound
from stenobird.jobs.schemas import ShareLink, ShareLinks
from stenobird.web.representations import json_response
from stenobird.web.requests import base_url_of, services_of, transcript_id
from stenobird.web.routing import Endpoint

if TYPE_CHECKING:
    from starlette.requests import Request

    from stenobird.jobs.sharing import ShareService
    from stenobird.ports import Caller

_NO_STORE = {"Cache-Control": "no-store"}


async def count_share_links(request: Request, caller: Caller | None) -> Response:
    """Say how many links there are."""
    links = await _shares(request).count(transcript_id(request), caller)
    return json_response(ShareLinks(links=links))


async def create_share_link(request: Request, caller: Caller | None) -> Response:
    """Make a link: 201, the page's address, and the token for `?share=` on status, events and result."""
    job_id = transcript_id(request)
    token = await _shares(request).create(job_id, caller)
    url = f"{base_url_of(request)}/t/{job_id}?share={token}"
    return json_response(ShareLink(share_url=url, token=token), 201)


async def revoke_share_links(request: Request, caller: Caller | None) -> Response:
    """Revoke every link of the transcript, whether there were any or not: 204."""
    await _shares(request).revoke(transcript_id(request), caller)
    return Response(status_code=204, headers=_NO_STORE)


def _shares(request: Request) -> ShareService:
    shares = services_of(request).shares
    if shares is None:
        raise NotFound
    return shares


ENDPOINTS: Final = (
    Endpoint("GET", "/v1/transcripts/{id}/share", count_share_links, key="optional"),
    Endpoint("POST", "/v1/transcripts/{id}/share", create_share_link, key="optional"),
    Endpoint("DELETE", "/v1/transcripts/{id}/share", revoke_share_links, key="optional"),
)
