"""`/v1/keys`: the keys of an account, by one of them. A new key is in the answer that makes it, this once.

Not idempotent by `Idempotency-Key`, since an answer with a secret in it must not be stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.endpoints import HTTPEndpoint
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stenobird.accounts.schemas import CreatedKeyView, CreateKey, KeyView
from stenobird.errors import KeyNotFound, MissingAPIKey, NotFound
from stenobird.web.requests import (
    caller_of,
    json_object,
    plausible_id,
    read_json_body,
    services_of,
)

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from stenobird.accounts.key_service import KeyService
    from stenobird.ports import Caller, KeyRecord

_NO_STORE = {"Cache-Control": "no-store"}


def routes() -> list[BaseRoute]:
    """Return the routes of this module."""
    return [
        Route("/v1/keys", Keys),
        Route("/v1/keys/{id}", OneKey),
        Route("/v1/keys/{id}/rotate", Rotation),
    ]


class Keys(HTTPEndpoint):
    """The account's keys."""

    async def get(self, request: Request) -> Response:
        """List them, revoked ones included, oldest first; to a test key only test keys."""
        keys, caller = await _owner(request)
        views = [KeyView.of(record).model_dump(mode="json") for record in await keys.own_list(caller)]
        return JSONResponse({"keys": views}, headers=_NO_STORE)

    async def post(self, request: Request) -> Response:
        """Make one: 201, with `key`. The body may be left out."""
        keys, caller = await _owner(request)
        raw = await read_json_body(request)
        wish = CreateKey.parse(json_object(request, raw, field="name") if raw else {})
        secret, record = await keys.own_create(caller, name=wish.name, mode=wish.mode, scope=wish.scope)
        return JSONResponse(_created(secret, record), 201, _NO_STORE)


class OneKey(HTTPEndpoint):
    """One key of the account."""

    async def delete(self, request: Request) -> Response:
        """Revoke it: 204, also when it was revoked before. Requests with it get 401 from now on."""
        keys, caller = await _owner(request)
        await keys.own_revoke(caller, _id(request))
        return Response(status_code=204, headers=_NO_STORE)


class Rotation(HTTPEndpoint):
    """A new key in place of an old one."""

    async def post(self, request: Request) -> Response:
        """Make a key with the name, mode and scope of the old one, and revoke that, at once: 201."""
        keys, caller = await _owner(request)
        key_id = _id(request)
        secret, record = await keys.own_rotate(caller, key_id)
        return JSONResponse({**_created(secret, record), "replaces": key_id}, 201, _NO_STORE)


async def _owner(request: Request) -> tuple[KeyService, Caller]:
    keys = services_of(request).own_keys
    if keys is None:
        raise NotFound
    caller = await caller_of(request)
    if caller is None:
        raise MissingAPIKey
    return keys, caller


def _id(request: Request) -> str:
    value: str = request.path_params["id"]
    if not plausible_id(value):
        raise KeyNotFound
    return value


def _created(secret: str, record: KeyRecord) -> dict[str, Any]:
    return CreatedKeyView(**KeyView.of(record).model_dump(), key=secret).model_dump(mode="json")
