"""The real service in a process of its own, and media that it may fetch from loopback."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from stenobird.demo import CLIP_PATH
from tests.support.http_reader import EventReader
from tests.support.media_server import ThreadedMediaServer
from tests.support.server_process import ServerProcess
from tests.support.speech import LongSpeech, load_sentences, write_audio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.media_server import MediaServer


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Callable[[float], tuple[Path, str]]:
    """Make speech of a length as a 64 kbit/s mp3, once a length; return its path and its text."""
    folder = tmp_path_factory.mktemp("spoken")
    sentences = load_sentences(CLIP_PATH, clips / "long.mp3", clips / "short.mp3")
    made: dict[float, tuple[Path, str]] = {}

    def make(seconds: float) -> tuple[Path, str]:
        if seconds not in made:
            speech = LongSpeech(sentences, seconds=seconds, seed=random.Random(7).randrange(2**32))
            path = folder / f"{seconds:g}.mp3"
            write_audio(path, speech.blocks())
            made[seconds] = path, speech.text
        return made[seconds]

    return make


@pytest.fixture(scope="session")
def ten_minutes(spoken: Callable[[float], tuple[Path, str]]) -> tuple[Path, str]:
    """Ten minutes of speech at a constant 64 kbit/s, and the text: an mp3 may simply be repeated."""
    minute, text = spoken(60.0)
    path = minute.with_name("ten-minutes.mp3")
    path.write_bytes(minute.read_bytes() * 10)
    return path, " ".join([text] * 10)


@pytest.fixture(scope="session")
def hour(ten_minutes: tuple[Path, str]) -> bytes:
    """An hour of the same: an mp3 of 29 MB."""
    return ten_minutes[0].read_bytes() * 6


@pytest.fixture
def media() -> Iterator[MediaServer]:
    """A media server on loopback; tests put their resources into `media.resources`."""
    with ThreadedMediaServer({}) as server:
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A running service with its own data folder, one for all tests of a module."""
    with ServerProcess(tmp_path_factory.mktemp("service") / "data") as process:
        yield process


@pytest.fixture(scope="module")
def api_key(server: ServerProcess) -> str:
    """A live key of that service."""
    return server.create_key()


@pytest.fixture
def reader(server: ServerProcess, api_key: str) -> Iterator[EventReader]:
    """A reader of that service's API, with the key."""
    with EventReader(server.url, api_key) as events:
        yield events
