"""The pages for buying a key: `/pricing`, `/success` and `/recover`. Programs use `/v1/billing`.

How the key reaches the buyer and nobody else: a GET of `/success` only reads the state, so link scanners use
nothing up. Its button sends a POST, which sets a one-time cookie and redirects to `/success/key`, where the
cookie is exchanged for the key. Only the browser that started a checkout can claim its key; a second cookie
identifies that browser.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from starlette.responses import RedirectResponse, Response

from stenobird.billing.schemas import EmailRequest
from stenobird.billing.service import CLAIM_SECONDS, PRICE
from stenobird.errors import InvalidRequest, StenobirdError
from stenobird.web.limits import limit_request
from stenobird.web.representations import remember_browser
from stenobird.web.requests import BROWSER_COOKIE, base_url_of, browser_of, is_secure, services_of
from stenobird.web.routing import Endpoint
from stenobird.web.site.templating import read_form, render

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request


CLAIM_COOKIE = "stenobird_claim"

_SESSION_ID = re.compile(r"cs_[A-Za-z0-9_]{8,250}")
_NO_STORE = {"Cache-Control": "no-store"}


def _page(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """Render errors as a page."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except StenobirdError as error:
            page = render("billing/problem.html", error.http_status, message=error.message)
            if error.retry_after_seconds is not None:
                page.headers["Retry-After"] = str(int(error.retry_after_seconds) + 1)
            return page

    return answer


async def buy(request: Request) -> Response:
    """Start a checkout and redirect the browser to it."""
    billing = services_of(request).billing
    email = (await read_form(request)).get("email", "")
    try:
        wanted = EmailRequest.parse({"email": email})
    except InvalidRequest:
        return await show_pricing(request, 400, problem="This is not an e-mail address.", email=email)
    await limit_request(request, None)
    browser = browser_of(request)
    _, url = await billing.start_checkout(wanted.email, base_url=base_url_of(request), browser=browser)
    response = RedirectResponse(url, 303, _NO_STORE)
    remember_browser(request, response, browser)
    return response


async def show_success(request: Request) -> Response:
    """Show the state of the checkout. Opening this page changes nothing."""
    session_id = request.query_params.get("checkout_session_id", "")
    return await _show_success(request, session_id)


async def claim_key(request: Request) -> Response:
    """Give this browser a claim to the key, and redirect it to the key."""
    session_id = (await read_form(request)).get("checkout_session_id", "")
    if not _SESSION_ID.fullmatch(session_id):
        return await _show_success(request, session_id)
    claim = await services_of(request).billing.claim(session_id, request.cookies.get(BROWSER_COOKIE))
    if claim is None:
        return await _show_success(request, session_id)
    response = RedirectResponse("/success/key", 303, _NO_STORE)
    response.set_cookie(
        CLAIM_COOKIE,
        claim,
        max_age=int(CLAIM_SECONDS),
        path="/success",
        secure=is_secure(request),
        httponly=True,
        samesite="lax",
    )
    return response


async def _show_success(request: Request, session_id: str) -> Response:
    billing = services_of(request).billing
    state = "unknown"
    if _SESSION_ID.fullmatch(session_id):
        state = await billing.look(session_id, request.cookies.get(BROWSER_COOKIE))
    return render(
        "billing/success.html",
        404 if state == "unknown" else 200,
        state=state,
        session_id=session_id,
        can_recover=billing.can_recover,
    )


async def show_key(request: Request) -> Response:
    """Exchange the one-time cookie for the key. Without a cookie, say that the key was shown already."""
    billing = services_of(request).billing
    claim = request.cookies.get(CLAIM_COOKIE)
    # HEAD must not use up the cookie.
    key = await billing.redeem(claim) if claim and request.method == "GET" else None
    if key is None:
        return render(
            "billing/success.html", 410, state="shown", session_id="", can_recover=billing.can_recover
        )
    response = render("billing/key.html", key=key, base_url=base_url_of(request))
    response.delete_cookie(CLAIM_COOKIE, path="/success", secure=is_secure(request), httponly=True)
    return response


async def show_recovery(request: Request) -> Response:
    """Show the form, or for a mailed link a button, so that mail scanners do not use up the link."""
    token = request.query_params.get("token", "")
    return render("billing/recover.html", state="token" if token else "ask", token=token)


async def recover(request: Request) -> Response:
    """Mail a link, or show the new key for a mailed link."""
    billing = services_of(request).billing
    form = await read_form(request)
    if token := form.get("token"):
        key = await billing.recover_key(token)
        if key is None:
            return render("billing/recover.html", 410, state="used", token="")
        return render("billing/key.html", key=key, base_url=base_url_of(request))
    await limit_request(request, None)
    billing.ask_recovery(EmailRequest.parse({"email": form.get("email", "")}).email)
    return render("billing/recover.html", 202, state="asked", token="")


async def show_pricing(
    request: Request, status: int = 200, *, problem: str = "", email: str = ""
) -> Response:
    """Show the price, with the form if billing is configured, and what was wrong with the last one."""
    billing = services_of(request).billing
    return render(
        "billing/pricing.html",
        status,
        price=PRICE,
        problem=problem,
        email=email,
        configured=billing.configured,
        can_recover=billing.can_recover,
    )


ENDPOINTS: Final = (
    Endpoint("GET", "/pricing", _page(show_pricing), key="none"),
    Endpoint("POST", "/pricing", _page(buy), key="none"),
    Endpoint("GET", "/success", _page(show_success), key="none"),
    Endpoint("POST", "/success", _page(claim_key), key="none"),
    Endpoint("GET", "/success/key", _page(show_key), key="none"),
    Endpoint("GET", "/recover", _page(show_recovery), key="none"),
    Endpoint("POST", "/recover", _page(recover), key="none"),
)
