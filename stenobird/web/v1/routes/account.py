"""`/v1/account`: the account behind a key, seen and deleted by its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.endpoints import HTTPEndpoint
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stenobird.accounts.schemas import account_body
from stenobird.errors import MissingAPIKey, NotFound
from stenobird.web.requests import caller_of, services_of

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from stenobird.accounts.service import AccountService
    from stenobird.ports import Caller

_NO_STORE = {"Cache-Control": "no-store"}


def routes() -> list[BaseRoute]:
    """Return the routes of this module."""
    return [Route("/v1/account", Account)]


class Account(HTTPEndpoint):
    """The caller's account."""

    async def get(self, request: Request) -> Response:
        """Answer with its plan, its state and its credits."""
        accounts, caller = await owner(request)
        return JSONResponse(account_body(await accounts.own_view(caller)), headers=_NO_STORE)

    async def delete(self, request: Request) -> Response:
        """Delete the account's data at once; none of its keys works from then on.

        Transcripts under way are cancelled, unbilled, and removed when they have ended; `transcripts_ending`
        says how many those are. What was used stays in the ledger, without a name.
        """
        accounts, caller = await owner(request)
        ending = await accounts.own_delete(caller)
        return JSONResponse(
            {"id": caller.account_id, "deleted": True, "transcripts_ending": ending}, headers=_NO_STORE
        )


async def owner(request: Request) -> tuple[AccountService, Caller]:
    """Return the accounts and who is calling. Raises `MissingAPIKey`."""
    accounts = services_of(request).accounts
    if accounts is None:
        raise NotFound
    caller = await caller_of(request)
    if caller is None:
        raise MissingAPIKey
    return accounts, caller
