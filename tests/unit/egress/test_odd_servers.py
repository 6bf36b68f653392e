"""Servers that are busy, that can't serve ranges, or that write broken heads, as they occur in practice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stenobird.discovery.ladder import DiscoveryLadder
from stenobird.discovery.parsing.parser import DocumentParser
from stenobird.egress.client import EgressClient, RequestOptions
from stenobird.egress.transport import repaired_head
from stenobird.errors import AudioUnreachable, ResponseBroken
from tests.support.documents import mp3_bytes
from tests.support.raw_server import RawRequest, answer, open_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from anyio.abc import SocketStream

    from stenobird.egress.policy import EgressPolicy
    from stenobird.sources import Verdict

pytestmark = pytest.mark.anyio
AUDIO = mp3_bytes()
PATIENT = RequestOptions(retry_seconds=10.0)


class Naps(list[float]):
    """The waits of a client, which take no time."""

    async def nap(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def naps() -> Naps:
    return Naps()


@pytest.fixture
async def hasty(policy: EgressPolicy, naps: Naps) -> AsyncIterator[EgressClient]:
    async with EgressClient(policy, sleep=naps.nap) as client:
        yield client


def in_turn(*answers: bytes) -> Callable[[RawRequest, SocketStream], Any]:
    left = list(answers)

    async def handle(_request: RawRequest, stream: SocketStream) -> None:
        await stream.send(left.pop(0) if len(left) > 1 else left[0])

    return handle


GOOD = answer(200, AUDIO)
DATED = {"Date": "Mon, 02 Nov 2026 10:00:00 GMT", "Retry-After": "Mon, 02 Nov 2026 10:00:04 GMT"}


@pytest.mark.parametrize(
    ("answers", "options", "expected"),
    [
        ([answer(503, b"", {"Retry-After": "2"}), GOOD], PATIENT, ([2.0], 200)),
        ([answer(429, b"busy"), GOOD], PATIENT, ([1.0], 200)),
        ([answer(502), answer(504), GOOD], PATIENT, ([1.0, 2.0], 200)),
        ([answer(503, b"", DATED), GOOD], PATIENT, ([4.0], 200)),
        ([answer(503, b"", {"Retry-After": "soon"}), GOOD], PATIENT, ([1.0], 200)),
        ([answer(503, b"", {"Retry-After": "11"}), GOOD], PATIENT, ([], 503)),
        ([answer(503, b"", {"Retry-After": "6"})], PATIENT, ([6.0], 503)),
        ([answer(503)], PATIENT, ([1.0, 2.0], 503)),
        ([answer(522), GOOD], PATIENT, ([1.0], 200)),
        ([answer(408), answer(425), GOOD], PATIENT, ([1.0, 2.0], 200)),
        ([answer(500), GOOD], PATIENT, ([], 500)),
        ([answer(404), GOOD], PATIENT, ([], 404)),
        ([answer(503), GOOD], RequestOptions(), ([], 503)),
        ([answer(503), GOOD], RequestOptions(method="POST", retry_seconds=10.0), ([], 503)),
    ],
)
async def test_busy_server_gets_a_get_again_within_bounds(
    hasty: EgressClient,
    naps: Naps,
    answers: list[bytes],
    options: RequestOptions,
    expected: tuple[list[float], int],
) -> None:
    waits, status = expected
    async with open_server(in_turn(*answers)) as server:
        async with await hasty.open(server.url("/a"), options) as response:
            assert response.status == status
        assert len(server.requests) == 1 + len(waits)
    assert naps == waits


async def search(client: EgressClient, url: str) -> bytes:
    """Find the audio at a URL, and return its bytes."""

    async def report(verdict: Verdict) -> None:
        assert verdict.message

    async with DocumentParser() as parser:
        found = await DiscoveryLadder(client.open, parser).find(url, preview=False, report=report)
        assert found.opened is not None
        blocks = [block async for block in found.opened.body()]
        await found.opened.aclose()
        return b"".join(blocks)


@pytest.mark.parametrize("status", [400, 403, 405, 406, 412, 416, 417, 422, 500, 501])
async def test_audio_is_requested_without_a_range_if_ranges_are_refused(
    hasty: EgressClient, status: int
) -> None:
    async def handle(request: RawRequest, stream: SocketStream) -> None:
        await stream.send(answer(status) if "range" in request.headers else GOOD)

    async with open_server(handle) as server:
        assert await search(hasty, server.url("/a.mp3")) == AUDIO


@pytest.mark.parametrize("status", [400, 403, 501])
async def test_address_that_fails_without_a_range_too_is_unreachable(
    hasty: EgressClient, status: int
) -> None:
    async with open_server(in_turn(answer(status))) as server:
        with pytest.raises(Exception, match=str(status)):
            await search(hasty, server.url("/a.mp3"))
        assert len(server.requests) <= 3


async def test_search_waits_for_a_busy_server(hasty: EgressClient, naps: Naps) -> None:
    async with open_server(in_turn(answer(503, b"", {"Retry-After": "2"}), GOOD)) as server:
        assert await search(hasty, server.url("/a.mp3")) == AUDIO
    assert naps == [2.0]


async def test_search_ends_if_the_server_stays_busy(hasty: EgressClient) -> None:
    async with open_server(in_turn(answer(503))) as server:
        with pytest.raises(AudioUnreachable, match="503"):
            await search(hasty, server.url("/a.mp3"))
        assert len(server.requests) == 3


async def test_part_without_its_place_is_the_beginning_that_was_requested(hasty: EgressClient) -> None:
    async with open_server(in_turn(answer(206, AUDIO))) as server:
        async with await hasty.open(server.url(), RequestOptions(byte_range=(0, None))) as response:
            assert (response.offset, response.total_bytes) == (0, len(AUDIO))
        async with await hasty.open(server.url(), RequestOptions(byte_range=(0, 99))) as response:
            assert (response.offset, response.total_bytes) == (0, None)
        with pytest.raises(ResponseBroken, match="without saying which"):
            await hasty.open(server.url(), RequestOptions(byte_range=(100, None)))
        assert await search(hasty, server.url("/a.mp3")) == AUDIO


LINES = {
    "quoted": b'"X-Frame-Options: DENY"\r\n',
    "no-colon": b"X-Powered-By PHP\r\n",
    "empty-name": b": nothing\r\n",
    "space-before-colon": b"X-Thing : 1\r\n",
    "folded": b"broken line\r\n  goes on\r\n",
    "spaces-in-name": b"X Thing: 1\r\n",
    "control": b"X-Thing: a\x01b\r\n",
    "nul": b"X-Thing: a\x00\r\n",
    "carriage-return": b"X-Thing: a\rb\r\n",
    "empty-length": b"Content-Length:\r\n",
    "vertical-tab-in-name": b"X\x0b-Thing: 1\r\n",
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
async def test_broken_header_line_is_skipped_and_its_connection_not_used_again(
    client: EgressClient, line: bytes, *, first: bool
) -> None:
    fields = b"Content-Length: %d\r\n" % len(AUDIO)
    head = b"HTTP/1.1 200 OK\r\n" + (line + fields if first else fields + line) + b"\r\n"
    async with open_server(in_turn(head + AUDIO)) as server:
        for _ in range(2):
            async with await client.open(server.url()) as response:
                assert await response.read(len(AUDIO)) == AUDIO
                assert response.headers["content-length"] == str(len(AUDIO))
        assert server.connections == 2


STATUS_LINES = {
    "two-spaces": b"HTTP/1.1  200 OK",
    "lower-case": b"http/1.1 200 ok",
    "later-version": b"HTTP/2 200",
    "no-version": b"HTTP 200 OK",
    "control": b"HTTP/1.1 200 O\x01K",
    "line-break-before": b"\r\nHTTP/1.1 200 OK",
}


@pytest.mark.parametrize("line", STATUS_LINES.values(), ids=STATUS_LINES)
async def test_status_line_of_any_spelling_is_read(client: EgressClient, line: bytes) -> None:
    data = line + b"\r\nContent-Length: %d\r\n\r\n" % len(AUDIO) + AUDIO
    async with open_server(in_turn(data)) as server, await client.open(server.url()) as response:
        assert (response.status, await response.read(len(AUDIO))) == (200, AUDIO)


async def test_the_status_line_of_shoutcast_is_read_and_kept_as_a_header(client: EgressClient) -> None:
    head = b"ICY 200 OK\r\nicy-notice1:<BR>\r\ncontent-type:audio/mpeg\r\n\r\nabc"
    async with open_server(in_turn(head)) as server, await client.open(server.url("/;")) as response:
        assert (response.status, response.total_bytes) == (200, None)
        assert response.headers["icy-status-line"] == "1"
        assert await response.peek(3) == b"abc"


@pytest.mark.parametrize("line", [b"200 OK", b"HTTP/1.1 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 20", b"<html>"])
async def test_what_names_no_status_is_still_refused(client: EgressClient, line: bytes) -> None:
    async with open_server(in_turn(line + b"\r\nContent-Length: 0\r\n\r\n")) as server:
        with pytest.raises(ResponseBroken):
            await client.open(server.url())


@pytest.mark.parametrize(
    "extent",
    ["bytes=0-{last}/{size}", "0-{last}/{size}", "bytes: 0-{last} / {size}", "BYTES 0-{last}/{size}"],
)
async def test_place_of_a_part_may_be_written_oddly(hasty: EgressClient, extent: str) -> None:
    written = {"Content-Range": extent.format(last=len(AUDIO) - 1, size=len(AUDIO))}
    async with open_server(in_turn(answer(206, AUDIO, written))) as server:
        async with await hasty.open(server.url(), RequestOptions(byte_range=(0, None))) as response:
            assert (response.offset, response.total_bytes) == (0, len(AUDIO))
        assert await search(hasty, server.url("/a.mp3")) == AUDIO


async def test_length_with_a_space_before_the_colon_counts(client: EgressClient) -> None:
    async with (
        open_server(in_turn(b"HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\nabcHTTP/1.1 200 OK")) as server,
        await client.open(server.url()) as response,
    ):
        assert await response.read(100) == b"abc"


@pytest.mark.parametrize(
    "fields",
    [b"Transfer-Encoding: chunked\r\n" * 2, b"Transfer-Encoding: chunked, Chunked\r\n"],
    ids=["lines", "list"],
)
async def test_repeated_transfer_encoding_counts_once(client: EgressClient, fields: bytes) -> None:
    data = b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n3\r\nabc\r\n0\r\n\r\n"
    async with open_server(in_turn(data)) as server, await client.open(server.url()) as response:
        assert await response.read(100) == b"abc"


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 3\r\nContent-Length: 4\r\n",
        b"Transfer-Encoding: gzip, chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
    ],
)
async def test_contradictory_framing_is_still_refused(client: EgressClient, fields: bytes) -> None:
    async with open_server(in_turn(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\nabcd")) as server:
        with pytest.raises(ResponseBroken):
            await client.open(server.url())


async def test_early_hints_come_before_the_response(client: EgressClient) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    async with open_server(in_turn(hints + GOOD)) as server, await client.open(server.url()) as response:
        assert response.status == 200
        assert await response.read(len(AUDIO)) == AUDIO


def test_correct_head_stays_as_it_is() -> None:
    head = b"HTTP/1.1 200 OK\r\nA: 1\r\nB:2\r\nSet-Cookie: a\r\n  folded\r\n\r\n"
    assert repaired_head(head) == head
