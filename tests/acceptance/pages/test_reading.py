"""Reading a transcript: search, copying, shortcuts, progress, right-to-left text, hidden tabs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from stenobird.transcript import Segment, Word
from tests.support.browser import Visitor, visitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

    from tests.support.played_pages import PlayedPages

TALK = (
    "Hello and welcome to the show.",
    "Today a monkey reads the news.",
    "A Monkey, of all animals!",
    "Goodbye.",
)
HEBREW = ("שלום וברוכים הבאים.", "היום נדבר על ציפורים.")

HOSTILE_TITLE = "<b>שלום</b> & more"
IN_VIEW = """() => {
    const { top, bottom } = document.querySelector("#job-lines li:last-child").getBoundingClientRect();
    return top >= 0 && bottom <= innerHeight;
}"""
FOCUSED_LINE = "document.activeElement.closest('#job-lines li')?.querySelector('p').textContent"
HIDE = """hidden => {
    Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
    document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def key(played: PlayedPages) -> str:
    """A key of that service."""
    return played.create_key()


@pytest.fixture
def reader(browser: Browser, played: PlayedPages, key: str) -> Iterator[Visitor]:
    """A visitor with a key."""
    with visitor(browser, played.url, key=key) as one:
        yield one


@pytest.fixture
def talk(reader: Visitor, played: PlayedPages, key: str) -> Page:
    """The page of a finished talk."""
    job_id = played.begin(key=key)
    played.find(job_id, title="The news")
    played.say(job_id, *TALK)
    played.complete(job_id)
    page = reader.open(f"/t/{job_id}")
    reader.wait_done()
    return page


def test_matches_are_counted_and_visited_by_keyboard(reader: Visitor, talk: Page) -> None:
    talk.keyboard.press("/")
    talk.keyboard.type("monkey")
    matches = talk.locator("#job-matches")
    assert matches.inner_text() == "1 of 2"
    assert _marked(talk) == [["monkey", "Monkey"], ["monkey"]]
    talk.keyboard.press("Enter")
    assert (matches.inner_text(), _marked(talk)[1]) == ("2 of 2", ["Monkey"])
    talk.keyboard.press("Enter")
    assert matches.inner_text() == "1 of 2"
    talk.keyboard.press("Shift+Enter")
    assert matches.inner_text() == "2 of 2"
    talk.keyboard.press("Enter")
    reader.check_looks("search")

    talk.get_by_label("Search in this transcript").fill("the\u00a0 show")
    assert _marked(talk) == [["the show"], ["the show"]]
    talk.get_by_label("Search in this transcript").fill("[a-z")
    assert matches.inner_text() == "Not found"
    talk.keyboard.press("Escape")
    assert (matches.inner_text(), _marked(talk)) == ("", [[], []])


def test_lines_that_arrive_are_searched_too(reader: Visitor, played: PlayedPages, key: str) -> None:
    job_id = played.begin(key=key)
    played.say(job_id, "one bird")
    page = reader.open(f"/t/{job_id}")
    page.locator("#job-lines li").wait_for()
    page.get_by_label("Search in this transcript").fill("bird")
    assert page.locator("#job-matches").inner_text() == "1 of 1"
    played.say(job_id, "and another bird")
    page.locator("#job-matches", has_text="1 of 2").wait_for()
    played.complete(job_id)


def test_the_text_is_copied_in_paragraphs_with_or_without_times(reader: Visitor, talk: Page) -> None:
    reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
    copied = []
    for _ in range(2):
        talk.get_by_role("button", name="Copy the text").click()
        talk.get_by_role("button", name="Copied").wait_for()
        copied.append(talk.evaluate("navigator.clipboard.readText()"))
        talk.get_by_label("with times").check()
        talk.get_by_role("button", name="Copy the text").wait_for()
    assert copied == [" ".join(TALK), "[0:00] " + " ".join(TALK)]


def test_keys_control_the_player_unless_they_are_turned_off(reader: Visitor, talk: Page) -> None:
    talk.evaluate(
        """() => {
            const audio = document.querySelector("#job-audio");
            audio.removeAttribute("src");
            window.calls = [];
            audio.play = () => { calls.push("play"); return Promise.resolve(); };
        }"""
    )
    talk.keyboard.press(" ")
    talk.keyboard.press(">")
    talk.keyboard.press(">")
    talk.keyboard.press("<")
    assert talk.evaluate("[calls, document.querySelector('#job-audio').playbackRate]") == [["play"], 1.25]
    assert talk.get_by_label("Playback speed").input_value() == "1.25"
    # A control that has the focus keeps its own keys.
    talk.get_by_label("with times").focus()
    talk.keyboard.press(" ")
    assert talk.get_by_label("with times").is_checked()
    assert talk.evaluate("calls.length") == 1

    talk.locator("h1").focus()
    talk.keyboard.press("?")
    help_dialog = talk.get_by_role("dialog", name="Keyboard shortcuts")
    help_dialog.wait_for()
    reader.check_looks("help")
    talk.get_by_label("Use single keys as shortcuts").uncheck()
    talk.keyboard.press("Escape")
    talk.keyboard.press("?")
    talk.keyboard.press("/")
    assert help_dialog.is_hidden()
    assert talk.evaluate("document.activeElement.id") != "job-query"

    talk.reload()
    reader.wait_done()
    assert talk.get_by_label("Playback speed").input_value() == "1.25"
    talk.get_by_role("button", name="Keyboard shortcuts").click()
    assert not talk.get_by_label("Use single keys as shortcuts").is_checked()


def test_doubtful_words_are_underlined_and_named_but_copied_as_they_are(
    reader: Visitor, played: PlayedPages, key: str
) -> None:
    words = (("the", 0.98), ("monkey,", 0.79), ("of", 0.8), ("“Madrid”.", 0.2), ("hm", None))
    timed = tuple(
        Word(index / 2, index / 2 + 0.5, f" {text}", 0.1, sure) for index, (text, sure) in enumerate(words)
    )
    line = "".join(word.text for word in timed)
    job_id = played.begin(key=key)
    played.hear(
        job_id, Segment(0, 3, line, timed, confidence=0.3), Segment(3, 4, " surely so", confidence=0.8)
    )
    reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = reader.open(f"/t/{job_id}")
    page.locator("#job-lines li").nth(1).wait_for()
    named = "Doubtful: monkey, Madrid"
    assert _doubtful(page) == (["monkey,", "“Madrid”."], [named, named, "", ""])
    # A translation has no words.
    played.hear(job_id, Segment(4, 5, " who knows", confidence=0.3))
    page.locator("#job-lines li").nth(2).wait_for()
    assert _doubtful(page)[0][2:] == ["who knows"]
    assert _doubtful(page)[1][4:] == ["Doubtful: the whole line"] * 2
    played.complete(job_id)
    reader.wait_done()
    assert page.get_by_text("underlined like this").is_visible()
    reader.check_looks("doubtful words")
    page.get_by_role("button", name="Copy the text").click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == f"{line.strip()} surely so who knows"


def test_pages_without_doubtful_words_do_not_explain_them(talk: Page) -> None:
    assert _doubtful(talk) == ([], [""] * 2 * len(TALK))
    assert talk.get_by_text("underlined like this").is_hidden()


def test_speakers_are_named_where_they_change_and_can_be_read_alone(
    reader: Visitor, played: PlayedPages, key: str
) -> None:
    job_id = played.begin(key=key, speakers=True)
    played.find(job_id, title="The news")
    played.say(job_id, *TALK)
    reader.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = reader.open(f"/t/{job_id}")
    page.locator("#job-lines li").nth(3).wait_for()
    assert page.get_by_label("Lines of").is_hidden()
    played.complete(job_id)
    reader.wait_done()
    names = page.locator("#job-lines .who")
    assert names.all_inner_texts() == ["Speaker 1", "Speaker 2"] * 2
    colours = [
        name.evaluate("one => getComputedStyle(one, '::before').backgroundColor") for name in names.all()
    ]
    assert colours[:2] == colours[2:]
    assert len({*colours, "rgba(0, 0, 0, 0)"}) == 3
    assert reader.lines() == list(TALK)
    reader.check_looks("speakers")
    page.get_by_label("Lines of").select_option("Speaker 2")
    shown = [line for line in page.locator("#job-lines p").all() if line.is_visible()]
    assert [line.inner_text() for line in shown] == [TALK[1], TALK[3]]
    page.locator("#job-lines .time[tabindex='0']").focus()
    assert page.evaluate(FOCUSED_LINE) == TALK[1]
    page.keyboard.press("ArrowDown")
    assert page.evaluate(FOCUSED_LINE) == TALK[3]
    page.get_by_role("button", name="Copy the text").click()
    page.get_by_role("button", name="Copied").wait_for()
    alone = f"Speaker 2: {TALK[1]}\n\n{TALK[3]}"
    assert page.evaluate("navigator.clipboard.readText()") == alone
    page.get_by_role("button", name="Copy the text").wait_for()
    page.get_by_role("searchbox").fill("monkey")
    assert page.get_by_text("1 of 1").is_visible()
    page.get_by_label("Lines of").select_option("Everyone")
    assert page.get_by_text("of 2").is_visible()
    page.get_by_role("button", name="Copy the text").click()
    page.get_by_role("button", name="Copied").wait_for()
    expected = "\n\n".join(f"Speaker {index % 2 + 1}: {text}" for index, text in enumerate(TALK))
    assert page.evaluate("navigator.clipboard.readText()") == expected


def test_the_owner_renames_speakers_and_readers_of_a_link_see_the_names(
    browser: Browser, reader: Visitor, played: PlayedPages, key: str
) -> None:
    job_id = played.begin(key=key, speakers=True)
    played.say(job_id, *TALK)
    played.complete(job_id)
    page = reader.open(f"/t/{job_id}")
    reader.wait_done()
    names = page.locator("#job-lines .who")
    page.get_by_role("button", name="Speaker 2").first.click()
    reader.check_looks("renaming a speaker")
    field = page.get_by_label("Name of Speaker 2")
    field.fill("Nobody")
    field.press("Escape")
    assert names.all_inner_texts() == ["Speaker 1", "Speaker 2"] * 2
    page.get_by_role("button", name="Speaker 2").last.click()
    with page.expect_response("**/speakers") as stored:
        field.fill("  Grace <b>Hopper</b> ")
        field.press("Enter")
    assert stored.value.ok
    page.get_by_role("button", name="Grace").first.wait_for()
    renamed = ["Speaker 1", "Grace <b>Hopper</b>"] * 2
    assert names.all_inner_texts() == renamed
    assert page.get_by_label("Lines of").locator("option").all_inner_texts() == ["Everyone", *renamed[:2]]
    reader.check_looks("a renamed speaker")
    page.reload()
    reader.wait_done()
    assert names.all_inner_texts() == renamed
    page.get_by_role("button", name="Share").click()
    page.get_by_label("Anyone with this link").wait_for()
    link = page.get_by_label("Anyone with this link").input_value()
    for scripts in (True, False):
        with visitor(browser, played.url, scripts=scripts) as one:
            shared = one.open(link.removeprefix(played.url))
            if scripts:
                one.wait_done()
            lines = shared.locator("ol.lines:visible .who")
            assert lines.all_inner_texts() == renamed
            assert shared.get_by_role("button", name="Grace").count() == 0


def test_right_to_left_text_has_its_times_on_the_right(
    browser: Browser, reader: Visitor, played: PlayedPages
) -> None:
    job_id = played.begin()
    played.find(job_id, title="תוכנית")
    played.say(job_id, "OK.", *HEBREW)
    played.complete(job_id)
    page = reader.open(f"/t/{job_id}")
    reader.wait_done()
    for width in (360, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        time, text = page.locator(".time").nth(1), page.locator("#job-lines p").nth(1)
        assert _left_edge(time) > _left_edge(text), width
    reader.check_looks("right to left")
    with visitor(browser, played.url, scripts=False) as one:
        page = one.open(f"/t/{job_id}")
        assert page.locator("ol.lines:not(#job-lines)").get_attribute("dir") == "rtl"


def test_progress_stays_in_view_and_names_the_time_left(
    browser: Browser, played: PlayedPages, key: str
) -> None:
    job_id = played.begin(key=key)
    played.find(job_id, duration_seconds=900.0)
    with visitor(browser, played.url, width=360, height=640, key=key) as one:
        one.page.clock.install()
        page = one.open(f"/t/{job_id}")
        played.say(job_id, *("line after line" for _ in range(30)))
        page.locator("#job-pace", has_text="1:00 of 15:00").wait_for()
        page.clock.fast_forward(10_000)
        played.say(job_id, *("line after line" for _ in range(30)))
        page.locator("#job-pace", has_text=re.compile("2:00 of 15:00 · about . minutes left")).wait_for()
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        box = page.locator("#job-progress").bounding_box()
        assert box is not None
        assert 0 <= box["y"] < 100
        one.check_looks("running")
        played.complete(job_id)
        one.wait_done()
        assert page.locator("#job-pace").is_hidden()


def test_a_preview_of_live_audio_is_followed_by_the_minutes_of_a_key(
    reader: Visitor, played: PlayedPages
) -> None:
    job_id = played.begin("https://radio.example.com/live")
    played.find(job_id, title="Radio Turtle", live=True, at=1_798_759_800.0)
    page = reader.open(f"/t/{job_id}")
    played.say(job_id, "hello")
    played.complete(job_id)
    page.locator("#job-lock-text", has_text="These were 15 seconds of live audio.").wait_for()
    reader.check_looks("live-preview")
    go_on = page.get_by_role("button", name="Transcribe what is on air")
    minutes = page.get_by_label("Minutes of live audio")
    minutes.fill("0")
    go_on.click()
    problem = page.locator("#job-lock-problem").inner_text()
    assert problem.startswith("Live audio can be transcribed for 1 to 240 minutes.")
    minutes.fill("5")
    with page.expect_request(lambda sent: sent.url.endswith("/v1/transcripts")) as sent:
        go_on.click()
    body = sent.value.post_data_json or {}
    assert (body["preview_id"], body["max_minutes"]) == (job_id, 5)
    page.wait_for_url(lambda url: job_id not in url)
    played.complete(played.portal.call(played.world.worker.start))


def test_live_audio_is_followed_and_stopped(
    browser: Browser, reader: Visitor, played: PlayedPages, key: str
) -> None:
    job_id = played.begin("https://radio.example.com/live", key=key)
    played.find(job_id, title="Radio Turtle", live=True, at=1_798_759_800.0)
    page = reader.open(f"/t/{job_id}")
    page.set_viewport_size({"width": 360, "height": 640})
    played.play(job_id, HOSTILE_TITLE)
    played.say(job_id, *("line after line" for _ in range(30)))
    played.miss(job_id, 6.25)
    gap = page.locator("#job-lines .gap")
    gap.wait_for()
    assert gap.locator(".time").inner_text() == "1:00"
    assert gap.locator("p").inner_text() == "6.2 seconds are missing: the connection to the stream broke."
    assert page.locator("#job-playing").inner_text() == f"Now playing: {HOSTILE_TITLE}"
    assert page.locator("#job-kind").inner_text() == "Live transcript"
    ways = page.locator("#job-stages b").all_text_contents()  # gaps and titles are not among them
    assert ways == ["Checking the link", "Downloading and transcribing", "Found the audio"]
    pace = page.locator("#job-pace")
    assert re.fullmatch(r"1:00 · since \d\d:30.*", pace.inner_text())
    assert page.locator("#job-player").is_hidden()
    assert page.locator(".time:enabled").count() == 0
    assert page.locator("#job-state").inner_text() == "Transcribing live"

    # The newest line stays in view until the reader scrolls away; the button leads back at any time.
    now = page.get_by_role("button", name="Jump to now")
    assert _in_view(page)
    assert now.is_hidden()
    page.mouse.wheel(0, -900)
    now.wait_for()
    played.say(job_id, "something new")
    page.locator("#job-lines p", has_text="something new").wait_for(state="attached")
    assert not _in_view(page)
    now.click()
    page.wait_for_function(IN_VIEW)
    now.wait_for(state="hidden")
    reader.check_looks("live")

    page.get_by_role("button", name="Stop").click()
    page.locator("#job-state", has_text="Stopping").wait_for()
    assert played.stop_requested(job_id)
    played.say(job_id, "good bye")
    page.locator("#job-lines p", has_text="good bye").wait_for()
    assert page.locator("#job-state").inner_text() == "Stopping"
    with visitor(browser, played.url, key=key) as later:
        later.open(f"/t/{job_id}")
        later.wait_done("Stopping")
        assert later.page.get_by_role("button", name="Stop").is_disabled()
        played.complete(job_id)
        reader.wait_done()
        later.wait_done()
        assert later.page.locator("#job-lines .gap").count() == 1
    assert "1 minute billed" in page.locator("#job-state").inner_text()
    assert page.locator("#job-playing").is_hidden()
    assert now.is_hidden()


def test_shared_readers_see_no_billing(
    browser: Browser, reader: Visitor, talk: Page, played: PlayedPages
) -> None:
    assert "1 minute billed" in talk.locator("#job-state").inner_text()
    talk.get_by_role("button", name="Share").click()
    talk.get_by_label("Anyone with this link").wait_for()
    address = talk.get_by_label("Anyone with this link").input_value()
    with visitor(browser, played.url) as one:
        one.page.goto(address)
        one.wait_done()
        words = one.page.locator("body").inner_text()
        assert "billed" not in words
        assert one.page.get_by_role("navigation", name="Main").get_by_role("link").all_inner_texts() == [
            "Docs"
        ]
        one.check_looks("shared")
    assert reader.complaints == []


def test_hidden_pages_hold_no_connection(reader: Visitor, played: PlayedPages) -> None:
    job_id = played.begin()
    played.say(job_id, "before")
    first = reader.page
    # A browser opens six connections to a host: the seventh page would wait for ever.
    for page in (first, *(reader.context.new_page() for _ in range(6))):
        page.goto(f"{played.url}/t/{job_id}")
        page.locator("#job-lines li").wait_for()
        page.evaluate(HIDE, True)  # noqa: FBT003  # an argument of the script
    played.say(job_id, "while hidden")
    assert first.locator("#job-lines li").count() == 1
    with first.expect_request("**/events") as again:
        first.evaluate(HIDE, False)  # noqa: FBT003
    assert again.value.headers["last-event-id"] == "3"
    first.locator("#job-lines li").nth(1).wait_for()
    assert first.locator("#job-connection").inner_text() == ""
    played.complete(job_id)
    reader.wait_done()


def test_a_hidden_page_notices_the_end(reader: Visitor, played: PlayedPages, key: str) -> None:
    job_id = played.begin(key=key)
    played.say(job_id, "before")
    reader.page.clock.install()
    page = reader.open(f"/t/{job_id}")
    page.locator("#job-lines li").wait_for()
    page.evaluate(HIDE, True)  # noqa: FBT003
    played.say(job_id, "while hidden")
    played.complete(job_id)
    page.clock.fast_forward(30_000)
    reader.wait_done()
    assert reader.lines() == ["before", "while hidden"]
    assert page.title().startswith("✓ ")
    page.evaluate(HIDE, False)  # noqa: FBT003
    assert not page.title().startswith("✓ ")


def test_the_logic_of_pages(reader: Visitor) -> None:
    computed: dict[str, Any] = reader.open("/").evaluate(
        """async () => {
            const at = name => import(`/static/app/${name}.js`);
            const { Pace, roughly } = await at("pace");
            const { paragraphs, textOf } = await at("paragraphs");
            const { offsets } = await at("search");
            const { isRightToLeft } = await at("lines");
            const { sizes } = await at("upload");
            const { keyOf } = await at("shortcuts");
            const pace = new Pace(), left = [];
            // A reload repeats 600 s at once; then 10 s of audio take 1 s.
            for (const heard of [0, 300, 600]) pace.note(heard, heard / 3);
            for (let second = 1; second <= 20; second += 1) {
                pace.note(600 + 10 * second, 1000 * second + 200);
                left.push(pace.left(1000));
            }
            const rows = (...texts) => texts.map(([start, text]) => ({ start, end: start + 1, text }));
            const long = "word ".repeat(130).trim();
            const body = document.body, field = document.querySelector("#audio-url");
            const press = (key, target, more) => keyOf({ key, target, ...more });
            return {
                left: [left[0], left[7], left[19]].map(seconds => seconds && Math.round(seconds)),
                unknown: [new Pace().left(10), pace.left(undefined)],
                roughly: [3, 70, 130, 1500, 3400, 5400].map(roughly),
                pause: paragraphs(rows([0, " One."], [1, " Two."], [4, " Three."])),
                long: paragraphs(rows([0, ` ${long}`], [1, " end."], [2, " New."])).length,
                endless: paragraphs(rows([0, ` ${long}`], [1, ` ${long}`], [2, " more"])).length,
                hebrew: textOf(rows([3725, " שלום."]), true),
                offsets: [["a.b A.B", "A.b"], ["x", ""], ["one\\u00a0two", "one  two"], ["İi", "i"]]
                    .map(pair => offsets(...pair)),
                rightToLeft: ["12 שלום", "hello שלום", "مرحبا", "…"].map(isRightToLeft),
                sizes: [[5, 10], [1.5e6, 3.2e6], [12e6, 30e6], [2e9, 2.1e9]].map(pair => sizes(...pair)),
                keys: [press("/", body), press("/", field), press(" ", document.querySelector("button")),
                    press("/", body, { ctrlKey: true }), keyOf({ key: "/", target: body }, false)],
            };
        }"""
    )

    assert computed == {
        "left": [None, 33, 20],
        "unknown": [None, None],
        "roughly": [
            "less than a minute left",
            "about a minute left",
            "about 2 minutes left",
            "about 25 minutes left",
            "about 55 minutes left",
            "about 1.5 hours left",
        ],
        "pause": [{"start": 0, "text": "One. Two."}, {"start": 4, "text": "Three."}],
        "long": 2,
        "endless": 2,
        "hebrew": "[1:02:05] שלום.",
        "offsets": [[[0, 3], [4, 7]], [], [[0, 7]], [[1, 2]]],
        "rightToLeft": [True, False, True, False],
        "sizes": ["5 of 10 bytes", "1.5 of 3.2 MB", "12 of 30 MB", "2.0 of 2.1 GB"],
        "keys": ["/", "", "", "", ""],
    }


def _in_view(page: Page) -> bool:
    seen: bool = page.evaluate(IN_VIEW)
    return seen


def _left_edge(locator: Any) -> float:
    box = locator.bounding_box()
    assert box is not None
    return float(box["x"])


def _doubtful(page: Page) -> tuple[list[str], list[str]]:
    words, titles = page.evaluate(
        """() => [[...CSS.highlights.get("doubtful")].map(String),
            [...document.querySelectorAll("#job-lines :is(.time, p)")].map(one => one.title)]"""
    )
    return words, titles


def _marked(page: Page) -> list[list[str]]:
    marked: list[list[str]] = page.evaluate(
        "() => ['found', 'match'].map(name => [...CSS.highlights.get(name)].map(String))"
    )
    return marked
