"""JSON that is nested deeper than Python's stack, sent to every endpoint of the running app."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import stripe

from stenobird.bootstrap import Overrides
from tests.support.billing_world import billing_world, stripe_settings
from tests.support.databases import migrated_sqlite
from tests.support.free_port import free_port
from tests.support.web_world import web_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.applications import Starlette

    from stenobird.web.routing import Endpoint
    from tests.support.web_world import WebWorld

pytestmark = pytest.mark.anyio


def nested_lists(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def nested_objects(depth: int) -> bytes:
    return b'{"a":' * depth + b"{}" + b"}" * depth


@asynccontextmanager
async def selling_world(folder: Path) -> AsyncIterator[tuple[WebWorld, str]]:
    """Serve every dialect, with billing; yield the secret of Stripe's webhooks too."""
    port = free_port()
    settings_of = partial(stripe_settings, port=port, public_url=f"http://127.0.0.1:{port}")
    async with billing_world(migrated_sqlite(folder), settings_of=settings_of) as billing:
        overrides = Overrides(clock=billing.clock, stores=billing.stores, mailer=billing.mailbox)
        async with web_world(folder, billing.settings, overrides) as world:
            yield world, billing.fake.webhook_secret


def endpoints_with_bodies(app: Starlette) -> list[Endpoint]:
    """Return the endpoints of all dialects whose operation has a request body."""
    document: dict[str, Any] = app.state.openapi()
    return [
        endpoint
        for dialect in app.state.dialects
        for endpoint in dialect.endpoints
        if "requestBody" in document["paths"][endpoint.path.replace(":path}", "}")][endpoint.method.lower()]
    ]


async def send(world: WebWorld, webhook_secret: str, body: bytes) -> dict[str, int]:
    """Send the body to every endpoint that takes one; return the statuses by method and path."""
    app: Any = world.server.config.app
    key = await world.key(await world.account())
    async with httpx.AsyncClient(base_url=world.url, trust_env=False, timeout=180, headers=key) as http:
        slot = {"filename": "a.mp3", "content_type": "audio/mpeg", "size_bytes": len(body) + 1}
        upload = (await http.post(f"{world.root}/uploads", json=slot)).json()["upload_id"]
        audio = {"audio_url": "https://example.com/a.mp3"}
        job_id = (await http.post("/v1/transcripts", json=audio)).json()["id"]
        headers = {
            "Content-Type": "application/json",
            "Stripe-Signature": stripe.WebhookSignature.generate_signature_header(
                body.decode(), webhook_secret, None
            ),
        }
        statuses = {}
        for endpoint in endpoints_with_bodies(app):
            path = endpoint.path.replace("{upload_id}", upload).replace("{id}", job_id)
            assert "{" not in path, "give the test a value for this parameter"
            answer = await http.request(endpoint.method, path, content=body, headers=headers)
            statuses[f"{endpoint.method} {endpoint.path}"] = answer.status_code
    return statuses


@pytest.mark.parametrize("nested", [nested_lists, nested_objects])
async def test_json_nested_100_000_deep_is_a_client_error_everywhere(tmp_path: Path, nested: Any) -> None:
    async with selling_world(tmp_path) as (world, webhook_secret):
        statuses = await send(world, webhook_secret, nested(100_000))
    assert len(statuses) >= 13
    assert {path: status for path, status in statuses.items() if status not in {400, 422}} == {}


@pytest.mark.parametrize("body", [nested_lists(32_000), nested_objects(10_000)], ids=["lists", "objects"])
async def test_json_nested_as_deep_as_its_size_allows_is_never_a_server_error(
    tmp_path: Path, body: bytes
) -> None:
    async with selling_world(tmp_path) as (world, webhook_secret):
        statuses = await send(world, webhook_secret, body)
    assert {path: status for path, status in statuses.items() if status >= 500} == {}
