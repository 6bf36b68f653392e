"""Requests a minute, by a clock that the test moves."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest
from redis.asyncio import Redis

from stenobird.config import Settings
from stenobird.errors import ConfigurationError
from stenobird.ports import Caller
from stenobird.testing import FakeClock
from stenobird.web.limits import (
    MAX_COUNTERS,
    REDIS_PAUSE_SECONDS,
    RequestLimits,
    client_network,
)
from tests.support.free_port import free_port
from tests.support.processes import frozen
from tests.support.redis_server import redis_available, running_redis

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from stenobird.ports import Tier

pytestmark = pytest.mark.anyio

NOON = 1_800_000_000.0
"""The first second of a minute."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(NOON)


@pytest.fixture
async def limits(clock: FakeClock) -> AsyncIterator[RequestLimits]:
    per_minute = {
        "previews_per_minute": 2,
        "premium_requests_per_minute": 3,
        "platinum_requests_per_minute": 5,
    }
    async with aclosing(RequestLimits(Settings.model_validate(per_minute), clock)) as limits:
        yield limits


def caller(tier: Tier, account_id: str = "acct_1") -> Caller:
    return Caller(account_id, "key_1", "live", "full_access", tier)


async def test_requests_count_down_and_start_anew_with_the_minute(
    limits: RequestLimits, clock: FakeClock
) -> None:
    clock.advance(45)
    states = [await limits.check("account", "acct_1", 2) for _ in range(3)]
    assert [(state.allowed, state.remaining) for state in states] == [(True, 1), (True, 0), (False, 0)]
    assert {state.reset_epoch for state in states} == {int(NOON) + 60}
    refusal = limits.error(states[-1])
    assert (refusal.http_status, refusal.code, refusal.retry_after_seconds) == (429, "rate_limited", 15)
    assert dict(states[-1].headers()) == {
        b"x-ratelimit-limit": b"2",
        b"x-ratelimit-remaining": b"0",
        b"x-ratelimit-reset": b"%d" % (NOON + 60),
    }
    clock.advance(15)
    fresh = await limits.check("account", "acct_1", 2)
    assert (fresh.allowed, fresh.remaining, fresh.reset_epoch) == (True, 1, int(NOON) + 120)


async def test_a_refusal_never_asks_to_wait_for_nothing(limits: RequestLimits, clock: FakeClock) -> None:
    clock.advance(59.99)
    state = await limits.check("account", "acct_1", 1)
    assert limits.error(state).retry_after_seconds == 1


@pytest.mark.parametrize(("tier", "limit"), [("free", 2), ("premium", 3), ("platinum", 5)])
async def test_a_key_counts_for_its_account_by_tier(limits: RequestLimits, tier: Tier, limit: int) -> None:
    states = [await limits.check_request(caller(tier), "127.0.0.1") for _ in range(limit + 1)]
    assert [state.allowed for state in states] == [True] * limit + [False]
    assert (await limits.check_request(caller(tier, "acct_2"), "127.0.0.1")).allowed
    # Without a key the same client has a counter of its own.
    assert (await limits.check_request(None, "127.0.0.1")).allowed


async def test_of_many_at_once_as_many_pass_as_may(limits: RequestLimits) -> None:
    states = await asyncio.gather(*(limits.check_request(caller("platinum"), None) for _ in range(50)))
    assert sum(state.allowed for state in states) == 5


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        (None, "unknown"),
        ("unix", "unknown"),
    ],
)
def test_a_client_is_its_ipv4_address_or_its_ipv6_network(address: str | None, network: str) -> None:
    assert client_network(address) == network


async def test_memory_is_bounded_and_no_request_is_refused_at_the_bound(limits: RequestLimits) -> None:
    for number in range(MAX_COUNTERS):
        assert (await limits.check("account", f"acct_{number}", 1)).allowed
    assert (await limits.check_request(None, "203.0.113.7")).allowed
    assert len(limits._counts) == 1


async def test_a_redis_url_that_is_none_is_refused(clock: FakeClock) -> None:
    settings = Settings.model_validate({"redis_url": "http://localhost"})
    with pytest.raises(ConfigurationError):
        RequestLimits(settings, clock)


@pytest.mark.skipif(not redis_available(), reason="NOT TESTED ON REDIS: install it")
async def test_processes_share_their_counters_over_redis_and_count_alone_while_it_is_away(
    clock: FakeClock, tmp_path: Path
) -> None:
    port = free_port()
    settings = Settings.model_validate(
        {"redis_url": f"redis://127.0.0.1:{port}/0", "premium_requests_per_minute": 4}
    )
    async with (
        aclosing(RequestLimits(settings, clock, timeout_seconds=60)) as one,
        aclosing(RequestLimits(settings, clock, timeout_seconds=60)) as two,
    ):
        with running_redis(tmp_path, port):
            states = [await limits.check_request(caller("premium"), None) for limits in (one, two, one, two)]
            assert [state.remaining for state in states] == [3, 2, 1, 0]
            assert not (await one.check_request(caller("premium"), None)).allowed
        alone = [await one.check_request(caller("premium"), None) for _ in range(5)]
        assert [state.remaining for state in alone] == [3, 2, 1, 0, 0]
        assert [state.allowed for state in alone] == [True, True, True, True, False]


@pytest.mark.skipif(not redis_available(), reason="NOT TESTED ON REDIS: install it")
async def test_a_frozen_redis_delays_one_request_and_is_used_again_when_it_answers(
    clock: FakeClock, tmp_path: Path
) -> None:
    port = free_port()
    settings = Settings.model_validate(
        {"redis_url": f"redis://127.0.0.1:{port}/0", "premium_requests_per_minute": 9}
    )
    with running_redis(tmp_path, port) as url:
        async with (
            aclosing(RequestLimits(settings, clock, timeout_seconds=60)) as limits,
            Redis.from_url(url) as operator,
        ):
            assert (await limits.check_request(caller("premium"), None)).remaining == 8
            patience, limits._timeout_seconds = limits._timeout_seconds, 0.1
            with frozen((await operator.info("server"))["process_id"]):
                alone = [await limits.check_request(caller("premium"), None) for _ in range(5)]
            limits._timeout_seconds = patience
            assert [state.remaining for state in alone] == [8, 7, 6, 5, 4]
            clock.advance(REDIS_PAUSE_SECONDS)
            # Redis has counted the first one, and perhaps the one that gave up.
            assert (await limits.check_request(caller("premium"), None)).remaining in {7, 6}
