"""`/v1/billing`: plan, checkout, portal, spending cap, key recovery and Stripe's webhook."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from stenobird import errors
from stenobird.billing.schemas import (
    BillingView,
    CheckoutStarted,
    EmailRequest,
    EventReceived,
    Message,
    PortalLink,
    SpendingCap,
)
from stenobird.web.openapi import Answer, Operation, header, json_of
from stenobird.web.representations import json_response, remember_browser
from stenobird.web.requests import base_url_of, browser_of, read_body, read_json_object, services_of
from stenobird.web.routing import Endpoint

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from stenobird.ports import Caller

MAX_WEBHOOK_BYTES = 512 * 1024
"""Stripe's own limit for an event is lower."""

_Operation = partial(Operation, "Billing")
_EMAIL: Final = json_of(EmailRequest, {"email": "you@example.com"})


@_Operation(
    "Get your plan and this week's minutes",
    {200: Answer("The plan and the minutes.", BillingView)},
    (errors.BillingUnavailable,),
)
async def get_billing(request: Request, caller: Caller) -> Response:
    """Return the account's state, its cap and the minutes of the billing week."""
    return json_response(await services_of(request).billing.view(caller))


@_Operation(
    "Start to buy a key",
    {200: Answer("The address of the checkout.", CheckoutStarted)},
    (
        errors.InvalidRequest,
        errors.MissingAPIKey,
        errors.LiveKeyRequired,
        errors.ReadOnlyKey,
        errors.QueueBusy,
        errors.BillingUnavailable,
    ),
    body=_EMAIL,
)
async def start_checkout(request: Request, caller: Caller | None) -> Response:
    """Start a Checkout Session at Stripe. The buyer opens `checkout_url` in a browser.

    With a key, the subscription is for the account of the key.
    """
    billing = services_of(request).billing
    wanted = EmailRequest.parse(await read_json_object(request, field="email"))
    # Only our own pages keep the cookie. For any other client the key must not depend on it.
    browser = browser_of(request) if request.headers.get("sec-fetch-site") == "same-origin" else None
    session_id, url = await billing.start_checkout(
        wanted.email, base_url=base_url_of(request), browser=browser, caller=caller
    )
    response = json_response(CheckoutStarted(checkout_url=url, checkout_session_id=session_id))
    if browser is not None:
        remember_browser(request, response, browser)
    return response


@_Operation(
    "Receive an event from Stripe",
    {200: Answer("The event is stored.", EventReceived)},
    (errors.InvalidRequest, errors.InvalidSignature, errors.BillingUnavailable),
    parameters=[header("Stripe-Signature", "Stripe's signature of the raw body.")],
    body=json_of({"type": "object"}),
)
async def stripe_webhook(request: Request) -> Response:
    """Store an event that Stripe sends. It is handled after the response."""
    billing = services_of(request).billing
    too_large = f"The event is larger than {MAX_WEBHOOK_BYTES} bytes."
    body = await read_body(request, MAX_WEBHOOK_BYTES, too_large)
    added = await billing.accept_event(body, request.headers.get("stripe-signature"))
    return json_response(EventReceived(received=True, new=added))


@_Operation(
    "Get a link to Stripe's page for your account",
    {200: Answer("A short-lived link.", PortalLink)},
    (errors.InvalidRequest, errors.ReadOnlyKey, errors.LiveKeyRequired, errors.BillingUnavailable),
)
async def open_portal(request: Request, caller: Caller) -> Response:
    """Return a short-lived link to Stripe's portal: payment method, receipts, cancellation."""
    url = await services_of(request).billing.portal_url(caller, base_url=base_url_of(request))
    return json_response(PortalLink(portal_url=url))


@_Operation(
    "Set or remove your spending cap",
    {200: Answer("The plan with the new cap.", BillingView)},
    (errors.InvalidRequest, errors.ReadOnlyKey, errors.LiveKeyRequired, errors.BillingUnavailable),
    body=json_of(SpendingCap, {"minutes_per_week": 600}),
)
async def set_spending_cap(request: Request, caller: Caller) -> Response:
    """Set or remove the spending cap, and return what `GET /v1/billing` returns."""
    billing = services_of(request).billing
    wanted = SpendingCap.parse(await read_json_object(request, field="minutes_per_week"))
    await billing.set_cap(caller, wanted.minutes_per_week)
    return json_response(await billing.view(caller))


@_Operation(
    "Request a new key by e-mail",
    {202: Answer("The response is the same for every address.", Message)},
    (errors.InvalidRequest, errors.QueueBusy, errors.BillingUnavailable),
    body=_EMAIL,
)
async def recover_key(request: Request) -> Response:
    """Send an e-mail with a link to a new key, if an account has this address.

    The response does not say whether one has.
    """
    billing = services_of(request).billing
    billing.ask_recovery(EmailRequest.parse(await read_json_object(request, field="email")).email)
    message = "If there is an account with this address, a mail with a link is on its way."
    return json_response(Message(message=message), 202)


ENDPOINTS: Final = (
    Endpoint("GET", "/v1/billing", get_billing),
    Endpoint("POST", "/v1/billing/checkout", start_checkout, key="optional", limited=True),
    Endpoint("POST", "/v1/billing/portal", open_portal),
    Endpoint("PUT", "/v1/billing/spending-cap", set_spending_cap),
    Endpoint("POST", "/v1/billing/recover", recover_key, key="none", limited=True),
    Endpoint("POST", "/v1/billing/webhook", stripe_webhook, key="none"),
)
