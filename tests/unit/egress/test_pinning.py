"""The DNS rows of the hostile cases: a name is judged by all of its answers, at every new connection."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import pytest

from stenobird.egress.client import EgressClient, FetchLimits, RequestOptions
from stenobird.egress.policy import SystemResolver
from stenobird.errors import ConnectFailed, DestinationForbidden
from tests.support.dns import FakeResolver
from tests.support.fetching import fetch
from tests.support.raw_server import RawRequest, answer, open_server

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anyio.abc import SocketStream

    from stenobird.egress.policy import EgressPolicy, IPAddress
    from tests.support.canary import Canary

pytestmark = pytest.mark.anyio
PUBLIC, PRIVATE = "127.0.0.1", "127.0.0.2"


async def hello(request: RawRequest, stream: SocketStream) -> None:
    del request
    await stream.send(answer(200, b"hello"))


async def hello_once(request: RawRequest, stream: SocketStream) -> None:
    del request
    await stream.send(answer(200, b"hello", {"Connection": "close"}))
    await stream.aclose()


async def test_name_is_resolved_once_for_a_connection_and_connected_to_that_answer(
    policy: EgressPolicy,
) -> None:
    resolver = FakeResolver({"rebind.test": [[PUBLIC], [PRIVATE]]})
    async with open_server(hello) as server, EgressClient(policy, resolver=resolver) as client:
        document = await fetch(client, server.url(host="rebind.test"), max_bytes=9)
        assert document.body == b"hello"
        assert server.requests[0].headers["host"] == f"rebind.test:{server.port}"
    assert resolver.calls == ["rebind.test"]


async def test_rebound_name_is_refused_at_the_next_connection(policy: EgressPolicy, canary: Canary) -> None:
    resolver = FakeResolver({"rebind.test": [[PUBLIC], [PRIVATE]]})
    async with open_server(hello_once) as server, EgressClient(policy, resolver=resolver) as client:
        await fetch(client, f"http://rebind.test:{server.port}/", max_bytes=9)
        with pytest.raises(
            DestinationForbidden, match=r"rebind\.test leads to an address that is not public"
        ):
            await fetch(client, f"http://rebind.test:{server.port}/", max_bytes=9)
        with pytest.raises(DestinationForbidden):
            await fetch(client, f"http://rebind.test:{canary.port}/", max_bytes=9)
    assert resolver.calls == ["rebind.test"] * 3


async def test_rebound_name_is_refused_when_a_download_resumes(policy: EgressPolicy, canary: Canary) -> None:
    resolver = FakeResolver({"media.test": [[PUBLIC], [PRIVATE]]})
    async with open_server(hello) as server, EgressClient(policy, resolver=resolver) as client:
        url = f"http://media.test:{canary.port}/"
        async with await client.open(
            f"http://media.test:{server.port}/a.mp3", RequestOptions(byte_range=(0, None))
        ) as response:
            await response.peek(1)
        with pytest.raises(DestinationForbidden):
            await client.open(url, RequestOptions(byte_range=(1, None), if_range='"v1"'))


async def test_redirect_to_a_name_that_rebinds_is_checked_at_its_hop(
    policy: EgressPolicy, canary: Canary
) -> None:
    resolver = FakeResolver({"public.test": [[PUBLIC]], "rebind.test": [[PRIVATE]]})

    async def away(request: RawRequest, stream: SocketStream) -> None:
        del request
        await stream.send(answer(308, b"", {"Location": f"http://rebind.test:{canary.port}/"}))

    async with open_server(away) as server, EgressClient(policy, resolver=resolver) as client:
        with pytest.raises(DestinationForbidden, match=r"rebind\.test leads to"):
            await client.open(server.url(host="public.test"))


@pytest.mark.parametrize(
    "answers",
    [
        [PUBLIC, "::1"],
        ["::1", PUBLIC],
        [PUBLIC, PRIVATE],
        [PUBLIC] * 50 + [PRIVATE],
        ["0.0.0.0"],
        ["::"],
        ["::ffff:127.0.0.1"],
        ["64:ff9b::7f00:1"],
        ["64:ff9b:1::7f00:1"],
        ["2002:7f00:1::1"],
        ["169.254.169.254"],
        ["10.0.0.1"],
        ["fd00:ec2::254"],
        ["fe80::1%lo"],
        ["100.100.100.200"],
        ["168.63.129.16"],
        ["224.0.0.1"],
        ["255.255.255.255"],
    ],
    ids=lambda answers: ",".join(answers)[:40],
)
async def test_one_answer_that_is_not_public_refuses_the_name(
    policy: EgressPolicy, canary: Canary, answers: list[str]
) -> None:
    async with EgressClient(policy, resolver=FakeResolver({"mixed.test": [answers]})) as client:
        with pytest.raises(DestinationForbidden):
            await client.open(f"http://mixed.test:{canary.port}/")


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (socket.gaierror(socket.EAI_NONAME, "NXDOMAIN"), "The name broken.test does not exist"),
        (socket.gaierror(socket.EAI_NODATA, "no A, no AAAA"), "The name broken.test does not exist"),
        (socket.gaierror(socket.EAI_FAIL, "a chain of 20 CNAMEs: SERVFAIL"), "does not exist"),
        (socket.gaierror(socket.EAI_AGAIN, "no server"), "can't be looked up at the moment"),
        (OSError("out of descriptors"), "can't be looked up at the moment"),
        ([], "The name broken.test has no address"),
    ],
)
async def test_name_that_cannot_be_resolved_says_so(
    policy: EgressPolicy, failure: Exception | list[str], message: str
) -> None:
    async with EgressClient(policy, resolver=FakeResolver({"broken.test": [failure]})) as client:
        with pytest.raises(ConnectFailed, match=message):
            await client.open("http://broken.test/")


async def test_long_chain_of_names_that_ends_inside_is_refused(policy: EgressPolicy, canary: Canary) -> None:
    """Resolvers follow CNAMEs themselves: what counts is where the chain ends."""
    async with EgressClient(policy, resolver=FakeResolver({"chain.test": [[PRIVATE]]})) as client:
        with pytest.raises(DestinationForbidden):
            await client.open(f"http://chain.test:{canary.port}/")


class NeverResolver:
    """A name server that never answers."""

    async def resolve(self, host: str, port: int) -> Sequence[IPAddress]:
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def aclose(self) -> None:
        pass


async def test_resolver_that_never_answers_is_bounded(policy: EgressPolicy) -> None:
    async with EgressClient(policy, resolver=NeverResolver()) as client:
        with pytest.raises(ConnectFailed, match=r"slow\.test did not answer within 0\.05 s"):
            await client.open("http://slow.test/", RequestOptions(limits=FetchLimits(connect_seconds=0.05)))


async def test_next_address_is_tried_when_one_refuses(policy: EgressPolicy) -> None:
    policy.allow += (type(policy.allow[0])("127.0.0.3/32"),)
    resolver = FakeResolver({"two.test": [["127.0.0.3", "127.0.0.3", PUBLIC]]})
    async with open_server(hello) as server, EgressClient(policy, resolver=resolver) as client:
        assert (await fetch(client, server.url(host="two.test"), max_bytes=9)).body == b"hello"


async def test_localhost_means_the_loopback_family_that_is_allowed(policy: EgressPolicy) -> None:
    resolver = FakeResolver(
        {"localhost": [["::1", PUBLIC]], "x.localhost": [["::1"]], "evil.test": [["::1", PUBLIC]]}
    )
    async with open_server(hello) as server, EgressClient(policy, resolver=resolver) as client:
        assert (await fetch(client, server.url(host="localhost"), max_bytes=9)).body == b"hello"
        for host in ("x.localhost", "evil.test"):
            with pytest.raises(DestinationForbidden):
                await fetch(client, server.url(host=host), max_bytes=9)


async def test_system_resolver_knows_loopback_and_reports_unknown_names() -> None:
    resolver = SystemResolver()
    try:
        assert [str(address) for address in await resolver.resolve("127.0.0.1", 80)] == ["127.0.0.1"]
        for name in ("nowhere.invalid", "a" * 64 + ".test"):
            with pytest.raises(socket.gaierror):
                await resolver.resolve(name, 80)
    finally:
        await resolver.aclose()
