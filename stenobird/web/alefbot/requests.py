"""What AlefBot requests share: authentication, idempotency, and the choice of the artifact format.

The first of these errors is the one returned:

    missing key → invalid key → mode → user → plan → scope → rate limit → body → resource
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stenobird import errors
from stenobird.accounts.service import check_plan
from stenobird.formats import FORMATS
from stenobird.web.limits import limit_request, was_counted
from stenobird.web.representations import accepted
from stenobird.web.requests import caller_of, read_json_body, services_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from stenobird.formats import Format, FormatName
    from stenobird.ports import Caller

_ARTIFACT_NAMES: Final[Mapping[str, FormatName]] = {
    "srt": "srt",
    "txt": "txt",
    "plain_text": "txt",
    "docx": "docx",
}
ARTIFACTS: Final[Sequence[Format]] = (FORMATS["srt"], FORMATS["txt"], FORMATS["docx"])


async def authenticate(request: Request) -> Caller:
    """Return the caller, whose `account` is set.

    Raises, in this order: `MissingAPIKey`, `InvalidAPIKey`, `InvalidAPIKeyMode`, `InvalidAPIKeyUser`,
    `PlanDowngraded`.
    """
    scheme, _, token = request.headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise errors.MissingAPIKey
    caller = await caller_of(request)
    assert caller is not None
    assert caller.account is not None
    check_plan(caller.account)
    return caller


async def read_raw(request: Request) -> bytes:
    """Return the body of at most 64 KiB. Raises `InvalidRequest`."""
    return await read_json_body(request, instead="Media goes to upload_url.")


async def once(
    request: Request,
    caller: Caller,
    *,
    new_id: Callable[[], str],
    make: Callable[[str | None, bytes], Awaitable[Response]],
) -> Response:
    """Count the request and return the response of `make`, or the one stored for its `Idempotency-Key`.

    `make` gets the id of the new resource, and the body. A replay, or a request whose first copy is still
    running, is not counted, so retries never reach the rate limit; its response still has the `X-RateLimit-*`
    headers. Other refused requests are counted. Raises what `Idempotency.once` and `read_raw` raise.
    """
    services = services_of(request)
    try:
        body = await read_raw(request)
        return await services.idempotency.once(
            request, caller, body, new_id=new_id, make=lambda resource_id: make(resource_id, body)
        )
    except (errors.IdempotencyMismatch, errors.InvalidRequest, errors.ValidationFailed):
        await limit_request(request, caller)
        raise
    finally:
        if not was_counted(request):
            request.state.rate_limit = await services.limits.check_request(caller, None, cost=0)


def wanted_format(named: str | None, suffix: str | None, accept: str) -> Format:
    """Return the format of `?format=`, else of the path's suffix, else of `Accept`, else srt.

    Raises `UnsupportedArtifactFormat` for an unknown name. An `Accept` without any of the three formats is
    not refused, since it may be the client's default.
    """
    name = named if named is not None else suffix
    if name is None:
        return accepted(accept, ARTIFACTS) or FORMATS["srt"]
    try:
        return FORMATS[_ARTIFACT_NAMES[name.strip().lower()]]
    except KeyError:
        raise errors.UnsupportedArtifactFormat(
            f'There is no artifact format "{name[:40]}". Use srt, txt or docx.',
            details={"formats": ["srt", "txt", "docx"]},
        ) from None
