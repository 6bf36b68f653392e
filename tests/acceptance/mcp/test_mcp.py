"""The MCP server over stdio, with the official client, against the live service."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.types import CancelledNotification, CancelledNotificationParams, ClientNotification

from stenobird import __version__
from stenobird.client.model import unreachable
from stenobird.errors import AudioSourceNotFound
from stenobird.mcp import _tool_error
from tests.support.forked import fork_server
from tests.support.web_world import WebWorld, web_world

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
    server = StdioServerParameters(command=fork_server().program, args=["mcp"], env=environment)
    async with stdio_client(server) as streams, ClientSession(*streams) as session:
        started = await session.initialize()
        assert (started.serverInfo.name, started.serverInfo.version) == ("stenobird", __version__)
        yield session


async def test_tools_are_listed_with_their_schemas(world: WebWorld) -> None:
    async with _agent(world) as session:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
    assert set(tools) == {"transcribe", "status", "result", "stop"}
    assert tools["transcribe"].inputSchema["required"] == ["url"]
    described = tools["transcribe"].description or ""
    assert "podcast episodes" in described
    assert "first 15 seconds" in described
    assert tools["status"].annotations is not None
    assert tools["status"].annotations.readOnlyHint is True
    for name, fields in (
        ("transcribe", {"id", "status", "text", "next_offset", "note"}),
        ("status", {"status", "terminal", "result_ready"}),
        ("result", {"text", "next_offset", "characters"}),
    ):
        assert fields <= (tools[name].outputSchema or {})["properties"].keys()


async def test_transcript_arrives_with_progress_and_can_be_fetched_again(world: WebWorld) -> None:
    key, _ = await world.keys.create()
    told: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    async with _agent(world, key) as session:
        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(world.worker.carry_out("Hello", " there."))
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


async def test_status_has_the_progress(world: WebWorld) -> None:
    async with _agent(world) as session:
        job_id = (await session.call_tool("transcribe", {"url": URL, "wait_seconds": 0})).structuredContent[
            "id"
        ]  # type: ignore[index]
        await world.worker.start()
        await world.worker.say(job_id, "Hello.")
        state: Any = (await session.call_tool("status", {"transcript_id": job_id})).structuredContent
        assert (state["status"], state["audio_seconds"], state["audio_seconds_total"]) == (
            "transcribing",
            0.0,
            None,
        )
        await world.worker.complete(job_id)
        state = (await session.call_tool("status", {"transcript_id": job_id})).structuredContent or {}
        assert (state["audio_seconds"], state["audio_seconds_total"]) == (1.0, 1.0)


async def test_live_audio_is_stopped_and_shows_its_gaps_and_titles(world: WebWorld) -> None:
    async with _agent(world) as session:
        started = await session.call_tool("transcribe", {"url": URL, "max_minutes": 5, "wait_seconds": 0})
        job_id = (started.structuredContent or {})["id"]
        await world.worker.start()
        await world.worker.go_live(job_id)
        await world.worker.play(job_id, "News at Nine")
        await world.worker.say(job_id, "On air.")
        await world.worker.miss(job_id, 6.25)
        state: Any = (await session.call_tool("status", {"transcript_id": job_id})).structuredContent
        assert (state["live"], state["now_playing"], state["gap_seconds"]) == (True, "News at Nine", 6.25)
        early = await session.call_tool("result", {"transcript_id": job_id, "wait_seconds": 0})
        assert "or stop to end it now" in _text(early)
        stopped: Any = (await session.call_tool("stop", {"transcript_id": job_id})).structuredContent
        assert (stopped["status"], stopped["terminal"]) == ("transcribing", False)
        await world.worker.complete(job_id)
        assert _text(await session.call_tool("result", {"transcript_id": job_id})) == "On air.\n"
    job = await world.store.get(job_id)
    assert job is not None
    assert (job.extra.max_minutes, job.stop_request) == (5, "stop")


async def test_a_local_file_is_uploaded_and_only_media(world: WebWorld, tmp_path: Path) -> None:
    key, _ = await world.keys.create()
    talk, secret = tmp_path / "my talk.mp3", tmp_path / "id_rsa"
    for file in (talk, secret):
        file.write_bytes(b"ID3" + bytes(1000))
    async with _agent(world, key) as session:
        for sent in (str(talk), talk.as_uri()):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(world.worker.carry_out("Hello."))
                answer = await session.call_tool("transcribe", {"url": sent})
            assert answer.structuredContent is not None, answer
            job = await world.store.get(answer.structuredContent["id"])
            assert job is not None
            assert job.upload_id is not None
        for sent, said in ((str(secret), "not an audio or video file"), (f"{talk}.wav", "neither a URL")):
            refused = await session.call_tool("transcribe", {"url": sent})
            assert (refused.isError, said in _text(refused)) == (True, True)


async def test_a_service_that_does_not_answer_leads_to_a_tool_that_exists() -> None:
    error = str(_tool_error(unreachable("ConnectError")))
    assert "call result" in error
    assert "ConnectError" in error
    assert "resume" not in error


async def test_preview_says_that_it_is_one(world: WebWorld) -> None:
    async with _agent(world) as session, asyncio.TaskGroup() as tasks:
        tasks.create_task(world.worker.carry_out("Hello."))
        answer = await session.call_tool("transcribe", {"url": URL})
    said: Any = answer.structuredContent
    assert said["status"] == "preview_complete"
    assert said["note"] == f"Preview ended. Add an API key to get the full transcript. {world.url}/pricing"


async def test_failures_are_tool_errors_with_code_and_remedy(world: WebWorld) -> None:
    async def fail() -> None:
        await world.worker.fail(await world.worker.start_next(), AudioSourceNotFound())

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


async def test_transcript_that_takes_longer_than_a_client_waits_is_come_back_to(world: WebWorld) -> None:
    async with _agent(world) as session:
        answer = await session.call_tool("transcribe", {"url": URL, "wait_seconds": 0})
        said: Any = answer.structuredContent
        assert (answer.isError, said["status"], said.get("text")) == (False, "queued", None)
        assert "Call result with this id" in said["note"]

        early = await session.call_tool("result", {"transcript_id": said["id"], "wait_seconds": 0})
        assert early.isError
        assert "transcript_not_ready: " in _text(early)

        async with asyncio.TaskGroup() as tasks:
            work = tasks.create_task(world.worker.carry_out("Hello."))
            result = await session.call_tool("result", {"transcript_id": said["id"]})
        assert work.result() == said["id"]
        assert _text(result) == "Hello.\n"
    assert sum((await world.store.counts()).values()) == 1


async def test_long_text_comes_in_pages_and_whole_as_a_resource(world: WebWorld) -> None:
    key, _ = await world.keys.create()
    texts = [f" word{number:04}" * 200 for number in range(40)]
    async with _agent(world, key) as session:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(world.worker.carry_out(*texts))
            answer = await session.call_tool("transcribe", {"url": URL})
        said: Any = answer.structuredContent
        assert len(_text(answer)) < 32_000
        assert f"Call result with offset {said['next_offset']}" in said["note"]
        link: Any = answer.content[1]
        whole: Any = (await session.read_resource(link.uri)).contents[0]

        pages = []
        content: Any = {"next_offset": 0}
        while content["next_offset"] is not None:
            offset = content["next_offset"]
            page = await session.call_tool("result", {"transcript_id": said["id"], "offset": offset})
            content = page.structuredContent
            assert content["text"] == _text(page)
            # No word is parted.
            assert content["text"][-1].isspace()
            pages.append(content["text"])
        assert len(pages) == 3
        assert "".join(pages) == whole.text
        assert whole.text.split() == "".join(texts).split()
        assert whole.text.startswith(said["text"])

        past = await session.call_tool("result", {"transcript_id": said["id"], "offset": 10**9})
        assert (_text(past), past.isError) == ("", False)


async def test_client_that_cancels_leaves_the_transcript_going(world: WebWorld) -> None:
    key, _ = await world.keys.create()
    async with _agent(world, key) as session, asyncio.TaskGroup() as tasks:
        told = asyncio.Event()

        async def note(progress: float, total: float | None, message: str | None) -> None:
            told.set()

        calling = tasks.create_task(_cancelled(session, note))
        job_id = await world.worker.start_next()
        await told.wait()
        request_id = session._request_id - 1  # the SDK sends no cancellation by itself
        params = CancelledNotificationParams(requestId=request_id)
        await session.send_notification(ClientNotification(CancelledNotification(params=params)))
        await calling
        await world.worker.say(job_id, "Hello.")
        await world.worker.complete(job_id)
        assert _text(await session.call_tool("result", {"transcript_id": job_id})) == "Hello.\n"


async def _cancelled(session: ClientSession, note: Any) -> None:
    with pytest.raises(McpError):
        await session.call_tool("transcribe", {"url": URL}, progress_callback=note)


@pytest.mark.parametrize("how", ["end of input", signal.SIGTERM, signal.SIGINT])
async def test_standard_output_holds_only_the_protocol_and_the_server_ends_on_request(
    world: WebWorld, how: Any
) -> None:
    environment = {"PATH": os.environ["PATH"], "STENOBIRD_API_URL": world.url, "NO_PROXY": "*"}
    process = await asyncio.create_subprocess_exec(
        *(fork_server().program, "mcp"),
        env=environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    client = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "t", "version": "1"},
    }
    for message in (
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        "no protocol at all",
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "nope", "arguments": {}}},
        {"jsonrpc": "2.0", "id": 3, "method": "tools/call", "params": {"name": "transcribe"}},
        {
            "jsonrpc": "2.0",
            "id": 4,
            "method": "tools/call",
            "params": {"name": "transcribe", "arguments": {"url": URL}},
        },
    ):
        process.stdin.write(json.dumps(message).encode() + b"\n")
    await process.stdin.drain()
    # The last call is under way when the end comes.
    job_id = await world.worker.start_next()
    if how == "end of input":
        process.stdin.close()
    else:
        process.send_signal(how)
    try:
        out, err = await asyncio.wait_for(process.communicate(), 180)
    finally:
        if process.returncode is None:
            process.kill()
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in out.splitlines())
    assert b"Traceback" not in err
    assert (await world.store.get(job_id)) is not None


def _text(answer: Any) -> str:
    text: str = answer.content[0].text
    return text
