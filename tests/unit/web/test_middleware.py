"""What becomes of an error that can't be sent as the response that it asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import structlog
from starlette.responses import Response

from stenobird.errors import NotFound, StenobirdError
from stenobird.web.middleware import answer_errors

if TYPE_CHECKING:
    from starlette.exceptions import HTTPException
    from starlette.types import Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio


def respond(error: StenobirdError | HTTPException, _scope: Scope) -> Response:
    if isinstance(error, NotFound):
        raise TypeError("its page needs a service that is broken")
    return Response("internal error", 500)


async def receive() -> Message:
    return {"type": "http.disconnect"}


def scope() -> Scope:
    return {"type": "http", "method": "GET", "path": "/nowhere", "state": {"request_id": "r1"}}


async def test_an_error_whose_response_fails_is_an_unexpected_one() -> None:
    sent: list[Message] = []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise NotFound

    async def send(message: Message) -> None:
        sent.append(message)

    with structlog.testing.capture_logs() as logs:
        await answer_errors(app, respond)(scope(), receive, send)
    assert [message.get("status") for message in sent] == [500, None]
    assert [row["event"] for row in logs] == ["unhandled_exception"]


async def test_an_error_after_the_start_of_the_response_is_raised_again() -> None:
    sent: list[Message] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise NotFound

    async def send(message: Message) -> None:
        sent.append(message)

    with structlog.testing.capture_logs() as logs, pytest.raises(NotFound):
        await answer_errors(app, respond)(scope(), receive, send)
    assert [message["status"] for message in sent] == [200]
    assert [row["event"] for row in logs] == ["unhandled_exception"]
