"""The real service with the fixture model, and a real Chromium."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from stenobird.demo import CLIP_PATH
from tests.support.browser import Visitor, chromium, chromium_path, running, visitor, whole_chromium_path
from tests.support.media_server import Resource, ThreadedMediaServer
from tests.support.played_pages import PlayedPages, played_pages
from tests.support.server_process import ServerProcess
from tests.support.web_world import web_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser

    from tests.support.media_server import Handler, MediaRequest, MediaServer

PAGE_WITHOUT_AUDIO = Resource(
    b"<!doctype html><title>Words only</title><p>No audio.", content_type="text/html"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for the tests of a module: while it runs, no other event loop can run in this thread."""
    path = chromium_path()
    if path is None:
        pytest.skip("PAGES NOT TESTED: no Chromium here; install the package chromium-headless-shell")
    with chromium(path) as one:
        yield one


@pytest.fixture
def whole_browser(browser: Browser) -> Iterator[Browser]:
    """A Chromium that keeps pages for the Back button, which the headless shell does not."""
    path = whole_chromium_path()
    if path is None:
        pytest.skip("PAGES NOT TESTED: the headless shell keeps none; install the package chromium")
    with running(browser.browser_type, path) as one:
        yield one


def _for_no_browser(request: MediaRequest) -> Resource:
    if "sec-fetch-dest" in request.headers:
        return Resource(b"not for other pages", status=403, content_type="text/plain")
    return Resource(CLIP_PATH)


@pytest.fixture(scope="module")
def media() -> Iterator[MediaServer]:
    """Media on loopback: a 70 s clip, also one that browsers may not play, and a page."""
    resources: dict[str, Resource | Handler] = {
        "/clip.mp3": Resource(CLIP_PATH),
        "/guarded.mp3": _for_no_browser,
        "/page": PAGE_WITHOUT_AUDIO,
    }
    with ThreadedMediaServer(resources) as server:
        yield server


@dataclass(frozen=True)
class HalfSent:
    """Three minutes of speech at `url`, whose second half is sent after `release`."""

    url: str
    release: Callable[[], None]


@pytest.fixture
def half_sent(clips: Path) -> Iterator[HalfSent]:
    """Speech that is still being downloaded when a test looks at its page."""
    path = clips / "long.mp3"
    resource = Resource(path, pauses_at=path.stat().st_size // 2)
    threaded = ThreadedMediaServer({"/long.mp3": resource})
    with threaded as server:
        try:
            yield HalfSent(server.url("/long.mp3"), lambda: threaded.release(resource))
        finally:
            threaded.release(resource)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One running service for all tests of pages."""
    with ServerProcess(tmp_path_factory.mktemp("pages") / "data") as process:
        yield process


@pytest.fixture(scope="module")
def secret(service: ServerProcess) -> str:
    """A live key of that service."""
    return service.create_key()


@pytest.fixture
def guest(browser: Browser, service: ServerProcess) -> Iterator[Visitor]:
    """A visitor without a key, on a desktop."""
    with visitor(browser, service.url) as one:
        yield one


@pytest.fixture
def owner(browser: Browser, service: ServerProcess, secret: str) -> Iterator[Visitor]:
    """A visitor with a key, on the home page."""
    with visitor(browser, service.url, key=secret) as one:
        one.open("/")
        yield one


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayedPages]:
    """One service, driven by the test."""
    settings = web_settings(speaker_model="auto")
    with played_pages(tmp_path_factory.mktemp("played"), settings) as world:
        yield world
