"""What holds for every page: it fits a phone, reads well in the dark, and works by keyboard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import docx
import httpx

from stenobird.web.site.templating import hashed_folder
from tests.support.browser import SCHEMES, Visitor, visitor

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.support.media_server import MediaServer
    from tests.support.server_process import ServerProcess

PAGES = ("/", "/docs", "/pricing", "/usage", "/recover", "/no-such-page")
MAX_HOME_BYTES = 64 * 1024
"""Of the home page with all that it loads, uncompressed; 78,738 before pages had scripts of their own."""

_LOADED = """() => ["navigation", "resource"].flatMap(type => performance.getEntriesByType(type))
    .map(entry => [entry.name, entry.decodedBodySize])"""


def test_pages_fit_and_have_no_finding(browser: Browser, service: ServerProcess) -> None:
    with visitor(browser, service.url) as one:
        for path in PAGES:
            page = one.open(path)
            one.check_looks(path)
            assert one.foreign_requests() == [], path
            assert page.locator("h1").count() == 1, path
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            background = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (background == "rgb(19, 25, 23)") == (scheme == "dark")


def test_the_home_page_is_small_and_names_all_its_scripts(guest: Visitor) -> None:
    page = guest.open("/")
    page.wait_for_load_state("networkidle")

    loaded = dict(page.evaluate(_LOADED))
    named = page.locator("script[src], link[rel=modulepreload]").evaluate_all(
        "all => all.map(e => e.src || e.href)"
    )

    assert sum(loaded.values()) <= MAX_HOME_BYTES, loaded
    # A script that another one imports would be loaded later than those that the page names.
    assert {url for url in loaded if url.endswith(".js")} == set(named)
    assert len(named) == len(set(named)) > 5


def test_a_transcript_its_lock_its_error_and_its_usage_fit_and_have_no_finding(
    guest: Visitor, media: MediaServer, secret: str
) -> None:
    guest.open("/")
    guest.transcribe(media.url("/page"))
    guest.page.locator("#job-problem:not([hidden])").wait_for()
    guest.check_looks("error")

    guest.open("/")
    guest.transcribe(media.url("/clip.mp3"))
    guest.wait_done()
    guest.page.locator("#job-lock:not([hidden])").wait_for()
    guest.check_looks("lock")

    guest.page.get_by_role("button", name="I have a key").click()
    guest.check_looks("key dialog")
    guest.page.get_by_label("API key", exact=True).fill(secret)
    guest.page.get_by_role("button", name="Use this key").click()
    guest.wait_done("1 minute billed")
    guest.page.get_by_role("button", name="Share").click()
    guest.page.get_by_label("Anyone with this link").wait_for()
    guest.check_looks("whole transcript")

    guest.open("/usage")
    guest.page.get_by_role("img", name="minutes in 30 days").wait_for()
    guest.page.get_by_text("The same as a table").click()
    assert guest.page.locator("#usage-rows tr").count() == 1
    guest.check_looks("usage")


def test_the_docs_show_the_api_as_it_is_and_read_well_on_a_phone(
    browser: Browser, service: ServerProcess
) -> None:
    with visitor(browser, service.url, width=360) as one:
        page = one.open("/docs")
        page.locator("#post-v1-transcripts summary").click()
        answers = page.locator("#post-v1-transcripts")
        assert "invalid_url" in answers.locator("code").all_inner_texts()
        assert "`" not in answers.inner_text()
        described = answers.locator("td:last-child").first.bounding_box()
        assert described is not None
        assert described["width"] > 250
        assert one.overflow_pixels() <= 0
        assert page.get_by_role("link", name="Docs", exact=True).get_attribute("aria-current") == "page"


def test_the_schema_checker_of_these_tests_finds_violations(guest: Visitor) -> None:
    guest.page.set_content(
        "<title>x</title><input><p style='width:3000px;color:#ddd;background:#fff'>faint</p>"
    )

    rules = {finding.partition(":")[0] for finding in guest.findings()}

    assert {"label", "color-contrast", "html-has-lang"} <= rules
    assert guest.overflow_pixels() > 0


def test_a_link_becomes_a_document_with_the_keyboard_alone(
    guest: Visitor, media: MediaServer, secret: str
) -> None:
    guest.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = guest.open("/")
    focused, keyboard = "document.activeElement.id", page.keyboard
    page.evaluate("link => navigator.clipboard.writeText(link)", media.url("/clip.mp3"))
    keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    keyboard.press("Enter")
    keyboard.press("Tab")
    assert page.evaluate(focused) == "audio-url"
    keyboard.press("Control+v")
    keyboard.press("Enter")
    page.wait_for_url("**/t/tr_*")
    guest.wait_done()

    _tab_to(guest, "document.activeElement.classList.contains('time')")
    keyboard.press("ArrowDown")
    keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.textContent") == page.locator(".time").nth(2).inner_text()
    keyboard.press("Enter")
    start = float(page.locator("#job-lines li").nth(2).get_attribute("data-start") or "nan")
    page.wait_for_function("start => document.querySelector('#job-audio').currentTime >= start", arg=start)

    _tab_to(guest, f"{focused} === 'job-have-key'")
    keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    keyboard.press("Escape")
    assert page.locator("#key-dialog").is_hidden()
    assert page.evaluate(focused) == "job-have-key"

    keyboard.press("Enter")
    assert page.evaluate(focused) == "key-input"
    keyboard.type(secret)
    keyboard.press("Enter")
    guest.wait_done("1 minute billed")
    keyboard.press("/")
    keyboard.type("turtle")
    assert page.locator("#job-matches").inner_text().startswith("1 of ")
    keyboard.press("Escape")
    _tab_to(guest, "document.activeElement.dataset.format === 'docx'")
    with page.expect_download() as download:
        keyboard.press("Enter")
    document = docx.Document(str(download.value.path()))
    assert any(guest.lines()[0] in row.text for row in document.paragraphs)


def test_pages_forbid_what_they_do_not_need(service: ServerProcess) -> None:
    with httpx.Client(base_url=service.url, trust_env=False) as http:
        policies = {
            path: http.get(path).headers["content-security-policy"] for path in ("/", "/docs", "/pricing")
        }
        for path, policy in policies.items():
            assert "default-src 'none'" in policy, path
            assert "unsafe" not in policy, path
            assert "frame-ancestors 'none'" in policy, path
            assert ("media-src" in policy) == (path == "/"), path
        kept = {
            folder: http.get(f"/static/{folder}app/api.js").headers["cache-control"]
            for folder in ("", f"{hashed_folder()}/", "as-of-another/")
        }
        assert [value.endswith("immutable") for value in kept.values()] == [False, True, False], kept
        assert http.get("/static/as-of-another/../../pages.py").status_code == 404
        assert http.get("/robots.txt").text.startswith("User-agent: *\nDisallow: /t/\n")
        assert http.get("/favicon.ico").headers["location"] == "/static/favicon.svg"


def test_errors_are_pages_for_people_and_json_for_programs(service: ServerProcess) -> None:
    with httpx.Client(base_url=service.url, trust_env=False) as http:
        for path, words in (("/nothing", "There is nothing here"), ("/t/tr_nothing", "no such transcript")):
            page = http.get(path, headers={"Accept": "text/html,*/*"})
            assert page.status_code == 404
            assert page.headers["content-type"].startswith("text/html")
            assert words in page.text
        assert http.get("/nothing").json()["error"] == "not_found"
        api = http.get("/v1/transcripts/tr_nothing", headers={"Accept": "text/html"})
        assert api.json()["error"] == "transcript_not_found"


def test_what_a_page_shows_of_a_link_is_escaped(service: ServerProcess) -> None:
    with httpx.Client(base_url=service.url, trust_env=False) as http:
        page = http.post("/", data={"audio_url": 'x:"><script>alert(1)</script>'})

    assert page.status_code == 400
    assert "<script>alert" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text


def _tab_to(one: Visitor, condition: str) -> None:
    for _ in range(40):
        one.page.keyboard.press("Tab")
        if one.page.evaluate(condition):
            return
    raise AssertionError(f"the Tab key does not reach {condition}")
