"""`/v1/account`, `/v1/keys`, `/v1/usage`: what the owner of an account sees and changes.

The response that creates a key is the only one that contains its secret. Responses with a secret must not be
stored, so creating a key ignores `Idempotency-Key`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Final

from stenobird.accounts.schemas import (
    AccountBody,
    AccountDeleted,
    CreatedKeyView,
    CreateKey,
    KeyList,
    KeyView,
    RotatedKey,
    UsageBody,
    midnight,
    parse_date,
)
from stenobird.errors import InvalidRequest, KeyNotFound, LiveKeyRequired, ReadOnlyKey
from stenobird.web.openapi import Answer, Operation, json_of, page_of, path, query
from stenobird.web.representations import json_response, no_content
from stenobird.web.requests import json_object, page_size, path_id, read_json_body, services_of
from stenobird.web.routing import Endpoint

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stenobird.ports import Caller

DEFAULT_DAYS: Final = 30
MAX_DAYS: Final = 366
DEFAULT_USAGE_PAGE: Final = 100
MAX_USAGE_PAGE: Final = 1000

_Operation = partial(Operation, "Account")
_DENIED: Final = (ReadOnlyKey, LiveKeyRequired)
_KEY_ID: Final = path("id", "Id of the key.")
_DATE: Final = {"type": "string", "format": "date"}


@_Operation("Get your account", {200: Answer("The account.", AccountBody)})
async def get_account(request: Request, caller: Caller) -> Response:
    """Return the account's plan, state and credits."""
    return json_response(AccountBody.of(*await services_of(request).accounts.own_view(caller)))


@_Operation(
    "Delete your account and its data",
    {202: Answer("The account is deleted; its transcripts are being removed.", AccountDeleted)},
    _DENIED,
)
async def delete_account(request: Request, caller: Caller) -> Response:
    """Delete the account: 202. None of its keys works from then on, and its data is removed within minutes.

    Transcripts under way are cancelled; `transcripts_ending` counts them. Of these, only live audio that was
    transcribed is billed. The ledger keeps the usage, without a name.
    """
    ending = await services_of(request).accounts.own_delete(caller)
    body = AccountDeleted(id=caller.account_id, deleted=True, transcripts_ending=ending)
    return json_response(body, 202)


@_Operation(
    "Get your usage",
    {200: Answer("The usage.", UsageBody)},
    (InvalidRequest,),
    parameters=[
        query("from", "First day, UTC.", _DATE),
        query("to", "Last day, UTC; today if omitted.", _DATE),
        *page_of("Jobs per page.", MAX_USAGE_PAGE),
    ],
)
async def get_usage(request: Request, caller: Caller) -> Response:
    """Return the usage of the days `from` to `to` (UTC dates, both included; by default the last 30 days).

    `days` and `total` cover all of them. `jobs` is one page, newest first, of at most `limit`; `next_cursor`
    is null on the last page.
    """
    sent = request.query_params
    last = parse_date(sent.get("to"), "to") or datetime.now(UTC).date()
    first = parse_date(sent.get("from"), "from") or last - timedelta(days=DEFAULT_DAYS - 1)
    if not 0 <= (last - first).days < MAX_DAYS:
        raise InvalidRequest(
            f'"from" must not be after "to", nor {MAX_DAYS} days or more before it.',
            details={"field": "from"},
        )
    since, until = midnight(first), midnight(last + timedelta(days=1))
    usage = await services_of(request).accounts.usage(
        caller.account_id,
        since=since,
        until=until,
        cursor=sent.get("cursor") or None,
        limit=page_size(request, default=DEFAULT_USAGE_PAGE, maximum=MAX_USAGE_PAGE),
    )
    return json_response(UsageBody.of((since, until), *usage))


# --- keys ---------------------------------------------------------------------------------------------------


@_Operation("List your keys", {200: Answer("The keys, oldest first.", KeyList)})
async def list_keys(request: Request, caller: Caller) -> Response:
    """List the account's keys, revoked ones included, oldest first. A test key sees only test keys."""
    keys = await services_of(request).keys.own_list(caller)
    return json_response(KeyList(keys=keys))


@_Operation(
    "Create a key",
    {201: Answer("The key. Its secret is not shown again.", CreatedKeyView)},
    (InvalidRequest, *_DENIED),
    body=json_of(CreateKey, {"name": "laptop"}),
    body_required=False,
)
async def create_key(request: Request, caller: Caller) -> Response:
    """Create a key: 201, with its secret in `key`. The body is optional."""
    raw = await read_json_body(request)
    wanted = CreateKey.parse(json_object(request, raw, field="name") if raw else {})
    secret, record = await services_of(request).keys.own_create(
        caller, name=wanted.name, mode=wanted.mode, scope=wanted.scope
    )
    return json_response(CreatedKeyView(**vars(KeyView.model_validate(record)), key=secret), 201)


@_Operation(
    "Revoke a key",
    {204: Answer("Requests with the key are refused from now on.")},
    (KeyNotFound, *_DENIED),
    parameters=[_KEY_ID],
)
async def revoke_key(request: Request, caller: Caller) -> Response:
    """Revoke a key: 204, also for one that is revoked already. Requests with it get 401 from now on."""
    await services_of(request).keys.own_revoke(caller, path_id(request, KeyNotFound))
    return no_content()


@_Operation(
    "Replace a key",
    {201: Answer("The new key. Its secret is not shown again.", RotatedKey)},
    (KeyNotFound, *_DENIED),
    parameters=[_KEY_ID],
)
async def rotate_key(request: Request, caller: Caller) -> Response:
    """Create a key with the name, mode and scope of an old one, and revoke the old one at once: 201."""
    key_id = path_id(request, KeyNotFound)
    secret, record = await services_of(request).keys.own_rotate(caller, key_id)
    view = KeyView.model_validate(record)
    return json_response(RotatedKey(**vars(view), key=secret, replaces=key_id), 201)


ENDPOINTS: Final = (
    Endpoint("GET", "/v1/keys", list_keys),
    Endpoint("POST", "/v1/keys", create_key),
    Endpoint("DELETE", "/v1/keys/{id}", revoke_key),
    Endpoint("POST", "/v1/keys/{id}/rotate", rotate_key),
    Endpoint("GET", "/v1/account", get_account),
    Endpoint("DELETE", "/v1/account", delete_account),
    Endpoint("GET", "/v1/usage", get_usage),
)
