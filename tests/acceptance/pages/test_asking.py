"""What the home page takes besides a link: choices, and files of this device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest

from stenobird.demo import CLIP_PATH
from tests.support.browser import Visitor, visitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page, Request, Route

    from tests.support.played_pages import PlayedPages

TALK: Any = {"name": "A talk.mp3", "mimeType": "audio/mpeg", "buffer": CLIP_PATH.read_bytes()}

DROP = """() => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File(["x".repeat(100)], "dropped.mp3", { type: "audio/mpeg" }));
    const event = name => document.body.dispatchEvent(
        new DragEvent(name, { dataTransfer, bubbles: true, cancelable: true }));
    event("dragover");
    const shown = document.body.matches(".dropping");
    event("drop");
    return shown && !document.body.matches(".dropping");
}"""


@pytest.fixture(scope="module")
def key(played: PlayedPages) -> str:
    """A key of that service."""
    return played.create_key()


@pytest.fixture
def home(browser: Browser, played: PlayedPages) -> Iterator[Visitor]:
    """A visitor without a key, on the home page."""
    with visitor(browser, played.url) as one:
        one.open("/")
        yield one


def _is_create(request: Request) -> bool:
    return request.method == "POST" and request.url.endswith("/v1/transcripts")


def _end(one: Visitor, played: PlayedPages, text: str) -> None:
    """Play the oldest job to its end, and wait for its page to show it."""
    one.page.wait_for_url("**/t/tr_*")
    job_id = played.portal.call(played.world.worker.start)
    played.say(job_id, text)
    played.complete(job_id)
    one.wait_done()


def test_choices_go_with_the_link_and_with_the_rest_of_its_preview(
    home: Visitor, played: PlayedPages, key: str
) -> None:
    page = home.page
    page.get_by_text("Options").click()
    languages = page.get_by_label("Spoken language")
    named = languages.locator("option").all_inner_texts()
    assert named[0] == "Detect it"
    assert named[1] == "Afrikaans"
    assert [name for name in named if len(name) < 3] == []  # codes
    assert {"English", "Hebrew", "Cantonese"} <= set(named)
    languages.select_option(label="Hebrew")
    page.get_by_label("Translate into English").check()
    page.get_by_label("Say who speaks").check()
    page.get_by_label("Names and words to spell right").fill(" Siobhán , Noa,,Noa; Madrid ")
    page.get_by_label("Minutes of live audio").fill("90")
    home.check_looks("options")
    page.get_by_label("Link to anything").fill("https://example.com/talk.mp3")
    with page.expect_request(_is_create) as sent:
        page.keyboard.press("Enter")
    chosen = {
        "audio_url": "https://example.com/talk.mp3",
        "language": "he",
        "task": "translate",
        "keywords": ["Siobhán", "Noa", "Madrid"],
        "speakers": True,
        "max_minutes": 90,
        "word_timestamps": True,
    }
    assert sent.value.post_data_json == chosen
    _end(home, played, "Hello.")

    preview_id = page.url.rpartition("/")[2]
    page.get_by_role("button", name="I have a key").click()
    page.get_by_label("API key", exact=True).fill(key)
    with page.expect_request(_is_create) as again:
        page.get_by_role("button", name="Use this key").click()
    assert again.value.post_data_json == {**chosen, "preview_id": preview_id}
    page.wait_for_url(lambda url: preview_id not in url)
    _end(home, played, "Hello.")


def test_without_choices_only_the_link_is_sent(home: Visitor, played: PlayedPages) -> None:
    with home.page.expect_request(_is_create) as sent:
        home.transcribe("https://example.com/plain.mp3")
    assert sent.value.post_data_json == {
        "audio_url": "https://example.com/plain.mp3",
        "word_timestamps": True,
    }
    _end(home, played, "Hello.")


def test_minutes_out_of_range_are_not_sent(home: Visitor, played: PlayedPages) -> None:
    page = home.page
    page.get_by_text("Options").click()
    minutes = page.get_by_label("Minutes of live audio")
    assert minutes.get_attribute("placeholder") == "60"
    minutes.fill("241")
    page.get_by_text("Options").click()
    page.get_by_label("Link to anything").fill("https://radio.example.com/live")
    page.keyboard.press("Enter")
    said = "Live audio can be transcribed for 1 to 240 minutes. Enter a whole number, or leave it empty."
    assert page.locator("#ask-problem").inner_text() == said
    assert minutes.evaluate("field => field === document.activeElement")
    minutes.fill("240")
    with page.expect_request(_is_create) as sent:
        page.keyboard.press("Enter")
    assert (sent.value.post_data_json or {})["max_minutes"] == 240
    _end(home, played, "Hello.")


def test_choices_work_without_scripts(played: PlayedPages) -> None:
    form = {
        "audio_url": "https://example.com/a.mp3",
        "language": "de",
        "task": "translate",
        "keywords": "Noa, Siobhán",
        "speakers": "true",
    }
    with httpx.Client(base_url=played.url, trust_env=False) as http:
        answer = http.post("/", data=form)
        refused = http.post("/", data={**form, "language": "xx"})
    job = played.portal.call(played.world.store.get, answer.headers["location"].removeprefix("/t/"))
    assert job is not None
    assert (job.options.language, job.options.task) == ("de", "translate")
    assert job.options.keywords == ("Noa", "Siobhán")
    assert job.options.speakers
    assert refused.status_code == 400
    played.complete(played.portal.call(played.world.worker.start))


def test_a_file_is_sent_transcribed_and_played_from_this_device(
    home: Visitor, played: PlayedPages, key: str
) -> None:
    page = home.page
    home.use_key(key)
    page.get_by_text("Options").click()
    page.get_by_label("Spoken language").select_option("en")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    with page.expect_request(_is_create) as sent:
        chooser.value.set_files(TALK)
    assert set(sent.value.post_data_json or ()) == {"upload_id", "language", "word_timestamps"}
    _end(home, played, "Hello and welcome.")
    assert page.title().startswith("A talk.mp3 · ")
    assert page.locator("#job-player").is_hidden()
    home.check_looks("transcript of a file")

    page.get_by_label("Choose the file to listen").set_input_files(TALK)
    page.get_by_role("button", name="Play from 0:00").click()
    page.wait_for_function("() => document.querySelector('#job-audio').currentTime > 0")
    assert home.foreign_requests() == []
    home.open("/")
    assert page.locator("#recent-list a").first.inner_text() == "A talk.mp3"


def test_a_dropped_file_asks_for_a_key_and_is_sent_then(home: Visitor, played: PlayedPages, key: str) -> None:
    page = home.page
    assert page.evaluate(DROP) is True
    page.get_by_text("A file needs a key").wait_for()
    home.check_looks("a file needs a key")
    page.get_by_label("API key", exact=True).fill(key)
    page.get_by_role("button", name="Use this key").click()
    _end(home, played, "Hello.")
    assert page.locator("h1").inner_text() == "dropped.mp3"


def test_an_upload_can_be_stopped_and_refused(home: Visitor, key: str) -> None:
    page = home.page
    home.use_key(key)
    waiting: list[Route] = []

    def wait(route: Route) -> None:
        waiting.append(route)

    page.route("**/binary", wait)
    _choose(page, TALK)
    page.locator("#sending-pace", has_text="of").wait_for()
    assert page.locator("#sending-name").inner_text() == "A talk.mp3"
    assert page.evaluate("document.activeElement.id") == "sending-name"
    home.check_looks("sending")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Choose a file").wait_for()
    assert page.evaluate("document.activeElement.id") == "ask-choose"
    assert page.get_by_role("alert").filter(visible=True).count() == 0

    error = {
        "code": "upload_too_large",
        "message": "It has 3 bytes too many.",
        "request_id": "r",
        "details": {},
    }
    page.route("**/uploads", lambda route: route.fulfill(status=413, json={"error": error}))
    _choose(page, TALK)
    page.get_by_text("This file is too large. It has 3 bytes too many.").wait_for()
    assert page.get_by_label("Link to anything").is_visible()
    assert len(waiting) == 1
    page.unroute_all(behavior="ignoreErrors")


def _choose(page: Page, file: Any) -> None:
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    chooser.value.set_files(file)
