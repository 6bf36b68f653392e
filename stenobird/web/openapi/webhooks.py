"""What is sent to a `webhook_url`, and the operations of an account's own webhooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stenobird.errors import DeliveryNotFound, InvalidRequest, ReadOnlyKey
from stenobird.ports.webhooks import DELIVERY_STATES
from stenobird.web.openapi.parts import Answer, Operation, header, json_of, path, query

if TYPE_CHECKING:
    from collections.abc import Mapping


def sent_webhooks() -> dict[str, Any]:
    """Return the document's `webhooks`: the requests that receivers get."""
    again = "Failed: sent again, up to 15 times within three days."
    return {
        "transcription": {
            "post": {
                "tags": ["Account"],
                "summary": "A transcript has ended",
                "operationId": "transcriptionEnded",
                "description": "Sent to a transcript's webhook_url, at least once, under one webhook-id. "
                "Verify it as standardwebhooks.com says, with the secret of GET /v1/webhooks/secret.",
                "parameters": [
                    _sent("webhook-id", "The event's id, the same at every attempt."),
                    _sent("webhook-timestamp", "When this attempt was made: seconds since 1970."),
                    _sent("webhook-signature", "One signature a secret, v1,…, parted by spaces."),
                    _sent("X-AlefBot-Timestamp", "On jobs of /api/v1: the timestamp again.", always=False),
                    _sent(
                        "X-AlefBot-Signature",
                        "On jobs of /api/v1: HMAC-SHA256 of timestamp, a dot and the body, as 64 hex digits.",
                        always=False,
                    ),
                ],
                "requestBody": {"required": True, "content": json_of("WebhookEvent")},
                "responses": {
                    "2XX": {"description": "Taken. Answer within 10 seconds."},
                    "410": {
                        "description": "Send nothing to this URL any more, until a delivery is replayed."
                    },
                    "3XX": {"description": "Failed: redirects are not followed."},
                    "4XX": {"description": again},
                    "5XX": {"description": again},
                },
                "security": [],
            }
        }
    }


def _sent(name: str, description: str, *, always: bool = True) -> dict[str, Any]:
    return {**header(name, {"type": "string"}, description), "required": always}


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
                    query(
                        "state",
                        {"type": "string", "enum": list(DELIVERY_STATES)},
                        "Only those that are in this state: dead ones were given up, and can be replayed.",
                    ),
                    query("job_id", {"type": "string"}, "Only those of this job, of either dialect."),
                ],
                description="What was sent to each webhook_url, and what came of it. A delivery is tried 15 "
                "times within three days, then it is dead. A test key sees those of test jobs.",
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
                description="Whatever became of it, it gets all its tries anew. If its URL was disabled by "
                "an answer of 410, it is enabled. One that is being sent at this moment is left as it is.",
            )
        },
        "/v1/webhooks/secret": {
            "get": Operation(
                "Read the secret that signs your webhooks",
                tag,
                "getWebhookSecret",
                {200: Answer("The secret.", json_of("SecretView"))},
                (ReadOnlyKey,),
                description="A live key reads the one of live jobs, a test key the one of test jobs. Give it "
                "to a Standard Webhooks library as it is.",
            ),
            "post": Operation(
                "Rotate the secret that signs your webhooks",
                tag,
                "rotateWebhookSecret",
                {200: Answer("The new one; the old one signs beside it for a day.", json_of("SecretView"))},
                (ReadOnlyKey,),
                description="For 24 hours webhook-signature has a signature of each, so receivers can change "
                "over one by one. Rotated again within them, the oldest secret ends at once.",
            ),
        },
    }
