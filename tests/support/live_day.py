"""A day of live audio: a station on a fast clock, cut connections, kills, and what must hold afterwards.

`python -m tests.support.live_day` runs two hours of a station at twelve times the speed, with 50 cut
connections and 20 kills. All processes share the clock of `tests.support.radio`, so it is known which
sentence was on air at each moment, and every word of the transcript can be checked against it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
from sqlalchemy import create_engine, select
from typing_extensions import override

from stenobird.bootstrap import Overrides, open_services
from stenobird.config import Settings
from stenobird.demo import words as words_of
from stenobird.logs import configure_logging
from stenobird.serving import run_loop, serving, until_signal
from stenobird.storage.schema import usage
from tests.support.http_reader import EventReader
from tests.support.radio import TICK_SECONDS, Programme, Radio, ScaledClock
from tests.support.server_process import ServerProcess
from tests.support.speech import MARGIN_SECONDS

if TYPE_CHECKING:
    import subprocess

    from tests.support.http_reader import ReadEvent

REPOSITORY: Final = Path(__file__).parents[2]
MAX_RSS_GROWTH_BYTES: Final = 5 * 1024**2
MIN_RSS_SAMPLES: Final = 40
"""One a second; in fewer, a process has not yet got all that it needs."""
MAX_SPOOL_BYTES: Final = 4 * 1024**2
MAX_OFFSET_SECONDS: Final = 0.5
EDGE_SECONDS: Final = 1.0
"""Around a gap, a sentence that is not whole may come out as other words."""
MIN_WORDS: Final = 0.95
"""Of the words that were on air outside gaps: the fixture model itself misses few of them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how fast, and how much breaks."""

    minutes: int
    speed: float
    cuts: int
    kills: int
    path: str = "/icecast"
    dates: bool = True
    """Whether a playlist says when its segments were on air."""
    stall_seconds: float = 0.0
    """How late a service that starts again on a busy machine may decode the first audio of a connection."""


SHORT: Final = Plan(minutes=1, speed=1.0, cuts=3, kills=2, stall_seconds=1.0)
"""In real time, because the delays of a busy machine grow with the speed."""
LONG: Final = Plan(minutes=120, speed=12.0, cuts=50, kills=20)


class FastServer(ServerProcess):
    """`ServerProcess` on a scaled clock."""

    clock: ScaledClock

    @override
    def launch(self) -> subprocess.Popen[bytes]:
        clock = ["--serve", str(self.clock.speed), str(self.clock.origin)]
        command = [sys.executable, "-m", "tests.support.live_day", *clock]
        return self.spawn(command, PYTHONPATH=str(REPOSITORY))


@dataclass
class Day:
    """What a run has left behind, and what was measured meanwhile."""

    plan: Plan
    programme: Programme
    events: list[ReadEvent] = field(default_factory=list)
    usage: list[tuple[int, float]] = field(default_factory=list)
    rss_bytes: list[int] = field(default_factory=list)
    """Of the service, without its children, while nothing was killed any more."""
    spool_bytes: int = 0
    delay_seconds: float = 0.0
    """How late the station may have sent something because the machine was busy: at the start, at a break."""

    @property
    def max_offset_seconds(self) -> float:
        """How far the times of words may be from when they were spoken."""
        return MAX_OFFSET_SECONDS + self.delay_seconds + self.plan.stall_seconds

    def bodies(self, event: str, stage: str | None = None) -> list[dict[str, Any]]:
        """Return the bodies of these events."""
        found = [one.body for one in self.events if one.event == event]
        return [body for body in found if stage is None or body["stage"] == stage]

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """The start and the end of each gap, in seconds."""
        rows = self.bodies("status", "stream_gap")
        return [(row["start"], row["start"] + row["seconds"]) for row in rows]

    def figures(self) -> dict[str, Any]:
        """Return what was measured. Raises `AssertionError` where something does not hold."""
        self._check_log()
        found = self._compare()
        found |= self._check_bill()
        if len(self.rss_bytes) >= MIN_RSS_SAMPLES:
            # The first quarter is the warm-up of the last process.
            warm = self.rss_bytes[len(self.rss_bytes) // 4 :]
            half = len(warm) // 2
            found["rss_growth_bytes"] = round(statistics.median(warm[half:]) - statistics.median(warm[:half]))
            assert found["rss_growth_bytes"] <= MAX_RSS_GROWTH_BYTES, found
        found["spool_bytes"] = self.spool_bytes
        assert self.spool_bytes <= MAX_SPOOL_BYTES, found
        return found

    def _check_log(self) -> None:
        assert [event.id for event in self.events] == list(range(1, len(self.events) + 1))
        chunks = self.bodies("transcript")
        assert [chunk["chunk_index"] for chunk in chunks] == list(range(len(chunks)))
        assert [event.event for event in self.events].count("done") == 1
        done = self.events[-1].body
        assert (done["status"], done.get("error")) == ("completed", None), done
        for earlier, later in itertools.pairwise(chunks):
            assert earlier["start"] <= later["start"], (earlier, later)
        for chunk in chunks:
            for start, end in self.gaps:
                assert not (chunk["start"] < end - 0.01 and start + 0.01 < chunk["end"]), (chunk, start, end)

    def _compare(self) -> dict[str, Any]:
        """Compare the words with the sentences that were on air outside gaps."""
        chunks = self.bodies("transcript")
        [began] = [row["source"]["at"] for row in self.bodies("status") if "at" in row.get("source", {})][:1]
        at = datetime.fromisoformat(began).timestamp()
        heard = [word for chunk in chunks for word in chunk["words"]]
        edges = [(start - EDGE_SECONDS, end + EDGE_SECONDS) for start, end in self.gaps]
        last = heard[-1]["end"]
        offsets, expected, found, silent, doubled, unlike = [], 0, 0, [], [], []
        for start, end, text in self.programme.on_air(at + EDGE_SECONDS, at + last):
            start, end = start - at, end - at  # noqa: PLW2901  # in seconds of the transcript
            if any(start < gap_end and gap_start < end for gap_start, gap_end in edges):
                continue
            said = words_of(text)
            words = _between(heard, start - MAX_OFFSET_SECONDS, end + MAX_OFFSET_SECONDS)
            got = _texts(words)
            # What arrived late is that much later in the transcript.
            late = _between(heard, start - self.max_offset_seconds, end + self.max_offset_seconds)
            near = [one for one in _texts(late) if one in said]
            expected += len(said)
            found += min(len(near), len(said))
            if not near:
                silent.append((start, text))
            if len(near) < len(said):
                unlike.append((start, text, " ".join(got)))
            if any(_runs(got).count(run) > _runs(said).count(run) for run in _runs(said)):
                doubled.append((start, text, " ".join(got)))
            if got and got[0] == said[0]:
                offsets.append(abs(words[0]["start"] - (start + MARGIN_SECONDS)))
        offsets.sort()
        figures: dict[str, Any] = {
            "sentences": len(offsets),
            "words_expected": expected,
            "words_found": found,
            "silent": silent,
            "doubled": doubled,
            "unlike": unlike,
            "offset_p50_seconds": round(statistics.median(offsets), 3),
            "offset_p99_seconds": round(offsets[len(offsets) * 99 // 100], 3),
            "delay_seconds": round(self.delay_seconds, 3),
            "gaps": len(self.gaps),
            "gap_seconds": round(sum(end - start for start, end in self.gaps), 1),
        }
        assert not silent, figures
        assert not doubled, figures
        assert found >= MIN_WORDS * expected > 0, figures
        assert offsets[len(offsets) * 95 // 100] <= self.max_offset_seconds, figures
        return figures

    def _check_bill(self) -> dict[str, Any]:
        [(minutes, seconds)] = self.usage
        done = self.events[-1].body
        missing = sum(end - start for start, end in self.gaps)
        assert minutes == done["billable_minutes"] == max(1, int(seconds // 60))
        return {"billed_minutes": minutes, "transcribed_seconds": round(seconds, 1), "missing": missing}


def _between(words: list[dict[str, Any]], first: float, last: float) -> list[dict[str, Any]]:
    return [word for word in words if first <= (word["start"] + word["end"]) / 2 <= last]


def _texts(words: list[dict[str, Any]]) -> list[str]:
    return words_of(" ".join(word["text"] for word in words))


def _runs(words: list[str]) -> list[tuple[str, ...]]:
    return list(zip(words, words[1:], words[2:], strict=False))


async def run(plan: Plan, folder: Path, *, seed: int = 1) -> Day:
    """Play the day and return what it left behind."""
    clock = ScaledClock(plan.speed)
    dice = random.Random(seed)
    day = Day(plan, Programme(300.0, origin=clock.origin, seed=seed))
    server = FastServer(folder / "data")
    server.clock = clock
    async with Radio(day.programme, clock, dates=plan.dates) as radio:
        await asyncio.to_thread(server.start)
        try:
            key = server.create_key()
            body = {"audio_url": radio.url(plan.path), "max_minutes": plan.minutes, "word_timestamps": True}
            headers = {"Authorization": f"Bearer {key}"}
            async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False) as http:
                job = (await http.post("/v1/transcripts", json=body)).raise_for_status().json()
                length = 60.0 * plan.minutes
                start = clock.time() + 10.0
                # The last third is left alone, so that the memory of one process can be watched.
                moments = sorted(
                    [(dice.uniform(0.0, 0.9 * length), "cut") for _ in range(plan.cuts)]
                    + [(dice.uniform(0.0, 0.6 * length), "kill") for _ in range(plan.kills)]
                )
                watching = asyncio.create_task(_watch(day, server, clock, start + 0.65 * length))
                for moment, what in moments:
                    await clock.sleep(max(0.0, start + moment - clock.time()))
                    if what == "cut":
                        radio.disconnect()
                        continue
                    server.kill()
                    await asyncio.to_thread(server.start)
                while not (await http.get(job["status_url"])).json()["terminal"]:
                    await clock.sleep(5.0)
                watching.cancel()
            day.delay_seconds = 2 * max(0.0, radio.longest_tick_seconds - TICK_SECONDS * plan.speed)
            day.events = await asyncio.to_thread(_all_events, server.url, key, job["id"])
        finally:
            server.kill()
    engine = create_engine(f"sqlite:///{server.data_dir / 'stenobird.db'}")
    with engine.connect() as connection:
        rows = connection.execute(select(usage.c.minutes, usage.c.audio_seconds))
        day.usage = [(int(row.minutes), float(row.audio_seconds)) for row in rows]
    engine.dispose()
    return day


async def _watch(day: Day, server: ServerProcess, clock: ScaledClock, from_moment: float) -> None:
    spools = server.data_dir / "spool"
    while True:
        with contextlib.suppress(OSError):
            sizes = [path.stat().st_size for path in spools.rglob("*") if path.is_file()]
            day.spool_bytes = max(day.spool_bytes, sum(sizes))
            if clock.time() >= from_moment:
                day.rss_bytes.append(_rss_bytes(server))
        await asyncio.sleep(1.0)


def _rss_bytes(server: ServerProcess) -> int:
    assert server.process is not None
    resident = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(resident) * os.sysconf("SC_PAGE_SIZE")


def _all_events(url: str, key: str, job_id: str) -> list[ReadEvent]:
    with EventReader(url, key) as reader:
        return list(reader.events(job_id))


async def _serve(speed: float, origin: float) -> None:
    settings = Settings()
    configure_logging(settings)
    overrides = Overrides(clock=ScaledClock(speed, origin))
    async with (
        open_services(settings, overrides=overrides) as services,
        until_signal() as stopped,
        serving(services),
    ):
        await stopped.wait()


def main() -> None:
    """Run the long day, or be the service of one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs=2, type=float, metavar=("SPEED", "ORIGIN"))
    parser.add_argument("--minutes", type=int, default=LONG.minutes)
    parser.add_argument("--speed", type=float, default=LONG.speed)
    parser.add_argument("--cuts", type=int, default=LONG.cuts)
    parser.add_argument("--kills", type=int, default=LONG.kills)
    parser.add_argument("--path", default=LONG.path, help="/icecast, /shoutcast, /plain or /hls/index.m3u8")
    parser.add_argument("--undated", action="store_true", help="the playlist has no dates")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to keep the data folder and the events")
    chosen = parser.parse_args()
    if chosen.serve:
        run_loop(_serve(*chosen.serve))
        return
    with tempfile.TemporaryDirectory() as folder:
        plan = Plan(
            chosen.minutes, chosen.speed, chosen.cuts, chosen.kills, chosen.path, dates=not chosen.undated
        )
        day = asyncio.run(run(plan, chosen.folder or Path(folder), seed=chosen.seed))
    if chosen.folder:
        rows = "".join(f"{event.event} {event.data}\n" for event in day.events)
        (chosen.folder / "events.txt").write_text(rows)
    print(json.dumps(day.figures(), indent=2))  # noqa: T201  # the figures of a run by hand


if __name__ == "__main__":
    main()
