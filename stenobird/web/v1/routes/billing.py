"""`/v1/billing`: the plan, a checkout and Stripe's webhook. The pages are in `web.site.checkout`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.endpoints import HTTPEndpoint
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stenobird.billing.schemas import CapWish, EmailWish
from stenobird.errors import BillingUnavailable
from stenobird.web.limits import headers_of, limit_request
from stenobird.web.requests import base_url_of, caller_of, read_body, read_json_object, services_of
from stenobird.web.site.checkout import browser_of, remember_browser

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from stenobird.billing.service import BillingService

MAX_WEBHOOK_BYTES = 512 * 1024
"""Stripe's own limit on events is lower."""

_NO_STORE = {"Cache-Control": "no-store"}


def routes() -> list[BaseRoute]:
    """Return the routes of this module."""
    return [
        Route("/v1/billing", Overview),
        Route("/v1/billing/checkout", StartCheckout),
        Route("/v1/billing/webhook", StripeWebhook),
        Route("/v1/billing/portal", Portal),
        Route("/v1/billing/spending-cap", SpendingCap),
        Route("/v1/billing/recover", Recover),
    ]


class Overview(HTTPEndpoint):
    """The caller's plan and what this week has cost."""

    async def get(self, request: Request) -> Response:
        """Answer with the account's state, its cap and the minutes of the billing week."""
        view = await _billing(request).view(await caller_of(request))
        return JSONResponse(view.model_dump(), headers=_NO_STORE)


class StartCheckout(HTTPEndpoint):
    """A way to pay."""

    async def post(self, request: Request) -> Response:
        """Begin a Checkout Session: `checkout_url` is where its buyer goes, in a browser."""
        billing = _billing(request)
        caller = await caller_of(request)
        # Anybody may ask, and each time Stripe is asked.
        await limit_request(request, services_of(request).limits, caller)
        wish = EmailWish.parse(await read_json_object(request, field="email"))
        # Only a page of our own can keep the cookie, so only then the key waits for it.
        browser = browser_of(request) if request.headers.get("sec-fetch-site") == "same-origin" else None
        started = await billing.start_checkout(
            wish.email, base_url=base_url_of(request), browser=browser, caller=caller
        )
        response = JSONResponse(
            {"checkout_url": started.url, "checkout_session_id": started.id}, headers=_NO_STORE
        )
        response.headers.update(headers_of(request))
        if browser is not None:
            remember_browser(request, response, browser)
        return response


class StripeWebhook(HTTPEndpoint):
    """Where Stripe says that something has changed."""

    async def post(self, request: Request) -> Response:
        """Store the event and answer at once; what it means is found out afterwards."""
        billing = _billing(request)
        too_large = f"The webhook's body is larger than {MAX_WEBHOOK_BYTES} bytes."
        body = await read_body(request, MAX_WEBHOOK_BYTES, too_large)
        added = await billing.accept_event(body, request.headers.get("stripe-signature"))
        return JSONResponse({"received": True, "new": added}, 200, _NO_STORE)


class Portal(HTTPEndpoint):
    """Stripe's page for the account."""

    async def post(self, request: Request) -> Response:
        """Answer with a short-lived link: payment method, receipts, cancellation."""
        url = await _billing(request).portal_url(await caller_of(request), base_url=base_url_of(request))
        return JSONResponse({"portal_url": url}, headers=_NO_STORE)


class SpendingCap(HTTPEndpoint):
    """The account's own limit."""

    async def put(self, request: Request) -> Response:
        """Set or lift the cap, and answer like `GET /v1/billing`."""
        billing = _billing(request)
        caller = await caller_of(request)
        wish = CapWish.parse(await read_json_object(request, field="minutes_per_week"))
        await billing.set_cap(caller, wish.minutes_per_week)
        return JSONResponse((await billing.view(caller)).model_dump(), headers=_NO_STORE)


class Recover(HTTPEndpoint):
    """A new key for who lost theirs."""

    async def post(self, request: Request) -> Response:
        """Answer 202 whoever asks; a mail with a link goes to the address if an account has it."""
        billing = _billing(request)
        await limit_request(request, services_of(request).limits, None)
        billing.ask_recovery(EmailWish.parse(await read_json_object(request, field="email")).email)
        message = "If there is an account with this address, a mail with a link is on its way."
        return JSONResponse({"message": message}, 202, _NO_STORE)


def _billing(request: Request) -> BillingService:
    billing = services_of(request).billing
    if billing is None:
        raise BillingUnavailable
    return billing
