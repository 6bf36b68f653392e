"""Which webhook URLs `POST /v1/transcripts` takes, and what is looked at again when they are called."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest

from stenobird.bootstrap import Overrides
from tests.support.canary import open_canary
from tests.support.dns import FakeResolver
from tests.support.web_world import WebWorld, web_settings, web_world
from tests.support.webhook_world import OWNER, WebhookWorld, webhook_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from pathlib import Path

    from tests.support.dns import Answer

pytestmark = pytest.mark.anyio

AUDIO = {"audio_url": "https://example.com/a.mp3"}
NAMES: Mapping[str, Sequence[Answer]] = {
    "hooks.example": [["93.184.216.34"]],
    "inside.example": [["10.0.0.7"]],
    "both.example": [["93.184.216.34", "10.0.0.7"]],
    "later.example": [socket.gaierror(socket.EAI_AGAIN, "try again"), ["93.184.216.34"]],
    # Public when it is first looked up, and then not.
    "rebound.example": [["93.184.216.34"], ["127.0.0.1"]],
}


@dataclass
class Targets:
    """A server that looks names up in a script, and a deliverer that looks them up in the same one."""

    web: WebWorld
    hooks: WebhookWorld
    http: httpx.AsyncClient

    async def post(self, url: str, **headers: str) -> httpx.Response:
        """Ask for a transcript."""
        return await self.http.post("/v1/transcripts", json=AUDIO | {"webhook_url": url}, headers=headers)

    async def jobs(self) -> int:
        """Return how many jobs there are."""
        return sum((await self.web.store.counts()).values())


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Targets]:
    resolver = FakeResolver(NAMES)
    async with (
        web_world(tmp_path, web_settings(egress_ports=None), Overrides(resolver=resolver)) as web,
        webhook_world(web.database, allow=(), served=web.services.webhook_deliverer) as hooks,
        httpx.AsyncClient(base_url=web.url, trust_env=False) as http,
    ):
        secret, _ = await web.keys.create(account_id=OWNER)
        http.headers["Authorization"] = f"Bearer {secret}"
        yield Targets(web, hooks, http)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://hooks.example/x", "invalid_webhook_url"),
        ("ftp://hooks.example/x", "invalid_webhook_url"),
        ("feed:https://hooks.example/x", "invalid_webhook_url"),
        ("https://", "invalid_webhook_url"),
        ("https://nowhere.example/x", "invalid_webhook_url"),
        ("https://hooks.example:99999/x", "invalid_webhook_url"),
        ("https://user:word@hooks.example/x", "invalid_webhook_url"),
        ("https://127.0.0.1/x", "webhook_url_forbidden_target"),
        ("https://localhost/x", "webhook_url_forbidden_target"),
        ("https://10.1.2.3/x", "webhook_url_forbidden_target"),
        ("https://[::1]/x", "webhook_url_forbidden_target"),
        ("https://169.254.169.254/x", "webhook_url_forbidden_target"),
        ("https://inside.example/x", "webhook_url_forbidden_target"),
        ("https://both.example/x", "webhook_url_forbidden_target"),
    ],
)
async def test_a_webhook_url_is_judged_at_once(world: Targets, url: str, code: str) -> None:
    answer = await world.post(url)
    assert (answer.status_code, answer.json()["error"]) == (400, code)
    assert "audio" not in answer.json()["message"]
    assert await world.jobs() == 0


async def test_a_good_webhook_url_is_kept_with_the_job(world: Targets) -> None:
    answer = await world.post("https://HOOKS.example/x?a=1")
    assert answer.status_code == 202
    job = await world.web.store.get(answer.json()["id"])
    assert job is not None
    assert job.webhook_url == "https://hooks.example/x?a=1"


async def test_a_name_that_could_not_be_looked_up_may_be_sent_again_with_its_idempotency_key(
    world: Targets,
) -> None:
    answers = [await world.post("https://later.example/x", **{"Idempotency-Key": "k"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [400, 202, 202]
    assert answers[0].json()["error"] == "invalid_webhook_url"
    # The replay asks nobody anew.
    assert answers[1].json() == answers[2].json()
    assert await world.jobs() == 1


async def test_a_name_that_leads_inside_after_the_post_is_not_called(world: Targets) -> None:
    async with open_canary() as canary:
        answer = await world.post(f"https://rebound.example:{canary.port}/x")
        assert answer.status_code == 202
        # Cancelled, it has ended, and its webhook is due.
        job_id = answer.json()["id"]
        await world.http.delete(f"/v1/transcripts/{job_id}")
        await world.hooks.deliverer().step()
        assert await canary.settle() == 0

    [row] = (await world.http.get("/v1/webhooks/deliveries")).json()["deliveries"]
    assert (row["job_id"], row["state"], row["attempts"], row["status_code"]) == (job_id, "pending", 1, None)
    assert "not public" in row["error"]
