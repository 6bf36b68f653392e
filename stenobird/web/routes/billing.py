"""Buying: `/v1/billing/*` for programs, `/pricing`, `/success` and `/recover` for people.

How a key reaches the buyer and nobody else: a GET of `/success` only looks, so a scanner of links uses
nothing up. Its button POSTs, which gives this browser a one-time cookie and redirects to `/success/key`,
where the cookie is redeemed for the key. A checkout that was begun in a browser is open to that browser
alone, which a cookie of its own tells.
"""

from __future__ import annotations

import functools
import re
import secrets
from typing import TYPE_CHECKING, TypeVar

from starlette.endpoints import HTTPEndpoint
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from stenobird.billing.schemas import CapWish, EmailWish
from stenobird.billing.service import CLAIM_SECONDS, PRICE
from stenobird.errors import BillingUnavailable, InvalidRequest, StenobirdError
from stenobird.web.limits import headers_of, limit_request
from stenobird.web.pages import Pages, read_form
from stenobird.web.requests import base_url_of, caller_of, read_body, read_json_object, services_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.routing import BaseRoute

    from stenobird.billing.service import BillingService

    _Page = TypeVar("_Page", bound=HTTPEndpoint)

MAX_WEBHOOK_BYTES = 512 * 1024
"""Stripe's own limit on events is lower."""
BROWSER_COOKIE = "stenobird_browser"
CLAIM_COOKIE = "stenobird_claim"
BROWSER_SECONDS = 2 * 86_400
"""A Checkout Session is open for a day."""

_SESSION_ID = re.compile(r"cs_[A-Za-z0-9_]{8,250}")
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
        Route("/pricing", PricingPage),
        Route("/success", SuccessPage),
        Route("/success/key", KeyPage),
        Route("/recover", RecoverPage),
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
        browser = _browser(request) if request.headers.get("sec-fetch-site") == "same-origin" else None
        started = await billing.start_checkout(
            wish.email, base_url=base_url_of(request), browser=browser, caller=caller
        )
        response = JSONResponse(
            {"checkout_url": started.url, "checkout_session_id": started.id}, headers=_NO_STORE
        )
        response.headers.update(headers_of(request))
        if browser is not None:
            _remember_browser(request, response, browser)
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


def _page(
    handler: Callable[[_Page, Request], Awaitable[Response]],
) -> Callable[[_Page, Request], Awaitable[Response]]:
    """Answer errors as a page, since a person reads them."""

    @functools.wraps(handler)
    async def answer(self: _Page, request: Request) -> Response:
        try:
            return await handler(self, request)
        except StenobirdError as error:
            page = _pages(request).render("billing/problem.html", error.http_status, message=error.message)
            if error.retry_after_seconds is not None:
                page.headers["Retry-After"] = str(int(error.retry_after_seconds) + 1)
            return page

    return answer


class PricingPage(HTTPEndpoint):
    """What it costs, and the way to buy."""

    @_page
    async def get(self, request: Request) -> Response:
        """Show the price, and a form where buying is set up."""
        return _pricing(request)

    @_page
    async def post(self, request: Request) -> Response:
        """Begin a checkout and send the browser to it."""
        billing = _billing(request)
        email = (await read_form(request)).get("email", "")
        try:
            wish = EmailWish.parse({"email": email})
        except InvalidRequest:
            return _pricing(request, 400, problem="This is no e-mail address.", email=email)
        await limit_request(request, services_of(request).limits, None)
        browser = _browser(request)
        started = await billing.start_checkout(wish.email, base_url=base_url_of(request), browser=browser)
        response = RedirectResponse(started.url, 303, _NO_STORE)
        _remember_browser(request, response, browser)
        return response


class SuccessPage(HTTPEndpoint):
    """Where Stripe sends the buyer back to."""

    @_page
    async def get(self, request: Request) -> Response:
        """Say how the checkout stands; nothing is used up, however often and by whomever it is opened."""
        session_id = request.query_params.get("checkout_session_id", "")
        return await self._show(request, session_id)

    @_page
    async def post(self, request: Request) -> Response:
        """Give this browser the right to the key, and send it there."""
        session_id = (await read_form(request)).get("checkout_session_id", "")
        if not _SESSION_ID.fullmatch(session_id):
            return await self._show(request, session_id)
        claim = await _billing(request).claim(session_id, request.cookies.get(BROWSER_COOKIE))
        if claim is None:
            return await self._show(request, session_id)
        response = RedirectResponse("/success/key", 303, _NO_STORE)
        response.set_cookie(
            CLAIM_COOKIE,
            claim,
            max_age=int(CLAIM_SECONDS),
            path="/success",
            secure=_is_secure(request),
            httponly=True,
            samesite="lax",
        )
        return response

    async def _show(self, request: Request, session_id: str) -> Response:
        billing = _billing(request)
        state = "unknown"
        if _SESSION_ID.fullmatch(session_id):
            state = await billing.look(session_id, request.cookies.get(BROWSER_COOKIE))
        return _pages(request).render(
            "billing/success.html",
            404 if state == "unknown" else 200,
            state=state,
            session_id=session_id,
            can_recover=billing.can_recover,
        )


class KeyPage(HTTPEndpoint):
    """The key, once."""

    @_page
    async def get(self, request: Request) -> Response:
        """Redeem the one-time cookie for the key; without one, say that it was shown."""
        billing = _billing(request)
        claim = request.cookies.get(CLAIM_COOKIE)
        # A HEAD would use the cookie up and show nothing.
        key = await billing.redeem(claim) if claim and request.method == "GET" else None
        if key is None:
            return _pages(request).render(
                "billing/success.html", 410, state="shown", session_id="", can_recover=billing.can_recover
            )
        response = _pages(request).render("billing/key.html", key=key, base_url=base_url_of(request))
        response.delete_cookie(CLAIM_COOKIE, path="/success", secure=_is_secure(request), httponly=True)
        return response


class RecoverPage(HTTPEndpoint):
    """A new key for who lost theirs: first the address, then the mailed link."""

    @_page
    async def get(self, request: Request) -> Response:
        """Show the form, or, for a mailed link, its button; a scanner of mails uses nothing up."""
        _billing(request)
        token = request.query_params.get("token", "")
        return _pages(request).render("billing/recover.html", state="token" if token else "ask", token=token)

    @_page
    async def post(self, request: Request) -> Response:
        """Have a link mailed, or show the new key that a mailed link stands for."""
        billing = _billing(request)
        form = await read_form(request)
        if token := form.get("token"):
            key = await billing.recover_key(token)
            if key is None:
                return _pages(request).render("billing/recover.html", 410, state="used", token="")
            return _pages(request).render("billing/key.html", key=key, base_url=base_url_of(request))
        await limit_request(request, services_of(request).limits, None)
        billing.ask_recovery(EmailWish.parse({"email": form.get("email", "")}).email)
        return _pages(request).render("billing/recover.html", 202, state="asked", token="")


def _billing(request: Request) -> BillingService:
    billing = services_of(request).billing
    if billing is None:
        raise BillingUnavailable
    return billing


@functools.cache
def _templates() -> Pages:
    return Pages()


def _pages(_request: Request) -> Pages:
    return _templates()


def _pricing(request: Request, status: int = 200, *, problem: str = "", email: str = "") -> Response:
    billing = services_of(request).billing
    return _pages(request).render(
        "billing/pricing.html",
        status,
        price=PRICE,
        problem=problem,
        email=email,
        configured=billing is not None and billing.configured,
        can_recover=billing is not None and billing.can_recover,
    )


def _browser(request: Request) -> str:
    """Return the secret of this browser: the one it has, so that two tabs don't part, or a new one."""
    known = request.cookies.get(BROWSER_COOKIE, "")
    return known if re.fullmatch(r"[A-Za-z0-9_\-]{43}", known) else secrets.token_urlsafe(32)


def _remember_browser(request: Request, response: Response, browser: str) -> None:
    response.set_cookie(
        BROWSER_COOKIE,
        browser,
        max_age=BROWSER_SECONDS,
        path="/",
        secure=_is_secure(request),
        httponly=True,
        # Sent along when Stripe's page leads back here; not with anything that another site posts.
        samesite="lax",
    )


def _is_secure(request: Request) -> bool:
    return base_url_of(request).startswith("https:")
