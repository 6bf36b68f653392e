"""A link pasted in a browser: the preview, the lock, the complete transcript, and its actions."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docx
import httpx
import pytest

from stenobird.demo import CLIP_TEXT_PATH, word_error_rate
from tests.support.browser import Visitor, visitor
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.acceptance.pages.conftest import HalfSent
    from tests.support.media_server import MediaServer


MIDDLE_OF_WORD = """([line, word]) => {
    const text = document.querySelectorAll("#job-lines p")[line].firstChild;
    const starts = [...text.data.matchAll(/\\S+/g)];
    const range = new Range();
    range.setStart(text, starts[word].index);
    range.setEnd(text, starts[word].index + starts[word][0].length);
    const box = range.getBoundingClientRect();
    return [box.x + box.width / 2, box.y + box.height / 2];
}"""
BESIDE_LINE = """line => {
    const box = document.querySelectorAll("#job-lines p")[line].getBoundingClientRect();
    return [box.right - 4, box.y + box.height / 2];
}"""


@pytest.fixture(scope="module")
def finished(service: ServerProcess, media: MediaServer, secret: str) -> str:
    """The path of the page of a complete transcript of the clip."""
    with httpx.Client(base_url=service.url, headers=_key(secret), trust_env=False, timeout=120) as http:
        wanted = {"audio_url": media.url("/clip.mp3"), "word_timestamps": True}
        job_id: str = http.post("/v1/transcripts", json=wanted).json()["id"]
        assert "event: done" in http.get(f"/v1/transcripts/{job_id}/events").text
    return f"/t/{job_id}"


def test_a_guest_reads_the_preview_of_the_sample_up_to_the_lock(guest: Visitor) -> None:
    page = guest.open("/")

    page.get_by_role("button", name="Try the bundled sample").click()
    page.wait_for_url("**/t/tr_*")
    page.get_by_role("heading", name="The free preview ends here").wait_for()

    assert guest.lines()[0] == "hello and welcome back to the white turtle show"
    assert page.locator("#job-lines .time").first.inner_text() == "0:00"
    assert "Found the audio" in (page.locator("#job-stages").text_content() or "")
    assert page.get_by_role("link", name="Get a key").get_attribute("href") == "/pricing"
    assert guest.foreign_requests() == []


def test_a_key_continues_the_preview_to_the_complete_transcript(
    guest: Visitor, media: MediaServer, secret: str
) -> None:
    page = guest.open("/")
    guest.transcribe(media.url("/clip.mp3"))
    page.get_by_role("button", name="I have a key").click()
    preview_url = page.url

    page.get_by_label("API key", exact=True).fill(secret)
    page.get_by_role("button", name="Use this key").click()
    page.wait_for_url(lambda url: url != preview_url and "/t/tr_" in url)
    guest.wait_done()

    assert word_error_rate(CLIP_TEXT_PATH.read_text(), " ".join(guest.lines())) <= 0.05
    assert "1 minute billed" in page.locator("#job-state").inner_text()
    assert page.locator("#job-lock").is_hidden()


def test_an_invalid_key_is_refused_in_its_dialog(guest: Visitor) -> None:
    page = guest.open("/")
    page.get_by_role("button", name="Add key").click()
    page.get_by_label("API key", exact=True).fill("sb_live_wrong")
    page.get_by_role("button", name="Use this key").click()

    page.locator("#key-problem:not([hidden])").wait_for()

    assert page.locator("#key-dialog").is_visible()
    assert page.evaluate("sessionStorage.length + localStorage.length") == 0


def test_a_key_outlives_the_tab_only_when_remembered(
    browser: Browser, service: ServerProcess, secret: str
) -> None:
    for remember in (False, True):
        with visitor(browser, service.url) as one:
            page = one.open("/")
            page.get_by_role("button", name="Add key").click()
            page.get_by_label("API key", exact=True).fill(secret)
            page.get_by_label("Remember it in this browser").set_checked(remember)
            page.get_by_role("button", name="Use this key").click()
            page.get_by_role("button", name=f"Key …{secret[-4:]}").wait_for()
            later = one.context.new_page()
            later.goto(service.url)
            shown = later.locator(".top [data-key-button]").inner_text()
            assert shown == (f"Key …{secret[-4:]}" if remember else "Add key")


def test_every_format_is_downloaded_with_the_key(owner: Visitor, finished: str) -> None:
    owner.open(finished)
    owner.wait_done()

    documents: dict[str, bytes] = {}
    for name in ("txt", "srt", "vtt", "docx", "json"):
        with owner.page.expect_download() as download:
            owner.page.locator(f"[data-format={name}]").click()
        assert download.value.suggested_filename.endswith(f".{name}")
        documents[name] = Path(download.value.path()).read_bytes()

    first = owner.lines()[0]
    assert first.encode() in documents["txt"]
    assert documents["srt"].startswith(b"1\n00:00:0")
    assert documents["vtt"].startswith(b"WEBVTT")
    assert any(first in row.text for row in docx.Document(io.BytesIO(documents["docx"])).paragraphs)
    assert json.loads(documents["json"])["segments"][0]["text"] == first


def test_the_text_is_copied(owner: Visitor, finished: str) -> None:
    owner.context.grant_permissions(["clipboard-read", "clipboard-write"])
    owner.open(finished)
    owner.wait_done()

    owner.page.get_by_role("button", name="Copy the text").click()
    owner.page.get_by_role("button", name="Copied").wait_for()

    copied = owner.page.evaluate("navigator.clipboard.readText()")
    assert " ".join(copied.split()) == " ".join(" ".join(owner.lines()).split())


def test_a_pressed_word_is_played_and_no_audio_is_loaded_before(
    owner: Visitor, finished: str, media: MediaServer, secret: str
) -> None:
    owner.open(finished)
    owner.wait_done()
    assert owner.foreign_requests() == []

    page = owner.page
    # The longest word from the fourth line on: a short one may end before the page has paused.
    segments = _result(page.url, secret)["segments"]
    line, index, word = max(
        (
            (at, place, word)
            for at, row in enumerate(segments)
            for place, word in enumerate(row["words"])
            if at > 2
        ),
        key=lambda found: found[2]["end"] - found[2]["start"],
    )
    # Pause after the seek, so that the current word stays the one that was pressed.
    page.evaluate("document.querySelector('#job-audio').addEventListener('seeked', e => e.target.pause())")
    page.locator("#job-lines li").nth(line).scroll_into_view_if_needed()
    page.mouse.click(*page.evaluate(MIDDLE_OF_WORD, [line, index]))
    page.locator("#job-lines li.now").wait_for()

    heard = page.evaluate("document.querySelector('#job-audio').currentTime")
    assert heard == pytest.approx(word["start"], abs=0.5)
    assert page.evaluate("[...CSS.highlights.get('heard')].map(String)") == [word["text"].strip()]
    assert set(owner.foreign_requests()) == {media.url("/clip.mp3")}

    page.locator("#job-lines li").nth(2).scroll_into_view_if_needed()
    page.mouse.click(*page.evaluate(BESIDE_LINE, 2))
    page.wait_for_function("before => document.querySelector('#job-audio').currentTime < before", arg=heard)
    start = float(page.locator("#job-lines li").nth(2).get_attribute("data-start") or "nan")
    assert page.evaluate("document.querySelector('#job-audio').currentTime") == pytest.approx(start, abs=0.5)


def test_the_playing_line_is_scrolled_into_view(owner: Visitor, finished: str) -> None:
    page = owner.page
    page.set_viewport_size({"width": 360, "height": 500})
    owner.open(finished)
    owner.wait_done()
    page.evaluate("document.querySelector('#job-audio').addEventListener('seeked', e => e.target.pause())")
    page.locator(".time").first.click()
    page.locator("#job-lines li.now").wait_for()

    page.evaluate("document.querySelector('#job-audio').currentTime = 68")
    page.wait_for_function(
        """() => {
            const now = document.querySelector("#job-lines li.now").getBoundingClientRect();
            const player = document.querySelector("#job-audio").getBoundingClientRect();
            return now.top > player.bottom && player.top >= 0 && now.bottom < innerHeight;
        }"""
    )


def test_audio_that_other_pages_may_not_play_is_linked(guest: Visitor, media: MediaServer) -> None:
    guest.open("/")
    guest.transcribe(media.url("/guarded.mp3"))
    guest.wait_done()

    guest.page.locator("#job-lines .time").first.click()
    link = guest.page.get_by_role("link", name="open the audio there")
    link.wait_for()

    assert link.get_attribute("href") == media.url("/guarded.mp3")
    assert guest.page.locator("#job-player").is_hidden()
    assert guest.page.locator("#job-lines .time").first.is_disabled()


@pytest.mark.slow
def test_a_reload_during_the_stream_loses_nothing(owner: Visitor, half_sent: HalfSent, secret: str) -> None:
    owner.transcribe(half_sent.url)
    owner.page.locator("#job-lines li").nth(1).wait_for()

    owner.page.reload()
    owner.page.locator("#job-lines li").nth(2).wait_for()
    assert not owner.page.locator("#job-state").inner_text().startswith("Done")
    owner.page.reload()
    half_sent.release()
    owner.wait_done()

    assert owner.lines() == _segments(owner.page.url, secret)


@pytest.mark.slow
def test_the_page_reconnects_after_the_server_was_killed(
    browser: Browser, tmp_path: Path, half_sent: HalfSent
) -> None:
    with ServerProcess(tmp_path / "data") as service, visitor(browser, service.url) as one:
        secret = service.create_key()
        one.open("/")
        one.use_key(secret)
        one.transcribe(half_sent.url)
        one.page.locator("#job-lines li").nth(1).wait_for()

        service.kill()
        one.page.get_by_text("The connection was lost").wait_for()
        before = one.lines()
        half_sent.release()
        service.start()
        one.wait_done()

        after = one.lines()
        assert after[: len(before)] == before
        assert after == _segments(one.page.url, secret)
        assert one.page.get_by_text("The connection was lost").is_hidden()
        one.complaints.clear()  # the browser's message about the refused connection


def test_a_share_link_opens_the_transcript_until_it_is_revoked(
    owner: Visitor, browser: Browser, service: ServerProcess, finished: str
) -> None:
    owner.open(finished)
    owner.wait_done()
    owner.page.get_by_role("button", name="Share").click()
    link = owner.page.get_by_label("Anyone with this link")
    link.wait_for()
    address = link.input_value()

    with visitor(browser, service.url) as reader:
        reader.page.goto(address)
        reader.wait_done()
        assert reader.lines() == owner.lines()
        assert reader.page.get_by_role("button", name="Delete").is_hidden()
        with reader.page.expect_download():
            reader.page.locator("[data-format=srt]").click()

        owner.page.get_by_role("button", name="Revoke all links").click()
        owner.page.locator("#job-state", has_text="The links are revoked").wait_for()
        gone = reader.page.goto(address)
        assert gone is not None
        assert gone.status == 404
        reader.page.get_by_role("heading", name="There is no such transcript").wait_for()


def test_the_page_of_an_accounts_transcript_asks_for_the_key(
    owner: Visitor, browser: Browser, service: ServerProcess, finished: str, secret: str
) -> None:
    owner.open(finished)
    owner.wait_done()

    with visitor(browser, service.url) as stranger:
        stranger.page.goto(owner.page.url)
        stranger.page.get_by_role("heading", name="This transcript belongs to an account").wait_for()
        assert stranger.lines() == []
        stranger.page.get_by_role("button", name="Enter a key").click()
        stranger.page.get_by_label("API key", exact=True).fill(secret)
        stranger.page.get_by_role("button", name="Use this key").click()
        stranger.wait_done()
        assert stranger.lines() == owner.lines()


def test_an_upload_has_the_title_of_its_tags(
    owner: Visitor, service: ServerProcess, clips: Path, secret: str
) -> None:
    frame = b"TIT2" + (14).to_bytes(4) + b"\0\0" + b"\x03The birds \xe2\x84\x96"
    tag = b"ID3\x03\0\0" + bytes((0, 0, 0, len(frame))) + frame
    data = tag + (clips / "short.mp3").read_bytes()
    page = owner.page
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a file").click()
    chooser.value.set_files({"name": "VN0042.mp3", "mimeType": "audio/mpeg", "buffer": data})
    page.wait_for_url("**/t/tr_*")
    owner.wait_done()
    assert page.locator("h1").inner_text() == "The birds №"
    assert _result(page.url, secret)["source"]["title"] == "The birds №"
    owner.open("/")
    assert page.locator("#recent-list a").first.inner_text() == "The birds №"


def test_a_link_without_audio_shows_what_was_tried_and_what_to_do(guest: Visitor, media: MediaServer) -> None:
    guest.open("/")
    guest.transcribe(media.url("/page"))

    guest.page.get_by_role("heading", name="No audio was found behind this link").wait_for()

    assert "Send the direct audio URL" in guest.page.locator("#job-problem-text").inner_text()
    assert "Reading the page" in guest.page.locator("#job-stages").inner_text()
    assert guest.page.get_by_role("link", name="Try another link").is_visible()


def test_a_refused_link_stays_in_the_field(guest: Visitor) -> None:
    page = guest.open("/")
    field = page.get_by_label("Link to anything")
    field.fill("ftp://example.com/a.mp3")
    field.press("Enter")

    page.locator("#ask-problem:not([hidden])").wait_for()

    assert field.input_value() == "ftp://example.com/a.mp3"
    assert field.get_attribute("aria-invalid") == "true"


def test_stop_ends_a_transcript_and_delete_removes_it(owner: Visitor, half_sent: HalfSent) -> None:
    owner.transcribe(half_sent.url)
    owner.page.locator("#job-lines li").first.wait_for()
    owner.page.get_by_role("button", name="Stop").click()
    owner.wait_done("Stopped before it was finished")

    owner.page.on("dialog", lambda dialog: dialog.accept())
    address = owner.page.url
    owner.page.get_by_role("button", name="Delete").click()
    owner.page.wait_for_url(lambda url: "/t/" not in url)

    gone = owner.page.goto(address)
    assert gone is not None
    assert gone.status == 404


def test_recent_transcripts_are_listed_in_this_browser_and_can_be_forgotten(
    guest: Visitor, media: MediaServer
) -> None:
    guest.open("/")
    guest.transcribe(media.url("/clip.mp3"))
    guest.wait_done()
    page = guest.open("/")
    page.get_by_role("heading", name="Recent in this browser").wait_for()

    page.get_by_role("link", name="clip.mp3").click()
    page.wait_for_url("**/t/tr_*")
    guest.open("/")
    page.get_by_role("button", name="Clear the list").click()
    page.reload()

    assert page.locator("#recent").is_hidden()


def test_without_scripts_a_preview_is_posted_and_read(service: ServerProcess, media: MediaServer) -> None:
    with httpx.Client(base_url=service.url, trust_env=False, follow_redirects=True) as http:
        page = http.post("/", data={"audio_url": media.url("/clip.mp3")})
        assert page.url.path.startswith("/t/tr_")
        assert '<noscript><meta http-equiv="refresh"' in page.text
        # Wait for the end of the job by reading its stream to the end.
        http.get(f"/v1/transcripts/{page.url.path.removeprefix('/t/')}/events")
        page = http.get(page.url.path)

    without_script = page.text.rpartition("<noscript>")[2]
    assert '<p dir="auto">hello and welcome back to the white turtle show</p>' in without_script
    assert "The free preview ends here" in without_script
    assert "refresh" not in page.text


def _segments(page_url: str, secret: str) -> list[str]:
    return [" ".join(row["text"].split()) for row in _result(page_url, secret)["segments"]]


def _result(page_url: str, secret: str) -> dict[str, Any]:
    base, _, job_id = page_url.partition("/t/")
    answer = httpx.get(
        f"{base}/v1/transcripts/{job_id}/result",
        headers=_key(secret),
        trust_env=False,
    )
    body: dict[str, Any] = answer.json()
    return body


def _key(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}
