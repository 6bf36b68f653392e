"""Buying a key in a real browser, up to the first complete transcript, with the fake Stripe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from anyio.from_thread import start_blocking_portal

from stenobird.ports import Clock
from tests.support.browser import visitor
from tests.support.fake_stripe import FakeStripe, running_stripe
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

    from tests.support.media_server import MediaServer

pytestmark = pytest.mark.slow


@pytest.fixture
def stripe() -> Iterator[FakeStripe]:
    """The fake Stripe on loopback, with a price."""
    fake = FakeStripe(Clock())
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running_stripe(fake)),
    ):
        yield fake


@pytest.fixture
def shop(stripe: FakeStripe, tmp_path: Path) -> Iterator[ServerProcess]:
    """A service that sells keys."""
    settings = {
        "STRIPE_SECRET_KEY": stripe.secret_key,
        "STRIPE_WEBHOOK_SECRET": stripe.webhook_secret,
        "STRIPE_PRICE_ID": stripe.add_price("stenobird_audio_minutes"),
        "STRIPE_API_BASE": stripe.url,
    }
    with ServerProcess(tmp_path / "data", settings=settings) as process:
        yield process


def test_a_key_is_bought_shown_once_and_used(
    browser: Browser, shop: ServerProcess, stripe: FakeStripe, media: MediaServer
) -> None:
    with visitor(browser, shop.url, width=360) as buyer:
        page = buyer.open("/")
        buyer.transcribe(media.url("/clip.mp3"))
        buyer.wait_done()
        preview_url = page.url
        page.get_by_role("link", name="Get a key").click()
        page.wait_for_url("**/pricing")
        buyer.check_looks(page.url)
        page.get_by_label("E-mail").fill("buyer@example.com")
        page.get_by_role("button", name="Buy an API key").click()
        page.wait_for_url(f"{stripe.url}/c/pay/cs_test_*")
        session_id = page.url.rpartition("/")[2]

        session = stripe.complete_checkout(session_id)
        page.goto(session["success_url"].replace("{CHECKOUT_SESSION_ID}", session_id))
        buyer.check_looks(page.url)
        back = page.get_by_role("link", name="Back to the transcript")
        assert f"{shop.url}{back.get_attribute('href')}" == preview_url
        page.get_by_role("button", name="Show my API key").click()
        page.wait_for_url("**/success/key")
        secret = page.locator("#api-key").inner_text()
        assert secret.startswith("sb_live_")
        first_curl = page.get_by_label("Your first transcript", exact=True).inner_text()
        assert secret in first_curl
        buyer.context.grant_permissions(["clipboard-read", "clipboard-write"])
        for button, copied in (("Copy the key", secret), ("Copy: Your first transcript", first_curl)):
            page.get_by_role("button", name=button).click()
            page.locator("#announcer", has_text="Copied").wait_for(state="attached")
            assert page.evaluate("navigator.clipboard.readText()").strip() == copied.strip()
        buyer.check_looks(page.url)

        page.get_by_role("button", name="Use it, and go back to the transcript").click()
        page.wait_for_url(preview_url)
        page.get_by_role("button", name="Transcribe all of it").click()
        buyer.wait_done("1 minute billed")

        page.goto(session["success_url"].replace("{CHECKOUT_SESSION_ID}", session_id))
        page.get_by_role("heading", name="The key was already shown").wait_for()

        buyer.open("/usage")
        page.get_by_role("button", name="Invoices and payment method").wait_for()
        buyer.check_looks(page.url)
