"""`stenobird serve` with Stripe in its settings: bought, used, billed and cut off, through real processes."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from stenobird.demo import CLIP_PATH
from stenobird.ports import Clock
from tests.support.fake_stripe import FakeStripe, running_stripe
from tests.support.media_server import MediaServer, Resource
from tests.support.server_process import ServerProcess
from tests.support.until import async_until

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

METER = "stenobird_audio_minutes"


async def deliver(http: httpx.AsyncClient, fake: FakeStripe, event: dict[str, Any]) -> httpx.Response:
    body, signature = fake.signed(event)
    return await http.post("/v1/billing/webhook", content=body, headers={"Stripe-Signature": signature})


async def test_a_key_is_bought_its_job_is_billed_once_and_a_failed_payment_stops_it(tmp_path: Path) -> None:
    fake = FakeStripe(Clock())
    price = fake.add_price(METER)
    async with running_stripe(fake):
        settings = {
            "STRIPE_SECRET_KEY": fake.secret_key,
            "STRIPE_WEBHOOK_SECRET": fake.webhook_secret,
            "STRIPE_PRICE_ID": price,
            "STRIPE_API_BASE": fake.url,
        }
        server = ServerProcess(tmp_path / "data", settings=settings)
        async with MediaServer({"/clip.mp3": Resource(CLIP_PATH)}) as media:
            await asyncio.to_thread(server.start)
            try:
                async with httpx.AsyncClient(base_url=server.url, trust_env=False, timeout=180) as http:
                    await scenario(http, fake, server, media.url("/clip.mp3"))
            finally:
                await asyncio.to_thread(server.terminate)
        for file in (tmp_path / "data").rglob("*"):
            content = file.read_bytes() if file.is_file() else b""
            assert fake.secret_key.encode() not in content, file
            assert fake.webhook_secret.encode() not in content, file


async def scenario(http: httpx.AsyncClient, fake: FakeStripe, server: ServerProcess, audio_url: str) -> None:
    begun = await http.post("/pricing", data={"email": "buyer@example.com"})
    found = re.search(r"cs_test_[0-9a-f]+", begun.headers["location"])
    assert found is not None
    fake.complete_checkout(found[0])
    claimed = await http.post("/success", data={"checkout_session_id": found[0]})
    page = await http.get(claimed.headers["location"])
    key = re.search(r"sb_live_[0-9A-Za-z]{36}", page.text)
    assert key is not None
    bearer = {"Authorization": f"Bearer {key[0]}"}

    made = await http.post("/v1/transcripts", json={"audio_url": audio_url}, headers=bearer)
    assert (made.status_code, made.json()["mode"]) == (202, "full")
    stream = await http.get(made.json()["events_url"], headers=bearer)
    assert '"status":"completed"' in stream.text
    await async_until(lambda: fake.meter_events)
    [event] = fake.meter_events
    assert (event["identifier"], event["payload"]["value"]) == (made.json()["id"], "1")

    # Killed and back again, it has nothing more to report.
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    subscription = next(item for item in fake.objects.values() if item["object"] == "subscription")
    fake.set_subscription(subscription["id"], "past_due")
    told = await deliver(http, fake, fake.events[-1])
    assert told.json() == {"received": True, "new": True}
    assert (await deliver(http, fake, fake.events[-1])).json() == {"received": True, "new": False}

    async def past_due() -> bool:
        billing = await http.get("/v1/billing", headers=bearer)
        return bool(billing.json()["state"] == "past_due")

    await async_until(past_due)
    refused = await http.post("/v1/transcripts", json={"audio_url": audio_url}, headers=bearer)
    assert (refused.status_code, refused.json()["error"]) == (402, "billing_failed")
    assert len(fake.meter_events) == 1
    assert key[0].removeprefix("sb_live_") not in server.log()
