"""`/v1/account`: the account behind a key, seen and deleted by its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse, Response

from stenobird.accounts.schemas import account_body
from stenobird.errors import NotFound
from stenobird.web.requests import services_of
from stenobird.web.routing import Endpoint

if TYPE_CHECKING:
    from starlette.requests import Request

    from stenobird.accounts.service import AccountService
    from stenobird.ports import Caller

_NO_STORE = {"Cache-Control": "no-store"}


async def get_account(request: Request, caller: Caller) -> Response:
    """Answer with its plan, its state and its credits."""
    accounts = accounts_of(request)
    return JSONResponse(account_body(await accounts.own_view(caller)), headers=_NO_STORE)


async def delete_account(request: Request, caller: Caller) -> Response:
    """Delete the account's data at once; none of its keys works from then on.

    Transcripts under way are cancelled, unbilled, and removed when they have ended; `transcripts_ending`
    says how many those are. What was used stays in the ledger, without a name.
    """
    ending = await accounts_of(request).own_delete(caller)
    return JSONResponse(
        {"id": caller.account_id, "deleted": True, "transcripts_ending": ending}, headers=_NO_STORE
    )


def accounts_of(request: Request) -> AccountService:
    """Return the accounts. Raises `NotFound` where the service has none."""
    accounts = services_of(request).accounts
    if accounts is None:
        raise NotFound
    return accounts


ENDPOINTS: Final = (
    Endpoint("GET", "/v1/account", get_account),
    Endpoint("DELETE", "/v1/account", delete_account),
)
