"""`/v1/usage`: what an account has used, by day and by job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from starlette.endpoints import HTTPEndpoint
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stenobird.accounts.schemas import midnight, parse_date, usage_body
from stenobird.errors import InvalidRequest
from stenobird.web.v1.routes.account import owner

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

DEFAULT_DAYS: Final = 30
MAX_DAYS: Final = 366
DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000


def routes() -> list[BaseRoute]:
    """Return the routes of this module."""
    return [Route("/v1/usage", UsageOfAccount)]


class UsageOfAccount(HTTPEndpoint):
    """The ledger of the caller's account."""

    async def get(self, request: Request) -> Response:
        """Answer with the days `from` to `to` (dates, UTC, both included; the last 30 days if left out).

        `days` and `total` cover all of them; `jobs` is a page, newest first, of `limit`, and `next_cursor` is
        null on the last one.
        """
        accounts, caller = await owner(request)
        query = request.query_params
        last = parse_date(query.get("to"), "to") or datetime.now(UTC).date()
        first = parse_date(query.get("from"), "from") or last - timedelta(days=DEFAULT_DAYS - 1)
        if not 0 <= (last - first).days < MAX_DAYS:
            raise InvalidRequest(
                f'"from" must not be after "to", nor {MAX_DAYS} days or more before it.',
                details={"field": "from"},
            )
        usage = await accounts.usage(
            caller.account_id,
            since=midnight(first),
            until=midnight(last + timedelta(days=1)),
            cursor=query.get("cursor") or None,
            limit=_page_size(query.get("limit")),
        )
        return JSONResponse(usage_body(usage), headers={"Cache-Control": "no-store"})


def _page_size(value: str | None) -> int:
    if value is None:
        return DEFAULT_PAGE
    if not (value.isascii() and value.isdigit() and len(value) <= 6 and int(value) >= 1):
        raise InvalidRequest(f'"limit" must be a whole number from 1 to {MAX_PAGE}.')
    return min(int(value), MAX_PAGE)
