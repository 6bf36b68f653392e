"""What must hold of every entry, however it is written."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stenobird.discovery.platforms import PLATFORMS, Platform, Route
from stenobird.discovery.platforms.directories import apple_podcast
from stenobird.discovery.platforms.ways import FeedURL, MediaURL
from stenobird.errors import ConnectFailed
from tests.unit.discovery.platforms.examples import EXAMPLES

pytestmark = pytest.mark.anyio

CASES = [(platform, url) for platform in PLATFORMS for url in EXAMPLES[platform.name]]


@pytest.mark.parametrize(("platform", "url"), CASES, ids=[url for _, url in CASES])
def test_an_example_matches_its_own_entry_first(platform: Platform, url: str) -> None:
    assert next(one for one in PLATFORMS if one.route(url)) is platform


def test_names_are_unique() -> None:
    names = [platform.name for platform in PLATFORMS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda one: one.name)
def test_every_route_has_an_example(platform: Platform) -> None:
    reached = [found[0] for url in EXAMPLES[platform.name] if (found := platform.route(url))]
    assert [route.path for route in platform.routes if route not in reached] == []


@pytest.mark.parametrize(
    "url",
    [
        "https://art19.com.evil.example/shows/a/episodes/8319b776-4153-4d22-8630-631f204a03dd",
        "https://evil.example/art19.com/shows/a/episodes/8319b776-4153-4d22-8630-631f204a03dd",
        "https://art19.com@evil.example/shows/a/episodes/8319b776-4153-4d22-8630-631f204a03dd",
        "ftp://art19.com/shows/a/episodes/8319b776-4153-4d22-8630-631f204a03dd",
        "https://notart19.com/shows/a/episodes/8319b776-4153-4d22-8630-631f204a03dd",
        "https://a.b.podbean.com/e/x",
        "https://[art19.com/shows/a",
        "https://podcasts.apple.com/us/podcast/the-show/idabc",
        "https://art19.com/shows/a/episodes/" + "8" * 9000,
        "",
    ],
)
def test_similar_hosts_do_not_match(url: str) -> None:
    assert not any(platform.route(url) for platform in PLATFORMS)


def test_a_www_host_and_upper_case_are_the_same_platform() -> None:
    assert any(one.route("https://WWW.Buzzsprout.com/123/episodes/456-x") for one in PLATFORMS)


@given(
    st.sampled_from(CASES),
    st.text(max_size=40),
    st.integers(0, 200),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_url_makes_an_entry_raise(example: tuple[Platform, str], noise: str, position: int) -> None:
    _, url = example
    mangled = url[:position] + noise + url[position:]
    for platform in PLATFORMS:
        platform.route(mangled)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("filler", ["a", "-", "1", "a-", "%2F", "/", "episode-", "id1-", ".", "--"])
def test_no_pattern_backtracks_on_a_long_url(filler: str) -> None:
    """All of them together take a second at most; one that backtracked would run into the limit."""
    tails = ["/", "/episode/", "/podcast/", "/shows/", "/podcast/x/episode/", "/e/", "/tracks/"]
    for platform in PLATFORMS:
        for host in platform.hosts:
            name = re.sub(r"\{\w+\}", "x", host)
            for tail in tails:
                platform.route(f"https://{name}{tail}{filler * (8000 // len(filler))}!")


async def test_what_a_url_holds_can_not_change_the_host_of_a_template(search: Any, world: Any) -> None:
    from stenobird.discovery.platforms.visit import Visit  # noqa: PLC0415  # the one test of the inside

    values = {"id": "x@evil.example/", "show": "../../evil", "e": "a?b#c"}
    visit = Visit(search({}), "https://example.com", "x", values, world.directory)
    assert visit.fill("https://cdn.example/{id}.mp3") == "https://cdn.example/x%40evil.example%2F.mp3"
    assert visit.fill("https://cdn.example/{show}/{e}") == "https://cdn.example/..%2F..%2Fevil/a%3Fb%23c"
    assert visit.fill("https://cdn.example/{missing}") is None


async def test_a_way_that_fails_does_not_stop_the_next_one(search: Any, world: Any) -> None:
    from stenobird.discovery.platforms import PlatformRung  # noqa: PLC0415
    from stenobird.discovery.platforms.ways import PageMeta  # noqa: PLC0415

    entry = Platform(
        "Example",
        ("example.com",),
        Route(r"/e/(?P<id>\d+)", PageMeta("og:audio"), MediaURL("https://cdn.example/{id}.mp3")),
        Route(r"/f/(?P<id>\d+)", PageMeta("og:audio"), FeedURL("https://feeds.example/{nothing}")),
    )
    rung = PlatformRung(entry, world.directory)
    found = await rung.try_(search({}), "https://example.com/e/1")
    assert [lead.url for lead in found.media] == ["https://cdn.example/1.mp3"]
    nothing = await rung.try_(search({}), "https://example.com/f/1")
    assert isinstance(nothing.failure, ConnectFailed)


@pytest.mark.parametrize(("platform", "url"), CASES, ids=[url for _, url in CASES])
@pytest.mark.parametrize(
    "answer",
    [404, "", "<html><body>changed</body></html>", [], {"results": 1}, {"data": None}, {"response": []}],
    ids=["gone", "empty", "page", "list", "results", "data", "response"],
)
async def test_no_answer_makes_a_rule_crash_or_name_a_feed_as_newest_for_an_episode(
    world: Any, search: Any, platform: Platform, url: str, answer: object
) -> None:
    class Everywhere(dict[str, object]):
        def get(self, key: object, default: object = None) -> object:
            return answer

    rule = next(rule for rule in world.rules if rule.matches(url))
    found = await rule.try_(search(Everywhere()), url)
    routed = platform.route(url)
    assert routed is not None
    is_show = any(
        getattr(way, "newest", False) or getattr(way, "kind", "") == "show" or way is apple_podcast
        for way in routed[0].ways
    )
    assert is_show or not any(lead.newest for lead in found.feeds)
