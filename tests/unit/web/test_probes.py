"""The HTTP probes of a worker."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import httpx
import pytest

from stenobird.config import Settings
from stenobird.web.app import create_probe_app
from stenobird.web.probes import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stenobird.web.services import Services

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def prober() -> AsyncIterator[httpx.AsyncClient]:
    async def readiness() -> tuple[str, ...]:
        raise RuntimeError("unforeseen")

    services = SimpleNamespace(
        shutting_down=asyncio.Event(),
        readiness=readiness,
        check_timeout_seconds=5.0,
        settings=Settings(),
        metrics=Metrics(),
    )
    app = create_probe_app(cast("Services", services))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://worker") as client:
        yield client


async def test_a_failing_readiness_check_is_an_internal_error() -> None:
    async with prober() as client:
        answer = await client.get("/readyz")
    assert (answer.status_code, answer.json()["error"]) == (500, "internal_error")
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


async def test_other_paths_of_a_worker_are_not_found_in_every_dialect() -> None:
    async with prober() as client:
        assert (await client.get("/v1/transcripts/tr_1")).json()["error"] == "not_found"
        assert (await client.get("/api/v1/transcriptions")).json()["error"]["code"] == "not_found"
