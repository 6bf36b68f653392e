"""`/v1/keys`: the keys of an account, by one of them. A new key is in the answer that makes it, this once.

Not idempotent by `Idempotency-Key`, since an answer with a secret in it must not be stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse, Response

from stenobird.accounts.schemas import CreatedKeyView, CreateKey, KeyView
from stenobird.errors import KeyNotFound, NotFound
from stenobird.web.requests import (
    json_object,
    plausible_id,
    read_json_body,
    services_of,
)
from stenobird.web.routing import Endpoint

if TYPE_CHECKING:
    from starlette.requests import Request

    from stenobird.accounts.key_service import KeyService
    from stenobird.ports import Caller, KeyRecord

_NO_STORE = {"Cache-Control": "no-store"}


async def list_keys(request: Request, caller: Caller) -> Response:
    """List them, revoked ones included, oldest first; to a test key only test keys."""
    keys = await _keys(request).own_list(caller)
    views = [KeyView.of(record).model_dump(mode="json") for record in keys]
    return JSONResponse({"keys": views}, headers=_NO_STORE)


async def create_key(request: Request, caller: Caller) -> Response:
    """Make one: 201, with `key`. The body may be left out."""
    keys = _keys(request)
    raw = await read_json_body(request)
    wish = CreateKey.parse(json_object(request, raw, field="name") if raw else {})
    secret, record = await keys.own_create(caller, name=wish.name, mode=wish.mode, scope=wish.scope)
    return JSONResponse(_created(secret, record), 201, _NO_STORE)


async def revoke_key(request: Request, caller: Caller) -> Response:
    """Revoke it: 204, also when it was revoked before. Requests with it get 401 from now on."""
    await _keys(request).own_revoke(caller, _id(request))
    return Response(status_code=204, headers=_NO_STORE)


async def rotate_key(request: Request, caller: Caller) -> Response:
    """Make a key with the name, mode and scope of the old one, and revoke that, at once: 201."""
    key_id = _id(request)
    secret, record = await _keys(request).own_rotate(caller, key_id)
    return JSONResponse({**_created(secret, record), "replaces": key_id}, 201, _NO_STORE)


def _keys(request: Request) -> KeyService:
    keys = services_of(request).own_keys
    if keys is None:
        raise NotFound
    return keys


def _id(request: Request) -> str:
    value: str = request.path_params["id"]
    if not plausible_id(value):
        raise KeyNotFound
    return value


def _created(secret: str, record: KeyRecord) -> dict[str, Any]:
    return CreatedKeyView(**KeyView.of(record).model_dump(), key=secret).model_dump(mode="json")


ENDPOINTS: Final = (
    Endpoint("GET", "/v1/keys", list_keys),
    Endpoint("POST", "/v1/keys", create_key),
    Endpoint("DELETE", "/v1/keys/{id}", revoke_key),
    Endpoint("POST", "/v1/keys/{id}/rotate", rotate_key),
)
