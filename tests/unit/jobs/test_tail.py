"""How the readers of a job share the reads of its log."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import pytest

from stenobird.clock import SystemClock
from stenobird.egress.policy import EgressPolicy
from stenobird.jobs.service import JobService, ServiceOptions
from stenobird.jobs.spec import RequestChecks
from stenobird.jobs.tail import EVENT_PAGE, KEPT_EVENTS, JobTails
from stenobird.ports import EventRow, JobRecord, RecognitionOptions
from stenobird.testing import FakeOpener, spoken
from stenobird.wakeups.local import LocalWakeups
from stenobird.webhooks.targets import WebhookTargets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.storage.job_store import JobStore

pytestmark = pytest.mark.anyio

JOB = JobRecord(
    id="tr_1",
    mode="preview",
    origin="stenobird",
    audio_url="https://example.com/a.mp3",
    base_url="http://test",
    options=RecognitionOptions(),
    account_id=None,
    status="transcribing",
    stage="transcribing",
    created_at=0.0,
    updated_at=0.0,
    completed_at=None,
    last_seq=0,
    next_chunk_index=0,
    cancel_requested=False,
)


class Log:
    """A job's log in memory, whose reads take a random number of turns of the event loop."""

    def __init__(self, turns: int = 1) -> None:
        self.job: JobRecord | None = JOB
        self.rows: list[EventRow] = []
        self.reads: list[int] = []
        self.turns = turns
        self.random = random.Random(7)

    def commit(self, *events: str) -> None:
        assert self.job is not None
        for event in events:
            self.rows.append(EventRow(len(self.rows) + 1, event, "{}"))
        self.job = replace(self.job, last_seq=len(self.rows))

    async def events_after(self, job_id: str, seq: int, *, limit: int = 500) -> list[EventRow]:
        self.reads.append(seq)
        await self._turns()
        page = self.rows[seq : seq + limit]
        await self._turns()
        return page

    async def get(self, job_id: str) -> JobRecord | None:
        await self._turns()
        return self.job

    async def _turns(self) -> None:
        for _ in range(self.random.randint(0, self.turns)):
            await asyncio.sleep(0)

    @property
    def store(self) -> JobStore:
        return cast("JobStore", self)


class Clock(SystemClock):
    """A clock that the test advances."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


async def test_readers_that_wait_for_the_same_event_share_one_read() -> None:
    log = Log()
    log.commit("status")
    tails = JobTails(log.store, Clock())
    with tails.of("tr_1") as tail:
        pages = await asyncio.gather(*(tail.after(0, current_since=100.0) for _ in range(50)))
    assert pages == [log.rows] * 50
    assert log.reads == [0]


async def test_readers_share_a_read_that_finds_nothing_new() -> None:
    log = Log()
    log.commit("status")
    with JobTails(log.store, Clock()).of("tr_1") as tail:
        pages = await asyncio.gather(*(tail.after(1, current_since=100.0) for _ in range(50)))
    assert pages == [()] * 50
    assert log.reads == [1]


async def test_a_read_that_began_too_early_does_not_count() -> None:
    log, clock = Log(), Clock()
    with JobTails(log.store, clock).of("tr_1") as tail:
        assert await tail.after(0, current_since=100.0) == ()
        log.commit("status")
        assert await tail.after(0, current_since=100.0) == ()
        clock.now = 101.0
        assert await tail.after(0, current_since=100.5) == log.rows


async def test_a_reader_far_behind_reads_the_log_itself() -> None:
    log = Log()
    log.commit(*["transcript"] * (KEPT_EVENTS + 300))
    with JobTails(log.store, Clock()).of("tr_1") as tail:
        end = len(log.rows)
        assert await tail.after(end - 1, current_since=100.0) == log.rows[-1:]
        assert await tail.after(0, current_since=100.0) == log.rows[:EVENT_PAGE]
        reads = len(log.reads)
        assert await tail.after(end - 1, current_since=100.0) == log.rows[-1:]
        assert len(log.reads) == reads


async def test_a_slow_reader_misses_nothing_when_others_join_later() -> None:
    log, clock = Log(), Clock()
    with JobTails(log.store, clock).of("tr_1") as tail:
        log.commit(*["transcript"] * 10)
        assert await tail.after(0, current_since=100.0) == log.rows
        log.commit(*["transcript"] * 5)
        clock.now = 101.0
        # It read the last five elsewhere, and reconnects here; the log has no more for it, and then one.
        assert await tail.after(15, current_since=101.0) == ()
        log.commit("transcript")
        clock.now = 102.0
        assert await tail.after(15, current_since=102.0) == log.rows[15:]
        assert await tail.after(10, current_since=102.0) == log.rows[10:]
        assert await tail.after(12, current_since=102.0) == log.rows[12:]


async def test_a_reader_that_has_all_events_of_an_ended_job_is_done() -> None:
    log = Log()
    log.commit("status", "done")
    log.job = replace(JOB, status="completed", last_seq=2)
    with JobTails(log.store, Clock()).of("tr_1") as tail:
        assert await tail.after(2, current_since=100.0) is None
        assert await tail.after(1, current_since=100.0) == log.rows[1:]


async def test_the_streams_of_a_deleted_job_end() -> None:
    log = Log()
    log.job = None
    with JobTails(log.store, Clock()).of("tr_1") as tail:
        assert await tail.after(0, current_since=100.0) is None
        assert await tail.after(5, current_since=100.0) is None


async def test_a_tail_is_dropped_with_its_last_reader() -> None:
    tails = JobTails(Log().store, Clock())
    with tails.of("tr_1") as first, tails.of("tr_1") as second:
        assert first is second
        assert len(tails) == 1
    assert len(tails) == 0


async def test_readers_of_every_kind_see_every_event_once_and_in_order() -> None:
    log, wakeups = Log(turns=5), LocalWakeups()
    service = JobService(
        log.store,
        wakeups,
        RequestChecks(url=str, webhook_targets=WebhookTargets(EgressPolicy(), None)),
        clock=SystemClock(),
        discard=FakeOpener(spoken([])).discard,
        # A lost wake-up would show as a test that takes minutes.
        options=ServiceOptions(poll_seconds=300, sse_ping_seconds=300),
    )

    async def read(reconnect_after: int | None) -> Sequence[EventRow]:
        seen: list[EventRow] = []
        while not seen or seen[-1].event != "done":
            stream = service.stream("tr_1", None, seen[-1].seq if seen else 0)
            async for row in stream:
                assert row is not None
                seen.append(row)
                if reconnect_after is not None and len(seen) % reconnect_after == 0:
                    break
            await stream.aclose()
        return seen

    async def write() -> None:
        for number in range(2 * KEPT_EVENTS):
            log.commit(*["transcript"] * (number % 4))
            await wakeups.notify_event("tr_1")
            for _ in range(number % 7):
                await asyncio.sleep(0)
        log.commit("done")
        assert log.job is not None
        log.job = replace(log.job, status="completed")
        await wakeups.notify_event("tr_1")

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(read(every)) for every in (None, None, None, 1, 7, 150)]
        tasks.create_task(write())
    for reader in readers:
        assert reader.result() == log.rows
