"""How long after it was spoken a word of live audio is committed, with a real service and a station.

    python -m tests.bench.live --model /models/tiny.en --minutes 3 --jobs 1
    python -m tests.bench.live --model /models/tiny.en --minutes 3 --jobs 5 --recording talk.flac

Prints the lag of each transcript event's words, as percentiles; the service's clock is the station's. With a
recording, as many jobs as there are live ones transcribe it at the same time, and before that alone.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import json
import tempfile
import time
from pathlib import Path

from stenobird.bootstrap import open_services
from stenobird.config import Settings
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

            async def transcribe(media: str) -> list[float]:
                spec = CreateTranscript.parse(body | {"audio_url": media}).spec()
                job = await services.jobs.create(spec, caller=caller, base_url="http://bench")
                return await follow(services, job.id)

            async def several(media: str) -> tuple[float, list[float]]:
                """Return how long as many jobs as were asked for took, and the lags of their words."""
                began = time.monotonic()
                parts = await asyncio.gather(*(transcribe(media) for _ in range(options.jobs)))
                return time.monotonic() - began, [lag for part in parts for lag in part]

            found: dict[str, float] = {"jobs": options.jobs}
            if options.recording is None:
                _, lags = await several(radio.url(options.path))
            else:
                with ThreadedMediaServer({"/recording": Resource(options.recording)}) as media:
                    found["alone_seconds"], _ = await several(media.url("/recording"))
                    live = asyncio.create_task(several(radio.url(options.path)))
                    await asyncio.sleep(20.0)  # the live jobs have text by then
                    found["beside_live_seconds"], _ = await several(media.url("/recording"))
                    _, lags = await live
            services.worker.stop()
            await worker
    print(json.dumps(found | percentiles(lags)))  # noqa: T201


async def follow(services: object, job_id: str) -> list[float]:
    """Return the lag of each word, as seen by a reader that looks every 50 ms."""
    lags: list[float] = []
    at, seq = 0.0, 0
    while True:
        for row in await services.job_store.events_after(job_id, seq):  # type: ignore[attr-defined]
            seq, data, now = row.seq, json.loads(row.data), time.time()
            if "source" in data and (source := data["source"].get("at")):
                at = _epoch(source)
            if row.event == "transcript":
                lags += [now - at - word["end"] for word in data.get("words", ()) if at]
            elif row.event == "done":
                return lags
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
