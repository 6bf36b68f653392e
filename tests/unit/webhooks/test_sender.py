"""A test event: what it says of receivers that don't take it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from standardwebhooks.webhooks import Webhook
from typing_extensions import override

from stenobird.egress.policy import EgressPolicy
from stenobird.errors import InvalidWebhookURL, WebhookTargetForbidden
from stenobird.webhooks.delivery import ANSWER_BYTES
from stenobird.webhooks.service import WebhookService, WebhookTargets
from tests.support.webhook_world import OWNER, Receiver, WebhookWorld

if TYPE_CHECKING:
    from stenobird.ports import KeyMode
    from tests.support.raw_server import RawServer

pytestmark = pytest.mark.anyio

MODES: tuple[KeyMode, ...] = ("live", "test")


class AnyTarget(WebhookTargets):
    """Lets every URL through, http too, unless a test has a refusal for it."""

    def __init__(self, refusal: Exception | None = None) -> None:
        super().__init__(EgressPolicy(), None)
        self._refusal = refusal

    @override
    def check_url(self, url: str) -> str:
        if self._refusal is not None:
            raise self._refusal
        return url

    @override
    async def check(self, url: str) -> str:
        return self.check_url(url)


def sender(world: WebhookWorld, refusal: Exception | None = None) -> WebhookService:
    return WebhookService(world.deliveries, world.clock, world.client, AnyTarget(refusal))


@pytest.mark.parametrize("mode", MODES)
async def test_it_has_the_signatures_of_both_kinds_by_the_secret_of_the_mode(
    world: WebhookWorld, server: RawServer, receiver: Receiver, mode: KeyMode
) -> None:
    event_id, *outcome = await sender(world).send_test(OWNER, server.url(), "transcription.failed", mode=mode)
    [request] = receiver.requests
    assert outcome == [204, None]
    event = Webhook(await world.secret(mode=mode)).verify(request.body, dict(request.headers))
    assert (event["event_id"], event["status"], event["job_id"]) == (event_id, "test", None)
    assert request.headers["webhook-id"] == event_id
    assert request.headers["x-alefbot-timestamp"] == request.headers["webhook-timestamp"]
    assert len(request.headers["x-alefbot-signature"]) == 64


async def test_a_long_answer_of_2xx_is_a_delivery_as_it_is_for_jobs(
    world: WebhookWorld, server: RawServer, receiver: Receiver
) -> None:
    receiver.status, receiver.body = 200, b"x" * 200 * ANSWER_BYTES
    _, *outcome = await sender(world).send_test(OWNER, server.url(), "transcription.completed")
    assert outcome == [200, None]


@pytest.mark.parametrize(
    ("status", "said"), [(500, "status 500"), (302, "redirect"), (410, "status 410"), (None, "broke")]
)
async def test_a_failure_is_reported_and_disables_nothing(
    world: WebhookWorld, server: RawServer, receiver: Receiver, status: int | None, said: str
) -> None:
    receiver.status = status
    _, answered, problem = await sender(world).send_test(OWNER, server.url(), "transcription.completed")
    assert answered == status
    assert problem is not None
    assert said in problem
    assert "any more" not in problem

    receiver.status = 204
    await world.end_job(server.url())
    await world.deliverer().step()
    assert (await world.only()).state == "delivered"


@pytest.mark.parametrize(
    "refusal", [InvalidWebhookURL(), WebhookTargetForbidden()], ids=["invalid", "private"]
)
async def test_a_target_that_is_refused_is_not_called(
    world: WebhookWorld, server: RawServer, refusal: Exception
) -> None:
    with pytest.raises(type(refusal)):
        await sender(world, refusal).send_test(OWNER, server.url(), "transcription.completed")
    assert server.requests == []
