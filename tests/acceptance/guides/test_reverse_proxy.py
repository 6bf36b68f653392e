"""nginx and Caddy with the guide's own files: words come at once, uploads pass, clients are told apart."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import httpx
import pytest

from stenobird.config import Settings
from stenobird.demo import CLIP_PATH
from tests.support.free_port import free_port
from tests.support.guides import Session, file_block
from tests.support.http_reader import EventReader, ReadEvent, joined
from tests.support.media_server import Resource, ThreadedMediaServer
from tests.support.reverse_proxy import (
    ReverseProxy,
    caddy_path,
    nginx_path,
    running_caddy,
    running_nginx,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.server_process import ServerProcess

UPLOAD_BYTES = 30_000_000
HEARD_BYTES = 300_000
"""Some 37 s of the clip's 71."""


@pytest.fixture(scope="module")
def guide(docs: Path) -> Path:
    return docs / "how-to" / "reverse-proxy.md"


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(
    request: pytest.FixtureRequest,
    guide: Path,
    server: ServerProcess,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ReverseProxy]:
    if (nginx_path() if request.param == "nginx" else caddy_path()) is None:
        pytest.skip(f"REVERSE PROXY NOT TESTED: install the package {request.param}")
    folder = tmp_path_factory.mktemp(request.param)
    upstream = f"127.0.0.1:{server.port}"
    if request.param == "nginx":
        running = running_nginx(
            file_block(guide, "stenobird.conf"), folder, port=free_port(), upstream=upstream
        )
    else:
        running = running_caddy(file_block(guide, "Caddyfile"), folder, port=free_port(), upstream=upstream)
    with running as started:
        yield started


def client(proxy: ReverseProxy, api_key: str | None = None, *, address: str = "127.0.0.1") -> httpx.Client:
    """A client of the proxy that connects from this address."""
    trust = ssl.create_default_context(cafile=proxy.authority)
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    transport = httpx.HTTPTransport(verify=trust, local_address=address)
    return httpx.Client(base_url=proxy.url, headers=headers, transport=transport, timeout=180)


def port_of(proxy: ReverseProxy) -> str:
    """The proxy's port, as the middle of an address that no other proxy's clients have."""
    return "{}.{}".format(*divmod(int(proxy.url.rpartition(":")[2]), 256))


@pytest.fixture
def behind(proxy: ReverseProxy, api_key: str) -> Iterator[EventReader]:
    """A reader of the API through the proxy."""
    with EventReader(proxy.url, api_key) as reader:
        reader.http.close()
        reader.http = client(proxy, api_key)
        yield reader


def test_events_come_through_one_by_one_and_go_on_after_the_last_id(
    behind: EventReader, server: ServerProcess, api_key: str
) -> None:
    held = Resource(CLIP_PATH, pauses_at=HEARD_BYTES)
    media = ThreadedMediaServer({"/held.mp3": held})
    seen: list[ReadEvent] = []
    with media as source, EventReader(server.url, api_key) as direct:
        job_id = behind.create(source.url("/held.mp3"))["id"]
        through = behind.events(job_id)
        try:
            for event in direct.events(job_id):
                # Nothing more can come while the rest of the audio is held back, so nothing pushes it.
                seen.append(next(through))
                assert seen[-1] == event
                if event.event == "transcript":
                    break
        finally:
            media.release(held)
        seen += through

        assert seen == list(direct.events(job_id))
    assert seen[-1].body["status"] == "completed"
    assert joined(seen).startswith("hello and welcome back")
    assert list(behind.events(job_id, after=seen[2].id)) == seen[3:]
    assert list(behind.events(job_id, after=seen[-1].id)) == []


def test_an_upload_of_thirty_megabytes_passes(proxy: ReverseProxy, api_key: str) -> None:
    with client(proxy, api_key) as http:
        slot = http.post(
            "/api/v1/uploads",
            json={"filename": "talk.wav", "content_type": "audio/wav", "size_bytes": UPLOAD_BYTES},
        ).raise_for_status()

        put = http.put(slot.json()["upload_url"], content=bytes(UPLOAD_BYTES))

    assert put.is_success, put.text


def test_clients_are_distinguished_by_address_whatever_headers_they_send(
    proxy: ReverseProxy, server: ServerProcess
) -> None:
    """Loopback has many addresses; only 127.0.0.1, the proxy's, is trusted."""
    assert Settings(_env_file=None).trusted_proxies == "127.0.0.1"
    wish = {"audio_url": f"{server.url}/nothing.mp3"}

    def left(http: httpx.Client, **headers: str) -> tuple[str, int]:
        answer = http.post("/v1/transcripts", json=wish, headers=headers)
        assert answer.status_code == 202, answer.text
        return answer.headers["x-ratelimit-reset"], int(answer.headers["x-ratelimit-remaining"])

    # Limits count by the minute, so all four requests must fall into one. The service counts on between the
    # attempts, and for both proxies, so each attempt has addresses of its own.
    for attempt in range(3):
        one_address, other_address = (f"127.{port_of(proxy)}.{2 * attempt + host}" for host in (1, 2))
        with client(proxy, address=one_address) as one, client(proxy, address=other_address) as other:
            first = left(one)
            second = left(one, **{"X-Forwarded-For": "203.0.113.7"})
            third = left(one, **{"X-Forwarded-For": "203.0.113.8, 203.0.113.9"})
            stranger = left(other)
        if first[0] == stranger[0]:
            break

    assert [second[1], third[1]] == [first[1] - 1, first[1] - 2]
    assert stranger[1] == Settings(_env_file=None).previews_per_minute - 1


def test_links_carry_the_scheme_and_the_metrics_are_hidden(proxy: ReverseProxy, behind: EventReader) -> None:
    created = behind.http.post("/v1/transcripts", json={"audio_url": "https://example.com/a.mp3"}).json()

    assert created["events_url"] == f"{proxy.url}/v1/transcripts/{created['id']}/events"
    assert behind.http.get("/metrics").status_code == 404
    assert behind.http.get("/healthz").json()["status"] == "ok"


def test_what_the_guide_says_to_check(
    guide: Path, proxy: ReverseProxy, reader: Callable[..., Session]
) -> None:
    session = reader(**{"https://stenobird.example.com": proxy.url})
    session.shell(f"export CURL_CA_BUNDLE={proxy.authority}")

    session.run_all(guide)

    assert session.shell(f"curl -s -o /dev/null -w '%{{http_version}}' {proxy.url}/healthz") == "2"


def test_the_settings_are_settings(guide: Path, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(file_block(guide, "stenobird.env"))

    settings = Settings(_env_file=file)

    assert settings.trusted_proxies == "10.0.0.5,10.1.0.0/16"
    assert settings.public_url == "https://stenobird.example.com"
