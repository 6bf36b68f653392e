from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import brotli  # type: ignore[import-untyped]
import pytest

from stenobird.egress.client import (
    BROWSER_USER_AGENT,
    MAX_REDIRECTS,
    EgressClient,
    EgressResponse,
    FetchLimits,
    RequestOptions,
)
from stenobird.errors import ConnectFailed, DestinationForbidden, ResponseBroken, ResponseTooLarge
from tests.support.fetching import fetch
from tests.support.raw_server import RawRequest, answer, open_server

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anyio.abc import SocketStream

    from stenobird.egress.policy import EgressPolicy
    from stenobird.ports import OpenedMedia
    from tests.support.canary import Canary
    from tests.support.dns import FakeResolver
    from tests.support.raw_server import Handler

pytestmark = pytest.mark.anyio
AUDIO = bytes(range(256)) * 1024


def always(data: bytes) -> Handler:
    async def handle(request: RawRequest, stream: SocketStream) -> None:
        del request
        await stream.send(data)

    return handle


def by_path(answers: Mapping[str, bytes]) -> Handler:
    async def handle(request: RawRequest, stream: SocketStream) -> None:
        await stream.send(answers[request.target])

    return handle


async def ranged(request: RawRequest, stream: SocketStream) -> None:
    first, _, last = request.headers["range"].removeprefix("bytes=").partition("-")
    start, stop = int(first), int(last or len(AUDIO) - 1) + 1
    headers = {"Content-Range": f"bytes {start}-{stop - 1}/{len(AUDIO)}", "ETag": '"v1"'}
    await stream.send(answer(206, AUDIO[start:stop], headers))


async def test_whole_answer_is_read_and_its_connection_used_again(client: EgressClient) -> None:
    async with open_server(always(answer(200, AUDIO, {"Content-Type": "audio/mpeg"}))) as server:
        for _ in range(3):
            async with await client.open(server.url("/a.mp3", host="public.test")) as response:
                media: OpenedMedia = response
                assert (media.status, media.offset, media.total_bytes) == (200, 0, len(AUDIO))
                assert media.headers["content-type"] == "audio/mpeg"
                assert media.final_url == f"http://public.test:{server.port}/a.mp3"
                assert b"".join([block async for block in media.body()]) == AUDIO
        assert server.connections == 1
        assert server.requests[0].headers["host"] == f"public.test:{server.port}"
        assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_fragment_is_not_sent(client: EgressClient) -> None:
    async with open_server(always(answer())) as server:
        document = await fetch(client, server.url("/feed#seven"), max_bytes=9)
        assert (server.targets, document.final_url) == (["/feed"], server.url("/feed"))


async def test_peeked_bytes_come_again_from_the_body(client: EgressClient) -> None:
    async with (
        open_server(always(answer(200, AUDIO))) as server,
        await client.open(server.url()) as response,
    ):
        assert await response.peek(10) == AUDIO[:10]
        assert await response.peek(70_000) == AUDIO[:70_000]
        assert await response.peek(5) == AUDIO[:5]
        assert await response.read(1000, truncate=True) == AUDIO[:1000]
        assert b"".join([block async for block in response.body()]) == AUDIO[1000:]
        assert await response.peek(1) == b""


async def test_peek_at_a_short_body_returns_what_there_is(client: EgressClient) -> None:
    async with (
        open_server(always(answer(200, b"abc"))) as server,
        await client.open(server.url()) as response,
    ):
        assert await response.peek(64) == b"abc"
        assert await response.read(3) == b"abc"


async def test_range_says_where_the_body_begins_and_how_long_the_whole_is(client: EgressClient) -> None:
    async with open_server(ranged) as server:
        async with await client.open(
            server.url(), RequestOptions(byte_range=(1000, 1999), if_range='"v1"')
        ) as response:
            assert (response.status, response.offset, response.total_bytes) == (206, 1000, len(AUDIO))
            assert await response.read(1000) == AUDIO[1000:2000]
        async with await client.open(
            server.url(), RequestOptions(byte_range=(len(AUDIO) - 5, None))
        ) as response:
            assert await response.read(5) == AUDIO[-5:]
        assert [request.headers["range"] for request in server.requests] == [
            "bytes=1000-1999",
            f"bytes={len(AUDIO) - 5}-",
        ]
        assert server.requests[0].headers["if-range"] == '"v1"'


async def test_range_that_the_server_ignores_begins_at_zero(client: EgressClient) -> None:
    async with (
        open_server(always(answer(200, AUDIO))) as server,
        await client.open(server.url(), RequestOptions(byte_range=(1000, None))) as response,
    ):
        assert (response.status, response.offset, response.total_bytes) == (200, 0, len(AUDIO))


@pytest.mark.parametrize(
    ("header", "offset", "total"),
    [
        ("bytes 0-4/*", 0, None),
        ("bytes 7-11/12", 7, 12),
        ("BYTES 7 - 11/12", None, None),
        (" bytes 0-4/5 ", 0, 5),
    ],
)
async def test_content_range_in_odd_forms(
    client: EgressClient, header: str, offset: int | None, total: int | None
) -> None:
    async with open_server(always(answer(206, b"abcde", {"Content-Range": header}))) as server:
        if offset is None:
            with pytest.raises(ResponseBroken, match="without saying which"):
                await client.open(server.url())
        else:
            async with await client.open(server.url()) as response:
                assert (response.offset, response.total_bytes) == (offset, total)


async def test_part_without_a_content_range_is_refused(client: EgressClient) -> None:
    async with open_server(always(answer(206, b"abc"))) as server:
        with pytest.raises(ResponseBroken, match="a part of the file without saying which"):
            await client.open(server.url())


async def test_unsatisfiable_range_tells_the_size(client: EgressClient) -> None:
    async with (
        open_server(always(answer(416, b"", {"Content-Range": "bytes */1234"}))) as server,
        await client.open(server.url(), RequestOptions(byte_range=(9999, None))) as response,
    ):
        assert (response.status, response.offset, response.total_bytes) == (416, 0, 1234)


async def test_status_is_never_raised(client: EgressClient) -> None:
    async with open_server(always(answer(500, b"no"))) as server:
        document = await fetch(client, server.url(), max_bytes=10)
    assert (document.status, document.body) == (500, b"no")


async def test_a_post_with_redirects_off_sends_its_body_and_follows_none(client: EgressClient) -> None:
    async with open_server(always(answer(307, b"", {"Location": "/other"}))) as server:
        document = await fetch(
            client,
            server.url("/hook"),
            max_bytes=10,
            method="POST",
            content=b'{"a":1}',
            headers={"Content-Type": "application/json"},
            follow_redirects=False,
        )
        assert document.status == 307
        (request,) = server.requests
    assert (request.method, request.body) == ("POST", b'{"a":1}')
    assert request.headers["content-type"] == "application/json"


async def test_post_without_a_body_says_so(client: EgressClient) -> None:
    async with open_server(always(answer())) as server:
        await fetch(client, server.url(), max_bytes=10, method="POST")
        assert server.requests[0].headers["content-length"] == "0"


@pytest.mark.parametrize("status", [403, 406])
async def test_refused_get_is_tried_once_more_as_a_browser(client: EgressClient, status: int) -> None:
    async def picky(request: RawRequest, stream: SocketStream) -> None:
        browser = request.headers["user-agent"] == BROWSER_USER_AGENT
        await stream.send(answer(200, b"audio") if browser else answer(status))

    async with open_server(picky) as server:
        url = server.url("/a.mp3")
        async with await client.open(
            url, RequestOptions(byte_range=(0, 9), referer="https://page.test/")
        ) as response:
            assert (response.status, await response.read(9)) == (200, b"audio")
        assert "referer" not in server.requests[0].headers
        assert server.requests[1].headers["referer"] == "https://page.test/"
        assert server.requests[1].headers["range"] == "bytes=0-9"
        assert (await fetch(client, url, max_bytes=9)).status == status
        assert len(server.requests) == 3


# --- redirects ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_followed_and_recorded(client: EgressClient, status: int) -> None:
    pages = {
        "/a": answer(status, b"moved", {"Location": "b?x=1"}),
        "/b?x=1": answer(status, b"", {"Location": "//other.test:{port}/c d#frag"}),
        "/c%20d": answer(200, b"here"),
    }

    async def handle(request: RawRequest, stream: SocketStream) -> None:
        await stream.send(pages[request.target].replace(b"{port}", str(server.port).encode()))

    async with (
        open_server(handle) as server,
        await client.open(server.url("/a", host="public.test")) as response,
    ):
        assert await response.read(9) == b"here"
        assert response.final_url == f"http://other.test:{server.port}/c%20d"
        assert response.redirects == (
            (f"http://public.test:{server.port}/a", status),
            (f"http://public.test:{server.port}/b?x=1", status),
        )
        assert server.connections == 2  # one a host name


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (307, "POST", "POST"),
        (308, "PUT", "PUT"),
        (302, "PUT", "PUT"),
    ],
)
async def test_redirect_keeps_or_changes_the_method(
    client: EgressClient, status: int, method: str, then: str
) -> None:
    pages = {"/a": answer(status, b"", {"Location": "/b"}), "/b": answer()}
    async with open_server(by_path(pages)) as server:
        await fetch(client, server.url("/a"), max_bytes=9, method=method, content=b"body")
        request = server.requests[1]
        assert (request.method, request.body) == (then, b"body" if then == method else b"")


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.2:{port}/",
        "http://2130706434:{port}/",
        "http://0x7f.2:{port}/",
        "http://127.2:{port}/",
        "http://[::ffff:127.0.0.2]:{port}/",
        "http://public.test@127.0.0.2:{port}/",
        "http://127.0.0.2:{port}\\@public.test/",
        "\\\\127.0.0.2:{port}\\",
        "//127.0.0.2:{port}/",
        "///127.0.0.2:{port}/",
        "http:127.0.0.2:{port}",
        "http:///127.0.0.2:{port}/",
        "http://private.test:{port}/",
        "http://metadata/",
        "http://x.internal:{port}/",
        "http://127.0.0.2\t:{port}/",
        "http://\uff11\uff12\uff17.0.0.2:{port}/",
        "file:///etc/passwd",
        "FILE:/etc/passwd",
        "gopher://127.0.0.2:{port}/_x",
        "data:audio/mpeg;base64,SUQz",
        "javascript:1",
        "ftp://127.0.0.2:{port}/",
        "http://[::1",
        "http://public.test:99999/",
        "/%0d%0aX:y",
        "/" + "a" * 5000,
    ],
)
@pytest.mark.parametrize("status", [301, 303, 308])
async def test_redirect_to_what_is_not_public_is_refused(
    client: EgressClient, canary: Canary, location: str, status: int
) -> None:
    to = location.replace("{port}", str(canary.port))
    async with open_server(always(answer(status, b"", {"Location": to}))) as server:
        with pytest.raises(DestinationForbidden):
            await client.open(server.url("/a", host="public.test"))
        assert server.targets == ["/a"]


async def test_refresh_headers_and_pages_lead_nowhere(client: EgressClient, canary: Canary) -> None:
    target = f"http://127.0.0.2:{canary.port}/"
    page = f'<meta http-equiv="refresh" content="0;url={target}"><base href="{target}">'.encode()
    headers = {"Refresh": f"0;url={target}", "Link": f"<{target}>; rel=preload", "Content-Location": target}
    async with open_server(always(answer(200, page, headers))) as server:
        document = await fetch(client, server.url("/"), max_bytes=1000)
        assert (document.status, document.final_url) == (200, server.url("/"))


async def test_relative_redirect_that_climbs_stays_on_its_server_and_ends(client: EgressClient) -> None:
    async with open_server(always(answer(302, b"", {"Location": "../../"}))) as server:
        with pytest.raises(ResponseBroken, match="redirects in a loop"):
            await client.open(server.url("/a/b/c/d"))
        assert server.targets == ["/a/b/c/d", "/a/", "/"]


async def test_ten_redirects_are_followed_and_no_more(client: EgressClient) -> None:
    async def count(request: RawRequest, stream: SocketStream) -> None:
        number = int(request.target.removeprefix("/"))
        await stream.send(answer() if number == 0 else answer(302, b"", {"Location": f"/{number - 1}"}))

    async with open_server(count) as server:
        assert len((await client.open(server.url(f"/{MAX_REDIRECTS}"))).redirects) == MAX_REDIRECTS
        server.requests.clear()
        with pytest.raises(ResponseBroken, match=r"redirected more than 10 times\. Send the final URL\."):
            await client.open(server.url("/21"))
        assert len(server.requests) == MAX_REDIRECTS + 1


async def test_redirect_without_a_location_is_an_answer(client: EgressClient) -> None:
    async with open_server(always(answer(302, b"look elsewhere"))) as server:
        assert (await fetch(client, server.url(), max_bytes=99)).body == b"look elsewhere"


async def test_credentials_stay_with_their_origin(client: EgressClient) -> None:
    secrets = {"Authorization": "Bearer x", "Cookie": "a=b", "X-Api-Key": "k", "Proxy-Authorization": "p"}
    harmless = {"Accept": "audio/*", "Referer": "https://page.test/", "Accept-Language": "de"}

    async def handle(request: RawRequest, stream: SocketStream) -> None:
        hops = {
            "/a": "/b",
            "/b": f"http://other.test:{server.port}/c",
            "/c": f"http://public.test:{server.port}/d",
        }
        to = hops.get(request.target)
        await stream.send(answer(302, b"", {"Location": to, "Set-Cookie": "t=1"}) if to else answer())

    async with open_server(handle) as server:
        await fetch(client, server.url("/a", host="public.test"), max_bytes=9, headers=secrets | harmless)
        seen = {request.target: request.headers for request in server.requests}
    for target in ("/a", "/b"):
        assert (seen[target]["authorization"], seen[target]["x-api-key"]) == ("Bearer x", "k")
    for target in ("/c", "/d"):
        assert not {"authorization", "x-api-key"} & seen[target].keys()
    # What a hop has set goes back to it; what the caller has sent does not come back.
    assert [seen[target].get("cookie") for target in ["/a", "/b", "/c", "/d"]] == [
        "a=b",
        "a=b; t=1",
        None,
        "t=1",
    ]
    for headers in seen.values():
        assert "proxy-authorization" not in headers
        assert (headers["accept"], headers["referer"]) == ("audio/*", "https://page.test/")


async def test_callers_can_not_set_headers_that_frame_the_request(client: EgressClient) -> None:
    mine = {"Host": "x.test", "Content-Length": "7", "Transfer-Encoding": "chunked", "Connection": "close, x"}
    async with open_server(always(answer())) as server:
        await fetch(client, server.url(host="public.test"), max_bytes=9, headers=mine)
        (request,) = server.requests
    assert request.headers["host"] == f"public.test:{server.port}"
    assert not {"content-length", "transfer-encoding", "connection"} & request.headers.keys()


async def test_header_that_breaks_out_of_its_line_is_refused(client: EgressClient) -> None:
    async with open_server(always(answer())) as server:
        with pytest.raises(ResponseBroken, match=r"The request to .* is not valid HTTP"):
            await client.open(server.url(), RequestOptions(headers={"Referer": "x\r\nX-Injected: 1"}))
        assert server.requests == []


# --- codings ------------------------------------------------------------------------------------------------


def raw_deflate(data: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return coder.compress(data) + coder.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(AUDIO)),
        ("x-gzip", gzip.compress(AUDIO)),
        ("GZIP", gzip.compress(AUDIO[:1000]) + gzip.compress(AUDIO[1000:])),
        ("gzip", gzip.compress(AUDIO) + b"\0\0trailing"),
        ("deflate", zlib.compress(AUDIO)),
        ("deflate", raw_deflate(AUDIO)),
        ("identity", AUDIO),
        ("utf-8", AUDIO),
        ("aws-chunked", AUDIO),
        ("identity, gzip", gzip.compress(AUDIO)),
        ("br", brotli.compress(AUDIO)),
    ],
)
@pytest.mark.parametrize("asked", [True, False])
async def test_compressed_answer_is_read_plain(
    client: EgressClient, coding: str, body: bytes, *, asked: bool
) -> None:
    async with open_server(always(answer(200, body, {"Content-Encoding": coding}))) as server:
        async with await client.open(server.url(), RequestOptions(decode=asked)) as response:
            assert await response.peek(10) == AUDIO[:10]
            assert await response.read(len(AUDIO)) == AUDIO
            assert response.total_bytes == (len(body) if body == AUDIO else None)
        assert server.requests[0].headers["accept-encoding"] == ("gzip, deflate" if asked else "identity")


@pytest.mark.parametrize(
    "coding", ["gzip, br", "gzip,gzip", "br, br", "zstd", "deflate, gzip", "gzip, identity, gzip"]
)
async def test_nested_and_unasked_codings_are_refused(client: EgressClient, coding: str) -> None:
    body = gzip.compress(gzip.compress(AUDIO))
    async with open_server(always(answer(200, body, {"Content-Encoding": coding}))) as server:
        with pytest.raises(ResponseBroken, match="which was not requested"):
            await client.open(server.url(), RequestOptions(decode=True))


async def test_codings_in_two_headers_count_as_nested(client: EgressClient) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n"
    async with open_server(always(head)) as server:
        with pytest.raises(ResponseBroken, match="which was not requested"):
            await client.open(server.url())


async def collect_sizes(response: EgressResponse, sizes: list[int]) -> None:
    async for block in response.body():
        sizes.append(len(block))  # noqa: PERF401  # what came before the error counts


@pytest.mark.parametrize("coding", ["gzip", "br"])
async def test_bomb_is_stopped_at_the_cap(client: EgressClient, coding: str) -> None:
    bomb = (gzip if coding == "gzip" else brotli).compress(bytes(64 * 1024**2))
    assert len(bomb) < 100_000
    async with open_server(always(answer(200, bomb, {"Content-Encoding": coding}))) as server:
        with pytest.raises(ResponseTooLarge, match=r"larger than the 1000000 bytes that are read"):
            await fetch(client, server.url(), max_bytes=1_000_000)
        limits = FetchLimits(max_body_bytes=200_000)
        async with await client.open(server.url(), RequestOptions(limits=limits)) as response:
            sizes: list[int] = []
            with pytest.raises(ResponseTooLarge):
                await collect_sizes(response, sizes)
            assert 0 < sum(sizes) <= 200_000


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
@pytest.mark.parametrize(
    "body", [gzip.compress(AUDIO)[:500], brotli.compress(AUDIO)[:200], b"not compressed at all" * 10]
)
async def test_broken_compression_is_an_error(client: EgressClient, coding: str, body: bytes) -> None:
    async with open_server(always(answer(200, body, {"Content-Encoding": coding}))) as server:
        with pytest.raises(ResponseBroken):
            await fetch(client, server.url(), max_bytes=len(AUDIO))


async def test_part_of_a_compressed_answer_is_refused(client: EgressClient) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Range": "bytes 10-19/100"}
    async with open_server(always(answer(206, b"0123456789", headers))) as server:
        with pytest.raises(ResponseBroken, match="a part of a compressed file"):
            await client.open(server.url())


# --- ways to fail -------------------------------------------------------------------------------------------


async def test_a_request_on_a_closed_kept_connection_is_retried(client: EgressClient) -> None:
    async def one_each(request: RawRequest, stream: SocketStream) -> None:
        del request
        if len(server.requests) == 2:
            await stream.aclose()
        else:
            await stream.send(answer(200, b"ok"))

    async with open_server(one_each) as server:
        assert (await fetch(client, server.url(), max_bytes=9)).body == b"ok"
        assert (await fetch(client, server.url(), max_bytes=9)).body == b"ok"
        assert (len(server.requests), server.connections) == (3, 2)


async def test_a_request_on_a_closed_new_connection_is_not_retried(client: EgressClient) -> None:
    async def never(request: RawRequest, stream: SocketStream) -> None:
        del request
        await stream.aclose()

    async with open_server(never) as server:
        with pytest.raises(ResponseBroken, match=r"127\.0\.0\.1 sent a broken HTTP response"):
            await client.open(server.url())
        assert len(server.requests) == 1


async def test_refused_connection_and_unknown_name_say_so(client: EgressClient) -> None:
    async with open_server(always(b"")) as server:
        port = server.port
    with pytest.raises(ConnectFailed, match=rf"public\.test refused the connection on port {port}"):
        await client.open(f"http://public.test:{port}/")
    with pytest.raises(ConnectFailed, match=r"The name nowhere\.test does not exist\. Check it for typos\."):
        await client.open("http://nowhere.test/")


async def test_https_to_a_server_that_does_not_speak_it_says_so(client: EgressClient) -> None:
    async with open_server(always(answer())) as server:
        limits = FetchLimits(connect_seconds=0.3)
        with pytest.raises(ConnectFailed, match=r"public\.test"):
            await client.open(
                server.url(host="public.test").replace("http:", "https:"), RequestOptions(limits=limits)
            )


async def test_read_refuses_a_longer_body_and_truncates_where_asked(client: EgressClient) -> None:
    async with open_server(always(answer(200, AUDIO))) as server:
        async with await client.open(server.url()) as response:
            with pytest.raises(ResponseTooLarge):
                await response.read(len(AUDIO) - 1)
        async with await client.open(server.url()) as response:
            assert await response.read(len(AUDIO)) == AUDIO
        async with await client.open(server.url()) as response:
            assert await response.read(100, truncate=True) == AUDIO[:100]


async def test_closing_twice_and_reading_after_it_is_harmless(client: EgressClient) -> None:
    async with open_server(always(answer(200, AUDIO))) as server:
        response = await client.open(server.url())
        await response.peek(10)
        await response.aclose()
        await response.aclose()
        assert await response.peek(10) == b""
        assert [block async for block in response.body()] == []


async def test_environment_proxies_are_ignored(
    policy: EgressPolicy, resolver: FakeResolver, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.2:{canary.port}")
    async with (
        open_server(always(answer(200, b"direct"))) as server,
        EgressClient(policy, resolver=resolver) as client,
    ):
        assert (await fetch(client, server.url(), max_bytes=9)).body == b"direct"
