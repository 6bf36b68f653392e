"""What `StripeGateway` promises, on the fake and on Stripe's test mode; see conftest."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from stenobird.billing.stripe_gateway import open_stripe
from stenobird.errors import BillingUnavailable
from stenobird.ports.billing import NotDone, OutcomeUnknown, Refused
from tests.support.web_world import web_settings

if TYPE_CHECKING:
    from tests.support.billing_world import StripeSandbox

pytestmark = pytest.mark.anyio


def checkout_request(**changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "success_url": "https://stenobird.test/success?checkout_session_id={CHECKOUT_SESSION_ID}",
        "cancel_url": "https://stenobird.test/pricing",
        "idempotency_key": secrets.token_hex(12),
        "email": "buyer@example.com",
    }
    return values | changes


def an_event(sandbox: StripeSandbox, **changes: Any) -> dict[str, Any]:
    identifier = f"tr_{secrets.token_hex(8)}"
    values: dict[str, Any] = {
        "identifier": identifier,
        "customer_id": sandbox.customer_id,
        "minutes": 3,
        "timestamp": sandbox.minute + 10,
        "idempotency_key": f"{identifier}.a1",
    }
    return values | changes


async def test_setting_up_twice_makes_nothing_new(sandbox: StripeSandbox) -> None:
    *first, _ = await sandbox.gateway.set_up(currency="usd", cents_a_minute="1")
    *again, made = await sandbox.gateway.set_up(currency="usd", cents_a_minute="1")
    assert made == []
    assert again == first


async def test_a_checkout_starts_with_a_link_and_is_unpaid(
    sandbox: StripeSandbox,
) -> None:
    session_id, url = await sandbox.gateway.start_checkout(**checkout_request())
    assert session_id.startswith("cs_")
    assert url.startswith("http")
    assert await sandbox.gateway.paid_checkout(session_id) is None


async def test_the_same_request_sent_twice_is_one_checkout(sandbox: StripeSandbox) -> None:
    same = checkout_request()
    first, _ = await sandbox.gateway.start_checkout(**same)
    assert (await sandbox.gateway.start_checkout(**same))[0] == first


async def test_what_does_not_exist_is_none(sandbox: StripeSandbox) -> None:
    assert await sandbox.gateway.paid_checkout("cs_test_nosuchsession") is None
    assert await sandbox.gateway.subscription("sub_nosuchsubscription") is None
    assert await sandbox.gateway.dispute("du_nosuchdispute") is None
    await sandbox.gateway.end_subscription("sub_nosuchsubscription")


async def test_a_customer_that_does_not_exist_is_refused(sandbox: StripeSandbox) -> None:
    with pytest.raises(Refused):
        await sandbox.gateway.portal_url("cus_nosuchcustomer", return_url="https://stenobird.test")


async def test_a_customer_gets_a_link_to_their_own_page(sandbox: StripeSandbox) -> None:
    url = await sandbox.gateway.portal_url(sandbox.customer_id, return_url="https://stenobird.test/pricing")
    assert url.startswith("http")


async def test_a_meter_event_repeated_under_another_key_is_taken_as_sent(sandbox: StripeSandbox) -> None:
    event = an_event(sandbox)
    await sandbox.gateway.send_meter_event(**event)
    await sandbox.gateway.send_meter_event(**event)
    await sandbox.gateway.send_meter_event(
        **an_event(sandbox, identifier=event["identifier"], idempotency_key=f"{event['identifier']}.a2")
    )


async def test_a_meter_event_that_is_too_old_is_refused(sandbox: StripeSandbox) -> None:
    with pytest.raises(Refused):
        await sandbox.gateway.send_meter_event(**an_event(sandbox, timestamp=sandbox.minute - 40 * 86_400))


async def test_a_customer_without_events_has_no_minutes(sandbox: StripeSandbox) -> None:
    assert (
        await sandbox.gateway.meter_minutes(
            sandbox.customer_id, since=sandbox.minute, until=sandbox.minute + 60
        )
        == 0
    )


async def test_a_wrong_key_raises_not_done_without_the_key_in_it(
    sandbox: StripeSandbox,
) -> None:
    key = "sk_test_wrong0123456789wrong"
    settings = sandbox.settings.model_copy(update={"stripe_secret_key": SecretStr(key)})
    async with open_stripe(settings) as gateway:
        with pytest.raises(NotDone) as caught:
            await gateway.start_checkout(**checkout_request())
    assert key not in f"{caught.value!r} {caught.value.body()} {settings!r}"


async def test_a_service_that_is_not_there_leaves_the_outcome_open() -> None:
    settings = web_settings(stripe_secret_key=SecretStr("sk_test_x"), stripe_api_base="http://127.0.0.1:1")
    async with open_stripe(settings, timeout_seconds=1.0) as gateway:
        with pytest.raises(OutcomeUnknown) as caught:
            await gateway.send_meter_event(
                identifier="tr_1",
                customer_id="cus_1",
                minutes=1,
                timestamp=1_800_000_000,
                idempotency_key="tr_1.a1",
            )
    assert isinstance(caught.value, BillingUnavailable)
    assert caught.value.http_status == 503
