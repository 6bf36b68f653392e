"""`/v1/billing`: plan, checkout, portal, spending cap, key recovery and Stripe's webhook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starlette.responses import JSONResponse, Response

from stenobird.billing.schemas import CapWish, EmailWish
from stenobird.web.requests import base_url_of, read_body, read_json_object, services_of
from stenobird.web.routing import Endpoint
from stenobird.web.site.checkout import browser_of, remember_browser

if TYPE_CHECKING:
    from starlette.requests import Request

    from stenobird.ports import Caller

MAX_WEBHOOK_BYTES = 512 * 1024
"""Stripe's own limit for an event is lower."""

_NO_STORE = {"Cache-Control": "no-store"}


async def get_billing(request: Request, caller: Caller | None) -> Response:
    """Return the account's state, its cap and the minutes of the billing week."""
    view = await services_of(request).billing.view(caller)
    return JSONResponse(view.model_dump(), headers=_NO_STORE)


async def start_checkout(request: Request, caller: Caller | None) -> Response:
    """Start a Checkout Session. The buyer opens `checkout_url` in a browser."""
    billing = services_of(request).billing
    wanted = EmailWish.parse(await read_json_object(request, field="email"))
    # Only our own pages keep the cookie. For any other client the key must not depend on it.
    browser = browser_of(request) if request.headers.get("sec-fetch-site") == "same-origin" else None
    started = await billing.start_checkout(
        wanted.email, base_url=base_url_of(request), browser=browser, caller=caller
    )
    response = JSONResponse(
        {"checkout_url": started.url, "checkout_session_id": started.id}, headers=_NO_STORE
    )
    if browser is not None:
        remember_browser(request, response, browser)
    return response


async def receive_stripe_event(request: Request) -> Response:
    """Store the event. The billing worker handles it after the response."""
    billing = services_of(request).billing
    too_large = f"The event is larger than {MAX_WEBHOOK_BYTES} bytes."
    body = await read_body(request, MAX_WEBHOOK_BYTES, too_large)
    added = await billing.accept_event(body, request.headers.get("stripe-signature"))
    return JSONResponse({"received": True, "new": added}, 200, _NO_STORE)


async def open_portal(request: Request, caller: Caller | None) -> Response:
    """Return a short-lived link to Stripe's portal: payment method, receipts, cancellation."""
    url = await services_of(request).billing.portal_url(caller, base_url=base_url_of(request))
    return JSONResponse({"portal_url": url}, headers=_NO_STORE)


async def set_spending_cap(request: Request, caller: Caller | None) -> Response:
    """Set or remove the spending cap, and return what `GET /v1/billing` returns."""
    billing = services_of(request).billing
    wanted = CapWish.parse(await read_json_object(request, field="minutes_per_week"))
    await billing.set_cap(caller, wanted.minutes_per_week)
    return JSONResponse((await billing.view(caller)).model_dump(), headers=_NO_STORE)


async def request_recovery(request: Request) -> Response:
    """Mail a link if an account has this address. The response is the same for every address: 202."""
    billing = services_of(request).billing
    billing.ask_recovery(EmailWish.parse(await read_json_object(request, field="email")).email)
    message = "If there is an account with this address, a mail with a link is on its way."
    return JSONResponse({"message": message}, 202, _NO_STORE)


ENDPOINTS: Final = (
    Endpoint("GET", "/v1/billing", get_billing, key="optional"),
    Endpoint("POST", "/v1/billing/checkout", start_checkout, key="optional", limited=True),
    Endpoint("POST", "/v1/billing/webhook", receive_stripe_event, key="none"),
    Endpoint("POST", "/v1/billing/portal", open_portal, key="optional"),
    Endpoint("PUT", "/v1/billing/spending-cap", set_spending_cap, key="optional"),
    Endpoint("POST", "/v1/billing/recover", request_recovery, key="none", limited=True),
)
