"""The MCP server over stdio, with the official client, against the live service."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from stenobird.errors import AudioSourceNotFound
from stenobird.testing.web_world import WebWorld, web_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

URL = "https://example.com/episode"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[WebWorld]:
    async with web_world(tmp_path) as world:
        yield world


@asynccontextmanager
async def _agent(world: WebWorld, api_key: str | None = None) -> AsyncIterator[ClientSession]:
    """Start `stenobird mcp` as an agent would, and open a session with it."""
    environment = {"PATH": os.environ["PATH"], "STENOBIRD_API_URL": world.url, "NO_PROXY": "*"}
    if api_key is not None:
        environment["STENOBIRD_API_KEY"] = api_key
    server = StdioServerParameters(command=sys.executable, args=["-m", "stenobird", "mcp"], env=environment)
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        await session.initialize()
        yield session


async def _started(world: WebWorld) -> str:
    while not (await world.store.counts()).get("queued"):
        await world.worker.wakeups.wait_job(5.0)
    return await world.worker.start()


async def _work(world: WebWorld, *texts: str) -> str:
    job_id = await _started(world)
    await world.worker.say(job_id, *texts)
    await world.worker.complete(job_id)
    return job_id


async def test_tools_are_listed_with_their_schemas(world: WebWorld) -> None:
    async with _agent(world) as session:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
    assert set(tools) == {"transcribe", "status", "result"}
    assert tools["transcribe"].inputSchema["required"] == ["url"]
    assert tools["status"].annotations is not None
    assert tools["status"].annotations.readOnlyHint is True


async def test_transcript_arrives_with_progress_and_can_be_fetched_again(world: WebWorld) -> None:
    key, _ = await world.keys.create()
    told: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    async with _agent(world, key) as session:
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(_work(world, "Hello", " there."))
            answer = await session.call_tool(
                "transcribe", {"url": URL, "language": "en", "prompt": "Names"}, progress_callback=note
            )
        job_id = work.result()
        assert not answer.isError
        said: Any = answer.structuredContent
        assert (said["id"], said["status"], said["text"]) == (job_id, "completed", "Hello there.")
        assert (said["language"], said["seconds"]) == ("en", 2.0)
        assert told[0] == (0.0, f"Transcript {job_id}")
        assert (1.0, "Hello") in told
        assert (2.0, " there.") in told
        assert [heard for heard, _ in told] == sorted(heard for heard, _ in told)

        state = await session.call_tool("status", {"transcript_id": job_id})
        assert state.structuredContent is not None
        assert state.structuredContent["status"] == "completed"
        srt = await session.call_tool("result", {"transcript_id": job_id, "output_format": "srt"})
        assert _text(srt).startswith("1\n00:00:00,000 --> ")
        assert _text(await session.call_tool("result", {"transcript_id": job_id})) == "Hello there.\n"

    job = await world.store.get(job_id)
    assert job is not None
    assert (job.mode, job.audio_url, job.options.prompt) == ("full", URL, "Names")


async def test_preview_says_that_it_is_one(world: WebWorld) -> None:
    async with _agent(world) as session, asyncio.TaskGroup() as tasks:
        tasks.create_task(_work(world, "Hello."))
        answer = await session.call_tool("transcribe", {"url": URL})
    said: Any = answer.structuredContent
    assert said["status"] == "preview_complete"
    assert said["note"] == f"Preview ended. Add an API key to get the full transcript. {world.url}/pricing"


async def test_failures_are_tool_errors_with_code_and_remedy(world: WebWorld) -> None:
    async def fail() -> None:
        await world.worker.fail(await _started(world), AudioSourceNotFound())

    async with _agent(world) as session:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(fail())
            failed = await session.call_tool("transcribe", {"url": URL})
        assert failed.isError
        assert "audio_source_not_found: No audio was found behind this URL" in _text(failed)
        refused = await session.call_tool("transcribe", {"url": "http://127.0.0.1/"})
        assert refused.isError
        assert "invalid_url: " in _text(refused)
        unknown = await session.call_tool("status", {"transcript_id": "tr_unknown"})
        assert unknown.isError
        assert "transcript_not_found: " in _text(unknown)


def _text(answer: Any) -> str:
    text: str = answer.content[0].text
    return text
