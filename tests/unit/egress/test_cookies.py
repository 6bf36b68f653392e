"""Cookies between the hops of one request: cookie walls are passed, and nothing goes where it was not set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stenobird.egress.client import MAX_COOKIES, MAX_HEADER_BYTES, HopCookies
from stenobird.egress.policy import PublicURL
from stenobird.errors import ResponseBroken
from tests.support.fetching import fetch
from tests.support.raw_server import RawRequest, answer, open_server

if TYPE_CHECKING:
    from anyio.abc import SocketStream

    from stenobird.egress.client import EgressClient

HERE = PublicURL("https", "a.test", 443, "/")


def jar(*set_cookies: str, url: PublicURL = HERE) -> HopCookies:
    cookies = HopCookies()
    cookies.store(url, [("set-cookie", value) for value in set_cookies])
    return cookies


@pytest.mark.anyio
async def test_cookie_wall_that_redirects_to_itself_is_passed(client: EgressClient) -> None:
    async def handle(request: RawRequest, stream: SocketStream) -> None:
        if request.headers.get("cookie") == "seen=yes":
            await stream.send(answer(200, b"the page"))
        else:
            headers = {"Location": request.target, "Set-Cookie": "seen=yes; Path=/; HttpOnly; Max-Age=600"}
            await stream.send(answer(302, b"", headers))

    async with open_server(handle) as server:
        document = await fetch(client, server.url("/page"), max_bytes=99)
        assert (document.body, server.targets) == (b"the page", ["/page", "/page"])
        # The next request starts without any.
        await fetch(client, server.url("/page"), max_bytes=99)
        assert [request.headers.get("cookie") for request in server.requests] == [None, "seen=yes"] * 2


@pytest.mark.anyio
async def test_cookie_wall_that_never_opens_is_a_redirect_loop(client: EgressClient) -> None:
    async def handle(request: RawRequest, stream: SocketStream) -> None:
        await stream.send(answer(302, b"", {"Location": request.target, "Set-Cookie": "seen=yes"}))

    async with open_server(handle) as server:
        with pytest.raises(ResponseBroken, match="loop"):
            await client.open(server.url("/page"))
        assert len(server.requests) == 2


@pytest.mark.anyio
async def test_cookie_that_changes_with_each_hop_ends_at_the_redirect_limit(client: EgressClient) -> None:
    async def handle(request: RawRequest, stream: SocketStream) -> None:
        count = len(server.requests)
        await stream.send(answer(302, b"", {"Location": request.target, "Set-Cookie": f"n={count}"}))

    async with open_server(handle) as server:
        with pytest.raises(ResponseBroken, match="more than 10 times"):
            await client.open(server.url("/page"))


@pytest.mark.anyio
async def test_cookie_for_a_whole_domain_stays_with_its_host(client: EgressClient) -> None:
    async def handle(request: RawRequest, stream: SocketStream) -> None:
        hops = {"/a": f"http://other.test:{server.port}/b", "/b": f"http://public.test:{server.port}/c"}
        headers = {"Set-Cookie": "id=1; Domain=.test; Path=/"}
        to = hops.get(request.target)
        await stream.send(answer(302, b"", headers | {"Location": to}) if to else answer())

    async with open_server(handle) as server:
        await fetch(client, server.url("/a", host="public.test"), max_bytes=9)
        assert [request.headers.get("cookie") for request in server.requests] == [None, None, "id=1"]


def test_secure_cookie_is_set_and_sent_over_https_only() -> None:
    plain = PublicURL("http", "a.test", 80, "/")
    assert jar("a=1; Secure", "b=2").header(plain, None) == "b=2"
    assert jar("a=1; secure", "b=2").header(HERE, None) == "a=1; b=2"
    assert jar("a=1; Secure", "b=2", url=plain).header(HERE, None) == "b=2"


@pytest.mark.parametrize(
    ("taken_back", "left"),
    [
        ("a=; Max-Age=0", None),
        ("a=x; max-age=-1", None),
        ("a=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT", None),
        ("a=x; Expires=Thu, 01 Jan 1970 00:00:00 GMT; Max-Age=60", "a=x"),
        ("a=x; Expires=Thu, 01 Jan 2037 00:00:00 GMT", "a=x"),
    ],
)
def test_cookie_is_deleted_as_servers_do(taken_back: str, left: str | None) -> None:
    assert jar("a=1", taken_back).header(HERE, None) == left


def test_port_is_part_of_the_host_unless_it_is_the_schemes_own() -> None:
    cookies = jar("a=1", url=PublicURL("http", "a.test", 8080, "/"))
    assert cookies.header(HERE, None) is None
    assert jar("a=1", url=PublicURL("http", "a.test", 80, "/")).header(HERE, None) == "a=1"


@pytest.mark.parametrize(
    "broken", ["", "=1", "no pair", "a b=1", "a=1\r\nHost: x", "a=\x00", "é=1", f"a={'x' * 5000}", ";a=1"]
)
def test_malformed_cookies_are_ignored(broken: str) -> None:
    assert jar(broken).header(HERE, None) is None


def test_number_and_size_are_bounded() -> None:
    many = jar(*(f"c{number}={'x' * 100}" for number in range(500))).header(HERE, None)
    assert many is not None
    assert many.count("=") == MAX_COOKIES
    long = jar(*(f"c{number}={'x' * 4000}" for number in range(20))).header(HERE, "own=1")
    assert long is not None
    assert long.startswith("own=1; c0=")
    assert len(long) <= MAX_HEADER_BYTES
