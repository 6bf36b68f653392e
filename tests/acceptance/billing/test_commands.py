"""`stenobird billing` as an operator types it, against the fake Stripe."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING

import pytest

from stenobird.ports import Clock
from tests.support.billing_world import billing_world
from tests.support.databases import migrated_sqlite
from tests.support.fake_stripe import FakeStripe, running_stripe
from tests.support.forked import run_command

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def command(
    folder: Path, fake: FakeStripe | None, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    settings = {"STENOBIRD_DATA_DIR": str(folder)}
    if fake is not None:
        settings |= {"STENOBIRD_STRIPE_SECRET_KEY": fake.secret_key, "STENOBIRD_STRIPE_API_BASE": fake.url}
    return await asyncio.to_thread(
        run_command, "billing", *arguments, env=kept | settings | environment, cwd=folder
    )


async def test_setting_up_prints_the_settings_and_finds_them_again(tmp_path: Path) -> None:
    async with running_stripe(FakeStripe(Clock())) as fake:
        first = await command(tmp_path, fake, "setup", "--json")
        again = await command(tmp_path, fake, "setup", "--json")
    made = json.loads(first.stdout)
    assert made["made"] == ["meter", "product", "price", "portal configuration"]
    assert json.loads(again.stdout) == {**made, "made": []}
    price = fake.objects[made["settings"]["STENOBIRD_STRIPE_PRICE_ID"]]
    assert (price["currency"], price["unit_amount_decimal"]) == ("usd", "1")
    assert price["recurring"] == {"interval": "week", "usage_type": "metered", "meter": made["meter_id"]}
    assert fake.secret_key not in first.stdout + first.stderr


async def test_without_a_key_of_stripe_it_says_what_to_set(tmp_path: Path) -> None:
    answer = await command(tmp_path, None, "setup")
    assert (answer.returncode, "STENOBIRD_STRIPE_SECRET_KEY" in answer.stderr) == (1, True)


async def test_a_key_that_stripe_refuses_is_named(tmp_path: Path) -> None:
    async with running_stripe(FakeStripe(Clock())) as fake:
        environment = {"STENOBIRD_STRIPE_SECRET_KEY": "sk_test_another"}
        answer = await command(tmp_path, fake, "setup", **environment)
    assert answer.returncode == 1
    assert "does not accept STENOBIRD_STRIPE_SECRET_KEY" in answer.stderr


async def test_status_tells_what_stripe_knows_and_a_lost_key_is_made_anew(tmp_path: Path) -> None:
    async with billing_world(migrated_sqlite(tmp_path)) as world:
        account = await world.bought("buyer@example.com")
        await world.use(account, [3, 4])
        await world.metering().step()
        status = json.loads((await command(tmp_path, None, "status", "--json")).stdout)
        assert status["meter_events"] == {"sent": {"jobs": 2, "minutes": 7}}
        made = await command(tmp_path, None, "remint", "Buyer@example.com")
        account_id, key = made.stdout.split()
        assert (account_id, key.startswith("sb_live_")) == (account.id, True)
        assert (await command(tmp_path, None, "remint", "nobody@example.com")).returncode == 1


async def test_a_lost_dispute_is_cleared_by_the_operator(tmp_path: Path) -> None:
    async with billing_world(migrated_sqlite(tmp_path)) as world:
        account = await world.bought()
        assert account.customer_id is not None
        world.fake.close_dispute(world.fake.open_dispute(account.customer_id), "lost")
        await world.hear()
        assert (await world.reload(account)).state == "disputed"
        cleared = await command(tmp_path, world.fake, "clear-disputes", account.id)
        assert cleared.stdout == f"{account.id} is active.\n"
        assert (await world.reload(account)).state == "active"


async def test_reconciling_ends_with_1_where_the_two_differ(tmp_path: Path) -> None:
    async with billing_world(migrated_sqlite(tmp_path)) as world:
        world.clock.now = Clock().time() - 3600
        account = await world.bought()
        await world.use(account, [3])
        await world.metering().step()
        agreed = await command(tmp_path, world.fake, "reconcile", "--json")
        assert (agreed.returncode, [row["difference"] for row in json.loads(agreed.stdout)]) == (0, [0])
        world.fake.meter_events.clear()
        differs = await command(tmp_path, world.fake, "reconcile", "--json")
        assert (differs.returncode, [row["difference"] for row in json.loads(differs.stdout)]) == (1, [-3])
