"""`/v1/webhooks`: the log of an account's webhook deliveries, replays, and the signing secret.

The secret belongs to the account, so `/api/v1` returns and rotates the same one. Responses with a secret must
not be stored, so rotating ignores `Idempotency-Key`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse, Response

from stenobird.errors import DeliveryNotFound, InvalidRequest
from stenobird.ports.webhooks import DELIVERY_STATES
from stenobird.web.requests import page_size, plausible_id, services_of
from stenobird.web.routing import Endpoint
from stenobird.webhooks.schemas import DeliveryPage, DeliveryView, SecretView

if TYPE_CHECKING:
    from starlette.requests import Request

    from stenobird.ports import Caller
    from stenobird.ports.webhooks import DeliveryState, SigningSecrets

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 100

_NO_STORE = {"Cache-Control": "no-store"}


async def list_deliveries(request: Request, caller: Caller) -> Response:
    """List deliveries, newest first, filtered by `state` and `job_id`; `next_cursor` is null at the end."""
    webhooks = services_of(request).webhooks
    query = request.query_params
    rows, next_cursor = await webhooks.deliveries(
        caller,
        cursor=query.get("cursor") or None,
        limit=page_size(request, default=DEFAULT_PAGE, maximum=MAX_PAGE),
        state=_state(query.get("state")),
        job_id=_job_id(query.get("job_id")),
    )
    page = DeliveryPage(deliveries=[DeliveryView.of(row) for row in rows], next_cursor=next_cursor)
    return JSONResponse(page.model_dump(mode="json"), headers=_NO_STORE)


async def replay_delivery(request: Request, caller: Caller) -> Response:
    """Send a delivery again, under the same event id: 202. One that is being sent now is left as it is."""
    delivery_id: str = request.path_params["id"]
    if not plausible_id(delivery_id):
        raise DeliveryNotFound
    record = await services_of(request).webhooks.replay(caller, delivery_id)
    return JSONResponse(DeliveryView.of(record).model_dump(mode="json"), 202, _NO_STORE)


async def get_secret(request: Request, caller: Caller) -> Response:
    """Return the secret of the key's mode, created now if there is none."""
    return _secret_response(await services_of(request).webhooks.secrets(caller), caller)


async def rotate_secret(request: Request, caller: Caller) -> Response:
    """Create a new secret. For a day, `webhook-signature` contains a signature by each of the two."""
    return _secret_response(await services_of(request).webhooks.rotate(caller), caller)


def _secret_response(secrets: SigningSecrets, caller: Caller) -> Response:
    return JSONResponse(SecretView.of(secrets, caller.mode).model_dump(mode="json"), headers=_NO_STORE)


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


ENDPOINTS: Final = (
    Endpoint("GET", "/v1/webhooks/deliveries", list_deliveries),
    Endpoint("POST", "/v1/webhooks/deliveries/{id}/replay", replay_delivery),
    Endpoint("GET", "/v1/webhooks/secret", get_secret),
    Endpoint("POST", "/v1/webhooks/secret", rotate_secret),
)
