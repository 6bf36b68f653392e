from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from stenobird.discovery.platforms import index_headers
from stenobird.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.anyio

URL = "https://podcastindex.org/podcast/920666?episode=16795088"
API = "https://api.podcastindex.org/api/1.0/episodes/byid?id=16795088"


def key() -> Callable[[], dict[str, str]]:
    return index_headers("KEY", "SECRET", FakeClock(1_700_000_000.0))


async def test_an_episode_is_looked_up_with_a_signed_request(keyed_world: Any) -> None:
    episode = {
        "id": 16795088,
        "title": "The episode",
        "guid": "guid-1",
        "enclosureUrl": "https://cdn.example/a.mp3",
        "feedUrl": "https://feeds.example/show",
        "feedTitle": "The Show",
        "duration": 1800,
    }
    asked = await keyed_world(key()).ask(URL, {API: {"status": "true", "episode": episode}})
    assert asked.media == ["https://cdn.example/a.mp3"]
    assert asked.feeds == [("https://feeds.example/show", False)]
    assert asked.found.feeds[0].wanted.guid == "guid-1"
    _, headers, _ = asked.search.sent[0]
    assert headers == {
        "x-auth-key": "KEY",
        "x-auth-date": "1700000000",
        "authorization": hashlib.sha1(b"KEYSECRET1700000000").hexdigest(),
    }


async def test_another_episode_is_ignored(keyed_world: Any) -> None:
    other = {"id": 1, "enclosureUrl": "https://cdn.example/other.mp3"}
    asked = await keyed_world(key()).ask(URL, {API: {"episode": other}})
    assert asked.is_nothing


async def test_a_show_is_its_newest_episode(keyed_world: Any) -> None:
    api = "https://api.podcastindex.org/api/1.0/podcasts/byfeedid?id=920666"
    feed = {"id": 920666, "url": "https://feeds.example/show"}
    asked = await keyed_world(key()).ask("https://podcastindex.org/podcast/920666", {api: {"feed": feed}})
    assert asked.feeds == [("https://feeds.example/show", True)]


async def test_a_refused_key_leaves_it_to_the_generic_rungs(keyed_world: Any) -> None:
    asked = await keyed_world(key()).ask(URL, {API: 401})
    assert asked.is_nothing


def test_without_a_key_no_rule_knows_the_links(world: Any) -> None:
    assert not any(rule.matches(URL) for rule in world.rules)


def test_the_secret_does_not_show() -> None:
    assert "SECRET" not in repr(key())
