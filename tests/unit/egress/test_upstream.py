"""Everything through the operator's CONNECT proxy: https names, verified certificates, the same URL rules."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from stenobird.egress.client import EgressClient, FetchLimits, RequestOptions
from stenobird.egress.policy import EgressPolicy
from stenobird.errors import ConfigurationError, ConnectFailed, DestinationForbidden, ResponseBroken
from tests.support.connect_proxy import ConnectProxy
from tests.support.dns import FakeResolver
from tests.support.fetching import fetch
from tests.support.raw_server import RawRequest, RawServer, answer, open_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from anyio.abc import SocketStream

    from tests.support.canary import Canary

pytestmark = pytest.mark.anyio


async def hello(request: RawRequest, stream: SocketStream) -> None:
    pages = {
        "/away": answer(302, b"", {"Location": "http://media.test/here"}),
        "/inside": answer(302, b"", {"Location": "https://127.0.0.1/"}),
    }
    await stream.send(pages.get(request.target, answer(200, b"hello")))


@asynccontextmanager
async def world() -> AsyncIterator[tuple[EgressClient, ConnectProxy, RawServer, FakeResolver]]:
    resolver = FakeResolver({})
    async with open_server(hello) as server, ConnectProxy() as proxy:
        proxy.route("media.test", server.port)
        policy, context = EgressPolicy(), proxy.client_context()
        async with EgressClient(policy, resolver=resolver, proxy=proxy.url, ssl_context=context) as client:
            yield client, proxy, server, resolver


async def test_https_and_http_go_through_tunnels_and_the_proxy_resolves() -> None:
    async with world() as (client, proxy, server, resolver):
        document = await fetch(client, "https://media.test/away", max_bytes=9)
        assert (document.body, document.final_url) == (b"hello", "http://media.test/here")
        assert proxy.targets == ["media.test:443", "media.test:80"]
        assert [(r.target, r.headers["host"]) for r in server.requests] == [
            ("/away", "media.test"),
            ("/here", "media.test"),
        ]
        assert resolver.calls == []


async def test_tunnel_is_used_again() -> None:
    async with world() as (client, proxy, server, _):
        for _ in range(3):
            await fetch(client, "https://media.test/x", max_bytes=9)
        assert (len(proxy.targets), len(server.requests)) == (1, 3)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/",
        "https://[::1]/",
        "https://10.0.0.1/",
        "https://169.254.169.254/",
        "https://0x7f.1/",
        "https://localhost/",
        "https://x.internal/",
        "https://media.test:8444/",
        "https://media.test/inside",
    ],
)
async def test_proxy_is_never_asked_for_what_the_rules_forbid(url: str) -> None:
    async with world() as (client, proxy, _, _):
        with pytest.raises(DestinationForbidden):
            await client.open(url)
        assert proxy.targets == (["media.test:443"] if url.endswith("/inside") else [])


async def test_certificate_of_another_name_is_refused() -> None:
    async with world() as (client, proxy, server, _):
        proxy.route("other.test", server.port, certificate_name="media.test")
        with pytest.raises(
            ConnectFailed, match=r"The certificate of other\.test is not valid: .*other\.test"
        ):
            await client.open("https://other.test/")
        assert server.requests == []


async def test_certificate_of_an_unknown_authority_is_refused() -> None:
    async with world() as (_, proxy, server, _), EgressClient(EgressPolicy(), proxy=proxy.url) as stranger:
        with pytest.raises(ConnectFailed, match=r"The certificate of media\.test is not valid"):
            await stranger.open("https://media.test/")
        assert server.requests == []


async def test_authority_in_ssl_cert_file_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world() as (_, proxy, _, _):
        monkeypatch.setenv("SSL_CERT_FILE", str(proxy.write_ca(tmp_path / "ca.pem")))
        async with EgressClient(EgressPolicy(), proxy=proxy.url) as client:
            assert (await fetch(client, "https://media.test/", max_bytes=9)).body == b"hello"


async def test_proxy_that_refuses_a_name_is_named_in_the_error() -> None:
    async with world() as (client, _, _, _):
        with pytest.raises(
            ConnectFailed,
            match=r'nowhere\.test could not be reached: the upstream proxy answered "502 No route"',
        ):
            await client.open("https://nowhere.test/")


async def test_proxy_credentials_are_sent_and_kept_out_of_messages() -> None:
    async with open_server(hello) as server, ConnectProxy(credentials=("user", "secret")) as proxy:
        proxy.route("media.test", server.port)
        context = proxy.client_context()
        async with EgressClient(EgressPolicy(), proxy=proxy.url, ssl_context=context) as client:
            assert (await fetch(client, "https://media.test/", max_bytes=9)).status == 200
            assert "secret" not in repr(client.dialer)
        async with EgressClient(EgressPolicy(), proxy=f"http://127.0.0.1:{proxy.port}") as client:
            with pytest.raises(ConnectFailed, match="407 Proxy Authentication Required"):
                await client.open("https://media.test/")
        # Nothing of the tunnel's headers reaches the server.
        assert "proxy-authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"", ConnectFailed),
        (b"nonsense\r\n\r\n", ConnectFailed),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 20_000, ConnectFailed),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfaked", ResponseBroken),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.2/\r\n\r\n", ConnectFailed),
    ],
)
async def test_proxy_that_misbehaves_is_an_error(
    canary: Canary, reply: bytes, error: type[Exception]
) -> None:
    async def broken(request: RawRequest, stream: SocketStream) -> None:
        assert request.method == "CONNECT"
        await stream.send(reply)
        await stream.aclose()

    async with open_server(broken) as proxy, EgressClient(EgressPolicy(), proxy=proxy.url("")) as client:
        with pytest.raises(error):
            await client.open("http://media.test/")


async def test_proxy_that_is_silent_or_gone_is_bounded() -> None:
    async def silent(request: RawRequest, stream: SocketStream) -> None:
        del request
        await stream.receive()

    limits = FetchLimits(connect_seconds=0.1)
    async with open_server(silent) as proxy, EgressClient(EgressPolicy(), proxy=proxy.url("")) as client:
        with pytest.raises(ConnectFailed, match=r"media\.test did not answer within 0\.1 s"):
            await client.open("http://media.test/", RequestOptions(limits=limits))
        address = proxy.url("")
    async with EgressClient(EgressPolicy(), proxy=address) as client:
        with pytest.raises(ConnectFailed, match="the upstream proxy did not answer"):
            await client.open("http://media.test/", RequestOptions(limits=limits))


@pytest.mark.parametrize(
    "url", ["", "proxy", "proxy:8080", "socks5://h:1", "http://", "http://h:0", "http://h:x"]
)
def test_malformed_proxy_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError, match="EGRESS_PROXY must look like"):
        EgressClient(EgressPolicy(), resolver=FakeResolver({}), proxy=url)
