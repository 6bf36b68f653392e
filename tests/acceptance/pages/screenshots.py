"""Takes the screenshots in `docs/screenshots`, and the images that the pages use.

From the repository: python -m tests.acceptance.pages.screenshots
"""

from __future__ import annotations

import io
import tempfile
import time
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import av
from anyio.from_thread import start_blocking_portal
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from stenobird.demo import CLIP_PATH
from stenobird.ports import Clock
from stenobird.transcript import Segment, Word
from stenobird.web.site.templating import STATIC_DIR
from tests.support.browser import Visitor, chromium, chromium_path, visitor
from tests.support.fake_stripe import FakeStripe, running_stripe
from tests.support.media_server import Resource, ThreadedMediaServer
from tests.support.played_pages import PlayedPages, played_pages
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from tests.support.media_server import MediaServer

PICTURES: Final = Path(__file__).parents[3] / "docs" / "screenshots"
SIZES: Final = ((360, 740), (1280, 800))
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
COLOURS: Final = 96

_EPISODE: Final = b"""<!doctype html><title>The white turtle show</title>
<script type="application/ld+json">{"@context": "https://schema.org", "@type": "PodcastEpisode",
"name": "The little monkey of Madrid", "datePublished": "2026-11-20",
"partOfSeries": {"@type": "PodcastSeries", "name": "The White Turtle Show"},
"associatedMedia": {"@type": "AudioObject", "contentUrl": "/audio/12.mp3"}}</script>"""
_EPISODE_FACTS: Final[dict[str, Any]] = {"published": "2026-11-20", "duration_seconds": 600.0}
_TALK: Final = (
    "Hello and welcome back to the white turtle show.",
    "Today we talk about birds that write, and about the people who read what they wrote.",
    "It is a long story, and it starts with a monkey.",
    "The monkey lived in Madrid, and every morning the monkey bought a newspaper.",
    "Nobody knew why.",
) * 2
_STATION: Final = "https://radio.example.com/live"
_HALF_HEARD: Final = (
    "It starts with a monkey called *Shavonne *O'Malley.",
    "The monkey lived in Madrid, and every *mourning she bought a newspaper.",
    "Nobody knew why, and nobody asked *her *weather she *red it.",
)
_HEBREW: Final = (
    "שלום וברוכים הבאים לתוכנית.",
    "היום נדבר על ציפורים שכותבות, ועל אנשים שקוראים את מה שכתבו.",
    "זה סיפור ארוך, והוא מתחיל בקוף אחד.",
) * 3
_WORDS_ONLY: Final = b"<!doctype html><title>Words only</title><p>No audio."
_ICON_ALONE: Final = "body { margin: 0 } svg { display: block; width: 180px } rect { rx: 0 }"
_CARD_ALONE: Final = """
.top { padding-top: 2.5rem } .top nav, .foot, .ask > p, .ask-more { display: none !important }
.facts, .for-programs { display: none !important }
.brand { font-size: 2rem } .bird { width: 60px; height: 45px } main { padding-top: 4rem }
.hero h1 { font-size: 5.25rem } .flourish { display: block; left: 47.5rem; top: 1.5rem; width: 20rem }
"""


def take_all(
    browser: Browser, service: ServerProcess, media: MediaServer, stripe: FakeStripe, played: PlayedPages
) -> None:
    """Take every page in every size and scheme."""
    key, played_key = service.create_key(), played.create_key()
    for width, height in SIZES:
        for scheme in SCHEMES:
            look = f"{width}-{scheme}"
            with visitor(browser, service.url, width=width, height=height, scheme=scheme) as one:
                _take(one, look, key, media, stripe)
            with visitor(browser, played.url, width=width, height=height, scheme=scheme) as one:
                _take_played(one, look, played_key, played)


def _take(one: Visitor, look: str, key: str, media: MediaServer, stripe: FakeStripe) -> None:
    page = one.page

    def picture(name: str) -> None:
        _save(page, PICTURES / f"{name}-{look}.png")

    for name, path in (("home", "/"), ("docs", "/docs"), ("pricing", "/pricing")):
        one.open(path)
        picture(name)

    one.open("/")
    one.transcribe(media.url("/articles/words-only"))
    page.locator("#job-problem:not([hidden])").wait_for()
    picture("error")

    one.open("/")
    one.transcribe(media.url("/shows/12"))
    one.wait_done()
    page.locator("#job-lock").evaluate("lock => lock.scrollIntoView({block: 'end'})")
    picture("preview")

    one.open("/")
    one.use_key(key)
    one.transcribe(media.url("/shows/12"))
    one.wait_done()
    page.evaluate("document.querySelector('#job-audio').addEventListener('seeked', e => e.target.pause())")
    page.evaluate("scrollTo(0, 0)")
    page.locator(".time").nth(2).click()
    page.locator("#job-lines li.now").wait_for()
    if look.startswith("360"):
        page.locator("#job-tools").evaluate("tools => scrollTo(0, tools.offsetTop - 80)")
    else:
        page.evaluate("scrollTo(0, 0)")
    page.mouse.move(0, 0)
    page.locator(":focus").blur()
    picture("transcript")

    one.open("/usage")
    page.get_by_role("img", name="minutes in 30 days").wait_for()
    page.locator("#usage-jobs li").first.wait_for()
    picture("usage")

    one.open("/pricing")
    page.get_by_label("E-mail").fill(f"{look}@example.com")
    page.get_by_role("button", name="Buy an API key").click()
    page.wait_for_url(f"{stripe.url}/c/pay/cs_test_*")
    session_id = page.url.rpartition("/")[2]
    address = stripe.complete_checkout(session_id)["success_url"]
    page.goto(address.replace("{CHECKOUT_SESSION_ID}", session_id))
    page.get_by_role("button", name="Show my API key").click()
    page.wait_for_url("**/success/key")
    picture("success")


def _take_played(one: Visitor, look: str, key: str, played: PlayedPages) -> None:
    page = one.page

    def picture(name: str) -> None:
        page.mouse.move(0, 0)
        _save(page, PICTURES / f"{name}-{look}.png")

    one.open("/")
    page.get_by_text("Options").click()
    picture("options")
    one.use_key(key)

    page.clock.install()
    job_id = played.begin(key=key)
    played.find(
        job_id, title="The little monkey of Madrid", podcast="The White Turtle Show", **_EPISODE_FACTS
    )
    one.open(f"/t/{job_id}")
    played.say(job_id, *_TALK)
    page.locator("#job-pace", has_text="0:20 of").wait_for()
    page.clock.fast_forward(9_000)
    played.say(job_id, *_TALK)
    page.locator("#job-pace", has_text="left").wait_for()
    picture("running")
    played.complete(job_id)
    one.wait_done()
    page.keyboard.press("/")
    page.keyboard.type("monkey")
    page.keyboard.press("Enter")
    picture("search")
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    picture("shortcuts")
    page.keyboard.press("Escape")

    job_id = played.begin()
    played.find(job_id, title="The little monkey of Madrid", podcast="The White Turtle Show")
    played.hear(job_id, *(_half_heard(line, 6.0 * row) for row, line in enumerate(_HALF_HEARD)))
    played.complete(job_id)
    one.open(f"/t/{job_id}")
    one.wait_done()
    if look.startswith("360"):
        page.locator("#job-doubts").evaluate("legend => scrollTo(0, legend.offsetTop - 80)")
    picture("doubtful-words")

    job_id = played.begin(_STATION, key=key)
    played.find(job_id, title="Radio Turtle", live=True, at=time.time() - 42.0)
    one.open(f"/t/{job_id}")
    played.play(job_id, "The White Turtle Show: birds that write")
    played.say(job_id, *_TALK)
    played.miss(job_id, 6.25)
    played.say(job_id, *_TALK)
    page.locator("#job-lines .gap").scroll_into_view_if_needed()
    picture("live")
    played.complete(job_id)

    job_id = played.begin()
    played.find(job_id, title="סיפור ארוך", podcast="צב לבן")
    played.say(job_id, *_HEBREW)
    played.complete(job_id)
    one.open(f"/t/{job_id}")
    one.wait_done()
    if look.startswith("360"):
        page.locator("#job-tools").evaluate("tools => scrollTo(0, tools.offsetTop - 80)")
    picture("right-to-left")


def _half_heard(text: str, start: float) -> Segment:
    """Return a segment of the text, in which words with an asterisk are doubtful."""
    words = [
        Word(start + at, start + at + 0.5, f" {word.lstrip('*')}", 0.5, 0.3 if word.startswith("*") else 0.9)
        for at, word in enumerate(text.split())
    ]
    return Segment(start, start + len(words), "".join(word.text for word in words), tuple(words))


def take_icons(browser: Browser, service: ServerProcess) -> None:
    """Take the home screen icon, and the image of link previews."""
    with visitor(browser, service.url, width=180, height=180) as one:
        one.page.set_content((STATIC_DIR / "favicon.svg").read_text("utf-8"))
        one.page.add_style_tag(content=_ICON_ALONE)
        _save(one.page, STATIC_DIR / "touch-icon.png")
    with visitor(browser, service.url, width=1200, height=630) as one:
        page = one.open("/")
        # The page's policy allows only the service's styles; this bypasses it.
        page.evaluate(
            "css => { const sheet = new CSSStyleSheet(); sheet.replaceSync(css);"
            " document.adoptedStyleSheets = [sheet]; }",
            _CARD_ALONE,
        )
        _save(page, STATIC_DIR / "card.png")


def _save(page: Page, path: Path) -> None:
    """Write the page as an image with few colours, which is a third as large."""
    with av.open(io.BytesIO(page.screenshot()), "r", format="png_pipe") as picture:
        frame = next(picture.decode(video=0))
    frame.pts, second = 0, Fraction(1)
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=second)
    split, use, sink = graph.add("split"), graph.add("paletteuse", "dither=none"), graph.add("buffersink")
    palette = graph.add("palettegen", f"max_colors={COLOURS}:reserve_transparent=0")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(use, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    graph.push(frame)
    graph.push(None)
    reduced = graph.pull()
    assert isinstance(reduced, VideoFrame)
    encoder = VideoCodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = reduced.width, reduced.height, "pal8"
    encoder.time_base, encoder.options = second, {"compression_level": "9", "pred": "none"}
    path.write_bytes(b"".join(map(bytes, [*encoder.encode(reduced), *encoder.encode(None)])))


def main() -> None:
    """Run the service, the fake Stripe and a media server, and take the screenshots."""
    path = chromium_path()
    if path is None:
        raise SystemExit("There is no Chromium here; install the package chromium.")
    PICTURES.mkdir(exist_ok=True)
    stripe = FakeStripe(Clock())
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        stack.enter_context(portal.wrap_async_context_manager(running_stripe(stripe)))
        settings = {
            "STRIPE_SECRET_KEY": stripe.secret_key,
            "STRIPE_WEBHOOK_SECRET": stripe.webhook_secret,
            "STRIPE_PRICE_ID": stripe.add_price("stenobird_audio_minutes"),
            "STRIPE_API_BASE": stripe.url,
        }
        resources = {
            "/shows/12": Resource(_EPISODE, content_type="text/html"),
            "/audio/12.mp3": Resource(CLIP_PATH),
            "/articles/words-only": Resource(_WORDS_ONLY, content_type="text/html"),
        }
        media = stack.enter_context(ThreadedMediaServer(resources))
        data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "data"
        service = stack.enter_context(ServerProcess(data_dir, settings=settings))
        browser = stack.enter_context(chromium(path))
        take_icons(browser, service)
        played = stack.enter_context(played_pages(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        take_all(browser, service, media, stripe, played)


if __name__ == "__main__":
    main()
