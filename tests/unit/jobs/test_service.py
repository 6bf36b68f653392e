"""The job service as the APIs use it: who may do what, and what they get."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from typing_extensions import override

from stenobird.errors import (
    AudioSourceNotFound,
    EngineUnavailable,
    InvalidRequest,
    InvalidURL,
    InvalidWebhookURL,
    MissingAPIKey,
    QueueBusy,
    ReadOnlyKey,
    RequestError,
    TranscriptCancelled,
    TranscriptNotFound,
    TranscriptNotLive,
    TranscriptNotReady,
    WebhookRequiresAPIKey,
    WebhookTargetForbidden,
)
from stenobird.jobs.events import JobEvents
from stenobird.jobs.schemas import TranscriptResult, TranscriptStatus
from stenobird.jobs.service import ServiceOptions
from stenobird.jobs.spec import JobSpec
from stenobird.ports import Caller, JobChange, JobPage, RecognitionOptions, Wakeups, Watch
from stenobird.testing import FakeClock, a_source, spoken
from tests.support.job_world import BASE, URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stenobird.jobs.tail import Page
    from stenobird.ports import Claim, EventRow, JobRecord
    from tests.support.job_world import JobWorld

pytestmark = pytest.mark.anyio

STRANGER = Caller("acct_2", "key_9", "live", "full_access", "premium")
TESTER = Caller("acct_1", "key_2", "test", "full_access", "premium")
READER = Caller("acct_1", "key_3", "live", "read_only", "premium")
FREE = Caller("acct_1", "key_4", "live", "full_access", "free")


# --- creating -----------------------------------------------------------------------------------------------


async def test_the_body_has_the_published_fields_in_their_order(world: JobWorld) -> None:
    job = await world.post()
    body = json.loads(TranscriptStatus.of(job).encode())
    link = f"{BASE}/v1/transcripts/{job.id}"
    assert list(body.items())[:10] == [
        ("id", job.id),
        ("status", "queued"),
        ("mode", "preview"),
        ("status_url", link),
        ("poll_url", link),
        ("events_url", f"{link}/events"),
        ("result_url", f"{link}/result"),
        ("terminal", False),
        ("result_ready", False),
        ("retry_after_seconds", 2),
    ]
    assert re.fullmatch(r"tr_[0-9A-Za-z]{22}", job.id)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["created_at"])
    assert json.loads(json.dumps(body)) == body


@pytest.mark.parametrize(
    ("caller", "mode"),
    [(None, "preview"), (STRANGER, "full"), (TESTER, "test"), (FREE, "preview")],
)
async def test_the_mode_follows_from_the_key(world: JobWorld, caller: Caller | None, mode: str) -> None:
    assert (await world.post(caller)).mode == mode


async def test_a_post_wakes_a_worker(world: JobWorld) -> None:
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(world.wakeups.wait_job(60))
        await world.post()
        await waiting


async def test_refusals_of_a_post(world: JobWorld) -> None:
    with pytest.raises(InvalidURL):
        await world.post(audio_url="file:///etc/passwd")
    with pytest.raises(WebhookRequiresAPIKey):
        await world.post(webhook_url="https://example.com/hook")
    for insecure in ("file:///x", "http://example.com/hook"):
        with pytest.raises(InvalidWebhookURL):
            await world.post(world.payer, webhook_url=insecure)
    with pytest.raises(WebhookTargetForbidden):
        await world.post(world.payer, webhook_url="https://10.1.2.3/hook")
    with pytest.raises(ReadOnlyKey):
        await world.post(READER)
    assert await world.store.counts() == {}


async def test_a_full_queue_says_when_to_retry(world: JobWorld) -> None:
    world.options = ServiceOptions(max_queued=1)
    await world.post()
    with pytest.raises(QueueBusy) as refusal:
        await world.post()
    assert refusal.value.body()["retry_after_seconds"] == 5


async def test_no_engine_for_a_mode_is_refused_at_once_but_test_jobs_need_none(world: JobWorld) -> None:
    world.recognizer.engine = "offline"
    with pytest.raises(EngineUnavailable, match="offline"):
        await world.post(world.payer)
    await world.post()
    world.recognizer.failure = "No engine."
    with pytest.raises(EngineUnavailable):
        await world.post()
    await world.post(TESTER)


async def test_options_that_the_engine_can_not_fulfil_are_refused_before_any_work(world: JobWorld) -> None:
    world.recognizer.languages = ["en"]
    spec = JobSpec(audio_url=URL, options=RecognitionOptions(language="tlh"))
    with pytest.raises(InvalidRequest, match="tlh"):
        await world.service.create(spec, caller=None, base_url=BASE)
    await world.service.create(spec, caller=TESTER, base_url=BASE)
    assert await world.store.counts() == {"queued": 1}


async def test_a_preview_id_must_name_a_finished_preview_of_the_same_url(world: JobWorld) -> None:
    async def refusal(preview_id: str, **body: Any) -> str:
        with pytest.raises(InvalidRequest) as refused:
            await world.post(world.payer, preview_id=preview_id, **body)
        assert refused.value.details == {"field": "preview_id"}
        return refused.value.message

    assert "no such preview" in await refusal("tr_none")
    preview = await world.post()
    assert "not ended" in await refusal(preview.id)
    await world.run_next()
    assert "another audio_url" in await refusal(preview.id, audio_url="https://example.com/b.mp3")
    full = await world.post(world.payer, preview_id=preview.id)
    assert full.preview_id == preview.id
    assert "no such preview" in await refusal(full.id)
    await world.run_next()
    world.finder.error = AudioSourceNotFound()
    broken = await world.post()
    await world.run_next()
    assert "failed" in await refusal(broken.id)


# --- reading ------------------------------------------------------------------------------------------------


async def test_who_may_see_what(world: JobWorld) -> None:
    preview = await world.post()
    full = await world.post(world.payer)
    test = await world.post(TESTER)
    for caller in (None, STRANGER, world.payer):
        assert (await world.service.get(preview.id, caller)).id == preview.id
    for caller in (world.payer, READER):
        assert (await world.service.get(full.id, caller)).id == full.id
    for caller in (world.payer, TESTER, READER):
        assert (await world.service.get(test.id, caller)).id == test.id
    refusals: tuple[tuple[str, Caller | None, type[RequestError]], ...] = (
        (full.id, STRANGER, TranscriptNotFound),
        (full.id, TESTER, TranscriptNotFound),
        (test.id, STRANGER, TranscriptNotFound),
        ("tr_none", None, TranscriptNotFound),
        ("tr_none", world.payer, TranscriptNotFound),
        (full.id, None, MissingAPIKey),
        (test.id, None, MissingAPIKey),
    )
    for job_id, caller, refusal in refusals:
        with pytest.raises(refusal) as refused:
            await world.service.get(job_id, caller)
        assert refused.value.body() == refusal().body()
        with pytest.raises(refusal):
            await world.service.result(job_id, caller)
        with pytest.raises(refusal):
            await world.service.cancel_or_delete(job_id, caller)
        with pytest.raises(refusal):
            await anext(world.service.stream(job_id, caller))


async def test_the_result_agrees_with_the_stream(world: JobWorld) -> None:
    world.opener.audio = spoken([1, 2, 3])
    job = await world.post(world.payer, word_timestamps=True)
    with pytest.raises(TranscriptNotReady) as early:
        await world.service.result(job.id, world.payer)
    assert early.value.retry_after_seconds == 2
    await world.run_next()
    record, transcript = await world.service.result(job.id, world.payer)
    body = json.loads(TranscriptResult.of(record, transcript).encode())
    assert list(body) == [
        "id",
        "status",
        "mode",
        "text",
        "segments",
        "language",
        "duration_seconds",
        "source",
        "engine",
        "model",
        "billable_minutes",
        "created_at",
        "completed_at",
    ]
    chunks = [json.loads(e.data)["text"] for e in await world.events(job.id) if e.event == "transcript"]
    assert body["text"] == "".join(chunks) == "1 2 3"
    assert [segment["id"] for segment in body["segments"]] == [0, 1, 2]
    assert body["segments"][1] == {
        "id": 1,
        "start": 1.0,
        "end": 2.0,
        "text": "2",
        "words": [{"start": 1.0, "end": 2.0, "text": " 2", "probability": 0.9}],
    }
    assert body["source"]["media_url"] == URL
    assert (body["duration_seconds"], body["billable_minutes"]) == (3.0, 1)
    status = json.loads(TranscriptStatus.of(record).encode())
    assert (status["terminal"], status["result_ready"], status["retry_after_seconds"]) == (True, True, 0)
    assert status["progress"] == {"audio_seconds": 3.0, "audio_seconds_total": 3.0}


async def test_a_failed_job_has_the_same_error_in_stream_status_and_result(world: JobWorld) -> None:
    world.finder.error = AudioSourceNotFound()
    job = await world.post(world.payer)
    await world.run_next()
    expected = AudioSourceNotFound().body()
    with pytest.raises(Exception, match="No audio was found") as refused:
        await world.service.result(job.id, world.payer)
    assert (refused.value.http_status, refused.value.body()) == (422, expected)  # type: ignore[attr-defined]
    status = json.loads(TranscriptStatus.of(await world.job(job.id)).encode())
    assert {key: status[key] for key in expected} == expected
    error = json.loads((await world.events(job.id))[-2].data)
    assert {key: error[key] for key in expected} == expected


async def test_a_test_key_sees_and_ends_test_jobs_only(world: JobWorld) -> None:
    full, test = await world.post(world.payer), await world.post(TESTER)
    assert [job.id for job in (await world.service.list(TESTER, JobPage()))[0]] == [test.id]
    assert {job.id for job in (await world.service.list(world.payer, JobPage()))[0]} == {full.id, test.id}
    with pytest.raises(TranscriptNotFound):
        await world.service.cancel_or_delete(full.id, TESTER)
    assert await world.service.cancel_or_delete(test.id, TESTER) is not None


async def test_an_account_lists_only_its_own_jobs(world: JobWorld) -> None:
    mine = {(await world.post(world.payer)).id for _ in range(5)}
    await world.post(STRANGER)
    await world.post()
    seen: list[str] = []
    before = None
    pages = 0
    more = True
    while more:
        page, more = await world.service.list(world.payer, JobPage(before=before, limit=2))
        seen += [job.id for job in page]
        before = (page[-1].created_at, page[-1].id)
        pages += 1
    assert (pages, len(seen), set(seen)) == (3, 5, mine)
    with pytest.raises(MissingAPIKey):
        await world.service.list(None, JobPage())
    for limit in (0, 101):
        with pytest.raises(InvalidRequest, match="limit"):
            await world.service.list(world.payer, JobPage(limit=limit))


# --- live audio ---------------------------------------------------------------------------------------------


async def live_job(world: JobWorld) -> tuple[JobRecord, Claim]:
    job = await world.post(world.payer)
    claim = await world.claim()
    source = a_source(live=True)
    events = JobEvents(job.id, BASE)
    submitted = events.status("transcribing", "submitted", source=source)
    await world.store.append(claim.lease, JobChange(status="transcribing", source=source), [submitted])
    return job, claim


async def test_max_minutes_is_bounded_by_the_setting_and_kept(world: JobWorld) -> None:
    world.options = ServiceOptions(live_max_minutes=90)
    job = await world.post(world.payer, max_minutes=90)
    assert (await world.job(job.id)).extra.max_minutes == 90
    with pytest.raises(InvalidRequest, match="at most 90") as refused:
        await world.post(world.payer, max_minutes=91)
    assert refused.value.details == {"field": "max_minutes"}


async def test_a_stop_waits_for_the_worker_of_a_live_job(world: JobWorld) -> None:
    job, claim = await live_job(world)
    async with world.wakeups.watch(job.id) as watch:
        stopped = await world.service.stop(job.id, world.payer)
        await watch.wait(60)
    assert (stopped.status, stopped.live, stopped.stop_request) == ("transcribing", True, "stop")
    body = json.loads(TranscriptStatus.of(stopped).encode())
    assert (body["stop_requested"], body["source"]["live"]) == (True, True)
    done = JobEvents(job.id, BASE).done("completed")
    await world.store.finish(claim.lease, JobChange(status="completed"), [done])
    ended = await world.service.stop(job.id, world.payer)
    assert ended.status == "completed"
    assert "stop_requested" not in json.loads(TranscriptStatus.of(ended).encode())


async def test_a_stop_wakes_a_worker_for_a_live_job_that_has_none(world: JobWorld) -> None:
    job, _ = await live_job(world)
    await world.lose_leases()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(world.wakeups.wait_job(60))
        await world.service.stop(job.id, world.payer)
        await waiting
    claim = await world.claim()
    assert (claim.job.id, claim.job.stop_request) == (job.id, "stop")


async def test_a_stop_before_the_audio_was_found_cancels(world: JobWorld) -> None:
    job = await world.post(world.payer)
    assert (await world.service.stop(job.id, world.payer)).status == "cancelled"


async def test_who_may_stop_what(world: JobWorld) -> None:
    job, _ = await live_job(world)
    for caller, refusal in ((STRANGER, TranscriptNotFound), (None, MissingAPIKey), (READER, ReadOnlyKey)):
        with pytest.raises(refusal):
            await world.service.stop(job.id, caller)
    assert (await world.job(job.id)).stop_request is None
    recording = await world.post(world.payer)
    claim = await world.claim()
    await world.store.append(claim.lease, JobChange(status="transcribing", source=a_source()), [])
    with pytest.raises(TranscriptNotLive):
        await world.service.stop(recording.id, world.payer)


def test_gaps_and_titles_are_status_events() -> None:
    events = JobEvents("tr_1", BASE)
    gap = json.loads(events.stream_gap(12.34567, 6.25, "disconnected").data)
    assert (gap["status"], gap["stage"], gap["start"], gap["seconds"], gap["reason"]) == (
        *("transcribing", "stream_gap"),
        *(12.346, 6.25, "disconnected"),
    )
    assert gap["message"] == "6.2 seconds are missing: the connection to the stream broke."
    night = json.loads(events.stream_gap(12.0, 3630.0, "restarted").data)
    assert night["message"] == "60 minutes are missing: the transcription was restarted."
    playing = json.loads(events.now_playing("Siobhán: Live").data)
    assert (playing["stage"], playing["title"]) == ("now_playing", "Siobhán: Live")


# --- cancelling and deleting --------------------------------------------------------------------------------


async def test_a_queued_job_is_cancelled_at_once_and_a_finished_one_deleted(world: JobWorld) -> None:
    job = await world.post(world.payer, webhook_url="https://example.com/hook")
    cancelled = await world.service.cancel_or_delete(job.id, world.payer)
    assert cancelled is not None
    assert (cancelled.status, cancelled.stage) == ("cancelled", "validating_url")
    with pytest.raises(TranscriptCancelled):
        await world.service.result(job.id, world.payer)
    assert len(await world.messages()) == 1
    assert await world.service.cancel_or_delete(job.id, world.payer) is None
    with pytest.raises(TranscriptNotFound):
        await world.service.get(job.id, world.payer)
    assert world.opener.discarded == [job.id, job.id]


async def test_a_read_only_key_cancels_nothing(world: JobWorld) -> None:
    job = await world.post(world.payer)
    with pytest.raises(ReadOnlyKey):
        await world.service.cancel_or_delete(job.id, READER)


async def test_the_result_of_a_job_that_is_deleted_meanwhile_is_not_partial(world: JobWorld) -> None:
    job = await world.post(world.payer)
    await world.run_next()
    found = await world.service.get(job.id, world.payer)
    await world.service.cancel_or_delete(job.id, world.payer)
    with pytest.raises(TranscriptNotFound):
        await world.service.transcript_of(found)


async def test_a_preview_of_an_account_is_readable_by_id_but_removed_by_its_owner_only(
    world: JobWorld,
) -> None:
    job = await world.post(FREE)
    assert (await world.service.get(job.id, None)).mode == "preview"
    with pytest.raises(TranscriptNotFound):
        await world.service.cancel_or_delete(job.id, None)
    assert await world.service.cancel_or_delete(job.id, FREE) is not None


async def test_purge_discards_the_spools_of_what_it_removed(world: JobWorld) -> None:
    job = await world.post(world.payer)
    await world.run_next()
    await world.post(world.payer)
    completed_at = (await world.job(job.id)).completed_at
    assert completed_at is not None
    assert await world.service.purge(older_than=completed_at) == []
    assert await world.service.purge(older_than=completed_at + 1) == [job.id]
    assert world.opener.discarded == [job.id, job.id]
    assert len(await world.rows()) == 1


# --- streaming ----------------------------------------------------------------------------------------------


async def read(stream: AsyncIterator[Page]) -> list[EventRow]:
    return [event async for page in stream for event in page]


async def test_a_reader_from_the_start_and_one_that_reconnects_at_every_event_see_the_same(
    world: JobWorld,
) -> None:
    job = await world.post(world.payer)
    service = world.service

    async def reconnecting() -> list[EventRow]:
        seen: list[EventRow] = []
        while not seen or seen[-1].event != "done":
            stream = service.stream(job.id, world.payer, seen[-1].seq if seen else 0)
            seen.append((await anext(stream))[0])
            await stream.aclose()
        return seen

    async with asyncio.timeout(180), asyncio.TaskGroup() as group:
        steady = group.create_task(read(service.stream(job.id, world.payer)))
        jumping = group.create_task(reconnecting())
        group.create_task(world.run_next())
    assert steady.result() == jumping.result() == await world.events(job.id)
    late = await read(service.stream(job.id, world.payer))
    assert late == steady.result()


async def test_a_stream_after_the_last_event_ends_at_once(world: JobWorld) -> None:
    job = await world.post(world.payer)
    await world.run_next()
    last_seq = (await world.job(job.id)).last_seq
    assert await read(world.service.stream(job.id, world.payer, last_seq)) == []
    assert await read(world.service.stream(job.id, world.payer, last_seq + 7)) == []


class ManualWatch(Watch):
    """A watch that is never notified; each wait lets its timeout pass on a fake clock."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self.clock = clock
        self.waited: list[float] = []

    @override
    async def wait(self, timeout_seconds: float) -> bool:
        self.waited.append(timeout_seconds)
        self.clock.advance(timeout_seconds)
        return False


class ManualWakeups(Wakeups):
    """Wake-ups that never come."""

    def __init__(self, watch: ManualWatch) -> None:
        super().__init__()
        self.only = watch

    @asynccontextmanager
    @override
    async def watch(self, job_id: str) -> AsyncIterator[Watch]:
        yield self.only


async def test_silence_is_pinged_and_a_lost_wakeup_costs_one_poll(world: JobWorld) -> None:
    job = await world.post(world.payer)
    clock = FakeClock()
    watch = ManualWatch(clock)
    world.clock, world.wakeups = clock, ManualWakeups(watch)
    world.options = ServiceOptions(sse_ping_seconds=15, poll_seconds=4)
    stream = world.service.stream(job.id, world.payer)
    assert [event.seq for event in await anext(stream)] == [1]
    started = clock.monotonic()
    assert await anext(stream) == ()
    assert clock.monotonic() - started == 15
    assert watch.waited == [4, 4, 4, 3]
    assert await anext(stream) == ()
    await world.service.cancel_or_delete(job.id, world.payer)
    [done] = await anext(stream)
    assert done.event == "done"
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_stream_ends_when_its_job_is_deleted(world: JobWorld) -> None:
    job = await world.post(world.payer)
    stream = world.service.stream(job.id, world.payer)
    await anext(stream)
    async with asyncio.TaskGroup() as group:
        rest = group.create_task(read(stream))
        await asyncio.sleep(0)
        await world.store.request_cancel(job.id, [])
        await world.service.cancel_or_delete(job.id, world.payer)
    assert rest.result() == []


async def test_a_slow_reader_holds_one_page_and_misses_nothing(world: JobWorld) -> None:
    world.opener.audio = spoken(range(1, 401))
    pages: list[int] = []

    class CountingStore(type(world.store)):  # type: ignore[misc]
        async def events_after(self, job_id: str, seq: int, *, limit: int = 500) -> list[EventRow]:
            page: list[EventRow] = await super().events_after(job_id, seq, limit=limit)
            pages.append(len(page))
            return page

    world.store = CountingStore(world.database)
    job = await world.post(world.payer)
    stream = world.service.stream(job.id, world.payer)
    first = await anext(stream)
    await world.run_next()
    rest = await read(stream)
    assert [*first, *rest] == await world.events(job.id)
    assert max(pages[:-1]) <= 100
