"""The listening socket."""

from __future__ import annotations

import asyncio
import socket

import pytest

from stenobird.errors import ConfigurationError
from stenobird.serving import _listen

pytestmark = pytest.mark.anyio


async def test_small_answers_do_not_wait_for_delayed_acknowledgements() -> None:
    nodelay: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        nodelay.set_result(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    server = await asyncio.start_server(accept, sock=_listen("127.0.0.1", 0))
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await nodelay != 0
        writer.close()
        await writer.wait_closed()


def test_a_taken_port_is_named() -> None:
    taken = _listen("127.0.0.1", 0)
    taken.listen()
    port = taken.getsockname()[1]
    with pytest.raises(ConfigurationError, match=f"127.0.0.1:{port}"):
        _listen("127.0.0.1", port)
    taken.close()
