"""`/v1/webhooks`: the log of an account's webhook deliveries, replays, and the secret that signs them.

The secret is the account's, so the second dialect shows and rotates the same one. Rotating is not idempotent
by `Idempotency-Key`, since an answer with a secret in it must not be stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.endpoints import HTTPEndpoint
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stenobird.errors import DeliveryNotFound, InvalidRequest, MissingAPIKey, NotFound
from stenobird.ports.webhooks import DELIVERY_STATES
from stenobird.web.alefbot.requests import endpoint
from stenobird.web.requests import caller_of, plausible_id, services_of
from stenobird.webhooks.schemas import DeliveryPage, DeliveryView, SecretView

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from stenobird.ports import Caller
    from stenobird.ports.webhooks import DeliveryState, SigningSecrets
    from stenobird.webhooks.service import WebhookService

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 100

_NO_STORE = {"Cache-Control": "no-store"}


def routes() -> list[BaseRoute]:
    """Return the routes of this module at `/v1`."""
    return [
        Route("/v1/webhooks/deliveries", Deliveries),
        Route("/v1/webhooks/deliveries/{id}/replay", Replay),
        Route("/v1/webhooks/secret", Secret),
    ]


def dialect_routes(prefix: str) -> list[BaseRoute]:
    """Return the route of this module below `{prefix}/api/v1`."""
    return [Route(f"{prefix}/api/v1/webhooks/secret", DialectSecret)]


class Deliveries(HTTPEndpoint):
    """The account's deliveries."""

    async def get(self, request: Request) -> Response:
        """List them, newest first, all or those of `state` or `job_id`; `next_cursor` is null at the end."""
        webhooks, caller = await _owner(request)
        query = request.query_params
        rows, next_cursor = await webhooks.deliveries(
            caller,
            cursor=query.get("cursor") or None,
            limit=_page_size(query.get("limit")),
            state=_state(query.get("state")),
            job_id=_job_id(query.get("job_id")),
        )
        page = DeliveryPage(deliveries=[DeliveryView.of(row) for row in rows], next_cursor=next_cursor)
        return JSONResponse(page.model_dump(mode="json"), headers=_NO_STORE)


class Replay(HTTPEndpoint):
    """One more time."""

    async def post(self, request: Request) -> Response:
        """Send the delivery again, under the same event id: 202. One being sent now is left as it is."""
        webhooks, caller = await _owner(request)
        delivery_id: str = request.path_params["id"]
        if not plausible_id(delivery_id):
            raise DeliveryNotFound
        record = await webhooks.replay(caller, delivery_id)
        return JSONResponse(DeliveryView.of(record).model_dump(mode="json"), 202, _NO_STORE)


class Secret(HTTPEndpoint):
    """What signs the account's webhooks."""

    async def get(self, request: Request) -> Response:
        """Show that of the key's mode. The account gets one now if it has none."""
        webhooks, caller = await _owner(request)
        return _shown(await webhooks.secrets(caller), caller)

    async def post(self, request: Request) -> Response:
        """Make a new one. For a day, `webhook-signature` has a signature of each."""
        webhooks, caller = await _owner(request)
        return _shown(await webhooks.rotate(caller), caller)


class DialectSecret(HTTPEndpoint):
    """The same, in the second dialect."""

    @endpoint(write=True)
    async def get(self, request: Request, caller: Caller) -> Response:
        """Show it. The account gets one now if it has none."""
        return _shown(await _webhooks(request).secrets(caller), caller)

    @endpoint(write=True)
    async def post(self, request: Request, caller: Caller) -> Response:
        """Make a new one. From now on `X-AlefBot-Signature` is made with it."""
        return _shown(await _webhooks(request).rotate(caller), caller)


def _shown(secrets: SigningSecrets, caller: Caller) -> Response:
    return JSONResponse(SecretView.of(secrets, caller.mode).model_dump(mode="json"), headers=_NO_STORE)


def _webhooks(request: Request) -> WebhookService:
    webhooks = services_of(request).webhooks
    if webhooks is None:
        raise NotFound
    return webhooks


async def _owner(request: Request) -> tuple[WebhookService, Caller]:
    webhooks = _webhooks(request)
    caller = await caller_of(request)
    if caller is None:
        raise MissingAPIKey
    return webhooks, caller


def _state(value: str | None) -> DeliveryState | None:
    if not value:
        return None
    for known in DELIVERY_STATES:
        if value == known:
            return known
    raise InvalidRequest(f'"state" must be one of: {", ".join(DELIVERY_STATES)}.', details={"field": "state"})


def _job_id(value: str | None) -> str | None:
    if value and not plausible_id(value):
        raise InvalidRequest('"job_id" must be the id of a transcript.', details={"field": "job_id"})
    return value or None


def _page_size(value: str | None) -> int:
    if value is None:
        return DEFAULT_PAGE
    if not (value.isascii() and value.isdigit() and len(value) <= 6 and int(value) >= 1):
        raise InvalidRequest(f'"limit" must be a whole number from 1 to {MAX_PAGE}.')
    return min(int(value), MAX_PAGE)
