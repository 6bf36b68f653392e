"""One job from claim to end: its events, its bill, its failures, and every way to be stopped."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from sqlalchemy import delete

from stenobird.errors import (
    AudioSourceNotFound,
    AudioUnreachable,
    ConnectFailed,
    DestinationForbidden,
    EngineUnavailable,
    LeaseLost,
    StorageUnavailable,
    TranscriptionFailed,
    WorkerTrouble,
)
from stenobird.jobs.leased import billable_minutes
from stenobird.jobs.pipeline import RunOptions
from stenobird.jobs.run import JobRun
from stenobird.jobs.schemas import CreateTranscript, TranscriptResult
from stenobird.ports import SAMPLE_RATE
from stenobird.storage.queue import MAX_INTERRUPTIONS, QueueStore
from stenobird.storage.schema import jobs
from stenobird.testing import FakeOpener, a_source, spoken
from tests.support.faults import DyingStore, survives_a_death
from tests.support.job_world import BASE, URL

if TYPE_CHECKING:
    from stenobird.ports import AudioRequest, EventRow, JobRecord
    from tests.support.job_world import JobWorld

pytestmark = pytest.mark.anyio


def steps(events: list[EventRow]) -> list[tuple[str, ...]]:
    """Return the sequence of events, with status and stage where they have them."""
    rows = []
    for event in events:
        data = json.loads(event.data)
        rows.append((event.event, *(data[key] for key in ("status", "stage") if key in data)))
    return rows


def texts(events: list[EventRow]) -> list[str]:
    return [json.loads(event.data)["text"] for event in events if event.event == "transcript"]


def last(events: list[EventRow]) -> dict[str, Any]:
    assert events[-1].event == "done"
    data: dict[str, Any] = json.loads(events[-1].data)
    return data


QUEUED = ("status", "queued", "validating_url")
DIRECT = ("status", "queued", "resolving_direct")
RESOLVED = ("status", "queued", "source_resolved")
SUBMITTED = ("status", "transcribing", "submitted")
TRANSCRIBING = ("status", "transcribing", "transcribing")
CHUNK = ("transcript", "transcribing", "transcribing")


async def test_a_full_job_commits_the_published_sequence(world: JobWorld) -> None:
    world.opener.audio = spoken([1, 2, 3])
    job = await world.post(world.payer)
    await world.run_next()
    events = await world.events(job.id)
    assert steps(events) == [
        QUEUED,
        DIRECT,
        RESOLVED,
        SUBMITTED,
        TRANSCRIBING,
        CHUNK,
        CHUNK,
        CHUNK,
        ("done", "completed"),
    ]
    assert texts(events) == ["1", " 2", " 3"]
    chunks = [json.loads(event.data) for event in events if event.event == "transcript"]
    assert [chunk["chunk_index"] for chunk in chunks] == [0, 1, 2]
    assert [chunk.get("language") for chunk in chunks] == ["en", None, None]
    assert (chunks[1]["start"], chunks[1]["end"]) == (1.0, 2.0)
    resolved = json.loads(events[2].data)
    assert resolved["source"] == a_source().public()
    assert json.loads(events[1].data)["message"] == "The URL is audio."
    assert last(events)["billable_minutes"] == 1
    record = await world.job(job.id)
    assert (record.duration_seconds, record.language, record.engine, record.model) == (
        3.0,
        "en",
        "fake",
        "numbers",
    )
    assert world.opener.open_now == 0
    assert world.opener.discarded == [job.id]


async def test_a_preview_transcribes_exactly_its_seconds_and_is_locked(world: JobWorld) -> None:
    job = await world.post()
    await world.run_next()
    events = await world.events(job.id)
    assert texts(events)[-1] == " 15"
    assert steps(events)[-2:] == [("preview_locked", "preview_complete"), ("done", "preview_complete")]
    assert "billable_minutes" not in last(events)
    record = await world.job(job.id)
    assert (record.status, record.duration_seconds, record.mode) == ("preview_complete", 15.0, "preview")
    assert world.opener.requests[0].limits.stop_samples == 15 * SAMPLE_RATE
    assert await world.rows() == []


async def test_audio_shorter_than_the_preview_is_locked_too(world: JobWorld) -> None:
    world.opener.audio = spoken([7])
    job = await world.post()
    await world.run_next()
    assert steps(await world.events(job.id))[-3:] == [
        CHUNK,
        ("preview_locked", "preview_complete"),
        ("done", "preview_complete"),
    ]


async def test_silence_is_completed_with_empty_text_and_moves_the_checkpoint(world: JobWorld) -> None:
    world.opener.audio = spoken([0] * 12)
    job = await world.post(world.payer)
    await world.run_next()
    events = await world.events(job.id)
    progress = [json.loads(event.data).get("progress") for event in events[5:-1]]
    assert progress == [
        {"audio_seconds": seconds, "audio_seconds_total": 12.0} for seconds in (5.0, 10.0, 12.0)
    ]
    _, transcript = await world.service.result(job.id, world.payer)
    assert (transcript.text, transcript.duration_seconds) == ("", 12.0)
    assert last(events)["status"] == "completed"


async def test_progress_is_reported_about_every_thirty_seconds_of_audio(world: JobWorld) -> None:
    world.opener.audio = spoken(range(1, 101))
    job = await world.post(world.payer)
    await world.run_next()
    rows = [json.loads(event.data) for event in await world.events(job.id)]
    assert [row["progress"]["audio_seconds"] for row in rows if "progress" in row] == [30.0, 60.0, 90.0]


async def test_words_are_in_the_events_when_asked_for(world: JobWorld) -> None:
    world.opener.audio = spoken([4])
    job = await world.post(world.payer, word_timestamps=True)
    await world.run_next()
    [chunk] = [json.loads(e.data) for e in await world.events(job.id) if e.event == "transcript"]
    assert chunk["words"] == [{"start": 0.0, "end": 1.0, "text": " 4", "probability": 0.9}]


@pytest.mark.parametrize(
    ("samples", "minutes"),
    [
        (1, 1),
        (60 * SAMPLE_RATE - 1, 1),
        (60 * SAMPLE_RATE, 1),
        (120 * SAMPLE_RATE - 1, 1),
        (120 * SAMPLE_RATE, 2),
        (10_801 * SAMPLE_RATE, 180),
    ],
)
def test_whole_minutes_are_billed_rounded_down_and_at_least_one(samples: int, minutes: int) -> None:
    assert billable_minutes(samples) == minutes


async def test_a_completed_job_leaves_one_usage_row_and_its_webhook(world: JobWorld) -> None:
    world.opener.audio = spoken([1] * 125)
    job = await world.post(world.payer, webhook_url="https://example.com/hook")
    await world.run_next()
    [bill] = await world.rows()
    assert (bill["job_id"], bill["account_id"], bill["minutes"]) == (job.id, "acct_1", 2)
    [message] = await world.messages()
    assert message["payload"]["event_type"] == "transcription.completed"
    assert (await world.job(job.id)).billable_minutes == 2


async def test_a_test_job_is_canned_labelled_and_free(world: JobWorld) -> None:
    tester = type(world.payer)("acct_1", "key_2", "test", "full_access", "premium")
    job = await world.post(tester, word_timestamps=True)
    await world.run_next()
    events = await world.events(job.id)
    assert steps(events) == [QUEUED, SUBMITTED, TRANSCRIBING, CHUNK, CHUNK, CHUNK, ("done", "completed")]
    record, transcript = await world.service.result(job.id, tester)
    assert (record.mode, record.engine, record.billable_minutes) == ("test", "test", 0)
    assert "test transcript" in transcript.text
    assert "".join(word.text for s in transcript.segments for word in s.words) == transcript.text
    assert (world.finder.found, world.opener.requests) == (0, [])
    assert await world.rows() == []


# --- failures -----------------------------------------------------------------------------------------------


async def failed(world: JobWorld) -> tuple[JobRecord, list[EventRow]]:
    job = await world.post(world.payer, webhook_url="https://example.com/hook")
    await world.run_next()
    record = await world.job(job.id)
    events = await world.events(job.id)
    assert record.status == "failed"
    assert [event.event for event in events[-2:]] == ["error", "done"]
    error = json.loads(events[-2].data)
    assert error == {"id": job.id, "status": "failed", **(record.error or {})}
    assert last(events)["error"] == error["error"]
    assert last(events)["result_ready"] is False
    assert await world.rows() == []
    [message] = await world.messages()
    assert message["payload"]["event_type"] == "transcription.failed"
    assert world.opener.open_now == 0
    assert world.opener.discarded == [job.id]
    return record, events


async def test_a_url_without_audio_fails_with_the_finders_error(world: JobWorld) -> None:
    world.finder.error = AudioSourceNotFound(details={"tried": ["direct"]})
    record, events = await failed(world)
    assert record.error == AudioSourceNotFound(details={"tried": ["direct"]}).body()
    assert steps(events)[:2] == [QUEUED, DIRECT]
    assert record.stage == "resolving_direct"


async def test_the_openai_dialect_refuses_live_audio(world: JobWorld) -> None:
    world.finder.source = a_source(URL, live=True)
    spec = CreateTranscript.parse({"audio_url": URL}).spec("openai")
    job = await world.service.create(spec, caller=world.payer, base_url=BASE)
    await world.run_next()
    assert steps(await world.events(job.id)) == [QUEUED, DIRECT, ("error", "failed"), ("done", "failed")]
    error = (await world.job(job.id)).error
    assert error is not None
    assert error["error"] == "unsupported_url"
    assert "POST /v1/transcripts" in error["message"]
    assert await world.rows() == []


async def test_audio_that_can_not_be_opened_fails_after_submitted(world: JobWorld) -> None:
    world.opener.open_error = lambda _: AudioUnreachable("404 from example.com")
    record, events = await failed(world)
    assert (record.error or {})["error"] == "audio_unreachable"
    assert steps(events)[:4] == [QUEUED, DIRECT, RESOLVED, SUBMITTED]


async def test_an_error_of_the_audio_is_not_hidden_by_the_recognizer(world: JobWorld) -> None:
    world.opener.stream_error = AudioUnreachable("It broke off.")
    record, _ = await failed(world)
    assert (record.error or {})["message"] == "It broke off."


async def test_an_error_inside_a_group_is_found(world: JobWorld) -> None:
    async def boom(_: int) -> None:
        raise ExceptionGroup("tasks", [ValueError("x"), ExceptionGroup("t", [TranscriptionFailed("hung")])])

    world.recognizer.before_window = boom
    record, _ = await failed(world)
    assert (record.error or {})["message"] == "hung"


async def test_audio_longer_than_the_limit_fails(world: JobWorld) -> None:
    world.run_options = RunOptions(max_audio_seconds=39)
    record, _ = await failed(world)
    assert (record.error or {})["error"] == "audio_too_large"


async def test_an_unexpected_error_keeps_its_details_from_the_client(world: JobWorld) -> None:
    async def boom(_: int) -> None:
        raise RuntimeError("/secret/path")

    world.recognizer.before_window = boom
    record, _ = await failed(world)
    assert record.error == TranscriptionFailed().body()


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (DestinationForbidden("10.0.0.1 is not public."), "unsupported_url"),
        (ConnectFailed(), "audio_source_unreachable"),
    ],
)
async def test_errors_of_other_kinds_are_translated_to_job_errors(
    world: JobWorld, raised: Exception, code: str
) -> None:
    world.finder.error = raised
    record, _ = await failed(world)
    assert (record.error or {})["error"] == code


async def test_no_audio_at_all_fails(world: JobWorld) -> None:
    world.opener.audio = spoken([])
    record, _ = await failed(world)
    assert (record.error or {})["error"] == "transcription_failed"


def cannot_connect() -> ConnectFailed:
    error = ConnectFailed("No socket.")
    error.__cause__ = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return error


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (WorkerTrouble("The disk is full."), "The disk is full."),
        (EngineUnavailable("No model can be loaded."), "No model can be loaded."),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN)), "temporarily unavailable"),
        (MemoryError(), "too little memory"),
        (ExceptionGroup("tasks", [ValueError("x"), cannot_connect()]), "Too many open files"),
    ],
    ids=["disk", "model", "errno", "child", "memory", "descriptors"],
)
async def test_trouble_of_this_machine_gives_the_job_back_without_counting_an_attempt(
    world: JobWorld, raised: Exception, reason: str
) -> None:
    async def trouble(index: int) -> None:
        if index == 2:
            raise raised

    job = await world.post(world.payer)
    world.recognizer.before_window = trouble
    await world.run_next()
    record = await world.job(job.id)
    assert (record.status, record.error, world.opener.discarded) == ("transcribing", None, [job.id])
    (attempt,) = await QueueStore(world.database).attempts(job.id)
    assert attempt.outcome == "trouble"
    assert reason in (attempt.reason or "")

    world.recognizer.before_window = None
    await world.end_waiting()
    claim = await world.claim()
    assert claim.attempts == 1
    await JobRun(world.context(), claim).carry_out()
    assert texts(await world.events(job.id)) == ["1"] + [f" {n}" for n in range(2, 41)]
    assert len(await world.rows()) == 1


@pytest.mark.parametrize(
    "broken",
    [
        ssl.SSLSyscallError(ssl.SSL_ERROR_SYSCALL, "EOF"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        socket.gaierror(socket.EAI_AGAIN, "no answer"),
        TimeoutError(),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_a_broken_connection_is_no_trouble_of_this_machine(broken: OSError) -> None:
    error = AudioUnreachable()
    error.__cause__ = broken
    assert WorkerTrouble.behind(error) is None


async def test_an_engine_unfit_for_paying_clients_gives_the_job_back_before_any_work(
    world: JobWorld,
) -> None:
    job = await world.post(world.payer)
    world.recognizer.engine = "offline"
    await world.run_next()
    assert (await world.job(job.id)).status == "queued"
    (attempt,) = await QueueStore(world.database).attempts(job.id)
    assert attempt.reason == (
        "Only the offline fallback engine is available, which is not good enough to charge for. Try again "
        "later; the operator can provide a Whisper model or set STENOBIRD_OFFLINE_FOR_PAID."
    )
    assert world.finder.found == 0


async def test_the_spool_of_a_lost_lease_is_deleted(world: JobWorld) -> None:
    async def lose(index: int) -> None:
        if index == 2:
            await world.lose_leases()
            await world.claim()

    await world.post(world.payer)
    world.recognizer.before_window = lose
    await world.run_next()
    assert world.opener.spools == set()


async def test_a_job_that_is_deleted_under_its_worker_stops_and_leaves_no_spool(world: JobWorld) -> None:
    reached = asyncio.Event()

    async def wait(index: int) -> None:
        if index == 1:
            reached.set()
            await asyncio.Event().wait()

    job = await world.post(world.payer)
    world.recognizer.before_window = wait
    run = JobRun(world.context(), await world.claim())
    async with asyncio.TaskGroup() as group:
        carried = group.create_task(run.carry_out())
        await reached.wait()
        async with world.database.write() as connection:
            await connection.execute(delete(jobs).where(jobs.c.id == job.id))
        await world.wakeups.notify_event(job.id)
        await carried
    assert (world.opener.spools, world.opener.open_now) == (set(), 0)


async def test_the_cancellation_of_an_awaited_task_is_a_failure(world: JobWorld) -> None:
    async def cancelled(_: int) -> None:
        raise asyncio.CancelledError

    world.recognizer.before_window = cancelled
    record, _ = await failed(world)
    assert (record.error or {})["error"] == "transcription_failed"


async def test_a_warning_about_truncated_audio_reaches_done_and_result(world: JobWorld) -> None:
    world.opener.warning = "The audio broke off."
    job = await world.post(world.payer)
    await world.run_next()
    assert last(await world.events(job.id))["warning"] == "The audio broke off."
    record, transcript = await world.service.result(job.id, world.payer)
    assert json.loads(TranscriptResult.of(record, transcript).encode())["warning"] == "The audio broke off."


# --- dying and resuming -------------------------------------------------------------------------------------


async def undisturbed(world: JobWorld, mode: str) -> tuple[list[str], JobRecord]:
    job = await world.post(world.payer if mode == "full" else None)
    await world.run_next()
    return texts(await world.events(job.id)), await world.job(job.id)


@pytest.mark.parametrize("mode", ["full", "preview"])
@pytest.mark.parametrize("after_commit", [False, True], ids=["before-commit", "after-commit"])
async def test_a_worker_killed_at_any_commit_loses_and_repeats_nothing(
    world: JobWorld, mode: str, *, after_commit: bool
) -> None:
    world.opener.audio = spoken([1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 3, 4, 5, 6, 7, 8, 9] + [10] * 50)
    expected, reference = await undisturbed(world, mode)
    bills = len(await world.rows())
    for dies_at in range(100):
        job = await world.post(world.payer if mode == "full" else None)
        survived = await survives_a_death(world, job.id, dies_at=dies_at, after_commit=after_commit)
        events = await world.events(job.id)
        record = await world.job(job.id)
        assert texts(events) == expected
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert [event.event for event in events].count("done") == 1
        assert last(events)["status"] == reference.status
        assert (record.duration_seconds, record.billable_minutes, record.language) == (
            reference.duration_seconds,
            reference.billable_minutes,
            reference.language,
        )
        assert steps(events).count(SUBMITTED) == 1
        bills += mode == "full"
        assert len(await world.rows()) == bills
        if survived:
            assert dies_at > 5
            return
    pytest.fail("the job never got through")


async def test_a_resume_opens_only_the_rest_and_passes_the_fingerprint(world: JobWorld) -> None:
    job = await world.post(world.payer)
    with pytest.raises(BaseExceptionGroup):
        await world.run_next(DyingStore(world.store, dies_at=5, after_commit=False))
    await world.store.expire_leases()
    said = world.recognizer.windows_decoded
    await world.run_next()
    first, second = world.opener.requests
    assert (first.start_sample, first.fingerprint) == (0, None)
    assert (second.start_sample, second.fingerprint) == (10 * SAMPLE_RATE, {"samples": 10 * SAMPLE_RATE})
    assert world.finder.found == 1
    assert world.recognizer.windows_decoded - said == 6
    assert (await world.job(job.id)).status == "completed"


async def test_a_job_without_progress_after_many_deaths_fails_at_the_fourth_attempt(world: JobWorld) -> None:
    job = await world.post(world.payer)
    for _ in range(MAX_INTERRUPTIONS + 3):
        with pytest.raises(BaseExceptionGroup):
            await world.run_next(DyingStore(world.store, dies_at=0, after_commit=False))
        assert not (await world.job(job.id)).terminal
        await world.lose_leases()
    await world.run_next()
    record = await world.job(job.id)
    assert record.status == "failed"
    assert (record.error or {})["error"] == "transcription_failed"
    assert "3 attempts" in (record.error or {})["message"]


async def test_a_worker_whose_lease_was_stolen_stops_without_writing(world: JobWorld) -> None:
    job = await world.post(world.payer)
    thief: list[Any] = []

    async def steal(window: int) -> None:
        if window == 1:
            await world.store.expire_leases()
            thief.append(await world.claim())

    world.recognizer.before_window = steal
    with structlog.testing.capture_logs() as logs:
        await world.run_next()
    assert [log["reason"] for log in logs if log["log_level"] != "info"] == [LeaseLost().message]
    events = await world.events(job.id)
    assert texts(events) == ["1", " 2", " 3", " 4", " 5"]
    assert not (await world.job(job.id)).terminal
    assert world.opener.open_now == 0
    assert world.opener.discarded == [job.id]
    world.recognizer.before_window = None
    await JobRun(world.context(), thief[0]).carry_out()
    assert texts(await world.events(job.id)) == ["1"] + [f" {n}" for n in range(2, 41)]


async def test_a_lease_that_is_lost_while_waiting_stops_the_run_at_the_next_renewal(world: JobWorld) -> None:
    job = await world.post(world.payer)
    waiting = asyncio.Event()

    async def wait_forever(_: int) -> None:
        waiting.set()
        await asyncio.Event().wait()

    world.recognizer.before_window = wait_forever
    run = JobRun(world.context(renew_seconds=0.01), await world.claim())
    with structlog.testing.capture_logs() as logs:
        async with asyncio.TaskGroup() as group:
            group.create_task(run.carry_out())
            await waiting.wait()
            await world.store.expire_leases()
    assert [log["reason"] for log in logs if log["log_level"] != "info"] == [LeaseLost().message]
    assert not (await world.job(job.id)).terminal
    assert world.opener.open_now == 0


async def test_a_job_whose_database_fails_is_left_to_the_next_worker(world: JobWorld) -> None:
    class AwayStore(DyingStore):
        async def _or_die(self, write: Any) -> Any:
            self.writes += 1
            if self.writes > 4:
                raise StorageUnavailable
            return await write()

    job = await world.post(world.payer)
    await world.run_next(AwayStore(world.store, dies_at=-1, after_commit=False))
    assert not (await world.job(job.id)).terminal
    assert world.opener.open_now == 0
    await world.store.expire_leases()
    await world.run_next()
    assert texts(await world.events(job.id)) == ["1"] + [f" {n}" for n in range(2, 41)]


# --- cancelling ---------------------------------------------------------------------------------------------


class Gate:
    """Holds a job at one of its steps until the test has acted."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def __call__(self, *_: object) -> None:
        self.reached.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("stage", ["searching", "opening", "first window", "third window"])
async def test_a_cancel_ends_a_running_job_at_each_stage(world: JobWorld, stage: str) -> None:
    gate = Gate()
    if stage == "searching":
        world.finder.before = gate
    elif stage == "opening":

        class SlowOpener(FakeOpener):
            def open(self, request: AudioRequest) -> Any:
                return HeldContext(super().open(request), gate)

        world.opener = SlowOpener(world.opener.audio)
    else:
        held_at = 0 if stage == "first window" else 2

        async def hold(window: int) -> None:
            if window == held_at:
                await gate()

        world.recognizer.before_window = hold
    job = await world.post(world.payer, webhook_url="https://example.com/hook")
    async with asyncio.TaskGroup() as group:
        group.create_task(world.run_next())
        await gate.reached.wait()
        record = await world.service.cancel_or_delete(job.id, world.payer)
        assert record is not None
        assert record.cancel_requested
    events = await world.events(job.id)
    assert last(events)["status"] == "cancelled"
    assert last(events)["result_ready"] is False
    assert len(texts(events)) == (10 if stage == "third window" else 0)
    assert (await world.job(job.id)).status == "cancelled"
    assert world.opener.open_now == 0
    assert world.opener.discarded == [job.id]
    assert await world.rows() == []
    [message] = await world.messages()
    assert message["payload"]["event_type"] == "transcription.cancelled"


class HeldContext:
    """A context that is held before it is entered."""

    def __init__(self, inner: Any, gate: Gate) -> None:
        self._inner = inner
        self._gate = gate

    async def __aenter__(self) -> Any:
        await self._gate()
        return await self._inner.__aenter__()

    async def __aexit__(self, *exc: object) -> Any:
        return await self._inner.__aexit__(*exc)


async def test_a_cancel_that_a_dead_worker_missed_is_done_by_the_next_one(world: JobWorld) -> None:
    job = await world.post(world.payer)
    claim = await world.claim()
    await world.service.cancel_or_delete(job.id, world.payer)
    await world.store.release(claim.lease)
    await world.run_next()
    assert (await world.job(job.id)).status == "cancelled"
    assert world.finder.found == 0


# --- draining -----------------------------------------------------------------------------------------------


async def test_a_drained_job_is_released_between_commits_and_continues_elsewhere(world: JobWorld) -> None:
    gate = Gate()

    async def hold(window: int) -> None:
        if window == 2:
            await gate()

    world.recognizer.before_window = hold
    job = await world.post(world.payer)
    run = JobRun(world.context(), await world.claim())
    async with asyncio.TaskGroup() as group:
        group.create_task(run.carry_out())
        await gate.reached.wait()
        await run.drain()
    assert world.opener.open_now == 0
    assert world.opener.discarded == []
    world.recognizer.before_window = None
    claim = await world.claim()
    assert claim.attempts == 1
    await JobRun(world.context(), claim).carry_out()
    assert texts(await world.events(job.id)) == ["1"] + [f" {n}" for n in range(2, 41)]


async def test_a_drain_waits_for_the_commit_under_way(world: JobWorld) -> None:
    committing, go_on = asyncio.Event(), asyncio.Event()

    class SlowStore(DyingStore):
        async def _or_die(self, write: Any) -> Any:
            self.writes += 1
            if self.writes == 4:
                committing.set()
                await go_on.wait()
            return await write()

    job = await world.post(world.payer)
    run = JobRun(world.context(SlowStore(world.store, dies_at=-1, after_commit=False)), await world.claim())
    async with asyncio.TaskGroup() as group:
        carried = group.create_task(run.carry_out())
        await committing.wait()
        draining = group.create_task(run.drain())
        await asyncio.sleep(0)
        assert not draining.done()
        go_on.set()
        await carried
    assert texts(await world.events(job.id)) == ["1", " 2", " 3", " 4", " 5"]
    assert (await world.claim()).attempts == 1


async def test_drain_before_the_run_starts_is_not_lost(world: JobWorld) -> None:
    await world.post(world.payer)
    run = JobRun(world.context(), await world.claim())
    await run.drain()
    await run.carry_out()
    assert world.finder.found == 0
    assert (await world.claim()).attempts == 1


# --- carrying on from a preview -----------------------------------------------------------------------------


async def a_preview(world: JobWorld, **body: Any) -> JobRecord:
    job: JobRecord = await world.post(**body)
    await world.run_next()
    return job


async def test_a_full_job_reuses_all_windows_but_the_last_one_of_its_preview(world: JobWorld) -> None:
    preview = await a_preview(world)
    searches, windows = world.finder.found, world.recognizer.windows_decoded
    job = await world.post(world.payer, preview_id=preview.id)
    await world.run_next()
    assert world.finder.found == searches
    assert world.recognizer.windows_decoded - windows == 6
    request = world.opener.requests[-1]
    assert (request.start_sample, request.fingerprint) == (10 * SAMPLE_RATE, {"samples": 15 * SAMPLE_RATE})
    events = await world.events(job.id)
    assert steps(events)[:4] == [QUEUED, RESOLVED, SUBMITTED, TRANSCRIBING]
    assert texts(events) == ["1"] + [f" {n}" for n in range(2, 41)]
    assert json.loads(events[4].data)["id"] == job.id
    assert json.loads(events[4].data)["language"] == "en"
    assert (await world.rows())[0]["audio_seconds"] == 40.0
    assert (await world.job(job.id)).duration_seconds == 40.0


async def test_with_other_options_only_the_source_is_reused(world: JobWorld) -> None:
    preview = await a_preview(world)
    job = await world.post(world.payer, preview_id=preview.id, word_timestamps=True)
    await world.run_next()
    assert world.finder.found == 1
    assert world.opener.requests[-1].start_sample == 0
    assert world.opener.requests[-1].fingerprint is None
    events = await world.events(job.id)
    assert texts(events) == ["1"] + [f" {n}" for n in range(2, 41)]
    assert steps(events).count(SUBMITTED) == 1


async def test_a_preview_whose_link_has_expired_costs_a_new_search_only(world: JobWorld) -> None:
    preview = await a_preview(world)
    refused: list[int] = []

    def refuse_once(request: AudioRequest) -> Exception | None:
        if refused:
            return None
        refused.append(request.start_sample)
        return AudioUnreachable("403")

    world.opener.open_error = refuse_once
    job = await world.post(world.payer, preview_id=preview.id)
    await world.run_next()
    assert refused == [10 * SAMPLE_RATE]
    assert world.finder.found == 2
    events = await world.events(job.id)
    assert texts(events) == ["1"] + [f" {n}" for n in range(2, 41)]
    assert steps(events)[:4] == [QUEUED, DIRECT, RESOLVED, SUBMITTED]
    assert (await world.job(job.id)).status == "completed"


async def test_a_preview_that_was_purged_meanwhile_is_no_failure(world: JobWorld) -> None:
    preview = await a_preview(world)
    job = await world.post(world.payer, preview_id=preview.id)
    await world.store.delete(preview.id)
    await world.run_next()
    assert (await world.job(job.id)).status == "completed"


@pytest.mark.parametrize("after_commit", [False, True], ids=["before-commit", "after-commit"])
async def test_a_carried_job_survives_a_kill_at_any_commit(world: JobWorld, *, after_commit: bool) -> None:
    preview = await a_preview(world)
    for dies_at in range(20):
        job = await world.post(world.payer, preview_id=preview.id)
        survived = await survives_a_death(world, job.id, dies_at=dies_at, after_commit=after_commit)
        events = await world.events(job.id)
        assert texts(events) == ["1"] + [f" {n}" for n in range(2, 41)]
        assert [event.event for event in events].count("done") == 1
        if survived:
            return
    pytest.fail("the job never got through")
