"""What `JobStore` promises on every database."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, insert, select, update

from stenobird.errors import InvalidRequest, LeaseLost, QueueBusy, TranscriptNotFound, TranscriptNotLive
from stenobird.jobs.events import JobEvents
from stenobird.ports import (
    CarryPoint,
    Claim,
    JobChange,
    JobExtra,
    JobPage,
    JobRecord,
    Lease,
    NewEvent,
    NewJob,
    RecognitionOptions,
    SpeechCheckpoint,
    UploadedFile,
    UsageRow,
)
from stenobird.sources import Candidate
from stenobird.storage.queue import MAX_INTERRUPTIONS, QueueStore
from stenobird.storage.schema import db_now, ended_jobs, jobs, open_jobs, outbox, usage
from stenobird.testing import a_source
from stenobird.transcript import Segment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stenobird.ports import Lane, Mode
    from stenobird.storage.engine import Database
    from stenobird.storage.job_store import JobStore

pytestmark = pytest.mark.anyio

BASE = "https://stenobird.test"
LANES: Sequence[Lane] = ("preview", "full")

EXTRA = JobExtra(
    tier="premium_quality",
    unit_factor=2,
    translate_to="he",
    spoken_language="en",
    untranslated_segments=1,
    upload=UploadedFile("é.mp3", "audio/mpeg", 5),
    carry=CarryPoint(SpeechCheckpoint(2, 96000, "en", {"en": -0.25}, 4.5), 3),
    max_minutes=90,
    gap_seconds=1.5,
    now_playing="News",
)
STORED_EXTRA = {
    "model_tier": "premium_quality",
    "unit_factor": 2,
    "translate_to": "he",
    "spoken_language": "en",
    "untranslated_segments": 1,
    "upload": {"filename": "é.mp3", "content_type": "audio/mpeg", "size_bytes": 5},
    "carry": {
        "checkpoint": {
            "window_index": 2,
            "next_sample": 96000,
            "language": "en",
            "language_scores": {"en": -0.25},
            "speech_seconds": 4.5,
        },
        "chunks": 3,
    },
    "max_minutes": 90,
    "gap_seconds": 1.5,
    "now_playing": "News",
}
"""`EXTRA` as it is stored. Rows of earlier versions have this form, so it must not change."""


def a_job(job_id: str = "tr_1", mode: Mode = "full", **changes: Any) -> NewJob:
    values: dict[str, Any] = {
        "id": job_id,
        "mode": mode,
        "audio_url": "https://example.com/a.mp3",
        "base_url": BASE,
        "options": RecognitionOptions(
            language="he", prompt="names", keywords=("Shira",), word_timestamps=True, task="translate"
        ),
        "account_id": "acct_1",
        "api_key_id": "key_1",
    }
    return NewJob(**{**values, **changes})


def first_event(job_id: str = "tr_1") -> NewEvent:
    return JobEvents(job_id, BASE).status("queued", "validating_url")


def chunk(index: int, job_id: str = "tr_1") -> NewEvent:
    return JobEvents(job_id, BASE).transcript(Segment(index, index + 1, f" w{index}"), index, language=None)


def done(status: Any = "completed", job_id: str = "tr_1") -> NewEvent:
    return JobEvents(job_id, BASE).done(status)


async def created(store: JobStore, job_id: str = "tr_1", mode: Mode = "full", **changes: Any) -> JobRecord:
    return await store.create(a_job(job_id, mode, **changes), first_event(job_id), max_queued=100)


async def claimed(store: JobStore, job_id: str = "tr_1", **changes: Any) -> Claim:
    await created(store, job_id, **changes)
    claim = await store.claim("worker", lanes=LANES)
    assert claim is not None
    return claim


async def test_a_created_job_is_read_back_with_its_first_event(store: JobStore) -> None:
    record = await created(store, webhook_url="https://example.com/hook", extra=EXTRA)
    assert await store.get("tr_1") == record
    assert (record.status, record.stage, record.last_seq) == ("queued", "validating_url", 1)
    assert record.options == a_job().options
    assert record.extra == EXTRA
    assert record.created_at == record.updated_at
    [event] = await store.events_after("tr_1", 0)
    assert (event.seq, event.event, event.data) == (1, "status", first_event().data)


async def test_extra_has_the_stored_form_of_earlier_versions(store: JobStore, database: Database) -> None:
    await created(store, extra=EXTRA)
    async with database.write() as connection:
        assert await connection.scalar(select(jobs.c.extra)) == STORED_EXTRA
        # Earlier versions also kept what no version has ever read.
        await connection.execute(update(jobs).values(extra=STORED_EXTRA | {"output_format": "srt"}))
    record = await store.get("tr_1")
    assert record is not None
    assert record.extra == EXTRA
    async with database.write() as connection:
        await connection.execute(update(jobs).values(extra={"output_format": "srt"}))
    record = await store.get("tr_1")
    assert record is not None
    assert record.extra == JobExtra()


async def test_an_unknown_job_is_none_and_has_no_events(store: JobStore) -> None:
    assert await store.get("tr_none") is None
    assert await store.resume_point("tr_none") is None
    assert await store.events_after("tr_none", 0) == []


async def test_the_queue_is_refused_at_its_bound_and_leaves_no_trace(store: JobStore) -> None:
    await store.create(a_job("tr_1"), first_event("tr_1"), max_queued=2)
    await store.create(a_job("tr_2"), first_event("tr_2"), max_queued=2)
    with pytest.raises(QueueBusy) as refusal:
        await store.create(a_job("tr_3"), first_event("tr_3"), max_queued=2)
    assert refusal.value.retry_after_seconds == 5
    assert await store.get("tr_3") is None
    assert await store.claim("worker", lanes=LANES) is not None
    # A job that is being worked on does not wait any more.
    await store.create(a_job("tr_3"), first_event("tr_3"), max_queued=2)


async def test_the_queue_bound_holds_when_many_come_at_once(store: JobStore) -> None:
    async def attempt(number: int) -> bool:
        try:
            await store.create(a_job(f"tr_{number}"), first_event(f"tr_{number}"), max_queued=3)
        except QueueBusy:
            return False
        return True

    accepted = await asyncio.gather(*(attempt(number) for number in range(12)))
    assert sum(accepted) == 3
    assert await store.counts() == {"queued": 3}


async def test_jobs_are_claimed_oldest_first(store: JobStore) -> None:
    made = [await created(store, f"tr_{number}") for number in range(4)]
    claims = [await store.claim("worker", lanes=LANES) for _ in made]
    order = sorted(made, key=lambda job: (job.created_at, job.id))
    assert [claim.job.id for claim in claims if claim] == [job.id for job in order]
    assert await store.claim("worker", lanes=LANES) is None


async def test_a_lane_is_claimed_alone(store: JobStore) -> None:
    await created(store, "tr_full", mode="full")
    await created(store, "tr_preview", mode="preview")
    await created(store, "tr_test", mode="test")
    claims = [await store.claim("worker", lanes=["preview"]) for _ in range(3)]
    assert {claim.job.id for claim in claims if claim} == {"tr_preview", "tr_test"}
    assert await store.claim("worker", lanes=[]) is None


async def test_one_job_is_leased_to_one_of_many_workers(store: JobStore) -> None:
    for number in range(3):
        await created(store, f"tr_{number}")
    claims = await asyncio.gather(*(store.claim(f"worker-{number}", lanes=LANES) for number in range(8)))
    # A locked row is skipped, so a claim may come back empty while another takes the job: then it asks again.
    while (late := await store.claim("worker-late", lanes=LANES)) is not None:
        claims.append(late)
    assert sorted(claim.job.id for claim in claims if claim) == ["tr_0", "tr_1", "tr_2"]
    assert len({claim.lease.token for claim in claims if claim}) == 3


async def test_a_claim_says_where_the_last_worker_stopped(store: JobStore) -> None:
    claim = await claimed(store)
    source = a_source(
        title="Épisode",
        request_headers={"Referer": "https://example.com/"},
        candidates=(Candidate("https://example.com/b.mp3", "page.audio", 31.5, rejected="shorter"),),
        etag='"1"',
    )
    checkpoint = SpeechCheckpoint(2, 160_000, None, {"en": -0.1, "he": -2.5}, 9.5)
    await store.append(claim.lease, JobChange(source=source, stage="submitted", status="transcribing"), [])
    change = JobChange(
        checkpoint=checkpoint, fingerprint={"etag": "x"}, duration_seconds=99.5, engine="e", model="m"
    )
    await store.append(claim.lease, change, [chunk(0)])
    await store.expire_leases()
    again = await store.claim("worker", lanes=LANES)
    assert again is not None
    assert (again.source, again.checkpoint, again.fingerprint) == (source, checkpoint, {"etag": "x"})
    assert again.job.source == source.public()
    assert "request_headers" not in (again.job.source or {})
    assert (again.job.audio_seconds, again.job.duration_seconds) == (10.0, 99.5)
    assert (again.job.engine, again.job.model, again.job.next_chunk_index) == ("e", "m", 1)
    point = await store.resume_point("tr_1")
    assert point is not None
    assert (point.source, point.checkpoint, point.fingerprint) == (source, checkpoint, {"etag": "x"})


async def test_events_are_numbered_from_one_without_gaps(store: JobStore) -> None:
    claim = await claimed(store)
    assert await store.append(claim.lease, JobChange(stage="resolving_direct"), [first_event()]) == 2
    assert await store.append(claim.lease, JobChange(), [chunk(0), chunk(1), first_event()]) == 5
    assert await store.append(claim.lease, JobChange(), []) == 5
    assert await store.append(claim.lease, JobChange(), [chunk(2)]) == 6
    assert [event.seq for event in await store.events_after("tr_1", 0)] == [1, 2, 3, 4, 5, 6]
    assert [event.seq for event in await store.events_after("tr_1", 2, limit=2)] == [3, 4]
    record = await store.get("tr_1")
    assert record is not None
    assert (record.last_seq, record.next_chunk_index) == (6, 3)


async def test_a_chunk_that_does_not_continue_the_transcript_is_refused(store: JobStore) -> None:
    claim = await claimed(store)
    await store.append(claim.lease, JobChange(), [chunk(0)])
    for index in (0, 2):
        with pytest.raises(LeaseLost):
            await store.append(claim.lease, JobChange(stage="x"), [chunk(index)])
    assert [event.seq for event in await store.events_after("tr_1", 0)] == [1, 2]


@pytest.mark.parametrize("end", ["finished", "cancelled"])
async def test_voices_are_kept_in_order_until_the_job_ends(store: JobStore, end: str) -> None:
    claim = await claimed(store)
    await store.append(claim.lease, JobChange(voices=[(0, b"first"), (1, b"second")]), [])
    await store.append(claim.lease, JobChange(), [])
    await store.append(claim.lease, JobChange(voices=[(2, b"\0third")]), [])
    assert await store.voices("tr_1") == [b"first", b"second", b"\0third"]
    assert await store.voices("tr_2") == []
    if end == "finished":
        await store.finish(claim.lease, JobChange(status="completed"), [done()])
    else:
        await store.release(claim.lease)
        await store.request_cancel("tr_1", [done("cancelled")])
    assert await store.voices("tr_1") == []


async def test_without_the_lease_nothing_is_written(store: JobStore, database: Database) -> None:
    claim = await claimed(store)
    await store.expire_leases()
    current = await store.claim("other", lanes=LANES)
    assert current is not None
    before = (await store.get("tr_1"), await store.events_after("tr_1", 0))
    for lease in (claim.lease, Lease("tr_1", "guess"), Lease("tr_other", current.lease.token)):
        with pytest.raises(LeaseLost):
            await store.append(lease, JobChange(status="failed"), [chunk(0)])
        with pytest.raises(LeaseLost):
            await store.finish(
                lease,
                JobChange(status="completed"),
                [done()],
                usage=UsageRow("tr_1", "acct_1", 1, 1.0),
                webhook={},
            )
        with pytest.raises(LeaseLost):
            await store.renew(lease)
        with pytest.raises(LeaseLost):
            await store.release(lease)
    assert (await store.get("tr_1"), await store.events_after("tr_1", 0)) == before
    async with database.read() as connection:
        assert await connection.scalar(select(func.count()).select_from(usage)) == 0
        assert await connection.scalar(select(func.count()).select_from(outbox)) == 0
    assert await store.append(current.lease, JobChange(), [chunk(0)]) == 2


async def test_a_lease_lasts_on_the_databases_clock_and_each_write_extends_it(
    store: JobStore, database: Database
) -> None:
    claim = await claimed(store)

    async def age_lease(seconds: float) -> None:
        async with database.write() as connection:
            await connection.execute(update(jobs).values(lease_expires_at=jobs.c.lease_expires_at - seconds))

    await age_lease(59)
    assert await store.claim("other", lanes=LANES) is None
    assert await store.renew(claim.lease) is None
    await age_lease(59)
    assert await store.claim("other", lanes=LANES) is None
    await store.append(claim.lease, JobChange(), [])
    await age_lease(59)
    assert await store.claim("other", lanes=LANES) is None
    await age_lease(2)
    taken = await store.claim("other", lanes=LANES)
    assert taken is not None
    with pytest.raises(LeaseLost):
        await store.renew(claim.lease)


async def end_waiting(database: Database, *, lose_leases: bool = False) -> None:
    """Let the waiting times of all jobs pass, or let their leases expire long ago."""
    async with database.write() as connection:
        await connection.execute(
            update(jobs).values(claimable_at=0.0, **({"lease_expires_at": 0.0} if lose_leases else {}))
        )


@pytest.mark.parametrize("embedded", [True, False], ids=["embedded", "scaled out"])
async def test_deaths_of_the_worker_do_not_count_as_attempts_until_there_are_many(
    store: JobStore, database: Database, *, embedded: bool
) -> None:
    await created(store)
    attempts = []

    async def die() -> None:
        if embedded:
            await store.expire_leases()
        await end_waiting(database, lose_leases=not embedded)

    for _ in range(MAX_INTERRUPTIONS + 3):
        claim = await store.claim("worker", lanes=LANES)
        assert claim is not None
        attempts.append(claim.attempts)
        await die()
    assert attempts == [1] * (MAX_INTERRUPTIONS + 1) + [2, 3]

    claim = await store.claim("worker", lanes=LANES)
    assert claim is not None
    await store.append(claim.lease, JobChange(checkpoint=SpeechCheckpoint(1, 16_000)), [chunk(0)])
    await die()
    after_progress = await store.claim("worker", lanes=LANES)
    assert (claim.attempts, after_progress and after_progress.attempts) == (4, 1)


@pytest.mark.parametrize("embedded", [True, False], ids=["embedded", "scaled out"])
async def test_a_job_whose_worker_keeps_dying_waits_before_it_is_claimed_again(
    store: JobStore, database: Database, *, embedded: bool
) -> None:
    await created(store)
    for _ in range(3):
        assert await store.claim("worker", lanes=LANES) is not None
        if embedded:
            await store.expire_leases()
        else:
            async with database.write() as connection:
                await connection.execute(update(jobs).values(lease_expires_at=db_now() - 1))
    assert await store.claim("worker", lanes=LANES) is None
    await end_waiting(database, lose_leases=not embedded)
    assert await store.claim("worker", lanes=LANES) is not None


async def test_a_release_for_trouble_counts_no_attempt_is_recorded_and_delays_the_job(
    store: JobStore, database: Database
) -> None:
    queue = QueueStore(database)
    await created(store)
    for number in range(3):
        claim = await store.claim(f"worker {number}", lanes=LANES)
        assert claim is not None
        assert claim.attempts == 1
        await store.release(claim.lease, trouble="The disk is full.")
        assert await store.claim("other", lanes=LANES) is None
        await end_waiting(database)
    claim = await store.claim("other", lanes=LANES)
    assert claim is not None
    await store.release(claim.lease)
    assert await store.claim("third", lanes=LANES) is not None

    history = await queue.attempts("tr_1")
    assert [(one.worker, one.outcome, one.reason) for one in history] == [
        *((f"worker {number}", "trouble", "The disk is full.") for number in range(3)),
        ("other", "drained", None),
        ("third", "running", None),
    ]
    assert all(one.started_at for one in history)
    assert [one.ended_at is None for one in history] == [False] * 4 + [True]


async def test_a_lost_lease_is_part_of_the_history(store: JobStore, database: Database) -> None:
    await claimed(store)
    await end_waiting(database, lose_leases=True)
    assert await store.claim("other", lanes=LANES) is not None
    history = await QueueStore(database).attempts("tr_1")
    assert [(one.worker, one.outcome) for one in history] == [("worker", "died"), ("other", "running")]


async def test_a_paused_queue_hands_out_nothing_and_a_draining_one_accepts_nothing(
    store: JobStore, database: Database
) -> None:
    queue = QueueStore(database)
    await created(store)
    await queue.switch("paused", on=True)
    await queue.switch("paused", on=True)
    assert await store.claim("worker", lanes=LANES) is None
    assert set(await queue.switches()) == {"paused"}
    await queue.switch("paused", on=False)
    await queue.switch("draining", on=True)
    with pytest.raises(QueueBusy) as refused:
        await created(store, "tr_2")
    assert refused.value.retry_after_seconds == 60
    assert await store.claim("worker", lanes=LANES) is not None
    await queue.switch("draining", on=False)
    await created(store, "tr_2")
    assert await queue.switches() == {}


async def test_a_failed_job_is_retried_as_a_new_one(store: JobStore, database: Database) -> None:
    queue = QueueStore(database)
    claim = await claimed(store)
    first = NewEvent("status", "{}")
    with pytest.raises(InvalidRequest):
        await queue.retry("tr_1", "tr_2", first)
    await store.finish(claim.lease, JobChange(status="failed", error={"error": "x"}), [done("failed")])
    before = (await store.get("tr_1"), await store.events_after("tr_1", 0))

    await queue.retry("tr_1", "tr_2", first)

    assert (await store.get("tr_1"), await store.events_after("tr_1", 0)) == before
    again = await store.claim("worker", lanes=LANES)
    assert again is not None
    assert (again.job.id, again.attempts, again.checkpoint) == ("tr_2", 1, None)
    assert (again.job.audio_url, again.job.options) == (claim.job.audio_url, claim.job.options)
    assert [job.id for job in await queue.recent("failed")] == ["tr_1"]
    with pytest.raises(TranscriptNotFound):
        await queue.retry("tr_none", "tr_3", first)


async def test_the_counts_by_status_stay_those_of_the_rows(store: JobStore, database: Database) -> None:
    async def counted() -> dict[str, int]:
        async with database.read() as connection:
            found = await connection.execute(select(jobs.c.status, func.count()).group_by(jobs.c.status))
            counts = {row[0]: row[1] for row in found}
            assert await connection.scalar(select(open_jobs.c.jobs)) == counts.get("queued", 0)
            return counts

    for number, status in enumerate(("completed", "failed", "completed", "cancelled")):
        claim = await claimed(store, f"tr_{number}")
        await store.finish(claim.lease, JobChange(status=status), [done(status)])  # type: ignore[arg-type]
    await created(store, "tr_cancelled")
    await store.request_cancel("tr_cancelled", [done("cancelled")])
    await store.request_cancel("tr_cancelled", [done("cancelled")])
    assert await store.counts() == await counted() == {"completed": 2, "failed": 1, "cancelled": 2}

    await created(store, "tr_queued")
    await store.delete("tr_0")
    await store.delete("tr_0")
    await store.delete("tr_queued")
    assert (
        await store.counts() == await counted() == {"completed": 1, "failed": 1, "cancelled": 2, "queued": 1}
    )
    await QueueStore(database).retry("tr_1", "tr_retried", first_event("tr_retried"))
    await store.purge(older_than=4e9)
    assert await store.counts() == await counted() == {"queued": 2}


async def test_the_counts_read_no_rows_of_ended_jobs(store: JobStore, database: Database) -> None:
    async with database.write() as connection:
        await connection.execute(insert(ended_jobs).values(status="completed", jobs=200_000))
    assert await store.counts() == {"completed": 200_000}


async def test_open_jobs_are_those_that_have_not_ended(store: JobStore) -> None:
    claim = await claimed(store)
    assert await store.open_job_ids() == [claim.job.id]
    await store.finish(claim.lease, JobChange(status="cancelled"), [done("cancelled")])
    assert await store.open_job_ids() == []


async def test_a_released_job_is_claimable_at_once_and_its_attempt_is_not_counted(store: JobStore) -> None:
    claim = await claimed(store)
    for _ in range(5):
        await store.release(claim.lease)
        again = await store.claim("worker", lanes=LANES)
        assert again is not None
        assert again.attempts == 1
        claim = again


async def test_the_end_commits_usage_and_outbox_and_frees_the_lease(
    store: JobStore, database: Database
) -> None:
    claim = await claimed(store)
    await store.finish(
        claim.lease,
        JobChange(status="completed", duration_seconds=125.0, billable_minutes=2, warning="cut short"),
        [chunk(0), done()],
        usage=UsageRow("tr_1", "acct_1", 2, 125.0),
        webhook={"url": "https://example.com/hook"},
    )
    record = await store.get("tr_1")
    assert record is not None
    assert (record.status, record.billable_minutes, record.warning) == ("completed", 2, "cut short")
    assert record.completed_at is not None
    assert record.terminal
    assert await store.claim("worker", lanes=LANES) is None
    with pytest.raises(LeaseLost):
        await store.append(claim.lease, JobChange(status="failed"), [])
    async with database.read() as connection:
        [bill] = (await connection.execute(select(usage))).mappings()
        [message] = (await connection.execute(select(outbox))).mappings()
    assert (bill["job_id"], bill["minutes"], bill["audio_seconds"]) == ("tr_1", 2, 125.0)
    assert (message["kind"], message["payload"]) == ("webhook", {"url": "https://example.com/hook"})


async def test_a_failure_keeps_its_error_body(store: JobStore) -> None:
    claim = await claimed(store)
    body = {"error": "audio_unreachable", "message": "no", "tried": ["a", "b"]}
    await store.finish(claim.lease, JobChange(status="failed", error=body), [done("failed")])
    record = await store.get("tr_1")
    assert record is not None
    assert (record.status, record.error) == ("failed", body)


async def test_a_queued_job_is_cancelled_at_once(store: JobStore, database: Database) -> None:
    await created(store)
    record = await store.request_cancel("tr_1", [done("cancelled")], webhook={})
    assert (record.status, record.last_seq, record.cancel_requested) == ("cancelled", 2, True)
    assert record.completed_at is not None
    assert [event.event for event in await store.events_after("tr_1", 0)] == ["status", "done"]
    assert await store.claim("worker", lanes=LANES) is None
    again = await store.request_cancel("tr_1", [done("cancelled")], webhook={})
    assert again == record
    async with database.read() as connection:
        assert await connection.scalar(select(func.count()).select_from(outbox)) == 1


async def test_a_running_job_gets_a_cancel_request(store: JobStore) -> None:
    claim = await claimed(store)
    assert await store.renew(claim.lease) is None
    record = await store.request_cancel("tr_1", [done("cancelled")])
    assert (record.status, record.cancel_requested, record.last_seq) == ("queued", True, 1)
    assert await store.renew(claim.lease) == "cancel"
    await store.finish(claim.lease, JobChange(status="cancelled"), [done("cancelled")])
    record = await store.request_cancel("tr_1", [done("cancelled")])
    assert (record.status, record.last_seq) == ("cancelled", 2)


async def live(store: JobStore) -> Claim:
    claim = await claimed(store)
    source = a_source(live=True, at=1_800_000_000.5)
    await store.append(claim.lease, JobChange(status="transcribing", source=source), [chunk(0)])
    return claim


async def test_a_live_job_gets_one_stop_request(store: JobStore) -> None:
    claim = await live(store)
    record = await store.request_stop("tr_1")
    assert (record.status, record.stop_request, record.last_seq) == ("transcribing", "stop", 2)
    assert record.source is not None
    assert (record.source["live"], record.source["at"]) == (True, "2027-01-15T08:00:00.500Z")
    assert await store.request_stop("tr_1") == record
    assert await store.renew(claim.lease) == "stop"
    await store.finish(claim.lease, JobChange(status="completed"), [done()])
    ended = await store.get("tr_1")
    assert await store.request_stop("tr_1") == ended


async def test_a_cancel_takes_precedence_over_a_stop(store: JobStore) -> None:
    claim = await live(store)
    await store.request_stop("tr_1")
    await store.request_cancel("tr_1", [done("cancelled")])
    assert await store.renew(claim.lease) == "cancel"


async def test_a_live_job_without_a_worker_waits_for_one_to_end_it(store: JobStore) -> None:
    await live(store)
    await store.expire_leases()
    record = await store.request_cancel("tr_1", [done("cancelled")])
    assert (record.status, record.stop_request, record.last_seq) == ("transcribing", "cancel", 2)
    claim = await store.claim("another", lanes=LANES)
    assert claim is not None
    assert claim.job.stop_request == "cancel"


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_a_live_job_that_only_has_to_be_ended_needs_no_lane(store: JobStore, how: str) -> None:
    claim = await live(store)
    await store.append(claim.lease, JobChange(lane="live"), [])
    await store.release(claim.lease)
    assert await store.claim("full of live jobs", lanes=LANES) is None
    if how == "stop":
        await store.request_stop("tr_1")
    else:
        await store.request_cancel("tr_1", [done("cancelled")])
    ending = await store.claim("full of live jobs", lanes=LANES)
    assert ending is not None
    assert (ending.job.id, ending.job.stop_request) == ("tr_1", how)
    assert await store.claim("another", lanes=[*LANES, "live"]) is None


async def test_a_recording_can_not_be_stopped(store: JobStore) -> None:
    claim = await claimed(store)
    await store.append(claim.lease, JobChange(status="transcribing", source=a_source()), [chunk(0)])
    with pytest.raises(TranscriptNotLive):
        await store.request_stop("tr_1")
    assert await store.renew(claim.lease) is None
    with pytest.raises(TranscriptNotFound):
        await store.request_stop("tr_none")


async def test_a_job_whose_worker_died_is_cancelled_at_once(store: JobStore) -> None:
    claim = await claimed(store)
    await store.append(claim.lease, JobChange(status="transcribing"), [chunk(0)])
    await store.expire_leases()
    record = await store.request_cancel("tr_1", [done("cancelled")])
    assert (record.status, record.last_seq) == ("cancelled", 3)
    with pytest.raises(LeaseLost):
        await store.append(claim.lease, JobChange(), [chunk(1)])


async def test_cancelling_an_unknown_job_is_refused(store: JobStore) -> None:
    with pytest.raises(TranscriptNotFound):
        await store.request_cancel("tr_none", [done("cancelled")])


async def test_only_a_finished_job_is_deleted_and_its_usage_stays(
    store: JobStore, database: Database
) -> None:
    claim = await claimed(store)
    await store.delete("tr_1")
    assert await store.get("tr_1") is not None
    bill = UsageRow("tr_1", "acct_1", 1, 1.0)
    await store.finish(claim.lease, JobChange(status="completed"), [done()], usage=bill)
    await store.delete("tr_1")
    await store.delete("tr_1")
    assert await store.get("tr_1") is None
    assert await store.events_after("tr_1", 0) == []
    async with database.read() as connection:
        assert await connection.scalar(select(func.count()).select_from(usage)) == 1


async def test_purge_removes_what_ended_before_and_says_which(store: JobStore, database: Database) -> None:
    for number in range(3):
        await created(store, f"tr_{number}")
        if number < 2:
            await store.request_cancel(f"tr_{number}", [done("cancelled", f"tr_{number}")])
    async with database.write() as connection:
        await connection.execute(update(jobs).where(jobs.c.id == "tr_0").values(completed_at=1000.0))
    assert await store.purge(older_than=999.0) == []
    assert await store.purge(older_than=1001.0) == ["tr_0"]
    assert await store.get("tr_0") is None
    assert await store.events_after("tr_0", 0) == []
    assert await store.counts() == {"queued": 1, "cancelled": 1}


async def test_an_account_lists_its_own_jobs_newest_first_page_by_page(store: JobStore) -> None:
    made = [await created(store, f"tr_{number}") for number in range(5)]
    await created(store, "tr_theirs", account_id="acct_2")
    newest_first = sorted(made, key=lambda job: (job.created_at, job.id), reverse=True)
    first = await store.list_jobs("acct_1", JobPage(limit=3))
    assert [job.id for job in first] == [job.id for job in newest_first[:3]]
    rest = await store.list_jobs("acct_1", JobPage(before=(first[-1].created_at, first[-1].id), limit=3))
    assert [job.id for job in rest] == [job.id for job in newest_first[3:]]


async def test_a_list_may_be_of_one_mode(store: JobStore) -> None:
    await created(store, "tr_full")
    await created(store, "tr_test", "test")
    assert [job.id for job in await store.list_jobs("acct_1", JobPage(mode="test"))] == ["tr_test"]
    assert [job.id for job in await store.list_jobs("acct_1", JobPage(mode="full"))] == ["tr_full"]


async def test_expiring_leases_counts_them(store: JobStore) -> None:
    await claimed(store, "tr_1")
    await claimed(store, "tr_2")
    await created(store, "tr_3")
    assert await store.expire_leases() == 2
    assert await store.expire_leases() == 0


async def test_the_bytes_of_an_event_are_kept_as_they_are(store: JobStore) -> None:
    claim = await claimed(store)
    data = json.dumps({"text": "שלום \U0001f426 \u2028 é", "n": 1.10}, ensure_ascii=False)
    await store.append(claim.lease, JobChange(), [NewEvent("status", data)])
    assert (await store.events_after("tr_1", 1))[0].data == data


async def test_a_change_leaves_other_columns_alone(store: JobStore) -> None:
    claim = await claimed(store, extra=EXTRA)
    await store.append(claim.lease, JobChange(language="en", warning="w", fingerprint={"x": 1}), [])
    await store.append(claim.lease, JobChange(extra=JobExtra(tier="fast_low_cost")), [])
    point = await store.resume_point("tr_1")
    assert point is not None
    assert (point.job.language, point.job.warning, point.job.extra) == (
        "en",
        "w",
        JobExtra(tier="fast_low_cost"),
    )
    assert point.fingerprint == {"x": 1}
    assert point.job.updated_at >= point.job.created_at
