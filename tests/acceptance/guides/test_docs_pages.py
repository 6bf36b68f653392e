"""The guides as a service shows them: every page fits, reads well, and leads only to pages that exist."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import httpx
import pytest

from stenobird.web.site.templating import guides
from tests.support.browser import chromium, chromium_path, visitor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

    from tests.support.server_process import ServerProcess

ALL = tuple(guide.name for guide in guides())
LOOKS: tuple[tuple[int, Literal["light", "dark"], tuple[str, ...]], ...] = (
    (360, "light", ALL),
    (1280, "dark", ("quickstart", "webhooks")),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium_path()
    if path is None:
        pytest.skip("PAGES NOT TESTED: no Chromium here; install the package chromium-headless-shell")
    with chromium(path) as running:
        yield running


@pytest.mark.parametrize(("width", "scheme", "names"), LOOKS)
def test_guides_fit_and_have_no_finding(
    browser: Browser,
    server: ServerProcess,
    width: int,
    scheme: Literal["light", "dark"],
    names: tuple[str, ...],
) -> None:
    with visitor(browser, server.url, width=width, scheme=scheme) as one:
        for guide in (guide for guide in guides() if guide.name in names):
            page = one.open(f"/docs/{guide.name}")

            assert one.overflow_pixels() <= 0, guide.name
            assert one.findings() == [], guide.name
            assert page.locator("h1").all_inner_texts() == [guide.title]
            assert page.locator(".contents [aria-current=page]").all_inner_texts() == [guide.title]
        assert one.foreign_requests() == []


def test_a_reader_goes_from_the_docs_to_a_guide_and_on(browser: Browser, server: ServerProcess) -> None:
    with visitor(browser, server.url) as one:
        page = one.open("/docs")
        page.get_by_role("link", name="Quickstart", exact=True).first.click()
        page.wait_for_url("**/docs/quickstart")

        commands = page.locator("pre[aria-label=Commands]").first.inner_text()
        assert commands.startswith(f"curl -s {server.url}/v1/transcripts")

        page.locator("article").get_by_role("link", name="Receive webhooks").click()
        page.wait_for_url("**/docs/webhooks")
        assert page.locator("article table").count() >= 1


def test_links_of_the_guides_lead_to_pages_and_headings(server: ServerProcess) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as http:
        bodies = {f"/docs/{guide.name}": http.get(f"/docs/{guide.name}").text for guide in guides()}
        dead = []
        for address, body in bodies.items():
            for target in re.findall(r"<article>.*</article>", body, re.DOTALL):
                for link in re.findall(r'href="([^"]+)"', target):
                    path, _, anchor = link.partition("#")
                    if "://" in path:
                        continue
                    page = bodies.get(path) or (http.get(path).raise_for_status().text if path else body)
                    if anchor and f'id="{anchor}"' not in page:
                        dead.append((address, link))

    assert dead == []


def test_a_guide_that_is_not_there_is_not_found(server: ServerProcess) -> None:
    with httpx.Client(base_url=server.url, trust_env=False) as http:
        assert http.get("/docs/self-host").status_code == 404
        assert http.get("/docs/../config").status_code == 404
        assert "default-src 'none'" in http.get("/docs/events").headers["content-security-policy"]
