"""What every request of the second dialect goes through, in the order that its errors are told.

missing key → invalid key → mode → user → plan → scope → rate limit → the endpoint: body, then resource
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from stenobird.accounts.gate import check_plan
from stenobird.errors import (
    IdempotencyMismatch,
    InvalidAPIKeyUser,
    InvalidRequest,
    MissingAPIKey,
    ReadOnlyKey,
    StenobirdError,
    ValidationFailed,
)
from stenobird.web.alefbot.errors import dialect_response
from stenobird.web.limits import headers_of, limit_request
from stenobird.web.requests import MAX_JSON_BYTES, services_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from stenobird.ports import AccountStanding, Caller
    from stenobird.web.alefbot.services import DialectServices

_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_Self = TypeVar("_Self")


def dialect_of(request: Request) -> DialectServices:
    """Return what the dialect was wired with."""
    dialect = services_of(request).alefbot
    assert dialect is not None
    return dialect


def standing_of(request: Request) -> AccountStanding:
    """Return how the caller's account stood when the request was let in."""
    standing: AccountStanding = request.state.standing
    return standing


def endpoint(
    *,
    write: bool = False,
    limited: bool = False,
    violation: type[ReadOnlyKey] = ReadOnlyKey,
) -> Callable[
    [Callable[[_Self, Request, Caller], Awaitable[Response]]],
    Callable[[_Self, Request], Awaitable[Response]],
]:
    """Make a method of an endpoint from one that is given the caller too.

    `write` refuses read-only keys with `violation`; `limited` counts the request. Once a request was counted,
    here or in `once`, its answer has the three `X-RateLimit-*` headers, whatever it is.
    """

    def decorate(
        handle: Callable[[_Self, Request, Caller], Awaitable[Response]],
    ) -> Callable[[_Self, Request], Awaitable[Response]]:
        @functools.wraps(handle)
        async def handle_request(self: _Self, request: Request) -> Response:
            try:
                caller, request.state.standing = await identify(request)
                if write and caller.scope == "read_only":
                    raise violation
                if limited:
                    await limit_request(request, services_of(request).limits, caller)
                response = await handle(self, request, caller)
            except StenobirdError as error:
                response = dialect_response(error, request.scope)
            except ClientDisconnect:
                # Nobody hears this.
                response = Response(status_code=400)
            response.headers.update(headers_of(request))
            return response

        return handle_request

    return decorate


async def identify(request: Request) -> tuple[Caller, AccountStanding]:
    """Return who is calling and how their account stands.

    Raises, in this order: `MissingAPIKey`, `InvalidAPIKey`, `InvalidAPIKeyMode`, `InvalidAPIKeyUser`,
    `PlanDowngraded`.
    """
    authorization = request.headers.get("authorization", "")
    scheme, _, token = authorization.strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise MissingAPIKey
    caller = await services_of(request).keys.authenticate(authorization)
    assert caller is not None
    standing = await dialect_of(request).standings.standing(caller.account_id)
    if standing is None:
        raise InvalidAPIKeyUser
    check_plan(standing)
    return caller, standing


async def once(
    request: Request,
    caller: Caller,
    *,
    new_id: Callable[[], str],
    make: Callable[[str, bytes], Awaitable[Response]],
) -> Response:
    """Count the request and return the answer of `make`, or the stored one of its `Idempotency-Key`.

    `make` is given the id of what it makes and the body. A stored answer, or one that is being made, is not
    counted, so that retries never run into the limit, but says where the account stands like any other.
    Every other refusal is counted before it is told. Raises what `web.idempotency.Idempotency.once` raises,
    `ValidationFailed` for a body that is too large or too slow, and `RateLimited`.
    """
    services = services_of(request)

    async def admit() -> None:
        await limit_request(request, services.limits, caller)

    try:
        body = await read_raw(request)
        if services.idempotency is None:
            await admit()
            return await make(new_id(), body)
        return await services.idempotency.once(
            request,
            caller,
            body,
            new_id=new_id,
            admit=admit,
            make=lambda resource_id: make(resource_id, body),
        )
    except (IdempotencyMismatch, InvalidRequest, ValidationFailed):
        if not headers_of(request):
            await admit()
        raise
    finally:
        if services.limits is not None and not headers_of(request):
            request.state.rate_limit = await services.limits.check_request(caller, None, cost=0)


async def read_raw(request: Request) -> bytes:
    """Return the body of at most 64 KiB. Raises `ValidationFailed`."""
    body = bytearray()
    try:
        async with asyncio.timeout(services_of(request).body_timeout_seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_JSON_BYTES:
                    raise ValidationFailed(
                        f"The request body is larger than {MAX_JSON_BYTES} bytes. Media goes to upload_url."
                    )
    except TimeoutError as exc:
        raise ValidationFailed("The request body did not arrive in time. Send it again.") from exc
    return bytes(body)


def decode_json(raw: bytes) -> Any:
    """Return the JSON value that a body is. Raises `ValidationFailed`, also for text that can't be stored."""
    try:
        value = json.loads(raw.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as exc:
        raise ValidationFailed("The request body is not valid JSON. Send a JSON object.") from exc
    if not isinstance(value, dict):
        raise ValidationFailed("The request body must be a JSON object.")
    if _unstorable(value):
        raise ValidationFailed("The request body has characters that no text has: NUL, or half a surrogate.")
    return value


def _refuse_constant(name: str) -> float:
    raise ValueError(name)


def _unstorable(value: object) -> bool:
    match value:
        case str():
            return "\0" in value or _SURROGATE.search(value) is not None
        case list():
            return any(map(_unstorable, value))
        case dict():
            return any(_unstorable(name) or _unstorable(item) for name, item in value.items())
    return False
