"""Pull the plug, again and again: nothing is lost, nothing is doubled."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.support.http_reader import EventReader, ReadEvent, joined
from tests.support.media_server import Resource, ThreadedMediaServer
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.media_server import MediaServer

KILLS = 20


def kill_at_a_random_moment(server: ServerProcess, moments: random.Random) -> None:
    """Cut the power within a second: while it looks for work, fetches, decodes, commits or streams."""
    time.sleep(moments.uniform(0.0, 1.0))
    server.kill()


@pytest.fixture(scope="module")
def recording(spoken: Callable[[float], tuple[Path, str]]) -> Path:
    """Four minutes of speech."""
    return spoken(240.0)[0]


@pytest.fixture(scope="module")
def undisturbed(server: ServerProcess, api_key: str, recording: Path) -> str:
    """The text of the recording when nothing is killed."""
    resources = {"/whole.mp3": Resource(recording)}
    with ThreadedMediaServer(resources) as media, EventReader(server.url, api_key) as reader:
        events = list(reader.events(reader.create(media.url("/whole.mp3"))["id"]))
    assert events[-1].body["status"] == "completed"
    return joined(events)


def follow(server: ServerProcess, api_key: str, job_id: str, seen: list[ReadEvent]) -> None:
    """Read on from the last event seen, until the stream ends or breaks."""
    with contextlib.suppress(httpx.TransportError), EventReader(server.url, api_key) as reader:
        for event in reader.events(job_id, after=seen[-1].id if seen else None):
            seen.append(event)  # noqa: PERF402  # what was read before the break counts


def assert_whole(server: ServerProcess, api_key: str, job_id: str, seen: list[ReadEvent], text: str) -> None:
    with EventReader(server.url, api_key) as reader:
        events = list(reader.events(job_id))
        result = reader.result(job_id)
    assert seen == events
    assert [event.id for event in events] == list(range(1, len(events) + 1))
    assert [event.event for event in events].count("done") == 1
    assert events[-1].body["status"] == "completed"
    assert joined(events) == result["text"] == text


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_server_killed_at_twenty_random_moments_of_one_job(
    tmp_path: Path, media: MediaServer, recording: Path, undisturbed: str
) -> None:
    moments = random.Random(20)
    media.resources["/paced.mp3"] = Resource(recording, bytes_per_second=64_000)
    with ServerProcess(tmp_path / "data") as server:
        api_key = server.create_key()
        with EventReader(server.url, api_key) as reader:
            job_id = reader.create(media.url("/paced.mp3"))["id"]
        seen: list[ReadEvent] = []
        for _ in range(KILLS):
            kill_at_a_random_moment(server, moments)
            server.forget_deaths()
            server.start()
            with EventReader(server.url, api_key) as reader:
                for event in reader.events(job_id, after=seen[-1].id if seen else None):
                    seen.append(event)
                    if moments.random() < 0.5:
                        break
        follow(server, api_key, job_id, seen)

        assert_whole(server, api_key, job_id, seen, undisturbed)


@pytest.mark.parametrize("child", ["host_child", "decoder_child"])
@pytest.mark.slow
def test_killing_a_child_mid_job_changes_nothing(  # noqa: PLR0917  # fixtures
    child: str,
    server: ServerProcess,
    api_key: str,
    media: MediaServer,
    recording: Path,
    undisturbed: str,
) -> None:
    media.resources["/paced.mp3"] = Resource(recording, bytes_per_second=200_000)
    seen: list[ReadEvent] = []
    kills = 0
    with EventReader(server.url, api_key) as reader:
        job_id = reader.create(media.url("/paced.mp3"))["id"]
        for event in reader.events(job_id):
            seen.append(event)
            # Two windows or more apart: a decoder that ends twice at one sample is blamed on the audio.
            if event.event == "transcript" and kills < 3 and event.body["chunk_index"] >= 18 * (kills + 1):
                victims = [pid for pid, line in server.children() if child in line]
                for pid in victims:
                    os.kill(pid, signal.SIGKILL)
                kills += bool(victims)

    assert kills == 3
    assert_whole(server, api_key, job_id, seen, undisturbed)


@pytest.mark.slow
def test_sigterm_drains_and_the_next_process_continues(
    server: ServerProcess, api_key: str, media: MediaServer, recording: Path, undisturbed: str
) -> None:
    media.resources["/whole.mp3"] = Resource(recording)
    with EventReader(server.url, api_key) as reader:
        job_id = reader.create(media.url("/whole.mp3"))["id"]
        seen: list[ReadEvent] = []
        for event in reader.events(job_id):
            seen.append(event)
            if event.event == "transcript":
                break

    assert server.terminate() in {0, -signal.SIGTERM}
    server.start()
    follow(server, api_key, job_id, seen)

    assert_whole(server, api_key, job_id, seen, undisturbed)
