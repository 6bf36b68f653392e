"""Jobs with live audio: gaps, ends and bills, whatever happens to the stream, the client and the worker."""

from __future__ import annotations

import asyncio
import json
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import override

from stenobird.jobs.run import JobRun
from stenobird.ports import PCM, SAMPLE_RATE, AudioOpener, AudioRequest, Gap, Title
from stenobird.testing import FakeFinder, FakeStream, FakeVoices, a_source, spoken
from tests.support.until import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.job_world import JobWorld

pytestmark = pytest.mark.anyio

AT = 1_800_000_000.0


@dataclass
class OnAir(FakeStream):
    """Says the number of each second: second 0 is 1. Waits where `station.holds_at` is."""

    station: Any = None
    ended: bool = False

    @override
    async def __aiter__(self) -> AsyncIterator[PCM | Gap | Title]:
        station, limits = self.station, self.request.limits
        second = self.request.start_sample // SAMPLE_RATE
        if second:
            yield Gap(station.away_seconds * SAMPLE_RATE, "restarted")
            second += station.away_seconds
        yield Title("The news")
        self.at = AT - (station.earlier_seconds if second else 0)  # known with the first sample
        while second < (limits.stop_samples or limits.live_samples) // SAMPLE_RATE:
            if second in station.gaps:
                yield Gap(station.gaps[second] * SAMPLE_RATE, "disconnected")
                second += station.gaps[second]
            while second >= station.holds_at and not self.ended:
                station.holding.set()
                await asyncio.sleep(0)
                await station.moved.wait()
            if self.ended or second >= station.ends_at:
                return
            yield spoken([second + 1])
            second += 1
            if second == 10:
                self.at = AT - station.earlier_seconds

    @override
    def stop(self) -> None:
        self.ended = True
        self.station.moved.set()


@dataclass
class Station(AudioOpener):
    """A station that sends until `holds_at`, and ends at `ends_at`; both are seconds from its first."""

    gaps: dict[int, int] = field(default_factory=dict)
    holds_at: int = 10**6
    ends_at: int = 10**6
    away_seconds: int = 3
    earlier_seconds: float = 0.0
    """How much earlier it began than its first ten seconds showed."""
    holding: asyncio.Event = field(default_factory=asyncio.Event)
    moved: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    @override
    async def open(self, request: AudioRequest) -> AsyncIterator[FakeStream]:
        if not request.source.live:
            yield FakeStream(spoken([1, 2, 3]), request)
            return
        self.moved.clear()
        self.holding.clear()
        yield OnAir(spoken([]), request, live=True, station=self)

    @override
    async def discard(self, job_id: str) -> None:
        pass

    @override
    async def held(self) -> set[str]:
        return set()


def on_air(world: JobWorld, **changes: Any) -> Station:
    """Put a station behind every URL."""
    station = Station(**changes)
    world.opener = station  # type: ignore[assignment]  # the world's own one plays files
    world.finder = FakeFinder(a_source(live=True))
    return station


async def holding_or_done(station: Station, run: asyncio.Task[None]) -> None:
    """Wait until the station sends no more for now, or the run has ended."""
    waiter = asyncio.create_task(station.holding.wait())
    await asyncio.wait({run, waiter}, return_when="FIRST_COMPLETED")
    waiter.cancel()
    await asyncio.wait({waiter})


async def begin_and_lose(world: JobWorld, station: Station, *, later_turns: int = 0) -> None:
    """Run the next job until the station holds, and so many turns of the loop more; then lose its worker."""
    run = asyncio.create_task(JobRun(world.context(), await world.claim()).carry_out())
    await holding_or_done(station, run)
    for _ in range(later_turns):
        await asyncio.sleep(0)
    run.cancel()
    await asyncio.wait({run})
    await world.lose_leases()


async def texts(world: JobWorld, job_id: str) -> list[tuple[str, dict[str, Any]]]:
    return [(row.event, json.loads(row.data)) for row in await world.events(job_id)]


def seconds_of(events: list[tuple[str, dict[str, Any]]]) -> tuple[list[int], set[int]]:
    """Return the seconds whose numbers were transcribed, and those that are said to be missing."""
    words = [data for event, data in events if event == "transcript"]
    assert [data["chunk_index"] for data in words] == list(range(len(words)))
    for data in words:
        assert int(data["text"]) == int(data["start"]) + 1
    missing: set[int] = set()
    for event, data in events:
        if event == "status" and data["stage"] == "stream_gap":
            missing |= set(range(int(data["start"]), int(data["start"] + data["seconds"])))
    return [int(data["start"]) for data in words], missing


async def test_a_full_job_ends_at_its_minutes_and_tells_gaps_and_titles(world: JobWorld) -> None:
    on_air(world, gaps={20: 30})
    job = await world.post(world.payer, max_minutes=2)
    await world.run_next()
    events = await texts(world, job.id)
    heard, missing = seconds_of(events)
    assert heard == [*range(20), *range(50, 120)]
    assert missing == set(range(20, 50))
    statuses = [data for event, data in events if event == "status"]
    assert next(data["title"] for data in statuses if data["stage"] == "now_playing") == "The news"
    sources = [data["source"] for data in statuses if "source" in data]
    assert sources[-1]["live"] is True
    assert sources[-1]["at"] == "2027-01-15T08:00:00.000Z"
    ended = await world.job(job.id)
    assert (ended.status, ended.duration_seconds, ended.billable_minutes) == ("completed", 120.0, 1)
    assert (ended.extra.gap_seconds, ended.extra.now_playing) == (30.0, "The news")
    (usage,) = await world.rows()
    assert (usage["minutes"], usage["audio_seconds"]) == (1, 90.0)


async def test_the_time_of_the_first_sample_is_told_again_when_it_is_known_better(world: JobWorld) -> None:
    station = on_air(world, earlier_seconds=2.5, holds_at=20)
    job = await world.post(world.payer, max_minutes=1)
    await begin_and_lose(world, station)
    station.holds_at = 10**6
    await world.run_next()
    events = await texts(world, job.id)
    sources = [data["source"] for event, data in events if event == "status" and "source" in data]
    assert [source.get("at") for source in sources] == [
        None,
        "2027-01-15T08:00:00.000Z",
        "2027-01-15T07:59:57.500Z",
    ]
    assert (await world.job(job.id)).source == sources[-1]
    heard, missing = seconds_of(events)
    assert set(heard) | missing == set(range(60))


async def test_a_preview_of_live_audio_is_its_next_seconds_and_is_not_continued(world: JobWorld) -> None:
    on_air(world)
    preview = await world.post()
    await world.run_next()
    assert seconds_of(await texts(world, preview.id))[0] == list(range(15))
    assert (await world.job(preview.id)).status == "preview_complete"
    full = await world.post(world.payer, preview_id=preview.id, max_minutes=1)
    await world.run_next()
    assert seconds_of(await texts(world, full.id))[0] == list(range(60))
    assert world.finder.found == 2


async def test_live_jobs_have_places_of_their_own(world: JobWorld) -> None:
    station = on_air(world, holds_at=10)
    worker = world.worker(max_running=2, live_max_running=2, poll_seconds=0.01)
    jobs = [await world.post(world.payer) for _ in range(4)]
    running = asyncio.create_task(worker.run())

    async def lanes() -> list[tuple[str, str]]:
        return [((one := await world.job(job.id)).lane, one.status) for job in jobs]

    async def settled() -> bool:
        found = await lanes()
        return [lane for lane, _ in found] == ["live"] * 4 and [one for _, one in found].count(
            "transcribing"
        ) == 2

    await until(settled)
    # A recording is not held up by those that run, nor by those that wait.
    world.finder.source = a_source(live=False)
    recording = await world.post(world.payer)

    async def completed() -> bool:
        return (await world.job(recording.id)).status == "completed"

    await until(completed)
    station.moved.set()
    for job in jobs:
        await world.service.cancel_or_delete(job.id, world.payer)

    async def cancelled() -> bool:
        return {status for _, status in await lanes()} == {"cancelled"}

    await until(cancelled)
    worker.stop()
    await running


async def test_speakers_are_labelled_across_gaps_and_a_takeover(world: JobWorld) -> None:
    """One speaker says the numbers under ten, another those up to 29."""
    world.speakers = FakeVoices()
    station = on_air(world, gaps={4: 2}, holds_at=24, ends_at=29)
    job = await world.post(world.payer, max_minutes=2, speakers=True)
    await begin_and_lose(world, station)
    station.holds_at = 10**6
    await world.run_next()
    events = await texts(world, job.id)
    heard, missing = seconds_of(events)
    assert set(heard) | missing == set(range(29))
    assert len(missing) == 5
    final = [data for event, data in events if event == "speakers"][-1]
    assert final["final"] is True
    assert [(label["chunk_index"], label["speaker"]) for label in final["labels"]] == [
        (index, "Speaker 1" if second < 9 else "Speaker 2") for index, second in enumerate(heard)
    ]
    assert (await world.job(job.id)).status == "completed"


@pytest.mark.parametrize("seed", range(16))
async def test_minutes_are_billed_once_however_a_job_ends(world: JobWorld, seed: int) -> None:
    """Random kills, then one of: a stop, a cancel, the end of the stream, the end of its minutes."""
    rng = random.Random(seed)  # not a secret
    station = on_air(world, gaps={rng.randrange(1, 200): rng.randrange(1, 40) for _ in range(3)})
    job = await world.post(world.payer, max_minutes=5)
    for _ in range(rng.randrange(4)):
        station.holds_at = rng.randrange(250)
        await begin_and_lose(world, station, later_turns=rng.randrange(20))
    how = rng.choice(["stop", "cancel", "end", "minutes"])
    station.holds_at = rng.randrange(1, 300) if how in {"stop", "cancel"} else 10**6
    station.ends_at = rng.randrange(1, 300) if how == "end" else 10**6
    run = asyncio.create_task(JobRun(world.context(), await world.claim()).carry_out())
    if how in {"stop", "cancel"}:
        await holding_or_done(station, run)
        end = world.service.stop if how == "stop" else world.service.cancel_or_delete
        await end(job.id, world.payer)
    await run
    ended = await world.job(job.id)
    heard, missing = seconds_of(await texts(world, job.id))
    assert len(set(heard)) == len(heard)
    assert not set(heard) & missing
    assert set(heard) | missing == set(range(max(set(heard) | missing, default=-1) + 1))
    minutes = max(1, len(heard) // 60)
    usage = await world.rows()
    if not heard:
        assert (ended.status, usage) in [("cancelled", []), ("failed", [])]
    else:
        assert ended.status == ("cancelled" if how == "cancel" else "completed")
        assert ended.billable_minutes == minutes
        assert [(row["minutes"], row["audio_seconds"]) for row in usage] == [(minutes, len(heard))]
