"""The Python client and the command line send a file to a remote service."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from stenobird.client import AsyncStenobirdClient, StenobirdClient
from stenobird.errors import InvalidAPIKey, UploadTooLarge
from tests.support.server_process import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A remote service."""
    with ServerProcess(tmp_path_factory.mktemp("elsewhere") / "data") as process:
        yield process


@pytest.fixture(scope="module")
def key(server: ServerProcess) -> str:
    """A live key of that service."""
    return server.create_key()


def test_a_file_is_uploaded_and_transcribed(server: ServerProcess, key: str, clips: Path) -> None:
    with StenobirdClient(server.url, api_key=key) as client:
        source = client.upload(clips / "short.mp3")
        result = client.transcribe(source)

    assert source.startswith("upload:upl_")
    assert len(result.text.split()) > 20


@pytest.mark.anyio
async def test_a_file_is_uploaded_by_the_asynchronous_client(
    server: ServerProcess, key: str, clips: Path
) -> None:
    async with AsyncStenobirdClient(server.url, api_key=key) as client:
        job = await client.create(await client.upload(clips / "short.mp3"))
        result = await client.result(job.id)

    assert len(result.text.split()) > 20


def test_an_upload_that_is_refused_raises_its_error(server: ServerProcess, key: str, tmp_path: Path) -> None:
    huge = tmp_path / "huge.mp3"
    with huge.open("wb") as file:
        file.truncate(1 << 40)

    wrong = key[:-1] + ("A" if key[-1] != "A" else "B")
    with StenobirdClient(server.url, api_key=wrong) as client, pytest.raises(InvalidAPIKey):
        client.upload(huge)
    with StenobirdClient(server.url, api_key=key) as client, pytest.raises(UploadTooLarge):
        client.upload(huge)


@pytest.mark.parametrize("named", [True, False])
def test_the_command_line_sends_a_file(
    server: ServerProcess, key: str, clips: Path, tmp_path: Path, *, named: bool
) -> None:
    """To the service that `--api` names, else to the one that runs on this machine."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "stenobird",
            "transcribe",
            str(clips / "short.mp3"),
            "-q",
            *(("--api", server.url) if named else ()),
        ],
        env=server.environment | {"STENOBIRD_API_KEY": key},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 20
    newest = httpx.get(f"{server.url}/v1/transcripts", headers={"Authorization": f"Bearer {key}"}).json()
    assert newest["transcripts"][0]["audio_url"].startswith("upload:")
