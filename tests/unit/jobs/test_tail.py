"""How the readers of a job share the reads of its log."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, cast

import pytest
from structlog.testing import capture_logs

from stenobird.egress.policy import EgressPolicy
from stenobird.errors import StorageUnavailable
from stenobird.jobs.service import JobService, ServiceOptions
from stenobird.jobs.spec import RequestChecks
from stenobird.jobs.tail import EVENT_PAGE, KEPT_EVENTS, JobTails
from stenobird.ports import Clock, EventRow, JobRecord, RecognitionOptions, Wakeups
from stenobird.testing import FakeOpener, spoken
from stenobird.webhooks.service import WebhookTargets

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from stenobird.jobs.tail import JobTail, Page, Take
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
        self.broken = False
        self.random = Random(7)

    def commit(self, *events: str) -> None:
        assert self.job is not None
        for event in events:
            self.rows.append(EventRow(len(self.rows) + 1, event, "{}"))
        self.job = replace(self.job, last_seq=len(self.rows))

    async def events_after(self, job_id: str, seq: int, *, limit: int = 500) -> list[EventRow]:
        self.reads.append(seq)
        await self._turns()
        if self.broken:
            raise StorageUnavailable
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


class ManualClock(Clock):
    """A clock that the test advances."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Streamed:
    """A log with its tails, and readers of it."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.clock = ManualClock()
        self.wakeups = Wakeups()
        # A lost wake-up would show as a test that takes minutes.
        self.tails = JobTails(log.store, self.wakeups, self.clock, poll_seconds=300, ping_seconds=300)

    @asynccontextmanager
    async def tail(self) -> AsyncIterator[JobTail]:
        """Join the readers."""
        async with asyncio.timeout(180), self.tails.of("tr_1", len(self.log.rows)) as tail:
            yield tail

    async def commit(self, *events: str) -> None:
        """Commit and announce events."""
        self.log.commit(*events)
        await self.wakeups.notify_event("tr_1")


async def at_rest(log: Log) -> None:
    """Let all tasks run until nothing reads the log any more."""
    reads = -1
    while reads != len(log.reads):
        reads = len(log.reads)
        for _ in range(20):
            await asyncio.sleep(0)


async def test_readers_that_wait_for_the_same_event_share_one_read_and_one_page() -> None:
    log = Log()
    log.commit("status")
    streamed = Streamed(log)
    async with streamed.tail() as tail:
        pages = await asyncio.gather(*(tail.after(0) for _ in range(50)))
        assert [list(page or ()) for page in pages] == [log.rows] * 50
        assert log.reads == [0]
        async with asyncio.TaskGroup() as tasks:
            waiting = [tasks.create_task(tail.after(1)) for _ in range(50)]
            await at_rest(log)
            await streamed.commit("transcript", "transcript")
        pages = [task.result() for task in waiting]
    assert [list(page or ()) for page in pages] == [log.rows[1:]] * 50
    assert len({id(page) for page in pages}) == 1
    assert log.reads == [0, 1]


async def test_readers_whose_connections_are_idle_are_not_woken() -> None:
    log = Log()
    log.commit("status")
    streamed = Streamed(log)
    taken: list[list[EventRow]] = [[] for _ in range(10)]
    busy: list[int] = []

    def taker(number: int) -> Take:
        def take(page: Page) -> bool:
            if number in busy:
                return False
            taken[number].extend(page)
            return True

        return take

    async with streamed.tail() as tail, asyncio.TaskGroup() as tasks:
        await tail.after(0)
        waiting = [tasks.create_task(tail.after(1, taker(number))) for number in range(10)]
        await at_rest(log)
        for _ in range(3):
            await streamed.commit("transcript", "transcript")
            await at_rest(log)
        assert not any(task.done() for task in waiting)
        assert taken == [log.rows[1:]] * 10
        # One that leads and one that follows have full connections; the others must not wait for them.
        busy += [0, 5]
        await streamed.commit("transcript")
        await at_rest(log)
        assert [number for number, task in enumerate(waiting) if task.done()] == busy
        await streamed.commit("done")
    assert waiting[0].result() == waiting[5].result() == (log.rows[7],)
    assert [task.result() for number, task in enumerate(waiting) if number not in busy] == [None] * 8
    assert [rows for number, rows in enumerate(taken) if number not in busy] == [log.rows[1:]] * 8


async def test_the_readers_of_a_silent_job_share_its_pings() -> None:
    log = Log()
    log.commit("status")
    streamed = Streamed(log)
    async with streamed.tail() as tail, asyncio.TaskGroup() as tasks:
        await tail.after(0)
        waiting = [tasks.create_task(tail.after(1)) for _ in range(50)]
        await at_rest(log)
        streamed.clock.now += 300
        await streamed.wakeups.notify_event("tr_1")
    assert [task.result() for task in waiting] == [()] * 50
    assert log.reads == [0, 1]


@pytest.mark.parametrize("leaving", [0, 1, 25])
async def test_readers_that_leave_take_no_event_from_the_others(leaving: int) -> None:
    log = Log()
    log.commit("status")
    streamed = Streamed(log)
    async with streamed.tail() as tail, asyncio.TaskGroup() as tasks:
        await tail.after(0)
        waiting = [tasks.create_task(tail.after(1)) for _ in range(50)]
        await at_rest(log)
        # The leader, another one, and one that has just been woken to lead.
        for task in (waiting[leaving], waiting[0], waiting[1]):
            task.cancel()
            await asyncio.sleep(0)
        waiting[2].cancel()
        await streamed.commit("transcript")
        left = [task for number, task in enumerate(waiting) if number not in {0, 1, 2, leaving}]
        await asyncio.wait(left)
    assert [task.result() for task in left] == [tuple(log.rows[1:])] * len(left)


async def test_a_database_outage_disconnects_nobody() -> None:
    log = Log()
    log.commit("status")
    streamed = Streamed(log)
    with capture_logs() as lines:
        async with streamed.tail() as tail, asyncio.TaskGroup() as tasks:
            await tail.after(0)
            waiting = [tasks.create_task(tail.after(1)) for _ in range(50)]
            log.broken = True
            for _ in range(3):
                await streamed.wakeups.notify_event("tr_1")
                await at_rest(log)
            assert not any(task.done() for task in waiting)
            log.broken = False
            await streamed.commit("transcript")
    assert [task.result() for task in waiting] == [tuple(log.rows[1:])] * 50
    assert lines == []  # the database has logged it


async def test_a_reader_far_behind_reads_the_log_itself() -> None:
    log = Log()
    log.commit(*["transcript"] * (KEPT_EVENTS + 300))
    async with Streamed(log).tail() as tail:
        end = len(log.rows)
        assert await tail.after(end - 1) == tuple(log.rows[-1:])
        assert await tail.after(0) == tuple(log.rows[:EVENT_PAGE])
        reads = len(log.reads)
        assert await tail.after(end - 1) == tuple(log.rows[-1:])
        assert len(log.reads) == reads


async def test_a_slow_reader_misses_nothing_when_others_join_later() -> None:
    log = Log()
    streamed = Streamed(log)
    async with streamed.tail() as tail, asyncio.TaskGroup() as tasks:
        await streamed.commit(*["transcript"] * 10)
        assert await tail.after(0) == tuple(log.rows)
        # It read the next five elsewhere, and reconnects here.
        ahead = tasks.create_task(tail.after(15))
        await streamed.commit(*["transcript"] * 5)
        await at_rest(log)
        assert not ahead.done()
        await streamed.commit("transcript")
        assert await ahead == tuple(log.rows[15:])
        assert await tail.after(10) == tuple(log.rows[10:])
        assert await tail.after(12) == tuple(log.rows[12:])


async def test_a_reader_behind_the_kept_events_goes_on_without_a_gap() -> None:
    log = Log()
    log.commit("status")
    streamed = Streamed(log)
    async with streamed.tail() as tail:
        seen = list(await tail.after(0) or ())
        for _ in range(5):
            await streamed.commit(*["transcript"] * EVENT_PAGE)
            await tail.after(len(log.rows) - 1)
        while len(seen) < len(log.rows):
            seen += await tail.after(seen[-1].seq) or ()
    assert seen == log.rows


async def test_a_reader_that_has_all_events_of_an_ended_job_is_done() -> None:
    log = Log()
    log.commit("status", "done")
    log.job = replace(JOB, status="completed", last_seq=2)
    async with Streamed(log).tail() as tail:
        assert await tail.after(2) is None
        assert await tail.after(1) == tuple(log.rows[1:])


async def test_the_streams_of_a_deleted_job_end() -> None:
    log = Log()
    log.job = None
    async with Streamed(log).tail() as tail:
        assert await tail.after(0) is None
        assert await tail.after(5) is None


async def test_a_tail_is_dropped_with_its_last_reader() -> None:
    streamed = Streamed(Log())
    async with streamed.tail() as first, streamed.tail() as second:
        assert first is second
        assert len(streamed.tails) == 1
    assert len(streamed.tails) == 0


async def read(service: JobService, reconnect_after: int | None) -> Sequence[EventRow]:
    seen: list[EventRow] = []
    while not seen or seen[-1].event != "done":
        stream = service.stream("tr_1", None, seen[-1].seq if seen else 0)
        async for page in stream:
            seen += page[: reconnect_after and reconnect_after - len(seen) % reconnect_after]
            if reconnect_after is not None and len(seen) % reconnect_after == 0:
                break
        await stream.aclose()
    return seen


async def read_at_once(service: JobService, chance: float, random: Random) -> Sequence[EventRow]:
    seen: list[EventRow] = []

    def take(page: Page) -> bool:
        taken = random.random() < chance
        if taken:
            seen.extend(page)
        return taken

    while not seen or seen[-1].event != "done":
        async with aclosing(service.stream("tr_1", None, len(seen), take=take)) as stream:
            async for page in stream:
                seen += page
                for _ in range(random.randint(0, 20)):
                    await asyncio.sleep(0)
                if random.random() < 0.05:
                    break
    return seen


async def test_readers_of_every_kind_see_every_event_once_and_in_order() -> None:
    log, wakeups = Log(turns=5), Wakeups()
    service = JobService(
        log.store,
        wakeups,
        RequestChecks(url=str, webhook_targets=WebhookTargets(EgressPolicy(), None)),
        clock=Clock(),
        discard=FakeOpener(spoken([])).discard,
        # A lost wake-up would show as a test that takes minutes.
        options=ServiceOptions(poll_seconds=300, sse_ping_seconds=300),
    )

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

    async with asyncio.timeout(180), asyncio.TaskGroup() as tasks:
        readers = [tasks.create_task(read(service, every)) for every in (None, None, None, 1, 7, 150)]
        readers += [
            tasks.create_task(read_at_once(service, chance, log.random))
            for chance in (1.0, 1.0, 0.9, 0.5, 0.1)
        ]
        tasks.create_task(write())
    for reader in readers:
        assert reader.result() == log.rows
