"""Web processes and workers that share nothing but PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from stenobird.demo import CLIP_PATH, CLIP_TEXT_PATH
from stenobird.demo.wer import word_error_rate
from tests.support.free_port import free_port
from tests.support.http_reader import EventReader, ReadEvent, joined
from tests.support.media_server import Resource
from tests.support.postgresql import postgresql_available, running_postgresql
from tests.support.redis_server import redis_available, running_redis
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.media_server import MediaServer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not postgresql_available(), reason="PostgreSQL's server is not installed"),
    pytest.mark.skipif(not redis_available(), reason="Redis is not installed"),
]


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings that make processes work together."""

    async def create_database(url: str) -> None:
        engine = create_async_engine(f"{url}/postgres", isolation_level="AUTOCOMMIT")
        async with engine.connect() as connection:
            await connection.execute(text("CREATE DATABASE stenobird"))
        await engine.dispose()

    with running_postgresql() as postgresql, running_redis(tmp_path, free_port()) as redis:
        asyncio.run(create_database(postgresql))
        yield {"DATABASE_URL": f"{postgresql}/stenobird", "REDIS_URL": redis}


def test_a_killed_worker_is_replaced_by_another_and_every_web_process_tells_the_same(
    tmp_path: Path, shared: dict[str, str], media: MediaServer
) -> None:
    media.resources["/clip.mp3"] = Resource(CLIP_PATH, bytes_per_second=60_000)
    web = [ServerProcess(tmp_path / f"web{n}", shared, ("serve", "--no-worker")) for n in range(2)]
    workers = [ServerProcess(tmp_path / f"worker{n}", shared, ("worker", "--probes")) for n in range(2)]
    try:
        for process in web:
            process.start()
        workers[0].start()
        assert '"ready": true' in workers[0].command("health", "--ready")
        assert httpx.get(f"{workers[0].url}/metrics").is_success
        assert httpx.get(f"{workers[0].url}/v1/transcripts").status_code == 404
        api_key = web[0].create_key()
        with EventReader(web[0].url, api_key) as first, EventReader(web[1].url, api_key) as second:
            job = first.create(media.url("/clip.mp3"))
            seen: list[ReadEvent] = []
            for event in second.events(job["id"]):
                seen.append(event)
                if event.event == "transcript" and not workers[1].process:
                    workers[0].kill()
                    workers[1].start(wait=False)
            assert list(first.events(job["id"])) == seen
            result = first.result(job["id"])
        assert workers[1].terminate() == 0
    finally:
        for process in (*web, *workers):
            process.kill()

    assert seen[-1].body["status"] == "completed"
    assert joined(seen) == result["text"]
    assert word_error_rate(CLIP_TEXT_PATH.read_text(), result["text"]) <= 0.05
