"""A client that openapi-python-client generates creates a transcript and reads its result."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stenobird.web.app import api_document
from stenobird.web.openapi.document import as_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.web_world import WebWorld

PACKAGE = "generated_stenobird"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Generate the client, make it importable, and yield what the generator said."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_text(as_text(api_document()))
    programs = Path(sys.executable).parent
    generator = str(programs / "openapi-python-client")
    command = [generator, "generate", "--path", "openapi.json", "--meta", "none", "--fail-on-warning"]
    done = subprocess.run(
        [*command, "--output-path", PACKAGE],
        cwd=folder,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    sys.path.insert(0, str(folder))
    try:
        yield done.stdout + done.stderr
    finally:
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]


def test_no_part_of_the_document_is_left_out(generated: str) -> None:
    assert "WARNING" not in generated
    assert "Unable to parse" not in generated
    # A schema of the same title in another dialect hid this operation once.
    importlib.import_module(f"{PACKAGE}.api.alef_bot_dialect.alefbot_create_key")


@pytest.mark.anyio
async def test_the_generated_client_transcribes(generated: str, world: WebWorld) -> None:
    del generated
    secret, _ = await world.keys.create()
    package: Any = importlib.import_module(PACKAGE)
    models: Any = importlib.import_module(f"{PACKAGE}.models")

    def call(name: str) -> Any:
        return importlib.import_module(f"{PACKAGE}.api.transcripts.{name}").asyncio

    direct = {"trust_env": False}
    async with package.AuthenticatedClient(world.url, token=secret, httpx_args=direct) as client:
        wanted = models.CreateTranscript(audio_url="https://example.com/a.mp3", language="en-US")
        made = await call("create_transcript")(client=client, body=wanted)
        assert (made.status, made.mode) == ("queued", "full")
        assert await world.worker.start() == made.id
        await world.worker.say(made.id, "Hello", " there.")
        await world.worker.complete(made.id)
        status = await call("get_transcript")(made.id, client=client)
        assert status.result_ready
        result = await call("get_result")(made.id, client=client)
        assert (result.text, [segment.text for segment in result.segments]) == (
            "Hello there.",
            ["Hello", "there."],
        )
