"""Transcript pages whose events the test sends: errors, hostile text, three hours of lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from stenobird import errors
from stenobird.errors import JobError, StenobirdError
from stenobird.web.site.templating import problems
from tests.support.browser import Visitor, visitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Route

    from tests.support.played_pages import PlayedPages

LINES = 5000
"""Three hours of talk."""
MAX_NODES = 40_000
MAX_LAYOUTS = LINES // 25
"""A page with a layout for each line would take minutes to show them all."""

JOB_ERRORS = sorted(
    (error for error in JobError.__subclasses__() if error.__module__ == errors.__name__),
    key=lambda error: error.code,
)
ANSWERS = (
    errors.InvalidURL,
    errors.InvalidAPIKey,
    errors.ReadOnlyKey,
    errors.BillingFailed,
    errors.InsufficientCredits,
    errors.PlanDowngraded,
    errors.EngineUnavailable,
    errors.StorageUnavailable,
    StenobirdError,
)
"""Possible errors of the `POST`."""

HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
UNBROKEN = "w" * 400
HEBREW = "שלום וברוכים הבאים"


@pytest.fixture
def reader(browser: Browser, played: PlayedPages) -> Iterator[Visitor]:
    """A visitor with a phone and without a key."""
    with visitor(browser, played.url, width=360, height=740) as one:
        one.page.on("dialog", lambda dialog: one.complaints.append(f"dialog: {dialog.message}"))
        yield one


def test_every_error_has_a_title_and_a_remedy(reader: Visitor, played: PlayedPages) -> None:
    known = problems()
    for error in JOB_ERRORS:
        job_id = played.begin()
        played.fail(job_id, error())
        page = reader.open(f"/t/{job_id}")

        page.get_by_role("heading", name=known[error.code]["title"]).wait_for()
        assert page.locator("#job-problem-text").inner_text() == error().message
        assert page.locator("#job-problem").get_attribute("role") == "alert"
        assert page.get_by_role("link", name="Try another link").is_visible()
        assert reader.overflow_pixels() <= 0


def test_errors_of_a_link_are_shown_next_to_the_field(reader: Visitor) -> None:
    known = problems()
    refusal: dict[str, Any] = {}

    def refuse(route: Route) -> None:
        route.fulfill(status=refusal["status"], json=refusal["body"])

    reader.page.route("**/v1/transcripts", refuse)
    page = reader.open("/")
    for error in ANSWERS:
        refusal.update(status=error.http_status, body=error().body())
        page.get_by_label("Link to anything").fill("https://example.com/episode")
        page.get_by_role("button", name="Transcribe").click()
        shown = page.get_by_role("alert").filter(has_text=known[error.code]["text"] or error().message)
        shown.wait_for()

        assert page.get_by_label("Link to anything").input_value() == "https://example.com/episode"
        assert page.evaluate("document.activeElement.id") == "audio-url"
        link = known[error.code].get("href")
        assert [a.get_attribute("href") for a in shown.get_by_role("link").all()] == ([link] if link else [])


def test_the_page_retries_while_the_service_is_busy(browser: Browser, played: PlayedPages) -> None:
    with visitor(browser, played.url) as one:
        answers = [errors.QueueBusy(retry_after_seconds=5.0), None]

        def answer(route: Route) -> None:
            error = answers.pop(0) if route.request.method == "POST" else None
            if error is None:
                route.continue_()
            else:
                route.fulfill(status=error.http_status, json=error.body())

        one.page.clock.install()
        one.page.route("**/v1/transcripts", answer)
        page = one.open("/")
        page.get_by_label("Link to anything").fill("https://example.com/busy.mp3")
        page.get_by_label("Link to anything").press("Enter")
        page.get_by_text("Try again in 5 seconds. This page retries by itself.").wait_for()
        page.clock.fast_forward(5000)
        page.wait_for_url("**/t/tr_*")

        assert answers == []
    played.complete(played.portal.call(played.world.worker.start))


def test_without_a_connection_the_link_stays_and_the_page_says_so(reader: Visitor) -> None:
    page = reader.open("/")
    reader.context.set_offline(offline=True)
    page.get_by_label("Link to anything").fill("https://example.com/episode")
    page.get_by_label("Link to anything").press("Enter")
    page.get_by_role("alert").filter(has_text="The service can't be reached").wait_for()

    assert page.get_by_label("Link to anything").input_value() == "https://example.com/episode"
    assert page.get_by_role("button", name="Transcribe").is_enabled()


def test_the_lock_says_why_a_preview_cannot_be_continued(reader: Visitor, played: PlayedPages) -> None:
    job_id = played.begin()
    played.say(job_id, "hello and welcome")
    played.complete(job_id)
    key = played.create_key()

    def refuse(route: Route) -> None:
        error = errors.InsufficientCredits()
        route.fulfill(status=error.http_status, json=error.body())

    page = reader.open(f"/t/{job_id}")
    page.get_by_role("button", name="I have a key").click()
    page.get_by_label("API key", exact=True).fill(key)
    page.route("**/v1/transcripts", refuse)
    page.get_by_role("button", name="Use this key").click()
    page.get_by_role("alert").filter(has_text="The credits are used up.").wait_for()

    assert page.get_by_role("link", name="See the usage").get_attribute("href") == "/usage"
    assert page.get_by_role("button", name="Transcribe all of it").is_enabled()


def test_text_is_shown_as_text_whatever_is_in_it(
    browser: Browser, reader: Visitor, played: PlayedPages
) -> None:
    job_id = played.begin()
    played.find(job_id, title=HOSTILE, podcast=f"\u202e{HOSTILE}", reason=HOSTILE)
    played.say(job_id, HOSTILE, UNBROKEN, HEBREW)
    page = reader.open(f"/t/{job_id}")
    page.locator("#job-lines li").nth(2).wait_for()

    assert reader.lines() == [HOSTILE, UNBROKEN, HEBREW]
    assert page.locator("h1").inner_text() == HOSTILE
    assert page.title() == f"{HOSTILE} · Stenobird"
    assert page.locator("main img, main script").count() == 0
    directions = page.locator("#job-lines p").evaluate_all(
        "all => all.map(p => getComputedStyle(p).direction)"
    )
    assert directions == ["ltr", "ltr", "rtl"]
    reader.check_looks("hostile text")

    played.complete(job_id)
    reader.wait_done()
    page = reader.open("/")
    assert page.locator("#recent-list a").all_inner_texts() == [HOSTILE]

    with visitor(browser, played.url, width=360, scripts=False) as one:
        page = one.open(f"/t/{job_id}")
        assert page.locator(".lines p").all_inner_texts() == [HOSTILE, UNBROKEN, HEBREW]
        assert one.overflow_pixels() <= 0


def test_without_scripts_everything_public_is_readable(browser: Browser, played: PlayedPages) -> None:
    with visitor(browser, played.url, width=360, scripts=False) as one:
        page = one.open("/")
        page.locator("noscript p").wait_for()
        page.get_by_role("button", name="Transcribe").click()
        page.get_by_text("Paste a link first.").wait_for()
        page.get_by_label("Link to anything").fill("https://example.com/show/episode.mp3")
        page.get_by_role("button", name="Transcribe").click()
        page.locator("noscript p", has_text="This page reloads by itself").wait_for()
        job_id = played.portal.call(played.world.worker.start)
        played.say(job_id, "hello and welcome")
        played.complete(job_id)
        page.locator(".lines p").wait_for()

        assert page.locator(".lines p").all_inner_texts() == ["hello and welcome"]
        with page.expect_download() as download:
            page.get_by_role("link", name="srt").click()
        assert download.value.suggested_filename.endswith(".srt")
        page.goto(f"{played.url}/usage")
        page.locator("noscript p", has_text="This page needs scripts").wait_for()


def test_a_three_hour_transcript_stays_fast_and_follows_the_end(
    browser: Browser, played: PlayedPages
) -> None:
    job_id = played.begin()
    played.say(job_id, *(f"line {n} of a long talk about birds that write" for n in range(LINES)))
    with visitor(browser, played.url, height=800) as one:
        session = one.context.new_cdp_session(one.page)
        session.send("Performance.enable")
        page = one.open(f"/t/{job_id}")
        page.locator("#job-lines li").nth(LINES - 1).wait_for(state="attached")
        metrics = {row["name"]: row["value"] for row in session.send("Performance.getMetrics")["metrics"]}
        assert 0 < metrics["LayoutCount"] < MAX_LAYOUTS
        assert session.send("Memory.getDOMCounters")["nodes"] < MAX_NODES

        # A visitor who opens a running transcript sees its end, and stays there.
        _wait_in_view(one, LINES - 1)
        played.say(job_id, "the newest line")
        _wait_in_view(one, LINES)
        spoken = page.locator("#job-said").inner_text()
        assert "line 17 of" not in spoken

        page.mouse.move(400, 400)
        page.mouse.wheel(0, -900)
        page.wait_for_function("() => innerHeight + scrollY < document.documentElement.scrollHeight - 500")
        there = page.evaluate("scrollY")
        played.say(job_id, "a line that nobody waits for")
        page.get_by_role("button", name="New lines below").wait_for()
        assert page.evaluate("scrollY") == pytest.approx(there, abs=60)

        page.get_by_role("button", name="New lines below").click()
        _wait_in_view(one, LINES + 1)
        page.get_by_role("button", name="New lines below").wait_for(state="hidden")
        page.emulate_media(media="print")
        assert page.locator("#job-lines li").nth(100).is_visible()
        assert page.get_by_role("navigation", name="Main").is_hidden()
        assert page.locator("#job-side, #job-tools").is_hidden()
        played.complete(job_id)


def test_screen_readers_read_a_new_line_once(reader: Visitor, played: PlayedPages) -> None:
    job_id = played.begin()
    played.say(job_id, *(f"line {n}" for n in range(8)))
    page = reader.open(f"/t/{job_id}")
    page.locator("#job-said").get_by_text("8 lines").wait_for()
    played.say(job_id, "the ninth line")
    page.locator("#job-said").get_by_text("the ninth line").wait_for()

    assert page.locator("#job-said p").all_inner_texts() == ["8 lines", "the ninth line"]
    assert page.get_by_role("log").count() == 1
    in_a_live_region = "e => Boolean(e.closest('[aria-live], [role=log], [role=status], [role=alert]'))"
    assert page.locator("#job-lines").evaluate(in_a_live_region) is False
    played.complete(job_id)
    reader.wait_done()
    assert page.locator("#job-said").inner_text() == ""


def test_a_silent_connection_is_replaced(reader: Visitor, played: PlayedPages) -> None:
    job_id = played.begin()
    played.say(job_id, "before the silence")
    # The page's clock is stopped, so that no ping of the service counts as activity.
    reader.page.clock.install()
    page = reader.open(f"/t/{job_id}")
    page.locator("#job-lines li").wait_for()
    with page.expect_request("**/events") as again:
        page.clock.fast_forward(45_000)
        page.get_by_text("The connection was lost").wait_for()
        page.clock.fast_forward(1_000)

    assert again.value.headers["last-event-id"] == "3"
    played.say(job_id, "after the silence")
    page.locator("#job-lines li").nth(1).wait_for()
    assert reader.lines() == ["before the silence", "after the silence"]
    assert page.get_by_text("The connection was lost").count() == 0
    played.complete(job_id)
    reader.wait_done()


def test_events_are_parsed_wherever_the_stream_is_split(reader: Visitor) -> None:
    page = reader.open("/")
    frames = (
        'retry: 2000\n: ping\nid: 1\nevent: status\ndata: {"a": "ä"}\n\n'
        "id: 2\r\ndata:x\r\ndata: y\r\n\r\nid: 3\ndata: cut off"
    )
    read = page.evaluate(
        """async text => {
            const { eventsOf } = await import("/static/app/events.js");
            const bytes = new TextEncoder().encode(text), results = new Set();
            for (let size = 1; size <= bytes.length; size += 1) {
                const stream = new ReadableStream({ start(controller) {
                    for (let at = 0; at < bytes.length; at += size) {
                        controller.enqueue(bytes.slice(at, at + size));
                    }
                    controller.close();
                } });
                const events = [];
                for await (const event of eventsOf(stream)) events.push(event);
                results.add(JSON.stringify(events));
            }
            return [...results];
        }""",
        frames,
    )

    assert [json.loads(events) for events in read] == [
        [
            {"id": "1", "event": "status", "data": '{"a": "ä"}'},
            {"id": "2", "event": "message", "data": "x\ny"},
        ]
    ]


def test_focus_is_never_lost_to_a_control_that_goes_away(browser: Browser, played: PlayedPages) -> None:
    key = played.create_key()
    with visitor(browser, played.url, key=key) as one:
        job_id = played.begin(key=key)
        played.say(job_id, "hello")
        page = one.open(f"/t/{job_id}")
        page.locator("#job-lines li").wait_for()
        page.get_by_role("button", name="Stop").focus()
        with page.expect_response(lambda answer: answer.request.method == "DELETE"):
            page.keyboard.press("Enter")
        played.portal.call(played.world.worker.end_cancelled, job_id)
        one.wait_done("Stopped before it was finished")
        assert page.evaluate("document.activeElement.id") == "job-title"

        job_id = played.begin(key=key)
        played.say(job_id, "hello")
        played.complete(job_id)
        page = one.open(f"/t/{job_id}")
        one.wait_done()
        page.get_by_role("button", name="Share").click()
        page.get_by_label("Anyone with this link").wait_for()
        assert page.evaluate("document.activeElement.id") == "job-link-field"
        page.get_by_role("button", name="Revoke all links").click()
        page.get_by_text("The links are revoked").first.wait_for()
        assert page.evaluate("document.activeElement.id") == "job-share"


def test_back_restores_the_position_and_the_missed_lines(whole_browser: Browser, played: PlayedPages) -> None:
    finished, running = played.begin(), played.begin()
    played.say(finished, *(f"line {n}" for n in range(200)))
    played.complete(finished)
    played.say(running, "before")
    with visitor(whole_browser, played.url, height=700) as one:
        page = one.open(f"/t/{finished}")
        one.wait_done()
        page.evaluate("scrollTo(0, 2500)")
        page.goto(f"{played.url}/docs")
        page.go_back(wait_until="commit")
        page.wait_for_function("() => scrollY === 2500")
        assert len(one.lines()) == 200

        page = one.open("/")
        page.get_by_label("Link to anything").fill("https://example.com/half-typed")
        page.goto(f"{played.url}/t/{running}")
        page.locator("#job-lines li").wait_for()
        page.goto(f"{played.url}/docs")
        played.say(running, "after")
        page.go_back(wait_until="commit")
        page.locator("#job-lines li").nth(1).wait_for()
        assert one.lines() == ["before", "after"]
        page.go_back(wait_until="commit")
        page.locator(f"#recent-list a[href='/t/{running}']").wait_for()
        assert page.get_by_label("Link to anything").input_value() == "https://example.com/half-typed"
    played.complete(running)


def test_a_link_can_be_pasted_anywhere_and_a_key_added(browser: Browser, played: PlayedPages) -> None:
    with visitor(browser, played.url) as one:
        one.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = one.open("/")
        page.evaluate("navigator.clipboard.writeText(' https://example.com/episode ')")
        page.locator("h1").click()
        page.keyboard.press("Control+v")
        field = page.get_by_label("Link to anything")
        assert field.input_value() == "https://example.com/episode"
        assert page.get_by_text("are free, without an account").is_visible()

        one.use_key(played.create_key())
        assert field.input_value() == "https://example.com/episode"
        assert page.get_by_text("its minutes are billed").is_visible()
        page.get_by_role("button", name="Key …").click()
        page.get_by_role("button", name="Forget it").click()
        assert page.get_by_text("are free, without an account").is_visible()
        assert page.evaluate("sessionStorage.getItem('stenobird.key')") is None


def test_the_chart_is_drawn_for_the_width_it_has(browser: Browser, played: PlayedPages) -> None:
    with visitor(browser, played.url, width=1280, key=played.create_key()) as one:
        page = one.open("/usage")
        page.get_by_role("img", name="minutes in 30 days").wait_for()
        for width in (1280, 360):
            page.set_viewport_size({"width": width, "height": 740})
            page.wait_for_function(
                "() => document.querySelector('.chart svg').viewBox.baseVal.width === "
                "document.querySelector('.chart').clientWidth"
            )
            label = page.locator(".chart text").first.bounding_box()
            assert label is not None
            assert label["height"] >= 12, width
        steps = page.evaluate(
            "async () => { const { steps } = await import('/static/app/chart.js');"
            " return [0, 1, 3, 5, 37, 100, 86400].map(most => Object.values(steps(most))); }"
        )
        # Never a fraction of a minute, never more than four lines above zero.
        assert steps == [[1, 4], [1, 4], [1, 4], [2, 8], [10, 40], [50, 200], [50000, 200000]]


def test_pages_fit_at_double_text_size(browser: Browser, played: PlayedPages) -> None:
    job_id = played.begin()
    played.find(job_id, title="An episode whose title is not short", podcast="The White Turtle Show")
    played.say(job_id, "hello and welcome back to the white turtle show", UNBROKEN)
    played.complete(job_id)
    with visitor(browser, played.url, width=640) as one:
        for path in ("/", f"/t/{job_id}", "/pricing", "/docs", "/usage", "/nothing"):
            page = one.open(path)
            page.evaluate("document.documentElement.style.fontSize = '200%'")
            assert one.overflow_pixels() <= 0, path


def test_forced_colours_leave_no_text_on_its_own_colour(browser: Browser, played: PlayedPages) -> None:
    job_id = played.begin()
    played.say(job_id, "hello")
    played.complete(job_id)
    with visitor(browser, played.url) as one:
        one.page.emulate_media(forced_colors="active")
        page = one.open(f"/t/{job_id}")
        one.wait_done()
        for selector in (".primary", ".lines p", ".state", ".eyebrow", ".downloads .button"):
            colour = page.locator(selector).first.evaluate("e => getComputedStyle(e).color")
            assert colour in {"rgb(0, 0, 0)", "rgb(0, 0, 159)"}, selector
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_transcript_pages_have_link_previews_and_are_not_indexed(
    played: PlayedPages,
) -> None:
    job_id = played.begin()
    played.find(job_id, title='Birds & "pens"')
    played.say(job_id, *("hello and welcome back to the white turtle show" for _ in range(9)))
    played.complete(job_id)
    with httpx.Client(base_url=played.url, trust_env=False) as http:
        page = http.get(f"/t/{job_id}").text
        home = http.get("/").text

        assert '<meta property="og:title" content="Birds &amp; &#34;pens&#34; · Stenobird">' in page
        assert '<meta property="og:type" content="article">' in page
        description = page.partition('<meta property="og:description" content="')[2].partition('"')[0]
        assert description.startswith("hello and welcome back")
        assert description.endswith(" …")
        assert len(description) <= 200
        assert '<meta name="robots" content="noindex">' in page
        assert "noindex" not in home
        image = home.partition('<meta property="og:image" content="')[2].partition('"')[0]
        card = http.get(image)
        assert card.headers["content-type"] == "image/png"
        assert card.content.startswith(b"\x89PNG")


def _wait_in_view(one: Visitor, line: int) -> None:
    one.page.wait_for_function(
        """line => {
            const box = document.querySelectorAll("#job-lines li")[line]?.getBoundingClientRect();
            return box && box.top >= 0 && box.bottom <= innerHeight;
        }""",
        arg=line,
    )
