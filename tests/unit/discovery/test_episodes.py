"""Choosing an episode: the documented order, ties, and refusals."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from stenobird.discovery.feeds import episodes
from stenobird.discovery.parsing.facts import EpisodeFacts, FeedEpisode, FeedFacts
from stenobird.sources import Candidate
from tests.support.calls import count_calls

NOW = datetime(2026, 11, 1, tzinfo=UTC)


def an_episode(position: int, title: str, duration: float | None = None, **more: str) -> FeedEpisode:
    return FeedEpisode(
        title=title,
        guid=more.get("guid") or f"g{position}",
        link=more.get("link"),
        published=more.get("published"),
        duration_seconds=duration,
        enclosures=(Candidate(f"https://c.example/{more.get('file') or position}.mp3", "feed.enclosure"),),
        position=position,
        number=more.get("number"),
    )


def a_feed(*items: FeedEpisode, link: str | None = None) -> FeedFacts:
    return FeedFacts("https://f.example/rss", "The Show", link, items)


def chosen(feed: FeedFacts, wanted: EpisodeFacts) -> tuple[int | None, str]:
    episode, how = episodes.match(feed, wanted)
    return (episode.position if episode else None, how)


def test_guid_beats_title() -> None:
    feed = a_feed(an_episode(0, "A", guid="x"), an_episode(1, "B", guid="y"))
    assert chosen(feed, EpisodeFacts(title="A", guid="y")) == (1, "guid")


def test_same_audio_behind_another_prefix_is_the_episode() -> None:
    feed = a_feed(an_episode(0, "A", file="one-long-file-name"), an_episode(1, "B"))
    wanted = EpisodeFacts(audio_urls=("https://chtbl.com/track/1/z.example/one-long-file-name.mp3",))
    assert chosen(feed, wanted) == (0, "audio")


def test_link_of_the_show_is_no_episode() -> None:
    feed = a_feed(
        an_episode(0, "A", link="https://s.example/"),
        an_episode(1, "B", link="https://s.example/"),
        link="https://s.example",
    )
    assert chosen(feed, EpisodeFacts(page_urls=("https://s.example/",)))[0] is None


@pytest.mark.parametrize(
    ("page", "item"),
    [
        ("Ep. 12: The Otter", "The Otter"),
        ("#117 \u2013 Otters", "Otters"),
        ("The Show: The Otter", "The Otter"),
        ("Folge 3: Der Otter", "3. Der Otter"),
        ("Élan vital", "Elan Vital"),
        ("ΜΙΑ ΒΊΔΡΑ", "μια βίδρα"),  # noqa: RUF001  # Greek is the point
        ("第12回 カワウソ", "カワウソ"),
        ("Выдра", "ВЫДРА"),
        ("The Otter | Episode 12", "The Otter"),
    ],
)
def test_titles_are_compared_without_show_number_case_and_accents(page: str, item: str) -> None:
    feed = a_feed(an_episode(0, "Something else"), an_episode(1, item))
    wanted = EpisodeFacts(title=page, show="The Show", alternate_titles=tuple(page.split(" | ")[:1]))
    assert chosen(feed, wanted)[0] == 1


@pytest.mark.parametrize(
    ("page", "item"),
    [
        ("Part 1: Night", "Part 2: Night"),
        ("Episode 12: Mailbag", "Episode 13: Mailbag"),
        ("The Otter", "The Otter and the Badger: a longer tale"),
        ("Otter", "Otters"),
        ("Episode 12", "Episode 13"),
        ("The Show", "The Show"),
        ("12", "12"),
    ],
)
def test_titles_that_only_resemble_are_refused(page: str, item: str) -> None:
    feed = a_feed(an_episode(0, "Something else"), an_episode(1, item))
    matched = chosen(feed, EpisodeFacts(title=page, show="The Show"))
    assert matched[0] is None or page == item == "12"


def test_nearly_equal_title_needs_date_or_length() -> None:
    item = an_episode(1, "The long road home with Ada", published="2024-05-02T00:00:00Z", duration=1800)
    feed = a_feed(an_episode(0, "Other"), item)
    title = "The long road home"
    assert chosen(feed, EpisodeFacts(title=title))[0] is None
    assert chosen(feed, EpisodeFacts(title=title, published="2024-05-01"))[0] == 1
    assert chosen(feed, EpisodeFacts(title=title, duration_seconds=1815))[0] == 1
    assert chosen(feed, EpisodeFacts(title=title, published="2024-06-01", duration_seconds=900))[0] is None


def test_duplicate_titles_are_told_apart_by_date_then_length_or_refused() -> None:
    feed = a_feed(
        an_episode(0, "News", published="2024-05-03T06:00:00Z", duration=300),
        an_episode(1, "News", published="2024-05-02T06:00:00Z", duration=400),
        an_episode(2, "News", published="2024-04-01T06:00:00Z", duration=500),
    )
    assert chosen(feed, EpisodeFacts(title="News", published="2024-05-02T08:00:00Z")) == (1, "title")
    assert chosen(feed, EpisodeFacts(title="News", duration_seconds=301)) == (0, "title")
    assert chosen(feed, EpisodeFacts(title="News")) == (None, "ambiguous_title")
    assert chosen(feed, EpisodeFacts(title="News", published="2020-01-01"))[0] is None


def test_one_audio_listed_twice_is_not_ambiguous() -> None:
    feed = a_feed(
        an_episode(0, "A", file="the-same-file-name"), an_episode(1, "A", file="the-same-file-name")
    )
    assert chosen(feed, EpisodeFacts(title="A")) == (0, "title")


def test_newest_ignores_impossible_dates() -> None:
    feed = a_feed(
        an_episode(0, "Future", published="2099-01-01T00:00:00Z"),
        an_episode(1, "Old", published="2020-01-01T00:00:00Z"),
        an_episode(2, "New", published="2026-10-30T00:00:00Z"),
    )
    newest = episodes.newest(feed, now=NOW)
    assert newest is not None
    assert newest.position == 2


def test_of_equal_dates_the_first_in_the_document_is_the_newest() -> None:
    feed = a_feed(*(an_episode(i, str(i), published="2026-01-01T00:00:00Z") for i in range(3)))
    newest = episodes.newest(feed, now=NOW)
    assert newest is not None
    assert newest.position == 0


@pytest.mark.parametrize(
    ("dates", "newest"),
    [
        ((None, "2026-05-01", "2026-04-01"), 0),
        (("2026-05-01", None, "2026-04-01"), 0),
        (("2026-04-01", "2026-05-01", None), 2),
        (("2026-04-01", None, "2026-05-01"), 2),
        (("2099-01-01", None, "2026-05-01"), 1),
        ((None, None, None), 0),
    ],
)
def test_episode_without_a_date_keeps_its_place_in_the_document(
    dates: tuple[str | None, ...], newest: int
) -> None:
    feed = a_feed(*(an_episode(i, str(i), published=date or "") for i, date in enumerate(dates)))
    found = episodes.newest(feed, now=NOW)
    assert found is not None
    assert found.position == newest


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://f.example/rss", ((), False)),
        ("https://f.example/rss#abc", (("abc",), True)),
        ("https://f.example/rss#guid=a%20b", (("a b",), True)),
        ("https://f.example/rss?guid=7&format=mp3", (("7",), True)),
        ("https://f.example/rss?id=7", (("7",), False)),
        ("https://f.example/rss#:~:text=x", ((), False)),
    ],
)
def test_names_in_a_feed_url(url: str, expected: tuple[tuple[str, ...], bool]) -> None:
    assert episodes.names_in(url) == expected


def test_name_may_be_the_end_of_a_guid_or_a_number() -> None:
    feed = a_feed(
        an_episode(0, "A", guid="https://s.example/?p=71", number="8"),
        an_episode(1, "B", guid="https://s.example/?p=72", number="9"),
    )
    assert episodes.named(feed, ["72"])[0] == feed.episodes[1]
    assert episodes.named(feed, ["8"])[0] == feed.episodes[0]
    assert episodes.named(feed, ["9999"])[0] is None


def test_matching_takes_time_linear_in_the_number_of_episodes() -> None:
    words = [f"wörd{number}" for number in range(400)]
    items = [
        an_episode(
            position,
            " ".join(words[(position * 7 + step * 3) % 400] for step in range(120)),
            published="2024-05-01T00:00:00Z",
        )
        for position in range(2000)
    ]
    titles = tuple(" ".join(words[start::2][:120]) for start in range(12))
    wanted = EpisodeFacts(title="Otters", alternate_titles=titles, published="2024-05-01", guid="none")
    feed = a_feed(*items)
    assert chosen(feed, wanted)[0] is None
    assert count_calls(lambda: chosen(feed, wanted)) < 100 * len(items)
