"""A real Chromium for the tests of pages: what a visitor sees and does, and what the page must never do."""

from __future__ import annotations

import importlib.resources
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, BrowserContext, BrowserType, ConsoleMessage, Page, Request

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--mute-audio",
)
TIMEOUT_MILLISECONDS = 120_000.0
"""For each step of a visitor; two slow and busy cores transcribe a minute of audio in less."""

SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")

_AXE_RULES = "only => axe.run(document, {resultTypes: ['violations'], ...only && {runOnly: only}})"
_COLOUR_RULES = ("color-contrast", "link-in-text-block")
"""The rules of axe that a colour scheme can break: ours changes nothing but colours."""


def chromium_path() -> str | None:
    """Return the path of the Chromium that is installed here, if any.

    The headless shell has the same engine but no window, and takes a third of the CPU for a visit.
    """
    return shutil.which("chromium-headless-shell") or whole_chromium_path()


def whole_chromium_path() -> str | None:
    """Return the path of a Chromium with all that its window needs, if one is installed here."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """Run a browser while the context lasts."""
    with sync_playwright() as playwright, running(playwright.chromium, path) as browser:
        yield browser


@contextmanager
def running(kind: BrowserType, path: str) -> Iterator[Browser]:
    """Run one more browser: a thread can have only one playwright."""
    browser = kind.launch(
        executable_path=path,
        args=list(ARGUMENTS),
        # People's browsers keep the pages that the Back button leads to; playwright's would not.
        ignore_default_args=["--disable-back-forward-cache"],
    )
    try:
        yield browser
    finally:
        browser.close()


@dataclass
class Visitor:
    """One person's browser on the service at `base_url`, with what went wrong and what was asked for."""

    context: BrowserContext
    base_url: str
    page: Page = field(init=False)
    complaints: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.set_default_timeout(TIMEOUT_MILLISECONDS)
        self.page = self.context.new_page()
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(f"page error: {error}"))
        self.page.on("request", self._note)

    def open(self, path: str) -> Page:
        """Open a page of the service, and return it."""
        self.page.goto(self.base_url + path)
        return self.page

    def use_key(self, secret: str) -> None:
        """Enter a key as a person would, on the page that is open."""
        self.page.get_by_role("button", name="Add key").first.click()
        self.page.get_by_label("API key", exact=True).fill(secret)
        self.page.get_by_role("button", name="Use this key").click()
        self.page.get_by_role("button", name=f"Key …{secret[-4:]}").first.wait_for()

    def transcribe(self, url: str) -> None:
        """Paste a link on the landing page and press Enter; return when its own page is shown."""
        self.page.get_by_label("Link to anything").fill(url)
        self.page.get_by_label("Link to anything").press("Enter")
        self.page.wait_for_url("**/t/tr_*")

    def wait_done(self, text: str = "Done:") -> None:
        """Return when the transcript's state begins like this."""
        self.page.locator("#job-state", has_text=text).wait_for()

    def lines(self) -> list[str]:
        """Return the transcript's lines as they are shown."""
        return self.page.locator("#job-lines p").all_inner_texts()

    def overflow_pixels(self) -> int:
        """Return by how much the page is wider than the window."""
        width: int = self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        return width

    def findings(self, *rules: str) -> list[str]:
        """Return what axe finds on the page as it is now, by these rules or all: the rule and the element."""
        if not self.page.evaluate("'axe' in window"):
            # evaluate is not bound by the page's own policy, as a script element would be.
            self.page.evaluate(
                (importlib.resources.files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
            )
        found: dict[str, Any] = self.page.evaluate(_AXE_RULES, rules or None)
        return [
            f"{row['id']}: {node['html'][:160]} ({node['failureSummary'][:200]})"
            for row in found["violations"]
            for node in row["nodes"]
        ]

    def check_looks(self, what: str) -> None:
        """Check that the page fits and that axe finds nothing: on a phone and a desktop, light and dark."""
        shown = self.page.viewport_size
        for width, height in ((360, 740), (1280, 900)):
            self.page.set_viewport_size({"width": width, "height": height})
            assert self.overflow_pixels() <= 0, (what, width)
            for scheme in SCHEMES:
                self.page.emulate_media(color_scheme=scheme)
                rules = () if scheme == "light" else _COLOUR_RULES
                assert self.findings(*rules) == [], (what, width, scheme)
        self.page.emulate_media(color_scheme=None)
        if shown is not None:
            self.page.set_viewport_size(shown)

    def foreign_requests(self) -> list[str]:
        """Return the requests that went to other servers than the service."""
        own = (self.base_url + "/", f"blob:{self.base_url}/", "data:")
        return [url for url in self.requested if not url.startswith(own)]

    def _hear(self, message: ConsoleMessage) -> None:
        # An answer of 4xx is logged by the browser itself; pages expect some of them.
        if message.type in {"error", "warning"} and "Failed to load resource" not in message.text:
            self.complaints.append(f"{message.type}: {message.text}")

    def _note(self, request: Request) -> None:
        self.requested.append(request.url)


@contextmanager
def visitor(
    browser: Browser,
    base_url: str,
    *,
    width: int = 1280,
    height: int = 900,
    scheme: Literal["light", "dark"] = "light",
    scripts: bool = True,
    key: str | None = None,
) -> Iterator[Visitor]:
    """Yield a visitor with an empty profile. A complaint (a script error, a policy) fails the test.

    `key` is used as one that was entered in this tab, which takes a second: see `use_key`.
    """
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme=scheme,
        java_script_enabled=scripts,
        reduced_motion="reduce",
        accept_downloads=True,
    )
    if key is not None:
        context.add_init_script(f"sessionStorage.setItem('stenobird.key', '{key}')")
    try:
        one = Visitor(context, base_url)
        yield one
        assert one.complaints == []
    finally:
        context.close()
