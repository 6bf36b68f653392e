"""`/v1/webhooks`: the log of an account's webhook deliveries, replays, and the signing secret.

The secret belongs to the account, so `/api/v1` returns and rotates the same one. Responses with a secret must
not be stored, so rotating ignores `Idempotency-Key`.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from stenobird.errors import DeliveryNotFound, InvalidRequest, ReadOnlyKey
from stenobird.ports.webhooks import DELIVERY_STATES
from stenobird.web.openapi import Answer, Operation, header, json_of, page_of, path, query
from stenobird.web.representations import json_response
from stenobird.web.requests import page_size, path_id, plausible_id, services_of
from stenobird.web.routing import Endpoint
from stenobird.webhooks.schemas import DeliveryPage, DeliveryView, SecretView, WebhookEvent

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stenobird.ports import Caller
    from stenobird.ports.webhooks import DeliveryState

DEFAULT_PAGE: Final = 50
MAX_PAGE: Final = 100

_Operation = partial(Operation, "Account")


@_Operation(
    "List your webhook deliveries",
    {200: Answer("A page of deliveries, newest first.", DeliveryPage)},
    (InvalidRequest,),
    parameters=[
        *page_of("Deliveries per page.", MAX_PAGE),
        query(
            "state",
            "Only deliveries in this state. Dead ones are not tried again unless they are replayed.",
            {"type": "string", "enum": list(DELIVERY_STATES)},
        ),
        query("job_id", "Only deliveries of this job, of either dialect."),
    ],
)
async def list_webhook_deliveries(request: Request, caller: Caller) -> Response:
    """List what was sent to each `webhook_url`, newest first; `next_cursor` is null on the last page.

    A delivery is tried 15 times within three days, then it is dead. A test key lists those of test jobs.
    """
    webhooks = services_of(request).webhooks
    sent = request.query_params
    rows, next_cursor = await webhooks.deliveries(
        caller,
        cursor=sent.get("cursor") or None,
        limit=page_size(request, default=DEFAULT_PAGE, maximum=MAX_PAGE),
        state=_state(sent.get("state")),
        job_id=_job_id(sent.get("job_id")),
    )
    return json_response(DeliveryPage(deliveries=rows, next_cursor=next_cursor))


@_Operation(
    "Send a webhook again",
    {202: Answer("It will be sent now, under the same event id.", DeliveryView)},
    (DeliveryNotFound, ReadOnlyKey),
    parameters=[path("id", "Id of the delivery, out_…")],
)
async def replay_webhook_delivery(request: Request, caller: Caller) -> Response:
    """Send a delivery again, under the same event id, in any state: 202.

    It is tried up to 15 times again. A URL that was disabled by a response of 410 is enabled. A delivery that
    is being sent at this moment does not change.
    """
    delivery_id = path_id(request, DeliveryNotFound)
    record = await services_of(request).webhooks.replay(caller, delivery_id)
    return json_response(DeliveryView.model_validate(record), 202)


@_Operation(
    "Read the secret that signs your webhooks",
    {200: Answer("The secret.", SecretView)},
    (ReadOnlyKey,),
)
async def get_webhook_secret(request: Request, caller: Caller) -> Response:
    """Return the secret of the key's mode; create it if there is none.

    A live key gets the secret of live jobs, a test key that of test jobs. Pass it to a Standard Webhooks
    library without changes.
    """
    return json_response(SecretView.of(await services_of(request).webhooks.secrets(caller), caller.mode))


@_Operation(
    "Rotate the secret that signs your webhooks",
    {200: Answer("The new secret. For a day, the old one signs as well.", SecretView)},
    (ReadOnlyKey,),
)
async def rotate_webhook_secret(request: Request, caller: Caller) -> Response:
    """Create a new secret. For 24 hours, `webhook-signature` contains a signature by each of the two.

    Receivers can therefore be changed one by one. A second rotation within that time ends the oldest secret.
    """
    return json_response(SecretView.of(await services_of(request).webhooks.rotate(caller), caller.mode))


def _state(value: str | None) -> DeliveryState | None:
    state = next((known for known in DELIVERY_STATES if known == value), None)
    if value and state is None:
        message = f'"state" must be one of: {", ".join(DELIVERY_STATES)}.'
        raise InvalidRequest(message, details={"field": "state"})
    return state


def _job_id(value: str | None) -> str | None:
    if value and not plausible_id(value):
        raise InvalidRequest('"job_id" must be the id of a transcript.', details={"field": "job_id"})
    return value or None


ENDPOINTS: Final = (
    Endpoint("GET", "/v1/webhooks/deliveries", list_webhook_deliveries),
    Endpoint("POST", "/v1/webhooks/deliveries/{id}/replay", replay_webhook_delivery),
    Endpoint("GET", "/v1/webhooks/secret", get_webhook_secret),
    Endpoint("POST", "/v1/webhooks/secret", rotate_webhook_secret),
)

_AGAIN: Final = "Failed: sent again, up to 15 times within three days."

SENT_WEBHOOKS: Final = {
    "transcription": {
        "post": {
            "tags": ["Account"],
            "summary": "A transcript has ended",
            "operationId": "transcriptionEnded",
            "description": "Sent to a transcript's webhook_url, at least once, under one webhook-id. "
            "Verify it as standardwebhooks.com says, with the secret of GET /v1/webhooks/secret.",
            "parameters": [
                header(name, description) | {"required": not name.startswith("X-AlefBot")}
                for name, description in (
                    ("webhook-id", "Id of the event, the same at every attempt."),
                    ("webhook-timestamp", "When this attempt was made: seconds since 1970."),
                    ("webhook-signature", "One signature per secret, v1,…, separated by spaces."),
                    ("X-AlefBot-Timestamp", "Jobs of /api/v1 only: webhook-timestamp."),
                    (
                        "X-AlefBot-Signature",
                        "Jobs of /api/v1 only: HMAC-SHA256 of timestamp, a dot and the body, in hex.",
                    ),
                )
            ],
            "requestBody": {"required": True, "content": json_of(WebhookEvent)},
            "responses": {
                "2XX": {"description": "Received. Answer within 10 seconds."},
                "410": {"description": "Nothing more is sent to this URL until a delivery is replayed."},
                "3XX": {"description": "Failed: redirects are not followed."},
                "4XX": {"description": _AGAIN},
                "5XX": {"description": _AGAIN},
            },
            "security": [],
        }
    }
}
"""The `webhooks` of the OpenAPI document: the requests that receivers get."""
