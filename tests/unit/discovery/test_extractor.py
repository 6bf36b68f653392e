"""yt-dlp in its child, against sites that live on loopback behind the real egress policy."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stenobird.discovery.extractor.rung import (
    CHILD,
    Extractor,
    ExtractorLimits,
    advice_on,
    extractor_status,
)
from stenobird.discovery.parsing.facts import FoundSource, PageFacts
from stenobird.egress.client import EgressClient
from stenobird.egress.policy import EgressPolicy
from stenobird.egress.proxy import EgressProxy
from stenobird.errors import AudioSourceNotFound, AudioSourceUnreachable, ExtractorUnavailable
from tests.support.canary import open_canary
from tests.support.connect_proxy import ConnectProxy
from tests.support.raw_server import RawRequest, answer, open_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from anyio.abc import SocketStream

    from stenobird.egress.proxy import Grant
    from tests.support.canary import Canary

pytestmark = pytest.mark.anyio

# Two extractors of yt-dlp with small, stable pages: one names a file, the other fetches a manifest.
PLAYER = "https://player.megaphone.fm/GLT9749789991"
PLAYER_PAGE = (
    '<html><head><meta property="og:audio:title" content="The episode">'
    '<meta property="og:audio:artist" content="The Show">'
    '<meta property="og:image" content="https://x.test/a.png">'
    '</head><script>var episode = {"mediaUrl": "https://traffic.megaphone.fm/GLT9749789991.mp3",'
    ' "duration": 1998.36};</script></html>'
)
NEWS = "https://news.cgtn.com/news/2026-03-01/A-report-10REvJCewCY/index.html"
MANIFEST = (
    b'#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="en",URI="audio.m3u8"\n'
    b'#EXT-X-STREAM-INF:BANDWIDTH=800000,CODECS="avc1.4d401f,mp4a.40.2",AUDIO="a"\nvideo.m3u8\n'
)


def news_page(manifest: str) -> str:
    return (
        '<html><head><meta property="og:title" content="A report"></head>'
        f'<span class="date">01-Mar-2026</span><div data-video ="{manifest}"></div></html>'
    )


class Site:
    """Serves `pages` (path to body); a path in `silent` is never answered."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.silent: set[str] = set()
        self.asked: list[str] = []
        self.waiting = asyncio.Event()

    async def handle(self, request: RawRequest, stream: SocketStream) -> None:
        self.asked.append(request.target)
        if request.target in self.silent:
            self.waiting.set()
            await asyncio.Event().wait()
        body = self.pages.get(request.target)
        kind = {"Content-Type": "text/html; charset=utf-8"}
        await stream.send(answer(404 if body is None else 200, body or b"", kind))


class World:
    """The site behind its https names, and an extractor that can reach it through the policy alone."""

    def __init__(self, site: Site, proxy: EgressProxy, authorities: Path) -> None:
        self.site = site
        self.proxy = proxy
        self.authorities = authorities

    def extractor(self, **more: Any) -> Extractor:
        return Extractor(**{"proxy": self.proxy, "authorities": self.authorities, **more})


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    import ipaddress  # noqa: PLC0415  # only here

    site = Site()
    async with open_server(site.handle) as server, ConnectProxy() as internet:
        for host in ("player.megaphone.fm", "news.cgtn.com", "video.cgtn.com"):
            internet.route(host, server.port)
        policy = EgressPolicy([ipaddress.ip_network("127.0.0.1/32")], None)
        async with (
            EgressClient(policy, proxy=internet.url, ssl_context=internet.client_context()) as client,
            EgressProxy(client) as proxy,
        ):
            yield World(site, proxy, internet.write_ca(tmp_path / "authorities.pem"))


@pytest.fixture
async def canary() -> AsyncIterator[Canary]:
    async with open_canary("127.0.0.2") as canary:
        yield canary
        assert await canary.settle() == 0


def children() -> set[str]:
    """The processes that this one has started and that still run."""
    tasks = Path(f"/proc/{os.getpid()}/task")
    return {pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()}


# --- what it finds -----------------------------------------------------------------------------------------


async def test_a_supported_site_gives_the_file(world: World) -> None:
    world.site.pages["/GLT9749789991"] = PLAYER_PAGE.encode()
    found = await world.extractor().extract([PLAYER])
    assert found is not None
    assert [form.url for form in found.formats] == ["https://traffic.megaphone.fm/GLT9749789991.mp3"]
    assert (found.title, found.duration, found.extractor_key) == ("The episode", 1998.36, "Megaphone")


async def test_a_manifest_is_read_through_the_proxy(world: World) -> None:
    world.site.pages["/news/2026-03-01/A-report-10REvJCewCY/index.html"] = news_page(
        "https://video.cgtn.com/a.m3u8"
    ).encode()
    world.site.pages["/a.m3u8"] = MANIFEST
    found = await world.extractor().extract([NEWS])
    assert found is not None
    assert {form.url for form in found.formats} == {
        "https://video.cgtn.com/audio.m3u8",
        "https://video.cgtn.com/video.m3u8",
    }


async def test_an_unsupported_site_is_skipped_without_a_request(world: World) -> None:
    assert await world.extractor().extract(["https://news.example/article.html"]) is None
    assert world.site.asked == []


async def test_the_first_supported_address_is_used(world: World) -> None:
    world.site.pages["/GLT9749789991"] = PLAYER_PAGE.encode()
    found = await world.extractor().extract(["https://news.example/article.html", PLAYER])
    assert found is not None


class _Search:
    """As much of a search as the rung looks at."""

    def __init__(self, *iframes: str) -> None:
        self._iframes = iframes

    async def page(self, url: str) -> PageFacts:
        return PageFacts(url, url, iframes=self._iframes)


class _Recorder(Extractor):
    """An extractor that only notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    async def extract(self, urls: Any) -> None:
        self.asked.append(list(urls))


async def test_only_the_single_audio_player_of_a_page_is_extracted() -> None:
    player = "https://w.soundcloud.com/player/?url=https%3A//api.soundcloud.com/tracks/1"
    recorder = _Recorder()
    page = "https://blog.example/post"
    for iframes in ((player,), (player, f"{player}2"), ("https://www.youtube.com/embed/dQw4w9WgXcQ",)):
        assert await recorder.try_(_Search(*iframes), page) == FoundSource()  # type: ignore[arg-type]
    assert recorder.asked == [[page, player], [page], [page]]


# --- what it says when there is nothing --------------------------------------------------------------------


async def test_a_missing_page_is_reported_as_missing(world: World) -> None:
    with pytest.raises(AudioSourceNotFound, match="no recording"):
        await world.extractor().extract([PLAYER])


async def test_a_page_that_the_extractor_can_not_read_says_how_to_update(world: World) -> None:
    world.site.pages["/GLT9749789991"] = b"<html>a new layout</html>"
    with pytest.raises(ExtractorUnavailable, match="pip install -U yt-dlp"):
        await world.extractor().extract([PLAYER])


async def test_without_yt_dlp_it_says_what_to_do(world: World, tmp_path: Path) -> None:
    bare = tmp_path / "python"  # -S: no site-packages, so there is no yt-dlp
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(ExtractorUnavailable, match="pip install -U yt-dlp"):
        await world.extractor(python=str(bare)).extract([PLAYER])


async def test_an_interpreter_that_can_not_start_is_an_error(world: World) -> None:
    with pytest.raises(ExtractorUnavailable, match="could not be started"):
        await world.extractor(python="/nonexistent/python").extract([PLAYER])


# --- what it can't do --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "manifest",
    [
        "http://127.0.0.2:{port}/a.m3u8",
        "https://[::ffff:127.0.0.2]:{port}/a.m3u8",
        "http://0x7f.2:{port}/a.m3u8",
        "file:///etc/passwd#.m3u8",
    ],
)
async def test_a_manifest_at_a_forbidden_address_is_not_opened(
    world: World, canary: Canary, manifest: str
) -> None:
    page = news_page(manifest.format(port=canary.port))
    world.site.pages["/news/2026-03-01/A-report-10REvJCewCY/index.html"] = page.encode()
    with pytest.raises((AudioSourceUnreachable, AudioSourceNotFound, ExtractorUnavailable)) as caught:
        await world.extractor().extract([NEWS])
    assert "root:" not in caught.value.message


@pytest.mark.parametrize(
    ("attempt", "refusal"),
    [
        ("open('/etc/passwd')", "read files"),
        ("open('/proc/self/environ', 'rb')", "read files"),
        ("open('notes.txt', 'w')", "write files"),
        ("open(sys.prefix + '/notes.txt', 'a')", "write files"),
        ("os.open('/tmp', os.O_RDWR | os.O_TMPFILE)", "write files"),
        ("os.listdir('/')", "list folders"),
        ("os.scandir(sys.prefix + '/..')", "list folders"),
        ("socket.create_connection(('127.0.0.2', {port}))", "look up names"),
        ("socket.socket().connect(('127.0.0.2', {port}))", "connect"),
        ("socket.socket().connect_ex(('127.0.0.1', {port}))", "connect"),
        ("socket.socket(socket.AF_UNIX).connect('/run/docker.sock')", "connect"),
        ("socket.getaddrinfo('internal.example', 80)", "look up names"),
        ("socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.2', {port}))", "socket.sendto"),
        ("subprocess.run(['/bin/true'])", "subprocess.Popen"),
        ("os.system('true')", "os.system"),
        ("os.posix_spawn('/bin/true', ['true'], {{}})", "os.posix_spawn"),
        ("os.fork()", "os.fork"),
        ("os.execv('/bin/true', ['true'])", "os.exec"),
        ("os.remove('/tmp/x')", "os.remove"),
        ("urllib.request.urlopen('file:///etc/passwd')", "read files"),
        ("ctypes.CDLL('libc.so.6')", "ctypes.dlopen"),
    ],
)
async def test_the_guard_refuses_what_extraction_does_not_need(
    canary: Canary, tmp_path: Path, attempt: str, refusal: str
) -> None:
    code = f"""
import ctypes, os, runpy, socket, subprocess, sys, urllib.request
guard = runpy.run_path({str(CHILD)!r})["_Guard"]
sys.addaudithook(guard("http://user:token@127.0.0.1:9", []))
try:
    {attempt.format(port=canary.port)}
except OSError as error:
    sys.exit(str(error))
"""
    ran = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-I", "-B", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert (ran.returncode, refusal in ran.stderr) == (1, True), ran.stderr


def test_the_child_is_limited_and_guarded_before_it_loads_yt_dlp(tmp_path: Path) -> None:
    code = f"""
import os, runpy, sys
def note(event, args):
    if event in {{"sys.addaudithook", "resource.setrlimit"}} or (event, args[:1]) == ("import", ("yt_dlp",)):
        os.write(2, f"{{event}} ".encode())
sys.addaudithook(note)
runpy.run_path({str(CHILD)!r}, run_name="__main__")
"""
    request = {
        "limits": {"FSIZE": 0, "NOFILE": 64},
        "proxy": "http://a:b@127.0.0.1:9",
        "readable": [],
        "urls": ["https://news.example/"],
    }
    ran = subprocess.run(
        [sys.executable, "-I", "-B", "-c", code, str(os.getpid())],
        input=json.dumps(request).encode(),
        capture_output=True,
        cwd=tmp_path,
        check=True,
    )
    assert ran.stderr.decode().split() == [
        "resource.setrlimit",
        "resource.setrlimit",
        "resource.setrlimit",
        "sys.addaudithook",
        "import",
    ]
    assert json.loads(ran.stdout) == {"outcome": "unsuitable"}


async def test_the_child_does_not_inherit_the_environment(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STENOBIRD_DATABASE_URL", "secret")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.2:1")
    seen = tmp_path / "environment"
    spy = tmp_path / "python"
    spy.write_text(f'#!/bin/sh\nexport -p > "{seen}"\nexec "{sys.executable}" "$@"\n')
    spy.chmod(0o755)
    assert await world.extractor(python=str(spy)).extract(["https://news.example/"]) is None
    lines = seen.read_text().splitlines()
    names = {line.removeprefix("export ").split("=")[0] for line in lines} - {"PWD", "OLDPWD", "SHLVL", "_"}
    assert names == {"PATH", "HOME", "TMPDIR", "LANG", "YTDLP_NO_PLUGINS", "NO_PROXY", "SSL_CERT_FILE"}
    assert "export PATH='/nonexistent'" in lines or 'export PATH="/nonexistent"' in lines


# --- bounds ------------------------------------------------------------------------------------------------


async def test_the_child_is_killed_at_the_deadline(world: World) -> None:
    world.site.silent.add("/GLT9749789991")
    before = children()
    limits = ExtractorLimits(wall_seconds=2.0)
    with pytest.raises(AudioSourceUnreachable, match="2 s"):
        await world.extractor(limits=limits).extract([PLAYER])
    assert children() <= before


async def test_a_cancelled_extraction_leaves_no_child(world: World) -> None:
    world.site.silent.add("/GLT9749789991")
    before = children()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.extractor().extract([PLAYER]))
        await world.site.waiting.wait()
        assert children() - before
        task.cancel()
    assert task.cancelled()
    assert children() <= before


async def test_an_answer_larger_than_allowed_is_not_read_to_its_end(world: World) -> None:
    world.site.pages["/GLT9749789991"] = PLAYER_PAGE.encode()
    with pytest.raises(ExtractorUnavailable, match="limits"):
        await world.extractor(limits=ExtractorLimits(answer_bytes=64)).extract([PLAYER])


async def test_a_child_that_needs_more_memory_than_allowed_ends_with_an_error(world: World) -> None:
    limits = ExtractorLimits(address_space_bytes=48 * 1024 * 1024)
    with pytest.raises(ExtractorUnavailable):
        await world.extractor(limits=limits).extract([PLAYER])


async def test_a_busy_child_ends_at_its_cpu_limit(world: World) -> None:
    with pytest.raises(ExtractorUnavailable, match="exit status -"):
        await world.extractor(limits=ExtractorLimits(cpu_seconds=0)).extract([PLAYER])


async def test_a_page_without_end_is_cut_off_by_the_proxys_cap(world: World) -> None:
    world.site.pages["/GLT9749789991"] = PLAYER_PAGE.encode() + b" " * 2_000_000
    limits = ExtractorLimits(network_bytes=500_000)
    with pytest.raises((AudioSourceUnreachable, ExtractorUnavailable)):
        await world.extractor(limits=limits).extract([PLAYER])


async def test_the_proxy_url_is_revoked_afterwards(world: World) -> None:
    class Noting:
        grants: list[Grant] = []  # noqa: RUF012  # a list for the one instance

        @contextmanager
        def granted(self, byte_cap: int) -> Iterator[Grant]:
            with world.proxy.granted(byte_cap) as grant:
                assert grant.take(0)
                self.grants.append(grant)
                yield grant

    world.site.pages["/GLT9749789991"] = PLAYER_PAGE.encode()
    noting = Noting()
    await world.extractor(proxy=noting).extract([PLAYER])
    assert [grant.take(0) for grant in noting.grants] == [False]


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process whose extraction hangs, because its proxy never answers; it prints the child's pid."""
    code = """
import asyncio, socket
from contextlib import contextmanager
from pathlib import Path
from stenobird.discovery.extractor.rung import Extractor
from stenobird.egress.proxy import Grant

listener = socket.create_server(("127.0.0.1", 0))

class Proxy:
    @contextmanager
    def granted(self, byte_cap):
        yield Grant(f"http://x:y@127.0.0.1:{listener.getsockname()[1]}", "y", byte_cap)

async def main():
    async with asyncio.TaskGroup() as group:
        group.create_task(Extractor(Proxy()).extract(["https://player.megaphone.fm/GLT9749789991"]))
        listener.setblocking(False)
        await asyncio.get_running_loop().sock_accept(listener)
        tasks = Path("/proc/self/task")
        pids = [pid for task in tasks.iterdir() for pid in (task / "children").read_text().split()]
        print(*pids, flush=True)

asyncio.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        yield process
        process.kill()


def test_the_child_dies_with_its_parent(hanging: subprocess.Popen[str]) -> None:
    assert hanging.stdout is not None
    pid = int(hanging.stdout.readline())
    watched = os.pidfd_open(pid)
    try:
        hanging.send_signal(signal.SIGKILL)
        ended, _, _ = select.select([watched], [], [], 20.0)
        assert ended
    finally:
        os.close(watched)


def test_a_request_of_another_parent_is_not_served(tmp_path: Path) -> None:
    request = {"limits": {}, "proxy": "http://127.0.0.1:9", "readable": [], "urls": []}
    ran = subprocess.run(
        [sys.executable, "-I", "-B", str(CHILD), "1"],
        input=json.dumps(request).encode(),
        capture_output=True,
        cwd=tmp_path,
        check=True,
    )
    assert ran.stdout == b""


# --- for `doctor` ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "advice"),
    [
        ("2026.10.26", ""),
        ("2026.09.01", ""),
        ("2026.8.27", ""),
        ("2026.8.26", "yt-dlp is 61 days old"),
        ("2026.8.1.123456", "yt-dlp is 86 days old"),
        ("2025.10.22", "yt-dlp is 369 days old"),
        ("2027.01.01", ""),
        ("2026.13.01", "the age of yt-dlp 2026.13.01 is unknown"),
        ("nightly", "the age of yt-dlp nightly is unknown"),
    ],
)
def test_the_age_follows_from_the_version(version: str, advice: str) -> None:
    given = advice_on(version, date(2026, 10, 26))
    assert given.partition(",")[0] == advice
    assert ("pip install -U yt-dlp" in given) == ("days old" in advice)


def test_the_installed_version_is_read_without_loading_yt_dlp() -> None:
    code = (
        "import sys, datetime; from stenobird.discovery.extractor.rung import extractor_status;"
        "print(extractor_status(datetime.date(2026, 11, 22))[0], 'yt_dlp' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [extractor_status(date(2026, 11, 22))[0], "False"]
