"""What a connection sends in one write."""

from __future__ import annotations

import asyncio

import pytest

from stenobird.web.server import _Connection

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n"


class Recorder(asyncio.Transport):
    """A transport that keeps what is written, and is closed at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.written.append(bytes(data))

    def write_eof(self) -> None:
        self.written.append(b"EOF")

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


async def test_a_head_is_sent_with_its_body() -> None:
    transport = Recorder()
    connection = _Connection(transport, asyncio.get_running_loop())
    connection.write(HEAD)
    connection.write(b"{}")
    await asyncio.sleep(0)
    assert transport.written == [HEAD + b"{}"]


async def test_a_head_without_a_body_yet_is_sent_in_the_same_turn_of_the_loop() -> None:
    transport = Recorder()
    connection = _Connection(transport, asyncio.get_running_loop())
    connection.write(HEAD)
    await asyncio.sleep(0)
    assert transport.written == [HEAD]
    connection.write(b"data")
    assert transport.written == [HEAD, b"data"]


async def test_a_head_is_sent_before_the_connection_closes() -> None:
    transport = Recorder()
    connection = _Connection(transport, asyncio.get_running_loop())
    connection.write(HEAD)
    connection.write_eof()
    connection.write(HEAD)
    connection.close()
    connection.write(b"late")
    await asyncio.sleep(0)
    assert transport.written == [HEAD, b"EOF", HEAD]
