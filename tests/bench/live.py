"""How long after it was spoken a word of live audio is committed, with a real service and a station.

    python -m tests.bench.live --model /models/tiny.en --minutes 3 --jobs 1
    python -m tests.bench.live --model /models/tiny.en --minutes 3 --jobs 5 --recording talk.flac

Prints the lag of each transcript event's words, as percentiles; the service's clock is the station's. With a
recording, as many jobs as there are live ones transcribe it at the same time, and before that alone. Then the
audio that the first live job got is transcribed as a file: the word errors of both are those against what was
said.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from stenobird.bootstrap import open_services
from stenobird.config import Settings
from stenobird.demo import word_errors, words
from stenobird.jobs.schemas import CreateTranscript
from stenobird.ports import Caller
from tests.support.media_server import Resource, ThreadedMediaServer
from tests.support.radio import Programme, Radio, ScaledClock


async def measure(options: argparse.Namespace) -> None:
    """Run the jobs and print."""
    clock = ScaledClock()
    programme = Programme(300.0, origin=clock.time() - 100.0)
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            data_dir=Path(folder),
            model=options.model,
            egress_allow=(ipaddress.ip_network("127.0.0.1/32"),),
            egress_ports=None,
            log_level="warning",
            _env_file=None,
        )
        async with Radio(programme, clock) as radio, open_services(settings) as services:
            assert services.worker is not None
            assert services.engines is not None
            await services.engines.default.loaded()  # type: ignore[attr-defined]  # not of the port
            account = await services.accounts.create("bench", tier="premium", billing="operator")
            caller = Caller(account.id, "key", "live", "full_access", "premium")
            worker = asyncio.create_task(services.worker.run())
            body = {"max_minutes": options.minutes, "word_timestamps": True}

            async def transcribe(media: str) -> Heard:
                spec = CreateTranscript.parse(body | {"audio_url": media}).spec()
                job = await services.jobs.create(spec, caller=caller, base_url="http://bench")
                return await follow(services, job.id)

            async def several(media: str) -> tuple[float, list[Heard]]:
                """Return how long as many jobs as were asked for took, and what they heard."""
                began = time.monotonic()
                heard = await asyncio.gather(*(transcribe(media) for _ in range(options.jobs)))
                return time.monotonic() - began, heard

            found: dict[str, float] = {"jobs": options.jobs}
            with ThreadedMediaServer({}) as media:
                if options.recording is None:
                    _, heard = await several(radio.url(options.path))
                else:
                    media.resources["/recording"] = Resource(options.recording)
                    found["alone_seconds"], _ = await several(media.url("/recording"))
                    live = asyncio.create_task(several(radio.url(options.path)))
                    await asyncio.sleep(20.0)  # the live jobs have text by then
                    found["beside_live_seconds"], _ = await several(media.url("/recording"))
                    _, heard = await live
                end = heard[0].at + 60.0 * options.minutes
                frames = programme.frames(programme.frame_at(heard[0].at), programme.frame_at(end))
                media.resources["/file.mp3"] = Resource(frames)
                as_file = await transcribe(media.url("/file.mp3"))
            said = " ".join(text for _, _, text in programme.on_air(heard[0].at, end))
            found |= {
                "audio_after_seconds": round(max(one.audio_after_seconds for one in heard), 2),
                "words_said": len(words(said)),
                "errors_live": word_errors(words(said), words(heard[0].text)),
                "errors_as_file": word_errors(words(said), words(as_file.text)),
            }
            services.worker.stop()
            await worker
    print(json.dumps(found | percentiles([lag for one in heard for lag in one.lags])))  # noqa: T201


@dataclass
class Heard:
    """What one job has transcribed, when its first sample was on air, and the lag of each word.

    `audio_after_seconds` is how long after it was posted the job had audio.
    """

    at: float = 0.0
    audio_after_seconds: float = 0.0
    text: str = ""
    lags: list[float] = field(default_factory=list)


async def follow(services: object, job_id: str) -> Heard:
    """Read the events of a job to its end, as a reader that looks every 50 ms."""
    heard, seq, began = Heard(), 0, time.time()
    while True:
        for row in await services.job_store.events_after(job_id, seq):  # type: ignore[attr-defined]
            seq, data, now = row.seq, json.loads(row.data), time.time()
            if "source" in data and (source := data["source"].get("at")):
                heard.at = _epoch(source)
                heard.audio_after_seconds = heard.audio_after_seconds or now - began
            if row.event == "transcript":
                heard.text += data["text"]
                heard.lags += [now - heard.at - word["end"] for word in data.get("words", ()) if heard.at]
            elif row.event == "done":
                return heard
            elif data.get("stage") == "stream_gap":
                print(data["message"])  # noqa: T201
        await asyncio.sleep(0.05)


def _epoch(text: str) -> float:
    from datetime import datetime  # noqa: PLC0415

    return datetime.fromisoformat(text).timestamp()


def percentiles(lags: list[float]) -> dict[str, float]:
    """Return the number of words, the median, the 95th percentile and the longest lag in seconds."""
    ordered = sorted(lags)
    at = {"p50": 0.5, "p95": 0.95, "max": 1.0}
    return {"words": len(ordered)} | {
        name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)
        for name, share in at.items()
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", required=True)
    parser.add_argument("--minutes", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--path", default="/icecast")
    parser.add_argument("--recording", type=Path, help="a file that the same number of jobs transcribes")
    asyncio.run(measure(parser.parse_args()))
