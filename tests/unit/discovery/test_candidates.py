"""Which finding of a page is its audio: scores, rejections, ties, stand-ins."""

from __future__ import annotations

import pytest

from stenobird.discovery.page.candidates import Finding, choose, rejection, words_of

TITLE = {"weaver", "arran"}
TOKENS = {"weaver-of-arran"}


def urls_of(*findings: Finding, tokens: frozenset[str] = frozenset(TOKENS)) -> tuple[str, list[str]]:
    outcome, candidates, accepted = choose(findings, TITLE, set(tokens))
    return outcome, [candidate.url for candidate in candidates[:accepted]]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://p.scdn.co/mp3-preview/ab", "preview"),
        ("https://cdns-preview-a.dzcdn.net/stream/x.mp3", "preview"),
        ("https://audio-ssl.itunes.apple.com/itunes-assets/AudioPreview115/x.m4a", "preview"),
        ("https://x.example/audio/clips/7.mp3", "preview"),
        ("https://x.example/clip_3.mp3", "preview"),
        ("https://x.example/wp-content/plugins/a/ding.mp3", "sound"),
        ("https://x.example/assets/sounds/pop.mp3", "sound"),
        ("https://x.example/googleassistant/intros/a.mp3", "sound"),
        ("https://x.example/blank.mp3", "sound"),
        ("https://station.streamguys1.com/live", "live"),
        ("https://icecast.x.example/station.mp3", "live"),
        ("https://stream.x.example/station.mp3", "live"),
        ("http://x.example:8000/stream", "live"),
        ("https://x.example/live/station.m3u8", "live"),
        ("https://st01.x.example/dlf/01/128/mp3/stream.mp3", "live"),
        ("https://x.example/file.mp3.m3u", "not an audio file"),
        ("https://en.wikipedia.org/wiki/File:Song.ogg", "page about a file"),
        ("https://x.example/a'+Math.random()+'.mp3", "script"),
    ],
)
def test_what_cannot_be_audio_is_rejected_with_its_reason(url: str, reason: str) -> None:
    assert reason in (rejection(url) or "")


@pytest.mark.parametrize(
    "url",
    [
        "https://x.example/2024/06/live-at-the-apollo.mp3",
        "https://stream.x.example/archive/2024/06/12/show.mp3",
        "https://traffic.omny.fm/d/clips/a/b/c/audio.mp3",
        "https://x.example/the-preview-episode.mp3",
        "https://x.example/episodes/sounds-of-summer.mp3",
        "https://dts.podtrac.com/redirect.mp3/x.example/a.mp3",
        "https://x.example/play/7",
        "https://x.example/episodes/4711/stream",
        "https://x.example/audio/42/stream.mp3",
    ],
)
def test_similar_names_are_not_rejected(url: str) -> None:
    assert rejection(url) is None


def test_findings_are_ranked_by_where_they_were_found() -> None:
    names = ["json_ld", "og_audio", "audio_element", "attribute"]
    findings = [Finding(f"https://c.example/{name}-of-it.mp3", f"page.{name}") for name in reversed(names)]
    _, candidates, _ = choose(findings, set(), set())
    assert [candidate.url.split("/")[-1] for candidate in candidates] == [
        f"{name.replace('_', '_')}-of-it.mp3" for name in names
    ]


def test_inline_state_counts_only_if_nothing_better_is_found() -> None:
    state = Finding("https://c.example/in-the-state-of-it.mp3", "page.inline_state")
    player = Finding("https://c.example/in-the-player.mp3", "page.audio_element")
    assert urls_of(state, player) == ("found", [player.url])
    assert urls_of(state) == ("found", [state.url])


def test_bare_link_needs_text_or_title() -> None:
    bare = Finding("https://c.example/x1.mp3", "page.link", context="here")
    assert urls_of(bare)[0] == "none"
    assert urls_of(Finding(bare.url, "page.link", context="Download", evidence=True))[0] == "found"
    assert urls_of(Finding(bare.url, "page.link", context="The weaver of Arran"))[0] == "found"


def test_two_different_files_with_equal_scores_are_ambiguous() -> None:
    pair = [
        Finding(f"https://c.example/{name}.mp3", "page.audio_element")
        for name in ("first-half", "second-half")
    ]
    assert urls_of(*pair) == ("ambiguous", [])


def test_formats_of_one_player_are_one_audio_and_mp3_comes_first() -> None:
    ogg = Finding("https://c.example/a.ogg", "page.audio_element", group=1)
    mp3 = Finding("https://d.example/b.mp3", "page.audio_element", group=1)
    assert urls_of(ogg, mp3) == ("found", [mp3.url, ogg.url])


def test_one_of_a_list_is_chosen_by_its_title_or_by_the_pages_id_only() -> None:
    def listed(index: int, title: str, path: str) -> Finding:
        return Finding(f"https://c.example/{path}/{index}f0a.mp3", "page.attribute", context=title)

    others = [listed(index, f"Story {index}", "x") for index in range(2, 6)]
    assert urls_of(*others) == ("ambiguous", [])
    titled = listed(1, "The weaver of Arran", "x")
    assert urls_of(titled, *others) == ("found", [titled.url])
    by_id = listed(1, "Play", "weaver-of-arran")
    assert urls_of(by_id, *others) == ("found", [by_id.url])
    trailer = listed(1, "Introducing our weaver, Arran, and this whole new season", "x")
    assert urls_of(trailer, *others) == ("ambiguous", [])


def test_audio_in_an_aside_or_a_narration_is_not_enough() -> None:
    url = "https://c.example/the-file-itself.mp3"
    assert urls_of(Finding(url, "page.audio_element", aside=True))[0] == "none"
    assert urls_of(Finding(url, "page.audio_element", narration=True))[0] == "none"
    assert urls_of(Finding("https://c.example/tts/the-file-itself.mp3", "page.audio_element"))[0] == "none"


def test_another_file_of_a_list_never_replaces_a_dead_one() -> None:
    files = [
        Finding(f"https://c.example/{number}.mp3", "page.attribute", context=title)
        for number, title in enumerate(["The weaver of Arran", "The smith", "The cooper of Arran"])
    ]
    assert urls_of(*files, tokens=frozenset()) == ("found", [files[0].url])


def test_words_of_cjk_text_are_pairs_of_characters() -> None:
    assert words_of("雨の音") == {"雨の", "の音"}
    assert words_of("The weaver of Arran, episode 12") == {"weaver", "arran", "12"}


def test_a_file_on_the_pages_own_server_is_no_station() -> None:
    url = "http://intranet.example:8080/weekly.mp3"
    assert rejection(url, origin="http://intranet.example:8080") is None
    assert rejection(url, origin="http://intranet.example") == "a live stream"
    assert rejection(url) == "a live stream"


def test_a_file_of_a_radio_on_its_own_page_is_no_stream() -> None:
    url = "https://radio.example/talk.mp3"
    assert rejection(url, origin="https://radio.example") is None
    assert rejection(url, origin="https://news.example") == "a live stream"
