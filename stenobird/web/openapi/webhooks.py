"""The operations of an account's own webhooks, in the flat dialect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stenobird.errors import DeliveryNotFound, InvalidRequest, ReadOnlyKey
from stenobird.web.openapi.parts import Answer, Operation, json_of, path, query

if TYPE_CHECKING:
    from collections.abc import Mapping


def webhook_operations() -> Mapping[str, Mapping[str, Operation]]:
    """Return the operations by path and method."""
    tag = "Account"
    return {
        "/v1/webhooks/deliveries": {
            "get": Operation(
                "List your webhook deliveries",
                tag,
                "listWebhookDeliveries",
                {200: Answer("A page, newest first.", json_of("DeliveryPage"))},
                (InvalidRequest,),
                parameters=[
                    query("limit", {"type": "integer", "minimum": 1, "maximum": 100}, "Deliveries a page."),
                    query("cursor", {"type": "string"}, "next_cursor of the page before."),
                ],
            )
        },
        "/v1/webhooks/deliveries/{id}/replay": {
            "post": Operation(
                "Send a webhook again",
                tag,
                "replayWebhookDelivery",
                {202: Answer("It is due now, under the same event id.", json_of("DeliveryView"))},
                (DeliveryNotFound, ReadOnlyKey),
                parameters=[path("id", "Id of the delivery, out_…")],
            )
        },
        "/v1/webhooks/secret": {
            "get": Operation(
                "Read the secret that signs your webhooks",
                tag,
                "getWebhookSecret",
                {200: Answer("The secret.", json_of("SecretView"))},
                (ReadOnlyKey,),
            ),
            "post": Operation(
                "Rotate the secret that signs your webhooks",
                tag,
                "rotateWebhookSecret",
                {200: Answer("The new one; the old one signs beside it for a day.", json_of("SecretView"))},
                (ReadOnlyKey,),
            ),
        },
    }
