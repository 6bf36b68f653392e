"""Requests to Stripe: the only module that imports `stripe`.

The API version is pinned, every POST has an idempotency key, and `_translate_errors` translates vendor errors
once. Only the ids in a webhook are used; the state is fetched from Stripe, so neither the payload's version
nor the order of arrival matters.
"""

from __future__ import annotations

import json
import logging
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import stripe
import structlog

from stenobird.errors import InvalidSignature
from stenobird.ports.billing import (
    GatewayError,
    KeyRefused,
    NotDone,
    OutcomeUnknown,
    PaidCheckout,
    Refused,
    StoredEvent,
    SubscriptionStatus,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator, Sequence

    from stenobird.config import Settings
    from stenobird.ports import AccountState

API_VERSION: Final = "2026-10-28.endive"
"""Pinned: the shapes below are those of this version, even if the library's default changes."""
TIMEOUT_SECONDS: Final = 20.0
_RETRIED: Final[stripe.RequestOptions] = {"max_network_retries": 2}
"""Retries by the library, for requests that a person waits for. Workers record and retry their own."""
SIGNATURE_TOLERANCE_SECONDS: Final = 300
LOOKUP_KEY: Final = "stenobird_minute_weekly"
PRODUCT_ID: Final = "stenobird_audio_minutes"

_STATES: Final[dict[str, AccountState]] = {
    "active": "active",
    "trialing": "active",
    "incomplete": "past_due",
    "past_due": "past_due",
    "unpaid": "past_due",
    "paused": "cancelled",
    "incomplete_expired": "cancelled",
    "canceled": "cancelled",
}
_WON: Final = frozenset({"won", "warning_closed", "prevented"})
_OF_CUSTOMER: Final = ("subscription", "invoice")

_Object = TypeVar("_Object")

_log = structlog.get_logger(__name__)


class HTTPXClient(stripe.HTTPXClient):
    """The library's own client, without the deprecated way in which it passes text to httpx."""

    def _get_request_args_kwargs(self, *args: Any) -> Any:
        positional, named = super()._get_request_args_kwargs(*args)
        named["content"] = named.pop("data") or None
        return positional, named


@asynccontextmanager
async def open_stripe(
    settings: Settings, *, timeout_seconds: float = TIMEOUT_SECONDS
) -> AsyncIterator[StripeGateway]:
    """Open a gateway with its own connections, and close them on exit."""
    assert settings.stripe_secret_key is not None
    # The library logs each request and error body at INFO; error bodies may quote what was sent.
    logging.getLogger("stripe").setLevel(logging.WARNING)
    http = HTTPXClient(timeout=timeout_seconds)
    try:
        client = stripe.StripeClient(
            settings.stripe_secret_key.get_secret_value(),
            stripe_version=API_VERSION,
            base_addresses={"api": settings.stripe_api_base.rstrip("/")},
            max_network_retries=0,
            http_client=http,
        )
        yield StripeGateway(client, settings)
    finally:
        await http.close_async()  # type: ignore[no-untyped-call]  # as the library has it


class StripeGateway:
    """Each method sends one request (lists follow every page) and raises `GatewayError` only."""

    def __init__(self, client: stripe.StripeClient, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._meter_id: str | None = None

    async def start_checkout(
        self,
        *,
        success_url: str,
        cancel_url: str,
        idempotency_key: str,
        email: str | None = None,
        customer_id: str | None = None,
        account_id: str | None = None,
    ) -> tuple[str, str]:
        """Create a subscription Checkout Session with the weekly metered price; return its id and URL.

        It is for a new customer with this e-mail address or for an existing customer.
        """
        if self._settings.stripe_price_id is None:
            raise Refused('No price is set. The operator runs "stenobird billing setup".')
        params: dict[str, Any] = {
            "mode": "subscription",
            # A metered price has no quantity.
            "line_items": [{"price": self._settings.stripe_price_id}],
            "success_url": success_url,
            "cancel_url": cancel_url,
            "metadata": {"service": "stenobird"},
            "subscription_data": {"metadata": {"service": "stenobird"}},
        }
        if customer_id is not None:
            params["customer"] = customer_id
        else:
            params["customer_email"] = email
        if account_id is not None:
            params["client_reference_id"] = account_id
        with _translate_errors("start a checkout"):
            session = await self._client.v1.checkout.sessions.create_async(
                cast("Any", params), {"idempotency_key": idempotency_key, **_RETRIED}
            )
        if session.url is None:
            raise OutcomeUnknown
        return session.id, session.url

    async def paid_checkout(self, session_id: str) -> PaidCheckout | None:
        """Return the outcome of a Checkout Session; `None` if it is incomplete or does not exist."""
        session = await _existing(
            "look at a checkout",
            self._client.v1.checkout.sessions.retrieve_async(
                session_id, {"expand": ["subscription"]}, _RETRIED
            ),
        )
        # A metered subscription costs nothing at first, hence no_payment_required.
        if (
            session is None
            or session.status != "complete"
            or session.payment_status not in {"paid", "no_payment_required"}
            or session.customer is None
            or session.subscription is None
        ):
            return None
        details = session.customer_details
        return PaidCheckout(
            customer_id=_id(session.customer),
            subscription_id=_id(session.subscription),
            email=(details.email if details is not None else None) or session.customer_email,
            anchor_at=getattr(session.subscription, "billing_cycle_anchor", None),
        )

    async def subscription(self, subscription_id: str) -> SubscriptionStatus | None:
        """Return the current subscription, or `None` if it does not exist."""
        subscription = await _existing(
            "look at a subscription",
            self._client.v1.subscriptions.retrieve_async(
                subscription_id, {"expand": ["latest_invoice"]}, _RETRIED
            ),
        )
        if subscription is None:
            return None
        return SubscriptionStatus(
            # A status that Stripe adds one day is no reason to work for nothing.
            state=_STATES.get(subscription.status, "past_due"),
            anchor_at=subscription.billing_cycle_anchor,
            latest_receipt_url=getattr(subscription.latest_invoice, "hosted_invoice_url", None),
        )

    async def end_subscription(self, subscription_id: str) -> None:
        """Cancel the subscription at the end of its week, so that its usage is still charged. Idempotent."""
        await _existing(
            "end a subscription",
            self._client.v1.subscriptions.update_async(
                subscription_id, {"cancel_at_period_end": True}, _RETRIED
            ),
        )

    async def dispute(self, dispute_id: str) -> tuple[bool, str | None] | None:
        """Return whether a dispute was won, and the customer who paid; `None` if it does not exist."""
        dispute = await _existing(
            "look at a dispute",
            self._client.v1.disputes.retrieve_async(dispute_id, {"expand": ["charge"]}, _RETRIED),
        )
        if dispute is None:
            return None
        customer = getattr(dispute.charge, "customer", None)
        return dispute.status in _WON, _id(customer) if customer is not None else None

    async def portal_url(self, customer_id: str, *, return_url: str) -> str:
        """Return a short-lived link to the customer portal: payment method, receipts, cancellation."""
        params: dict[str, Any] = {"customer": customer_id, "return_url": return_url}
        if self._settings.stripe_portal_configuration_id is not None:
            params["configuration"] = self._settings.stripe_portal_configuration_id
        with _translate_errors("open the customer portal"):
            session = await self._client.v1.billing_portal.sessions.create_async(
                cast("Any", params), _RETRIED
            )
        return session.url

    async def send_meter_event(
        self, *, identifier: str, customer_id: str, minutes: int, timestamp: int, idempotency_key: str
    ) -> None:
        """Report a job's minutes. Stripe counts events with the same identifier within a day once.

        Also succeeds if an event with this identifier exists. The idempotency key differs between attempts,
        because Stripe replays a 500 for the same key.
        """
        try:
            with _translate_errors("send a meter event"):
                await self._client.v1.billing.meter_events.create_async(
                    {
                        "event_name": self._settings.stripe_meter_event_name,
                        "identifier": identifier,
                        "timestamp": timestamp,
                        "payload": {"stripe_customer_id": customer_id, "value": str(minutes)},
                    },
                    {"idempotency_key": idempotency_key},
                )
        except Refused as refused:
            if not _is_duplicate(refused.__cause__):
                raise

    async def meter_minutes(self, customer_id: str, *, since: int, until: int) -> int:
        """Return the minutes counted for a customer in `[since, until)`; both must be multiples of 60."""
        total = 0.0
        meter_id = await self._meter()
        with _translate_errors("read meter summaries"):
            page = await self._client.v1.billing.meters.event_summaries.list_async(
                meter_id,
                {"customer": customer_id, "start_time": since, "end_time": until, "limit": 100},
                _RETRIED,
            )
            async for summary in page.auto_paging_iter():
                total += summary.aggregated_value
        return round(total)

    async def meter_errors(self, event_id: str) -> tuple[int, dict[str, int], list[tuple[str, str]]]:
        """Return what a `v1.billing.meter.error_report_triggered` event says of meter events.

        That is how many Stripe accepted and then could not count, how many by code, and the idempotency keys
        and codes of some of them.
        """
        with _translate_errors("read a report of meter errors"):
            event = await self._client.v2.core.events.retrieve_async(event_id, options=_RETRIED)
            reason = json.loads(str(event)).get("data", {}).get("reason", {})
        codes: dict[str, int] = {}
        samples: list[tuple[str, str]] = []
        for kind in reason.get("error_types", ()):
            codes[kind["code"]] = kind.get("error_count", 0)
            for sample in kind.get("sample_errors", ()):
                identifier = sample.get("request", {}).get("identifier")
                if identifier:
                    samples.append((identifier, kind["code"]))
        return reason.get("error_count", 0), codes, samples

    async def set_up(self, *, currency: str, cents_a_minute: str) -> tuple[str, str, str, list[str]]:
        """Create whichever of meter, product, weekly metered price and portal configuration is missing.

        Returns the ids of meter, price and portal configuration, and what was created.
        """
        made: list[str] = []
        v1 = self._client.v1
        with _translate_errors("set billing up"):
            meter_id = await self._find_meter()
            if meter_id is None:
                meter = await v1.billing.meters.create_async(
                    {
                        "display_name": "Transcribed audio minutes",
                        "event_name": self._settings.stripe_meter_event_name,
                        "default_aggregation": {"formula": "sum"},
                        "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
                        "value_settings": {"event_payload_key": "value"},
                    }
                )
                meter_id = meter.id
                made.append("meter")
            products = await v1.products.list_async({"ids": [PRODUCT_ID]})
            if not products.data:
                await v1.products.create_async(
                    {"id": PRODUCT_ID, "name": "Transcribed audio", "unit_label": "minute"}
                )
                made.append("product")
            prices = await v1.prices.list_async({"lookup_keys": [LOOKUP_KEY], "active": True})
            if prices.data:
                price_id = prices.data[0].id
            else:
                price = await v1.prices.create_async(
                    {
                        "product": PRODUCT_ID,
                        "currency": currency,
                        "lookup_key": LOOKUP_KEY,
                        "billing_scheme": "per_unit",
                        "unit_amount_decimal": cast("Any", cents_a_minute),
                        "recurring": {"interval": "week", "usage_type": "metered", "meter": meter_id},
                    }
                )
                price_id = price.id
                made.append("price")
            portal_id = await self._portal_configuration(made)
        return meter_id, price_id, portal_id, made

    def read_event(self, payload: bytes, signature: str | None) -> StoredEvent:
        """Return a webhook's event. Raises `InvalidSignature` unless a known secret signed it recently."""
        secrets = self._settings.stripe_webhook_secret
        for secret in secrets.get_secret_value().replace(" ", "").split(",") if secrets else ():
            try:
                stripe.WebhookSignature.verify_header(payload, signature, secret, SIGNATURE_TOLERANCE_SECONDS)
            except (stripe.SignatureVerificationError, UnicodeDecodeError):
                continue
            return _stored_event(payload)
        raise InvalidSignature

    async def _meter(self) -> str:
        if self._meter_id is None:
            with _translate_errors("find the meter"):
                self._meter_id = await self._find_meter()
            if self._meter_id is None:
                raise Refused(
                    f"Stripe has no meter for {self._settings.stripe_meter_event_name}. "
                    'The operator runs "stenobird billing setup".'
                )
        return self._meter_id

    async def _find_meter(self) -> str | None:
        meters = await self._client.v1.billing.meters.list_async({"status": "active", "limit": 100})
        async for meter in meters.auto_paging_iter():
            if meter.event_name == self._settings.stripe_meter_event_name:
                return meter.id
        return None

    async def _portal_configuration(self, made: list[str]) -> str:
        configurations = self._client.v1.billing_portal.configurations
        page = await configurations.list_async({"active": True, "limit": 100})
        async for configuration in page.auto_paging_iter():
            if getattr(configuration.metadata, "service", None) == "stenobird":
                return configuration.id
        configuration = await configurations.create_async(
            {
                "metadata": {"service": "stenobird"},
                "features": {
                    "invoice_history": {"enabled": True},
                    "payment_method_update": {"enabled": True},
                    "subscription_cancel": {"enabled": True},
                    "customer_update": {"enabled": True, "allowed_updates": ["email", "address", "tax_id"]},
                },
            }
        )
        made.append("portal configuration")
        return configuration.id


async def _existing(what: str, request: Awaitable[_Object]) -> _Object | None:
    """Return what Stripe answers, `None` if the object does not exist."""
    with _translate_errors(what):
        try:
            return await request
        except stripe.InvalidRequestError as exc:
            if exc.http_status == 404:
                return None
            raise


@contextmanager
def _translate_errors(what: str) -> Iterator[None]:
    try:
        yield
    except stripe.StripeError as exc:
        raise _translated(exc, what) from exc


def _translated(exc: stripe.StripeError, what: str) -> GatewayError:
    facts = {"asked": what, "status": exc.http_status, "code": exc.code, "stripe_request_id": exc.request_id}
    if isinstance(exc, (stripe.RateLimitError, stripe.AuthenticationError, stripe.PermissionError)):
        # Without the message, which quotes the end of the key.
        _log.warning("stripe_unavailable", kind=type(exc).__name__, **facts)
        return NotDone() if isinstance(exc, stripe.RateLimitError) else KeyRefused()
    status = exc.http_status
    # 409: another request with this idempotency key is running and may succeed.
    if isinstance(exc, stripe.APIConnectionError) or status is None or status == 409 or status >= 500:
        return OutcomeUnknown()
    if isinstance(exc, stripe.IdempotencyError):
        return Refused(
            "The payment service received this request before with different content. Start again."
        )
    if not _is_duplicate(exc):
        _log.warning("stripe_refused", reason=exc.user_message, **facts)
    return Refused(
        f"Stripe could not {what}: {exc.code or 'refused'}. The operator finds the reason in the log."
    )


def _is_duplicate(exc: object) -> bool:
    # Stripe documents no error code for this refusal, only a message.
    if not isinstance(exc, stripe.InvalidRequestError):
        return False
    message = exc.user_message or ""
    return exc.code == "duplicate_meter_event" or "event already exists with identifier" in message


def _stored_event(payload: bytes) -> StoredEvent:
    """Return the ids of a signed snapshot or thin event. Raises `InvalidSignature` if it is neither."""
    try:
        event = json.loads(payload)
        thin = event["object"] == "v2.core.event"
        about = (event.get("related_object") or {}) if thin else event["data"]["object"]
        object_id = about.get("id")
        customer = about.get("customer") if not thin and about.get("object") in _OF_CUSTOMER else None
        texts: Sequence[Any] = (event["id"], event["type"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise InvalidSignature("The webhook's body is not a Stripe event.") from exc
    if not all(isinstance(text, str) for text in texts):
        raise InvalidSignature("The webhook's body is not a Stripe event.")
    return StoredEvent(
        texts[0],
        texts[1],
        object_id if isinstance(object_id, str) else None,
        customer if isinstance(customer, str) else None,
    )


def _id(reference: Any) -> str:
    """Return the id of an object, expanded or not."""
    return reference if isinstance(reference, str) else str(reference.id)
