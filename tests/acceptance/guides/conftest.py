"""The real service with the fixture model, and the addresses that the guides use."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from stenobird.demo import CLIP_PATH
from tests.support.guides import Session
from tests.support.media_server import Resource, ThreadedMediaServer
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tests.support.media_server import MediaServer

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="session")
def docs() -> Path:
    """The folder of the guides."""
    return ROOT / "docs"


@pytest.fixture(scope="session")
def make_database() -> Callable[[str, str], str]:
    """Make an empty database on a PostgreSQL server, and return its URL."""

    def make(server_url: str, name: str) -> str:
        async def create() -> None:
            engine = create_async_engine(f"{server_url}/postgres", isolation_level="AUTOCOMMIT")
            async with engine.connect() as connection:
                await connection.execute(text(f"CREATE DATABASE {name}"))
            await engine.dispose()

        asyncio.run(create())
        return f"{server_url}/{name}"

    return make


@pytest.fixture(scope="module")
def media() -> Iterator[MediaServer]:
    """What the guides' links lead to."""
    with ThreadedMediaServer(
        {"/episode.mp3": Resource(CLIP_PATH), "/episode": Resource(CLIP_PATH)}
    ) as server:
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
def values(server: ServerProcess, media: MediaServer) -> Mapping[str, str]:
    """What stands for the addresses in the guides."""
    return {
        "http://127.0.0.1:8000": server.url,
        "localhost:8000": f"127.0.0.1:{server.port}",
        "https://example.com/episode": media.url("/episode"),
        # make would install the package once more; this is what its target runs, here without a download.
        "make demo": "stenobird demo --fixture",
    }


@pytest.fixture
def reader(
    tmp_path: Path, server: ServerProcess, values: Mapping[str, str]
) -> Iterator[Callable[..., Session]]:
    """Somebody who works through a guide, with nothing of this machine's in their home folder."""
    sessions: list[Session] = []
    home = tmp_path / "home"
    home.mkdir()

    def begin(**more_values: str) -> Session:
        folder = tmp_path / f"session{len(sessions)}"
        folder.mkdir()
        environment = {**server.environment, "HOME": str(home)}
        session = Session(folder, environment, {**values, **more_values}).__enter__()
        sessions.append(session)
        return session

    yield begin
    for session in sessions:
        session.__exit__(None, None, None)
