"""Live audio behind a link: decided by what the server sends, never by the address."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

import pytest

from stenobird.discovery.ladder import DiscoveryLadder
from stenobird.egress.client import EgressClient
from stenobird.egress.policy import EgressPolicy
from stenobird.errors import JobError
from tests.support.media_server import MediaServer, Resource
from tests.support.radio import Programme, Radio, ScaledClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stenobird.sources import AudioSource, Verdict

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client() -> AsyncIterator[EgressClient]:
    policy = EgressPolicy(allow=[ipaddress.ip_network("127.0.0.1/32")], ports=None)
    async with EgressClient(policy) as client:
        yield client


@pytest.fixture
async def radio() -> AsyncIterator[Radio]:
    clock = ScaledClock()
    async with Radio(Programme(10.0, origin=clock.time() - 100.0), clock, burst_seconds=3.0) as radio:
        yield radio


async def find(client: EgressClient, searcher: Any, url: str) -> AudioSource:
    async def report(_verdict: Verdict) -> None:
        pass

    found = await DiscoveryLadder(client.open, searcher.parser).find(url, preview=False, report=report)
    if found.opened is not None:
        await found.opened.aclose()
    return found.source


@pytest.mark.parametrize(
    ("path", "mount"),
    [
        ("/icecast", "/icecast"),
        ("/shoutcast", "/shoutcast"),
        ("/station.m3u", "/icecast"),
        ("/station.pls", "/shoutcast"),  # with two addresses of one station
    ],
)
async def test_a_station_is_live(
    client: EgressClient, searcher: Any, radio: Radio, path: str, mount: str
) -> None:
    source = await find(client, searcher, radio.url(path))
    assert source.live
    assert source.media_url == radio.url(mount)


async def test_a_recording_whose_address_looks_live_is_a_recording(
    client: EgressClient, searcher: Any, radio: Radio
) -> None:
    sound = radio.programme.frames(0, 200)
    async with MediaServer({"/ep/live.mp3": Resource(sound, headers={"icy-name": "An archive"})}) as server:
        source = await find(client, searcher, server.url("/ep/live.mp3"))
    assert not source.live
    assert source.size_bytes == len(sound)


async def test_a_station_beside_a_recording_does_not_win(
    client: EgressClient, searcher: Any, radio: Radio
) -> None:
    page = f"""<html><head><title>An episode</title></head><body><article>
        <audio src="{radio.url("/icecast")}"></audio></article></body></html>"""
    async with MediaServer({"/ep": Resource(page.encode(), content_type="text/html")}) as server:
        with pytest.raises(JobError):
            await find(client, searcher, server.url("/ep"))
