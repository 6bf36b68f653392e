"""`/v1/usage`: what an account has used, by day and by job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse, Response

from stenobird.accounts.schemas import midnight, parse_date, usage_body
from stenobird.errors import InvalidRequest
from stenobird.web.requests import page_size
from stenobird.web.routing import Endpoint
from stenobird.web.v1.routes.account import accounts_of

if TYPE_CHECKING:
    from starlette.requests import Request

    from stenobird.ports import Caller

DEFAULT_DAYS: Final = 30
MAX_DAYS: Final = 366
DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000


async def get_usage(request: Request, caller: Caller) -> Response:
    """Answer with the days `from` to `to` (dates, UTC, both included; the last 30 days if left out).

    `days` and `total` cover all of them; `jobs` is a page, newest first, of `limit`, and `next_cursor` is
    null on the last one.
    """
    query = request.query_params
    last = parse_date(query.get("to"), "to") or datetime.now(UTC).date()
    first = parse_date(query.get("from"), "from") or last - timedelta(days=DEFAULT_DAYS - 1)
    if not 0 <= (last - first).days < MAX_DAYS:
        raise InvalidRequest(
            f'"from" must not be after "to", nor {MAX_DAYS} days or more before it.',
            details={"field": "from"},
        )
    usage = await accounts_of(request).usage(
        caller.account_id,
        since=midnight(first),
        until=midnight(last + timedelta(days=1)),
        cursor=query.get("cursor") or None,
        limit=page_size(request, default=DEFAULT_PAGE, maximum=MAX_PAGE),
    )
    return JSONResponse(usage_body(usage), headers={"Cache-Control": "no-store"})


ENDPOINTS: Final = (Endpoint("GET", "/v1/usage", get_usage),)
