"""How long after it was spoken a word of live audio is committed, with a real service and a station.

    python -m tests.bench.live --model /models/tiny.en --minutes 3 --jobs 1

Prints the lag of each transcript event's words, as percentiles; the service's clock is the station's.
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
            body = {
                "audio_url": radio.url(options.path),
                "max_minutes": options.minutes,
                "word_timestamps": True,
            }
            spec = CreateTranscript.parse(body).spec()
            jobs = [
                await services.jobs.create(spec, caller=caller, base_url="http://bench")
                for _ in range(options.jobs)
            ]
            lags = await asyncio.gather(*(follow(services, job.id) for job in jobs))
            services.worker.stop()
            await worker
    print(json.dumps({"jobs": options.jobs, **percentiles([lag for part in lags for lag in part])}))  # noqa: T201


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
                lags += [now - at - word["end"] for word in data["words"]]
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
    asyncio.run(measure(parser.parse_args()))
