"""From the price to the key: over HTTP, as a browser and as a program meet it."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from tests.support.billing_world import Mailbox

pytestmark = pytest.mark.anyio

KEY = re.compile(r"sb_live_[0-9A-Za-z]{36}")
TRANSCRIPT = {"audio_url": "https://example.com/a.mp3"}


def session_in(url: str) -> str:
    found = re.search(r"cs_test_[0-9a-f]+", url)
    assert found is not None
    return found[0]


async def buy(shop: Any, browser: httpx.AsyncClient, email: str = "buyer@example.com") -> str:
    """Buy on the page, in this browser, up to Stripe's "done"; return the session's id."""
    answer = await browser.post("/pricing", data={"email": email})
    assert answer.status_code == 303
    session_id = session_in(answer.headers["location"])
    shop.world.fake.complete_checkout(session_id)
    return session_id


async def press(browser: httpx.AsyncClient, session_id: str) -> httpx.Response:
    """Press the button of /success and follow it."""
    answer = await browser.post("/success", data={"checkout_session_id": session_id})
    if answer.status_code != 303:
        return answer
    return await browser.get(answer.headers["location"])


def key_in(answer: httpx.Response) -> str | None:
    found = KEY.search(answer.text)
    return found[0] if found else None


async def create(shop: Any, key: str) -> httpx.Response:
    program: httpx.AsyncClient
    async with shop.browser() as program:
        bearer = {"Authorization": f"Bearer {key}"}
        return await program.post("/v1/transcripts", json=TRANSCRIPT, headers=bearer)


# --- the way there ---


async def test_a_person_buys_and_sees_a_key_that_works_and_sees_it_once(shop: Any) -> None:
    async with shop.browser() as browser:
        assert "$0.01" in (await browser.get("/pricing")).text
        session_id = await buy(shop, browser)
        page = await browser.get("/success", params={"checkout_session_id": session_id})
        assert "Show my API key" in page.text
        shown = await press(browser, session_id)
        key = key_in(shown)
        assert key is not None
        assert shown.headers["cache-control"] == "no-store"
        again = [await press(browser, session_id), await browser.get("/success/key")]
        assert [key_in(answer) for answer in again] == [None, None]
        assert "was already shown" in again[0].text
    answer = await create(shop, key)
    assert (answer.status_code, answer.json()["mode"]) == (202, "full")


async def test_a_program_gets_a_link_and_its_completion_gives_the_key(shop: Any) -> None:
    async with shop.browser() as program, shop.browser() as browser:
        answer = await program.post("/v1/billing/checkout", json={"email": "buyer@example.com"})
        assert (answer.status_code, sorted(answer.json())) == (200, ["checkout_session_id", "checkout_url"])
        assert "set-cookie" not in answer.headers
        session_id = answer.json()["checkout_session_id"]
        assert shop.world.fake.objects[session_id]["success_url"] == (
            f"{shop.url}/success?checkout_session_id={{CHECKOUT_SESSION_ID}}"
        )
        shop.world.fake.complete_checkout(session_id)
        assert key_in(await press(browser, session_id)) is not None


async def test_before_stripe_says_so_there_is_no_key_and_no_account(shop: Any) -> None:
    async with shop.browser() as browser:
        answer = await browser.post("/pricing", data={"email": "buyer@example.com"})
        session_id = session_in(answer.headers["location"])
        page = await browser.get("/success", params={"checkout_session_id": session_id})
        assert (page.status_code, "Not finished" in page.text) == (200, True)
        assert key_in(await press(browser, session_id)) is None
    assert await shop.world.store.accounts_by_email("buyer@example.com") == []


# --- once, and to the buyer ---


async def test_a_scanner_that_opens_the_link_first_uses_nothing_up(shop: Any) -> None:
    async with shop.browser() as browser, shop.browser() as scanner:
        session_id = await buy(shop, browser)
        for _ in range(3):
            assert key_in(await scanner.get("/success", params={"checkout_session_id": session_id})) is None
            assert (await scanner.head("/success", params={"checkout_session_id": session_id})).text == ""
            assert key_in(await scanner.get("/success/key")) is None
        assert key_in(await press(browser, session_id)) is not None


async def test_another_browser_is_not_shown_the_key_even_if_it_presses_the_button(shop: Any) -> None:
    async with shop.browser() as browser, shop.browser() as other:
        session_id = await buy(shop, browser)
        await buy(shop, other, "other@example.com")
        refused = await press(other, session_id)
        assert (key_in(refused), "browser" in refused.text) == (None, True)
        assert key_in(await press(browser, session_id)) is not None


async def test_opened_many_times_at_once_the_key_is_shown_once_and_to_the_buyer(shop: Any) -> None:
    async with shop.browser() as browser:
        session_id = await buy(shop, browser)
        cookies = dict(browser.cookies)

        async def tab(*, buyer: bool) -> tuple[bool, str | None]:
            async with shop.browser() as one:
                if buyer:
                    one.cookies.update(cookies)
                await one.get("/success", params={"checkout_session_id": session_id})
                return buyer, key_in(await press(one, session_id))

        seen = await asyncio.gather(*(tab(buyer=number % 2 == 0) for number in range(10)))
    keys = [(buyer, key) for buyer, key in seen if key is not None]
    assert len(keys) <= 1
    assert all(buyer for buyer, _ in keys)
    if not keys:
        # Each press took the place of the one before, and the last was read by nobody: it is still there.
        async with shop.browser() as browser:
            browser.cookies.update(cookies)
            assert key_in(await press(browser, session_id)) is not None
    [account] = await shop.world.store.accounts_by_email("buyer@example.com")
    assert len(await shop.keys.list(account.id)) == 1


async def test_a_double_click_does_not_lose_the_key(shop: Any) -> None:
    async with shop.browser() as browser:
        session_id = await buy(shop, browser)
        await browser.post("/success", data={"checkout_session_id": session_id})
        assert key_in(await press(browser, session_id)) is not None


async def test_one_claim_redeemed_many_times_at_once_is_one_key(shop: Any) -> None:
    async with shop.browser() as browser:
        session_id = await buy(shop, browser)
        await browser.post("/success", data={"checkout_session_id": session_id})
        answers = await asyncio.gather(*(browser.get("/success/key") for _ in range(8)))
    assert len([answer for answer in answers if key_in(answer)]) == 1


async def test_a_claim_ends_after_ten_minutes(shop: Any) -> None:
    async with shop.browser() as browser:
        session_id = await buy(shop, browser)
        await browser.post("/success", data={"checkout_session_id": session_id})
        shop.world.clock.advance(601)
        assert key_in(await browser.get("/success/key")) is None
        assert key_in(await press(browser, session_id)) is not None


@pytest.mark.parametrize(
    "session_id", ["", "cs_test_unknown000", "../../v1/customers", "cs_test_" + "a" * 300]
)
async def test_sessions_that_we_did_not_begin_are_unknown_without_asking_stripe(
    shop: Any, session_id: str
) -> None:
    async with shop.browser() as browser:
        page = await browser.get("/success", params={"checkout_session_id": session_id})
        assert (page.status_code, key_in(await press(browser, session_id))) == (404, None)
    assert shop.world.fake.calls == []


async def test_the_key_is_in_no_table_no_log_no_header_and_no_url(
    shop: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    async with shop.browser() as browser:
        session_id = await buy(shop, browser)
        redirect = await browser.post("/success", data={"checkout_session_id": session_id})
        shown = await browser.get(redirect.headers["location"])
        key = key_in(shown)
        assert key is not None
        secret = key.removeprefix("sb_live_")
        assert secret not in f"{redirect.headers} {shown.headers} {shown.url} {redirect.url}"
        claim = browser.cookies.get("stenobird_claim")
        assert claim is None
    assert (await create(shop, key)).status_code == 202
    for file in shop.folder.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file
    logged = capfd.readouterr()
    assert secret not in logged.out + logged.err


async def test_cookies_are_kept_from_scripts_and_from_other_sites(shop: Any) -> None:
    async with shop.browser() as browser:
        answer = await browser.post("/pricing", data={"email": "buyer@example.com"})
        session_id = session_in(answer.headers["location"])
        shop.world.fake.complete_checkout(session_id)
        claimed = await browser.post("/success", data={"checkout_session_id": session_id})
    for cookie in (answer.headers["set-cookie"], claimed.headers["set-cookie"]):
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
    assert "path=/success" in claimed.headers["set-cookie"].lower()


# --- what is refused ---


@pytest.mark.parametrize("email", ["", "x", "a@b", "a b@example.com", "a@example.com\nBcc: x@y.zz", 7, None])
async def test_what_is_no_address_is_refused_without_asking_stripe(shop: Any, email: Any) -> None:
    async with shop.browser() as program:
        answer = await program.post("/v1/billing/checkout", json={"email": email})
    assert (answer.status_code, answer.json()["error"], answer.json()["field"]) == (
        400,
        "invalid_request",
        "email",
    )
    assert shop.world.fake.calls == []


async def test_names_from_outside_are_escaped_on_the_page(shop: Any) -> None:
    async with shop.browser() as browser:
        page = await browser.post("/pricing", data={"email": '"><script>alert(1)</script>'})
    assert (page.status_code, "<script>" in page.text) == (400, False)
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_an_unreachable_stripe_is_reported_to_people_and_programs(shop: Any) -> None:
    shop.world.fake.fault = lambda _method, _path: "429"
    async with shop.browser() as browser:
        answer = await browser.post("/v1/billing/checkout", json={"email": "buyer@example.com"})
        page = await browser.post("/pricing", data={"email": "buyer@example.com"})
    assert (answer.status_code, answer.json()["error"]) == (503, "billing_unavailable")
    assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")


async def test_without_stripe_everything_says_what_to_do(closed_shop: Any) -> None:
    async with closed_shop.browser() as browser:
        answers = [
            await browser.post("/v1/billing/checkout", json={"email": "buyer@example.com"}),
            await browser.post("/v1/billing/webhook", content=b"{}"),
            await browser.post("/v1/billing/recover", json={"email": "buyer@example.com"}),
        ]
        assert [(answer.status_code, answer.json()["error"]) for answer in answers] == [
            (503, "billing_unavailable")
        ] * 3
        assert all("operator" in answer.json()["message"] for answer in answers)
        pricing = await browser.get("/pricing")
        assert (pricing.status_code, "stenobird keys create" in pricing.text) == (200, True)
        page = await browser.get("/success", params={"checkout_session_id": "cs_test_0123456789"})
        assert (page.status_code, "operator" in page.text) == (503, True)
        secret, _ = await closed_shop.keys.create()
        bearer = {"Authorization": f"Bearer {secret}"}
        view = await browser.get("/v1/billing", headers=bearer)
        assert (view.status_code, view.json()["subscribed"]) == (200, False)
        assert (await browser.post("/v1/billing/portal", headers=bearer)).status_code == 503
    assert (await create(closed_shop, secret)).status_code == 202


# --- afterwards ---


async def bought_key(shop: Any, browser: httpx.AsyncClient) -> dict[str, str]:
    key = key_in(await press(browser, await buy(shop, browser)))
    assert key is not None
    return {"Authorization": f"Bearer {key}"}


async def test_an_account_sees_its_plan_caps_itself_and_gets_its_own_page(shop: Any) -> None:
    async with shop.browser() as browser:
        bearer = await bought_key(shop, browser)
        view = (await browser.get("/v1/billing", headers=bearer)).json()
        assert (view["plan"], view["state"], view["subscribed"]) == ("premium", "active", True)
        assert (view["spending_cap_minutes"], view["week_minutes"]) == (None, 0)
        changed = await browser.put("/v1/billing/spending-cap", json={"minutes_per_week": 0}, headers=bearer)
        assert changed.json()["spending_cap_minutes"] == 0
        refused = await browser.post("/v1/transcripts", json=TRANSCRIPT, headers=bearer)
        assert (refused.status_code, refused.json()["error"]) == (402, "billing_failed")
        await browser.put("/v1/billing/spending-cap", json={"minutes_per_week": None}, headers=bearer)
        accepted = await browser.post("/v1/transcripts", json=TRANSCRIPT, headers=bearer)
        assert accepted.status_code == 202
        portal = await browser.post("/v1/billing/portal", headers=bearer)
        assert portal.json()["portal_url"].startswith(shop.world.fake.url)


@pytest.mark.parametrize("cap", [-1, 1.5, "7", True, 10**9, {}])
async def test_a_cap_that_is_no_number_of_minutes_is_refused(shop: Any, cap: Any) -> None:
    async with shop.browser() as browser:
        bearer = await bought_key(shop, browser)
        answer = await browser.put("/v1/billing/spending-cap", json={"minutes_per_week": cap}, headers=bearer)
    assert (answer.status_code, answer.json()["field"]) == (400, "minutes_per_week")


async def test_who_may_not_touch_payments(shop: Any) -> None:
    async with shop.browser() as browser:
        await bought_key(shop, browser)
        [account] = await shop.world.store.accounts_by_email("buyer@example.com")
        assert (await browser.get("/v1/billing")).status_code == 401
        assert (await browser.post("/v1/billing/portal")).json()["error"] == "missing_api_key"
        reader, _ = await shop.keys.create(account_id=account.id, scope="read_only")
        tester, _ = await shop.keys.create(account_id=account.id, mode="test")
        for key, status in ((reader, 403), (tester, 400)):
            bearer = {"Authorization": f"Bearer {key}"}
            assert (await browser.post("/v1/billing/portal", headers=bearer)).status_code == status
            cap = await browser.put("/v1/billing/spending-cap", json={"minutes_per_week": 1}, headers=bearer)
            assert cap.status_code == status
            assert (await browser.get("/v1/billing", headers=bearer)).status_code == 200


async def test_a_failed_payment_stops_new_jobs_and_a_paid_one_lets_them_go_on(shop: Any) -> None:
    async with shop.browser() as browser:
        bearer = await bought_key(shop, browser)
        [account] = await shop.world.store.accounts_by_email("buyer@example.com")
        for status, expected in (("past_due", 402), ("active", 202)):
            shop.world.fake.set_subscription(account.subscription_id, status)
            body, signature = shop.world.fake.signed(shop.world.fake.events[-1])
            told = await browser.post(
                "/v1/billing/webhook", content=body, headers={"Stripe-Signature": signature}
            )
            assert (told.status_code, told.json()["new"]) == (200, True)
            while await shop.world.worker.step():
                pass
            answer = await browser.post("/v1/transcripts", json=TRANSCRIPT, headers=bearer)
            assert answer.status_code == expected


async def test_a_forged_webhook_is_400_and_an_endless_one_is_cut(shop: Any) -> None:
    async with shop.browser() as browser:
        forged = await browser.post("/v1/billing/webhook", content=b'{"id": "evt_1"}')
        assert (forged.status_code, forged.json()["error"]) == (400, "invalid_signature")
        long = await browser.post("/v1/billing/webhook", content=b" " * 600_000)
        assert long.status_code == 400


async def test_who_cancelled_subscribes_again_and_keeps_account_and_keys(shop: Any) -> None:
    async with shop.browser() as browser:
        bearer = await bought_key(shop, browser)
        [account] = await shop.world.store.accounts_by_email("buyer@example.com")
        early = await browser.post("/v1/billing/checkout", json={"email": "x@example.com"}, headers=bearer)
        assert early.status_code == 400
        shop.world.fake.set_subscription(account.subscription_id, "canceled")
        await shop.world.hear()
        refused = await browser.post("/v1/transcripts", json=TRANSCRIPT, headers=bearer)
        assert refused.json()["account_state"] == "cancelled"
        again = await browser.post("/v1/billing/checkout", json={"email": "x@example.com"}, headers=bearer)
        session_id = again.json()["checkout_session_id"]
        shop.world.fake.complete_checkout(session_id)
        page = await press(browser, session_id)
        assert (key_in(page), "Welcome back" in page.text) == (None, True)
        accepted = await browser.post("/v1/transcripts", json=TRANSCRIPT, headers=bearer)
        assert accepted.status_code == 202
    renewed = await shop.world.store.account(account.id)
    assert (renewed.customer_id, renewed.state) == (account.customer_id, "active")
    assert renewed.subscription_id != account.subscription_id


# --- lost keys ---


def link_in(mailbox: Mailbox) -> str:
    found = re.search(r"/recover\?token=[\w\-]+", mailbox.mails[-1][2])
    assert found is not None
    return found[0]


async def test_a_lost_key_comes_back_through_the_mail_once(shop: Any) -> None:
    async with shop.browser() as browser, shop.browser() as scanner:
        old = await bought_key(shop, browser)
        answer = await browser.post("/v1/billing/recover", json={"email": "BUYER@example.com"})
        assert answer.status_code == 202
        assert await shop.world.service.send_recovery("BUYER@example.com") == 1
        [(to, _, text)] = shop.world.mailbox.mails
        assert (to, key_in_text(text)) == ("buyer@example.com", None)
        link = link_in(shop.world.mailbox)
        token = link.partition("=")[2]
        for _ in range(3):
            assert key_in(await scanner.get(link)) is None
        answers = await asyncio.gather(*(browser.post("/recover", data={"token": token}) for _ in range(6)))
        keys = [key for key in map(key_in, answers) if key]
        assert len(keys) == 1
        for bearer in (old, {"Authorization": f"Bearer {keys[0]}"}):
            assert (await browser.get("/v1/billing", headers=bearer)).status_code == 200


def key_in_text(text: str) -> str | None:
    found = KEY.search(text)
    return found[0] if found else None


async def test_a_mailed_link_ends_after_an_hour_and_three_are_sent_an_hour(shop: Any) -> None:
    async with shop.browser() as browser:
        await bought_key(shop, browser)
        sent = [await shop.world.service.send_recovery("buyer@example.com") for _ in range(5)]
        assert sent == [1, 1, 1, 0, 0]
        token = link_in(shop.world.mailbox).partition("=")[2]
        shop.world.clock.advance(3601)
        assert (await browser.post("/recover", data={"token": token})).status_code == 410
        assert await shop.world.service.send_recovery("buyer@example.com") == 1


async def test_answers_do_not_reveal_who_has_an_account(shop: Any) -> None:
    async with shop.browser() as browser:
        await bought_key(shop, browser)
        known = await browser.post("/v1/billing/recover", json={"email": "buyer@example.com"})
        unknown = await browser.post("/v1/billing/recover", json={"email": "nobody@example.com"})
        assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
    assert await shop.world.service.send_recovery("nobody@example.com") == 0
    assert shop.world.mailbox.mails == []


async def test_forms_that_no_browser_sends_are_refused(shop: Any) -> None:
    async with shop.browser() as browser:
        assert (await browser.post("/success", content=b"\xff=\xff")).status_code == 400
        assert (await browser.post("/pricing", content=b"a" * 20_000)).status_code == 400
