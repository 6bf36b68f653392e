"""The HTTP rows among the resource cases: each ends within its bound, with an error that says why."""

from __future__ import annotations

import itertools
import socket
import struct
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.abc import SocketAttribute

from stenobird.egress.client import MAX_HEADERS, EgressClient, EgressResponse, FetchLimits, RequestOptions
from stenobird.errors import ConnectFailed, ResponseBroken, ResponseTooLarge
from tests.support.raw_server import RawRequest, answer, open_server

if TYPE_CHECKING:
    from anyio.abc import SocketStream

    from stenobird.egress.policy import EgressPolicy
    from tests.support.dns import FakeResolver

pytestmark = pytest.mark.anyio


async def drain(response: EgressResponse) -> int:
    size = 0
    async for block in response.body():
        size += len(block)
    return size


async def test_announced_ten_terabytes_are_refused_before_they_are_read(client: EgressClient) -> None:
    async def huge(request: RawRequest, stream: SocketStream) -> None:
        del request
        await stream.send(answer(200, b"ID3", {"Content-Length": str(10**13)}))

    async with open_server(huge) as server:
        async with await client.open(server.url()) as response:
            assert response.total_bytes == 10**13
            assert await response.peek(3) == b"ID3"
        async with await client.open(server.url()) as response:
            with pytest.raises(ResponseTooLarge):
                await response.read(1000)


async def test_content_length_with_too_many_digits_is_an_error(client: EgressClient) -> None:
    async def absurd(request: RawRequest, stream: SocketStream) -> None:
        del request
        await stream.send(answer(200, b"x", {"Content-Length": "9" * 5000}))

    async with open_server(absurd) as server:
        with pytest.raises(ResponseBroken, match="broken HTTP response"):
            await client.open(server.url())


async def test_endless_body_ends_at_the_cap(client: EgressClient) -> None:
    async def endless(request: RawRequest, stream: SocketStream) -> None:
        del request
        await stream.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await stream.send(bytes(10_000))

    async with open_server(endless) as server:
        response = await client.open(
            server.url(), RequestOptions(limits=FetchLimits(max_body_bytes=1_000_000))
        )
        async with response:
            with pytest.raises(ResponseTooLarge, match="larger than the 1000000 bytes"):
                await drain(response)
        async with await client.open(server.url()) as response:
            with pytest.raises(ResponseTooLarge):
                await response.read(1000)


@pytest.mark.parametrize("header", [b"a: b\r\n", b"X-Long-Header: aaaaaaaaaaaaaaaaaaaa\r\n"])
async def test_ten_thousand_headers_are_an_error(client: EgressClient, header: bytes) -> None:
    async def chatty(request: RawRequest, stream: SocketStream) -> None:
        del request
        await stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + header * 10_000 + b"\r\n")

    async with open_server(chatty) as server:
        with pytest.raises(ResponseBroken, match=rf"more than {MAX_HEADERS} headers|broken HTTP response"):
            await client.open(server.url())


async def test_header_without_an_end_is_an_error(client: EgressClient) -> None:
    async def endless(request: RawRequest, stream: SocketStream) -> None:
        del request
        await stream.send(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            await stream.send(b"x" * 10_000)

    async with open_server(endless) as server:
        with pytest.raises(ResponseBroken, match="broken HTTP response"):
            await client.open(server.url())


@pytest.mark.parametrize(
    "start",
    [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n"],
)
async def test_head_that_never_comes_is_bounded(client: EgressClient, start: bytes) -> None:
    async def stuck(request: RawRequest, stream: SocketStream) -> None:
        del request
        await stream.send(start or b"")
        await stream.receive()

    async with open_server(stuck) as server:
        with pytest.raises(ConnectFailed, match=r"127\.0\.0\.1 did not answer within 0\.1 s"):
            await client.open(server.url(), RequestOptions(limits=FetchLimits(headers_seconds=0.1)))


async def test_endless_informational_answers_are_bounded(client: EgressClient) -> None:
    async def hints(request: RawRequest, stream: SocketStream) -> None:
        del request
        while True:
            await stream.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")

    async with open_server(hints) as server:
        with pytest.raises(ConnectFailed, match="did not answer within"):
            await client.open(server.url(), RequestOptions(limits=FetchLimits(headers_seconds=0.1)))


@pytest.mark.parametrize(
    "start", [b"Content-Length: 100\r\n\r\nhalf", b"Transfer-Encoding: chunked\r\n\r\n1;aaaaa"]
)
async def test_silence_in_the_body_is_bounded(client: EgressClient, start: bytes) -> None:
    async def stuck(request: RawRequest, stream: SocketStream) -> None:
        del request
        await stream.send(b"HTTP/1.1 200 OK\r\n" + start)
        await stream.receive()

    async with open_server(stuck) as server:
        response = await client.open(server.url(), RequestOptions(limits=FetchLimits(idle_seconds=0.1)))
        async with response:
            with pytest.raises(ResponseBroken, match=r"127\.0\.0\.1 sent nothing for 0\.1 s"):
                await drain(response)


async def test_bytes_that_never_become_a_block_are_bounded(client: EgressClient) -> None:
    async def dribble(request: RawRequest, stream: SocketStream) -> None:
        del request
        await stream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
        while True:
            await stream.send(b"a")
            await anyio.sleep(0.02)  # slower than nothing, faster than the idle bound

    async with open_server(dribble) as server:
        response = await client.open(server.url(), RequestOptions(limits=FetchLimits(idle_seconds=0.15)))
        async with response:
            with pytest.raises(ResponseBroken, match="sent nothing for"):
                await drain(response)


async def chunks(request: RawRequest, stream: SocketStream) -> None:
    del request
    await stream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 100)
    await stream.receive()


async def test_drip_below_the_minimum_rate_ends_the_download(
    policy: EgressPolicy, resolver: FakeResolver
) -> None:
    """Each look at the clock is five seconds after the one before: a byte every five seconds."""
    clock = itertools.count(step=5)
    async with (
        EgressClient(policy, resolver=resolver, monotonic=lambda: float(next(clock))) as client,
        open_server(chunks) as server,
        await client.open(server.url()) as response,
    ):
        with pytest.raises(ResponseBroken, match=r"127\.0\.0\.1 sent only 12 bytes in 60 s"):
            await drain(response)


async def test_slow_reader_does_not_count_as_a_slow_server(
    policy: EgressPolicy, resolver: FakeResolver
) -> None:
    now = 0.0
    async with (
        EgressClient(policy, resolver=resolver, monotonic=lambda: now) as client,
        open_server(chunks) as server,
        await client.open(server.url()) as response,
    ):
        blocks = response.body()
        for _ in range(100):
            await anext(blocks)
            now += 3600


async def test_total_time_bounds_a_page(policy: EgressPolicy, resolver: FakeResolver) -> None:
    now = 0.0
    async with (
        EgressClient(policy, resolver=resolver, monotonic=lambda: now) as client,
        open_server(chunks) as server,
        await client.open(server.url(), RequestOptions(limits=FetchLimits(total_seconds=30))) as response,
    ):
        blocks = response.body()
        await anext(blocks)
        now = 29.0
        await anext(blocks)
        now = 30.0
        with pytest.raises(ResponseBroken, match=r"127\.0\.0\.1 did not finish within 30 s"):
            await anext(blocks)


async def test_total_time_bounds_redirects_too(policy: EgressPolicy, resolver: FakeResolver) -> None:
    now = 0.0

    async def slow(request: RawRequest, stream: SocketStream) -> None:
        nonlocal now
        now += 20
        await stream.send(answer(302, b"", {"Location": request.target + "x"}))

    async with (
        EgressClient(policy, resolver=resolver, monotonic=lambda: now) as client,
        open_server(slow) as server,
    ):
        with pytest.raises(ConnectFailed, match="did not answer within"):
            await client.open(server.url(), RequestOptions(limits=FetchLimits(total_seconds=30)))
        assert server.targets == ["/", "/x"]


@pytest.mark.parametrize("reset", [True, False])
async def test_connection_that_breaks_at_half_is_an_error(client: EgressClient, *, reset: bool) -> None:
    async def half(request: RawRequest, stream: SocketStream) -> None:
        del request
        await stream.send(answer(200, b"x" * 50, {"Content-Length": "100"}))
        if reset:
            raw = stream.extra(SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.aclose()

    async with open_server(half) as server, await client.open(server.url()) as response:
        with pytest.raises(ResponseBroken):
            await drain(response)


@pytest.mark.parametrize(
    "data",
    [
        b"ICY OK\r\nicy-name: radio\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x00\x01\x02\x03" * 100,
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
    ],
)
async def test_answer_that_is_not_http_is_an_error(client: EgressClient, data: bytes) -> None:
    async def babble(request: RawRequest, stream: SocketStream) -> None:
        del request
        await stream.send(data)
        await stream.aclose()

    async with open_server(babble) as server:
        with pytest.raises(ResponseBroken):
            await client.open(server.url())


async def test_chunk_size_that_is_no_number_is_an_error(client: EgressClient) -> None:
    async def babble(request: RawRequest, stream: SocketStream) -> None:
        del request
        await stream.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n")

    async with open_server(babble) as server, await client.open(server.url()) as response:
        with pytest.raises(ResponseBroken):
            await drain(response)


async def test_too_many_connections_at_once_wait_and_then_fail(
    policy: EgressPolicy, resolver: FakeResolver
) -> None:
    async with (
        EgressClient(policy, resolver=resolver, max_connections=1) as client,
        open_server(chunks) as server,
        await client.open(server.url()),
    ):
        with pytest.raises(ConnectFailed, match="Too many downloads run at once"):
            await client.open(server.url(), RequestOptions(limits=FetchLimits(connect_seconds=0.05)))


async def test_closing_ends_the_wait_of_another_task(client: EgressClient) -> None:
    ended: list[str] = []
    started = anyio.Event()

    async def wait(response: EgressResponse) -> None:
        await response.peek(100)
        started.set()
        try:
            await response.peek(1000)
        except ResponseBroken as exc:
            ended.append(exc.message)

    async with (
        open_server(chunks) as server,
        await client.open(server.url()) as response,
        anyio.create_task_group() as group,
    ):
        group.start_soon(wait, response)
        await started.wait()
        await response.aclose()
    assert len(ended) == 1


async def test_cancelled_download_gives_its_connection_back(
    policy: EgressPolicy, resolver: FakeResolver
) -> None:
    async with (
        EgressClient(policy, resolver=resolver, max_connections=1) as client,
        open_server(chunks) as server,
    ):
        for _ in range(3):
            with anyio.move_on_after(0.05):
                async with await client.open(server.url()) as response:
                    await drain(response)
        async with await client.open(server.url()) as response:
            assert response.status == 200
