"""Starts one child of every kind, prints their process ids, and waits to be killed."""

from __future__ import annotations

import asyncio
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

import stenobird
from stenobird.config import Settings
from stenobird.discovery.extractor.rung import Extractor
from stenobird.discovery.parsing.parser import DocumentParser
from stenobird.egress.proxy import Grant
from stenobird.media.decode import DecoderLimits, start_decoder
from stenobird.ports import Clock
from stenobird.speakers.pool import SpeakerPool
from stenobird.speech.recognizer import open_recognizer
from stenobird.translation.translator import open_translator

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Iterator

FIXTURE_MODEL = Path(stenobird.__file__).parent / "demo" / "model"


def children() -> set[int]:
    return {
        int(pid)
        for task in Path("/proc/self/task").iterdir()
        for pid in (task / "children").read_text().split()
    }


class SilentProxy:
    """A proxy that never answers: the extractor's child is confined once it has connected."""

    def __init__(self, port: int) -> None:
        self._port = port

    @contextmanager
    def granted(self, byte_cap: int) -> Iterator[Grant]:
        yield Grant(f"http://x:y@127.0.0.1:{self._port}", "y", byte_cap)


async def main(models: str) -> None:
    connected = asyncio.Event()

    async def accept(reader: StreamReader, writer: StreamWriter) -> None:
        connected.set()
        await reader.read()
        writer.close()

    clock = Clock()
    speech = Settings.model_construct(engine="whisper", model=str(FIXTURE_MODEL), device="cpu", replicas=1)
    translation = Settings.model_construct(translation_model=models, translation_device="cpu")
    speakers = SpeakerPool(models, clock=clock)
    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    extractor = Extractor(SilentProxy(server.sockets[0].getsockname()[1]))  # type: ignore[arg-type]  # all that it uses
    async with (
        server,
        open_recognizer(speech, clock=clock) as recognizer,
        open_translator(translation, clock=clock) as translator,
        speakers.running(),
        DocumentParser() as parser,
        asyncio.TaskGroup() as tasks,
    ):
        await recognizer.loaded()
        await translator.translate(["hello"], source="en", target="he", job_id="job")
        await speakers.wait_ready()
        pids = {
            "speech host": recognizer.status()["host_pid"],
            "translation host": translator.status()["host_pid"],
            "speaker host": speakers.host_status()["host_pid"],
        }
        await parser.page(b"<p>text", url="https://example.com/")
        (pids["parser"],) = children() - {*pids.values()}
        decoder = await start_decoder(
            DecoderLimits(), {"skip": 0, "stop": None, "most": 1, "block": 1, "stitched": False}
        )
        await decoder.reader.readexactly(1)  # it asks for the first bytes
        pids["decoder"] = decoder.pid
        tasks.create_task(extractor.extract(["https://player.megaphone.fm/GLT9749789991"]))
        await connected.wait()
        (pids["extractor"],) = children() - {*pids.values()}
        print(json.dumps(pids), flush=True)  # noqa: T201  # what the test reads
        await asyncio.Event().wait()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(sys.argv[1]))
