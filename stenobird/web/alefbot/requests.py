"""What AlefBot requests have in common: who calls, and how often a request runs.

Errors take precedence in this order:

    missing key → invalid key → mode → user → plan → scope → rate limit → body → resource
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stenobird.accounts.gate import check_plan
from stenobird.errors import (
    IdempotencyMismatch,
    InvalidAPIKeyUser,
    InvalidRequest,
    MissingAPIKey,
    ValidationFailed,
)
from stenobird.web.idempotency import limited_once
from stenobird.web.limits import headers_of, limit_request
from stenobird.web.requests import caller_of, read_json_body, services_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.responses import Response

    from stenobird.ports import AccountStanding, Caller


def standing_of(request: Request) -> AccountStanding:
    """Return the state of the caller's account when the request was authenticated."""
    standing: AccountStanding = request.state.standing
    return standing


async def authenticate(request: Request) -> Caller:
    """Return the caller, whose account's standing is kept for `standing_of`.

    Raises, in this order: `MissingAPIKey`, `InvalidAPIKey`, `InvalidAPIKeyMode`, `InvalidAPIKeyUser`,
    `PlanDowngraded`.
    """
    standings = services_of(request).standings
    scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise MissingAPIKey
    caller = await caller_of(request)
    assert caller is not None
    standing = await standings.standing(caller.account_id)
    if standing is None:
        raise InvalidAPIKeyUser
    check_plan(standing)
    request.state.standing = standing
    return caller


async def read_raw(request: Request) -> bytes:
    """Return the body of at most 64 KiB. Raises `InvalidRequest`."""
    return await read_json_body(request, instead="Media goes to upload_url.")


async def once(
    request: Request,
    caller: Caller,
    *,
    new_id: Callable[[], str],
    make: Callable[[str, bytes], Awaitable[Response]],
) -> Response:
    """Count the request and return the answer of `make`, or the stored one of its `Idempotency-Key`.

    `make` gets the id of what it creates, and the body. A request that is answered from the store, or whose
    first copy is still running, is not counted, so retries never run into the rate limit; its answer has the
    `X-RateLimit-*` headers all the same. Any other refusal is counted first. Raises what `limited_once` and
    `read_raw` raise.
    """
    limits = services_of(request).limits
    try:
        body = await read_raw(request)
        return await limited_once(
            request, caller, body, new_id=new_id, make=lambda resource_id: make(resource_id, body)
        )
    except (IdempotencyMismatch, InvalidRequest, ValidationFailed):
        if not headers_of(request):
            await limit_request(request, limits, caller)
        raise
    finally:
        if not headers_of(request):
            request.state.rate_limit = await limits.check_request(caller, None, cost=0)
