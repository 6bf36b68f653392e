from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs, urlsplit

import pytest

from stenobird.discovery.feeds.directory import (
    CACHED,
    KEEP_SECONDS,
    PodcastDirectory,
    apple_shows,
)
from stenobird.discovery.page.reader import read_page
from stenobird.discovery.parsing.facts import Document, EpisodeFacts, FoundSource
from stenobird.errors import ConnectFailed, DirectoryLookupFailed
from stenobird.sources import NO_HEADERS
from stenobird.testing import FakeClock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stenobird.discovery.parsing.facts import PageFacts

pytestmark = pytest.mark.anyio


PAGE = "https://show.example/one"


@dataclass
class Search:
    """A search whose page is `html`, and whose directory answers from `answers` (by query) or fails."""

    html: str = ""
    answers: Mapping[str, object] = field(default_factory=dict)
    wanted: EpisodeFacts = field(default_factory=EpisodeFacts)
    asked: list[str] = field(default_factory=list)

    async def page(self, url: str) -> PageFacts | None:
        return read_page(self.html.encode(), url=url, content_type="text/html") if self.html else None

    async def source(self, url: str) -> str:
        return self.html

    async def fetch(
        self,
        url: str,
        *,
        method: Literal["GET", "POST"] = "GET",
        headers: Mapping[str, str] = NO_HEADERS,
        content: bytes | None = None,
        max_bytes: int = 0,
    ) -> Document:
        self.asked.append(url)
        query = parse_qs(urlsplit(url).query)
        key = next(iter(query.get("term", query.get("id", []))), "")
        answer = self.answers.get(f"{query['entity'][0]}:{key}", self.answers.get(key))
        if answer is None:
            raise ConnectFailed("No route to the directory.")
        if isinstance(answer, int):
            return Document(url, url, answer, {}, b"")
        # The real one calls its JSON text/javascript.
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        return Document(url, url, 200, {"content-type": "text/javascript; charset=utf-8"}, body)


def show(name: str, feed: str | None = "https://feeds.example/a", number: int = 1) -> dict[str, object]:
    row = {"wrapperType": "track", "kind": "podcast", "collectionId": number, "collectionName": name}
    return row | ({"feedUrl": feed} if feed else {})


def episode(title: str, by: str, url: str = "https://cdn.example/a.mp3", **more: object) -> dict[str, object]:
    return {
        "wrapperType": "podcastEpisode",
        "kind": "podcast-episode",
        "trackId": 7,
        "trackName": title,
        "collectionName": by,
        "episodeUrl": url,
        "feedUrl": "https://feeds.example/a",
        **more,
    }


def results(*rows: dict[str, object]) -> dict[str, object]:
    return {"resultCount": len(rows), "results": list(rows)}


NOTHING = results()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def directory(clock: FakeClock) -> PodcastDirectory:
    return PodcastDirectory(clock)


# --- shows by name -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "listed", "fits"),
    [
        ("The Daily", "The Daily", True),
        ("the daily ", "THE DAILY!", True),
        ("Café Zürich", "Cafe Zu\u0308rich", True),
        ("\uff34\uff28\uff25 Show", "The Show", True),
        ("朝のラジオ", "朝のラジオ", True),
        ("朝のラジオ", "夜のラジオ", False),
        ("Καλημέρα", "Καλησπέρα", False),
        ("हिन्दी की बात", "हिन्दी का बात", False),
        ("The Daily", "The Daily Show", False),
        ("The Daily", "The Daily: News of the day", True),
        ("The Daily: News of the day", "The Daily", True),
        ("The Daily: News", "The Daily: Comedy", False),
        ("", "", False),
        ("!!!", "???", False),
    ],
)
async def test_a_show_is_found_by_its_whole_name_in_any_script(
    directory: PodcastDirectory,
    name: str,
    listed: str,
    fits: bool,  # noqa: FBT001
) -> None:
    found = await directory.find_shows(Search(answers={name: results(show(listed)), "": NOTHING}), name)
    assert bool(found) is fits


async def test_the_first_search_result_with_another_name_is_ignored(directory: PodcastDirectory) -> None:
    hits = results(show("Other", "https://feeds.example/x"), show("My Show", "https://feeds.example/y"))
    found = await directory.find_shows(Search(answers={"My Show": hits}), "My Show")
    assert [one.feed_url for one in found] == ["https://feeds.example/y"]


async def test_the_same_name_is_preferred_to_a_name_with_a_subtitle(directory: PodcastDirectory) -> None:
    hits = results(
        show("My Show: Extra", "https://feeds.example/x"),
        show("My Show", "https://feeds.example/y"),
        show("My Show", None),
        show("My Show", "https://feeds.example/y"),
    )
    search = Search(answers={"My Show": hits})
    found = await directory.find_shows(search, "My Show")
    assert [one.feed_url for one in found] == ["https://feeds.example/y", "https://feeds.example/x"]
    found = await directory.find_shows(search, "My Show", exactly=True)
    assert [one.feed_url for one in found] == ["https://feeds.example/y"]


# --- answers and failures ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "retry"),
    [
        (403, 60),
        (429, 60),
        (500, None),
        (404, None),
        (b"<html>", None),
        (b"[1]", None),
        (b'{"results": 3}', None),
    ],
)
async def test_a_failing_directory_differs_from_an_empty_result(
    directory: PodcastDirectory, answer: object, retry: int | None
) -> None:
    with pytest.raises(DirectoryLookupFailed) as caught:
        await directory.lookup(Search(answers={"1": answer}), "1")
    assert caught.value.retry_after_seconds == retry
    assert await directory.lookup(Search(answers={"2": NOTHING}), "2") is None


async def test_an_unreachable_directory_says_why(directory: PodcastDirectory) -> None:
    with pytest.raises(DirectoryLookupFailed, match="No route"):
        await directory.lookup(Search(), "1")


@pytest.mark.parametrize(
    "row",
    [
        {"kind": "podcast"},
        {"kind": "podcast", "collectionId": 1, "collectionName": ["x"], "feedUrl": "javascript:1"},
        {"wrapperType": "podcastEpisode"},
        {
            "wrapperType": "podcastEpisode",
            "trackTimeMillis": "x",
            "trackId": True,
            "episodeUrl": "file:///etc",
        },
        {"wrapperType": "podcastEpisode", "trackTimeMillis": 10**30},
    ],
)
async def test_malformed_rows_are_read_as_far_as_possible(
    directory: PodcastDirectory, row: dict[str, object]
) -> None:
    found = await directory.lookup(Search(answers={"1": results(row)}), "1")
    assert found is None or (found.feed_url is None and all(one.url is None for one in found.episodes))


async def test_a_response_is_cached_for_a_while(directory: PodcastDirectory, clock: FakeClock) -> None:
    search = Search(answers={"1": results(show("My Show"))})
    for _ in range(3):
        await directory.lookup(search, "1")
    assert len(search.asked) == 1
    clock.advance(KEEP_SECONDS + 1)
    await directory.lookup(search, "1")
    assert len(search.asked) == 2


async def test_the_number_of_cached_responses_is_bounded(directory: PodcastDirectory) -> None:
    search = Search(answers={str(number): results(show("S")) for number in range(CACHED + 1)})
    for number in (*range(CACHED), 0, CACHED):
        await directory.lookup(search, str(number))
    assert len(search.asked) == CACHED + 1
    await directory.lookup(search, "0")
    assert len(search.asked) == CACHED + 1
    await directory.lookup(search, "1")
    assert len(search.asked) == CACHED + 2


async def test_a_failure_is_not_cached(directory: PodcastDirectory) -> None:
    search = Search(answers={"1": 503})
    with pytest.raises(DirectoryLookupFailed):
        await directory.lookup(search, "1")
    search.answers = {"1": results(show("My Show"))}
    assert await directory.lookup(search, "1") is not None


async def test_another_base_url_can_be_used(clock: FakeClock) -> None:
    search = Search(answers={"1": NOTHING})
    await PodcastDirectory(clock, base_url="https://directory.example/api/").lookup(search, "1", country="us")
    assert search.asked[0].startswith("https://directory.example/api/lookup?id=1&")


# --- the rung ----------------------------------------------------------------------------------------------

WANTED = EpisodeFacts(title="The episode", show="My Show", duration_seconds=1800.0)
PODCAST_PAGE = (
    '<title>The episode</title><meta property="og:site_name" content="My Show">'
    '<script type="application/ld+json">{"@type": "PodcastEpisode", "name": "The episode"}</script>'
)


def badge(*numbers: int) -> str:
    return "".join(
        f'<a href="https://podcasts.apple.com/us/podcast/a-show/id{number}?uo=4">Apple Podcasts</a>'
        for number in numbers
    )


async def test_a_page_that_links_its_show_is_looked_up_by_it(directory: PodcastDirectory) -> None:
    search = Search(
        "<title>The episode</title><h1>The episode</h1>" + badge(1234567),
        {"1234567": results(show("My Show"))},
        WANTED,
    )
    found = await directory.try_(search, PAGE)
    (lead,) = found.feeds
    assert (lead.url, lead.newest, lead.wanted) == ("https://feeds.example/a", False, WANTED)


@pytest.mark.parametrize(
    ("title", "newest"), [("My Show - all episodes", [True]), ("Gazette, the daily paper", [])]
)
async def test_a_home_page_means_the_newest_only_if_it_is_the_shows_own(
    directory: PodcastDirectory, title: str, newest: list[bool]
) -> None:
    search = Search(f"<title>{title}</title>" + badge(1234567), {"1234567": results(show("My Show"))})
    found = await directory.try_(search, "https://show.example/")
    assert [lead.newest for lead in found.feeds] == newest


async def test_a_list_of_podcasts_is_about_none_of_them(directory: PodcastDirectory) -> None:
    search = Search("<title>Ten podcasts</title>" + badge(1234567, 2234567, 3234567))
    assert apple_shows(await search.page(PAGE) or pytest.fail("no page")) == ()
    assert await directory.try_(search, PAGE) == FoundSource()
    assert search.asked == []


async def test_show_and_title_are_searched_for_a_page_about_a_podcast(directory: PodcastDirectory) -> None:
    listed = results(
        episode("The episode", "Another Show", "https://cdn.example/wrong-show.mp3"),
        episode("The episode, part 2", "My Show", "https://cdn.example/wrong-part.mp3"),
        episode("The Episode", "my show", "https://cdn.example/right.mp3", trackTimeMillis=1_800_000),
    )
    answers = {"My Show The episode": listed, "My Show": results(show("My Show", "https://feeds.example/b"))}
    found = await directory.try_(Search(PODCAST_PAGE, answers, WANTED), PAGE)
    assert [(lead.url, lead.episode.duration_seconds) for lead in found.media] == [
        ("https://cdn.example/right.mp3", 1800.0)
    ]
    assert [(lead.url, lead.newest) for lead in found.feeds] == [
        ("https://feeds.example/a", False),
        ("https://feeds.example/b", False),
    ]


async def test_two_listed_episodes_of_one_title_are_left_to_the_feed(directory: PodcastDirectory) -> None:
    twice = results(*(episode("The episode", "My Show", f"https://cdn.example/{key}.mp3") for key in "ab"))
    search = Search(PODCAST_PAGE, {"My Show The episode": twice, "My Show": NOTHING}, WANTED)
    found = await directory.try_(search, PAGE)
    assert found.media == ()
    assert [lead.url for lead in found.feeds] == ["https://feeds.example/a"]


@pytest.mark.parametrize(
    ("page", "wanted"),
    [
        ("<title>The episode</title><p>An article in a paper.</p>", WANTED),
        (PODCAST_PAGE, EpisodeFacts(title="The episode")),
        (PODCAST_PAGE, EpisodeFacts(show="My Show")),
    ],
    ids=["an article", "no show", "no title"],
)
async def test_the_directory_is_not_queried_without_a_reason(
    directory: PodcastDirectory, page: str, wanted: EpisodeFacts
) -> None:
    search = Search(page, {}, wanted)
    assert await directory.try_(search, PAGE) == FoundSource()
    assert search.asked == []


async def test_no_match_gives_none(directory: PodcastDirectory) -> None:
    answers = {
        "My Show The episode": results(episode("Another", "My Show")),
        "My Show": results(show("Not My Show")),
    }
    assert await directory.try_(Search(PODCAST_PAGE, answers, WANTED), PAGE) == FoundSource()
