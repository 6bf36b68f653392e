"""The loopback proxy of the extractor: the same doors closed, with a token and a byte cap."""

from __future__ import annotations

import base64
import gzip
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
import httpx
import pytest

from stenobird.egress.client import EgressClient
from stenobird.egress.policy import EgressPolicy
from stenobird.egress.proxy import EgressProxy, Grant
from tests.support.connect_proxy import ConnectProxy
from tests.support.raw_server import RawRequest, answer, open_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from anyio.abc import SocketStream

    from tests.support.canary import Canary
    from tests.support.dns import FakeResolver

pytestmark = pytest.mark.anyio
CAP = 10_000_000


@pytest.fixture
async def proxy(client: EgressClient) -> AsyncIterator[EgressProxy]:
    async with EgressProxy(client) as proxy:
        yield proxy


@asynccontextmanager
async def child(proxy: EgressProxy) -> AsyncIterator[httpx.AsyncClient]:
    with proxy.granted(CAP) as grant:
        async with httpx.AsyncClient(proxy=grant.url, trust_env=False, timeout=180) as browser:
            yield browser


async def echo(request: RawRequest, stream: SocketStream) -> None:
    if request.target == "/moved":
        await stream.send(answer(302, b"gone", {"Location": "http://127.0.0.2/", "Set-Cookie": "a=1"}))
    elif request.target == "/zipped":
        await stream.send(answer(200, gzip.compress(b"plain"), {"Content-Encoding": "gzip"}))
    elif request.target == "/cookies":
        await stream.send(
            b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"
        )
    elif request.target == "/letters":
        await stream.send(
            b"HTTP/1.1 302 Found\r\nLocation: /" + "café".encode() + b"\r\nContent-Length: 0\r\n\r\n"
        )
    elif request.target == "/half":
        await stream.send(answer(200, b"half", {"Content-Length": "8"}))
        await stream.aclose()
    elif request.target == "/big":
        await stream.send(answer(200, bytes(1_000_000)))
    else:
        await stream.send(answer(200, request.method.encode() + b" " + request.body, {"X-Seen": "yes"}))


async def raw(proxy: EgressProxy, data: bytes) -> bytes:
    """Send the bytes to the proxy and return all that it says."""
    stream = await anyio.connect_tcp("127.0.0.1", proxy.port)
    answered = b""
    async with stream:
        await stream.send(data)
        async for block in stream:
            answered += block
    return answered


def header(grant: Grant, token: str | None = None) -> str:
    parts = urlsplit(grant.url)
    pair = base64.b64encode(f"{parts.username}:{token or parts.password}".encode()).decode()
    return f"Proxy-Authorization: Basic {pair}\r\n"


@pytest.fixture
def authorization() -> Iterator[Callable[[EgressProxy], str]]:
    """Write the header of a grant that lasts until the test ends."""
    with ExitStack() as grants:
        yield lambda proxy: header(grants.enter_context(proxy.granted(CAP)))


async def test_plain_http_is_forwarded_with_its_body_and_its_answer(proxy: EgressProxy) -> None:
    async with open_server(echo) as server, child(proxy) as browser:
        got = await browser.get(server.url("/x?y=1", host="public.test"))
        assert (got.status_code, got.text, got.headers["x-seen"]) == (200, "GET ", "yes")
        sent = await browser.post(server.url("/p"), content=b"body", headers={"Cookie": "c=1"})
        assert sent.text == "POST body"
        head = await browser.head(server.url("/h"))
        assert (head.status_code, head.content) == (200, b"")
        assert server.requests[0].headers["host"] == f"public.test:{server.port}"
        assert server.requests[1].headers["cookie"] == "c=1"
        for request in server.requests:
            assert not {"proxy-authorization", "proxy-connection"} & request.headers.keys()


async def test_redirects_are_passed_on_and_checked_when_the_child_follows(proxy: EgressProxy) -> None:
    async with open_server(echo) as server, child(proxy) as browser:
        moved = await browser.get(server.url("/moved"))
        assert (moved.status_code, moved.headers["location"]) == (302, "http://127.0.0.2/")
        followed = await browser.get(server.url("/moved"), follow_redirects=True)
        assert followed.status_code == 403
        assert "not public" in followed.text


async def test_compressed_answers_and_repeated_headers_arrive_whole(proxy: EgressProxy) -> None:
    async with open_server(echo) as server, child(proxy) as browser:
        assert (await browser.get(server.url("/zipped"))).text == "plain"
        assert (await browser.get(server.url("/cookies"))).headers.get_list("set-cookie") == ["a=1", "b=2"]


async def test_headers_of_an_answer_keep_their_bytes(proxy: EgressProxy) -> None:
    async with open_server(echo) as server, child(proxy) as browser:
        response = await browser.get(server.url("/letters"))

    assert (b"location", "/café".encode()) in response.headers.raw


async def test_answer_that_breaks_off_looks_broken_to_the_child(proxy: EgressProxy) -> None:
    async with open_server(echo) as server, child(proxy) as browser:
        with pytest.raises(httpx.RemoteProtocolError):
            await browser.get(server.url("/half"))


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.2:{port}/",
        "http://private.test:{port}/",
        "http://127.2:{port}/",
        "http://[::ffff:127.0.0.2]:{port}/",
        "http://169.254.169.254/",
        "http://metadata/",
        "http://user@127.0.0.2:{port}/",
        "http://public.test@127.0.0.2:{port}/",
    ],
)
async def test_forbidden_targets_get_403_by_either_form(
    proxy: EgressProxy, canary: Canary, authorization: Callable[[EgressProxy], str], target: str
) -> None:
    url = target.replace("{port}", str(canary.port))
    authority = urlsplit(url).netloc
    if ":" not in authority:
        authority += ":80"
    allowed = authorization(proxy)
    assert (await raw(proxy, f"GET {url} HTTP/1.1\r\n{allowed}\r\n".encode())).startswith(b"HTTP/1.1 403 ")
    assert (await raw(proxy, f"CONNECT {authority} HTTP/1.1\r\n{allowed}\r\n".encode())).startswith(
        b"HTTP/1.1 403 "
    )


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET / HTTP/1.1", 400),
        ("GET file:///etc/passwd HTTP/1.1", 400),
        ("GET https://public.test/ HTTP/1.1", 400),
        ("GET http://public.test/ HTTP/2.0", 400),
        ("nonsense", 400),
        ("CONNECT public.test:99999 HTTP/1.1", 403),
        ("CONNECT public.test HTTP/1.1", 400),
        ("CONNECT public.test: HTTP/1.1", 400),
        ("CONNECT http://public.test:80 HTTP/1.1", 400),
        ("CONNECT public.test/path:80 HTTP/1.1", 400),
        ("CONNECT nowhere.test:443 HTTP/1.1", 502),
        ("GET http://nowhere.test/ HTTP/1.1", 502),
    ],
)
async def test_requests_that_cannot_be_served_say_why(
    proxy: EgressProxy, authorization: Callable[[EgressProxy], str], request_line: str, status: int
) -> None:
    said = await raw(proxy, f"{request_line}\r\n{authorization(proxy)}\r\n".encode())
    assert said.startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Transfer-Encoding: chunked\r\n", 411),
        ("Content-Length: 99999999\r\n", 413),
        ("Content-Length: -1\r\n", 413),
        ("Content-Length: x\r\n", 413),
        ("no colon\r\n", 400),
        ("X: " + "x" * 70_000 + "\r\n", 431),
    ],
)
async def test_requests_are_bounded(
    proxy: EgressProxy, authorization: Callable[[EgressProxy], str], headers: str, status: int
) -> None:
    said = await raw(
        proxy, f"POST http://public.test/ HTTP/1.1\r\n{authorization(proxy)}{headers}\r\n".encode()
    )
    assert said.startswith(f"HTTP/1.1 {status} ".encode())


async def test_requests_without_the_token_are_refused(proxy: EgressProxy, canary: Canary) -> None:
    unknown = base64.b64encode(b"unknown:wrong").decode()
    async with open_server(echo) as server:
        line = f"GET {server.url('/')} HTTP/1.1\r\n"
        with proxy.granted(CAP) as grant:
            good = header(grant)
            assert (await raw(proxy, f"{line}{good}\r\n".encode())).startswith(b"HTTP/1.1 200 ")
            for refused in (
                "",
                header(grant, "wrong"),
                f"Proxy-Authorization: Basic {unknown}\r\n",
                "Proxy-Authorization: Basic !!!\r\n",
                "Proxy-Authorization: Basic /w==\r\n",
                "Proxy-Authorization: Bearer x\r\n",
                "Authorization: Basic x\r\n",
            ):
                assert (await raw(proxy, f"{line}{refused}\r\n".encode())).startswith(b"HTTP/1.1 407 ")
        assert (await raw(proxy, f"{line}{good}\r\n".encode())).startswith(b"HTTP/1.1 407 ")
        assert len(server.requests) == 1


async def test_byte_cap_breaks_off_the_answer_and_refuses_the_next(proxy: EgressProxy) -> None:
    with proxy.granted(200_000) as grant, proxy.granted(CAP) as other:
        async with (
            open_server(echo) as server,
            httpx.AsyncClient(proxy=grant.url, trust_env=False, timeout=180) as browser,
        ):
            assert (await browser.get(server.url("/small"))).status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                await browser.get(server.url("/big"))
            assert grant.used_bytes > 200_000
            assert (await browser.get(server.url("/small"))).status_code == 403
            assert other.used_bytes == 0


@asynccontextmanager
async def tls_world() -> AsyncIterator[tuple[EgressProxy, ConnectProxy, int]]:
    """The extractor's proxy, chained to an upstream proxy behind which media.test lives."""
    async with open_server(echo) as server, ConnectProxy() as upstream:
        upstream.route("media.test", server.port)
        async with EgressClient(EgressPolicy(), proxy=upstream.url) as client, EgressProxy(client) as proxy:
            yield proxy, upstream, server.port


async def test_https_is_tunnelled_through_the_upstream_proxy() -> None:
    async with tls_world() as (proxy, upstream, _):
        with proxy.granted(CAP) as grant:
            context = upstream.client_context()
            async with httpx.AsyncClient(proxy=grant.url, verify=context, trust_env=False) as browser:
                assert (await browser.get("https://media.test/x")).text == "GET "
                assert (await browser.get("https://media.test/y")).text == "GET "
                assert (await browser.get("http://media.test/z")).text == "GET "
        assert upstream.targets == ["media.test:443", "media.test:80"]
        assert grant.used_bytes > 0


async def test_byte_cap_ends_a_tunnel() -> None:
    async with tls_world() as (proxy, upstream, _):
        with proxy.granted(100_000) as grant:
            context = upstream.client_context()
            async with httpx.AsyncClient(proxy=grant.url, verify=context, trust_env=False) as browser:
                with pytest.raises(httpx.TransportError):
                    await browser.get("https://media.test/big")
        assert 100_000 < grant.used_bytes < 200_000


async def test_tunnel_ends_with_its_grant(proxy: EgressProxy) -> None:
    async with open_server(echo) as server:
        stream = await anyio.connect_tcp("127.0.0.1", proxy.port)
        async with stream:
            with proxy.granted(CAP) as grant:
                head = f"CONNECT public.test:{server.port} HTTP/1.1\r\n{header(grant)}\r\n"
                await stream.send(head.encode())
                assert (await stream.receive()).startswith(b"HTTP/1.1 200 ")
                await stream.send(b"GET /a HTTP/1.1\r\n\r\n")
                assert b"GET " in await stream.receive()
            await stream.send(b"GET /b HTTP/1.1\r\n\r\n")
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
        assert server.targets == ["/a"]


async def test_tunnel_that_idles_and_one_that_lasts_too_long_end(
    client: EgressClient, authorization: Callable[[EgressProxy], str]
) -> None:
    for idle_seconds, total_seconds in ((0.1, 60.0), (60.0, 0.5)):
        limited = EgressProxy(client, idle_seconds=idle_seconds, total_seconds=total_seconds)
        async with limited as proxy, open_server(echo) as server:
            head = f"CONNECT public.test:{server.port} HTTP/1.1\r\n{authorization(proxy)}\r\n"
            said = await raw(proxy, head.encode())
            assert said == b"HTTP/1.1 200 Connection established\r\n\r\n"


async def test_connections_beyond_the_bound_get_503(
    client: EgressClient, authorization: Callable[[EgressProxy], str]
) -> None:
    async with (
        EgressProxy(client, max_connections=1) as proxy,
        open_server(echo) as server,
        await anyio.connect_tcp("127.0.0.1", proxy.port) as first,
    ):
        head = f"CONNECT public.test:{server.port} HTTP/1.1\r\n{authorization(proxy)}\r\n"
        await first.send(head.encode())
        assert (await first.receive()).startswith(b"HTTP/1.1 200 ")
        assert (await raw(proxy, b"")).startswith(b"HTTP/1.1 503 ")


async def test_rebound_name_is_refused_at_its_next_tunnel(
    proxy: EgressProxy, canary: Canary, resolver: FakeResolver
) -> None:
    resolver._script["rebind.test"] = [["127.0.0.1"], ["127.0.0.2"]]
    async with open_server(echo) as server, child(proxy) as browser:
        assert (await browser.get(f"http://rebind.test:{server.port}/")).status_code == 200
        assert (await browser.get(f"http://rebind.test:{canary.port}/")).status_code == 403


async def test_proxy_closes_its_connections_and_its_port(
    client: EgressClient, authorization: Callable[[EgressProxy], str]
) -> None:
    async with open_server(echo) as server:
        async with EgressProxy(client) as proxy:
            stream = await anyio.connect_tcp("127.0.0.1", proxy.port)
            head = f"CONNECT public.test:{server.port} HTTP/1.1\r\n{authorization(proxy)}\r\n"
            await stream.send(head.encode())
            await stream.receive()
        async with stream:
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await stream.receive()
        with pytest.raises(OSError, match=r"refused|failed"):
            await anyio.connect_tcp("127.0.0.1", proxy.port)
