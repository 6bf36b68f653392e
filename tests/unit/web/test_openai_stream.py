"""A job of the OpenAI dialect is cancelled when its connection ends, however early."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from stenobird.ports import Caller, JobRecord
from stenobird.web.openai.requests import Retries
from stenobird.web.openai.routes import _cancel, _events_until_done
from stenobird.web.openai.schemas import Deltas
from stenobird.web.probes import Metrics
from stenobird.web.sse import EventStreamResponse, OpenStreams

if TYPE_CHECKING:
    from starlette.types import Message, Scope

pytestmark = pytest.mark.anyio

PAYER = Caller("acct_1", "key_1", "live", "full_access", "premium")
SCOPE: Scope = {"type": "http", "method": "POST", "headers": []}


async def _create() -> JobRecord:
    return cast("JobRecord", SimpleNamespace(id="tr_1"))


async def _always(_job: JobRecord) -> bool:
    return True


class Jobs:
    """One running job; records what was cancelled."""

    def __init__(self) -> None:
        self.cancelled: list[str] = []

    async def get(self, _job_id: str, _caller: Caller) -> SimpleNamespace:
        return SimpleNamespace(terminal=False)

    async def cancel_or_delete(self, job_id: str, _caller: Caller) -> None:
        self.cancelled.append(job_id)


async def test_a_shutdown_before_the_first_read_cancels_the_job_too() -> None:
    jobs = Jobs()
    services = cast("Any", SimpleNamespace(jobs=jobs))
    stopping = asyncio.Event()
    stopping.set()
    leave = AsyncExitStack()
    held = await leave.enter_async_context(
        Retries().joined(
            b"request",
            usable=_always,
            create=_create,
            cancel=partial(_cancel, services, PAYER),
            stopping=stopping,
            grace_seconds=60,
        )
    )
    events = _events_until_done(services, PAYER, held, leave)
    assert await anext(events) == ()
    streams = OpenStreams(Metrics())
    streams.end_all()
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    await EventStreamResponse("tr_1", events, streams, encode=Deltas().encode)(SCOPE, receive, send)
    assert jobs.cancelled == ["tr_1"]
    assert sent[-1]["more_body"] is False
