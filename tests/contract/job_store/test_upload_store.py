"""What `UploadStore` promises, and what jobs of uploads need of the job store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from stenobird.errors import QueueBusy
from stenobird.ports import Caller, JobChange, JobPage, NewEvent, NewJob, RecognitionOptions, UploadedFile
from stenobird.storage.job_store import JobStore
from stenobird.storage.schema import db_now, outbox, uploads
from stenobird.storage.upload_store import UploadRecord, UploadStore

if TYPE_CHECKING:
    from stenobird.storage.engine import Database

pytestmark = pytest.mark.anyio

GB = 1024**3


@pytest.fixture
def slots(database: Database) -> UploadStore:
    return UploadStore(database)


def new_upload(name: str = "upl_1", *, account_id: str = "acct_1") -> tuple[str, Caller, UploadedFile]:
    caller = Caller(account_id, "key_1", "live", "full_access", "premium")
    return name, caller, UploadedFile("a.mp3", "audio/mpeg", 3 * GB)


def new_job(name: str, **changes: Any) -> NewJob:
    values: dict[str, Any] = {
        "id": name,
        "mode": "full",
        "audio_url": "upload:upl_1",
        "base_url": "http://test",
        "options": RecognitionOptions(),
        "account_id": "acct_1",
        "origin": "alefbot",
        "upload_id": "upl_1",
    }
    return NewJob(**(values | changes))


async def create(
    slots: UploadStore, upload: tuple[str, Caller, UploadedFile], total_gb: int, account_gb: int = 100
) -> UploadRecord:
    return await slots.create(
        *upload, total_bytes=total_gb * GB, account_bytes=account_gb * GB, reserve_seconds=120.0
    )


async def expire(database: Database, upload_id: str) -> None:
    async with database.write() as connection:
        await connection.execute(
            update(uploads).where(uploads.c.id == upload_id).values(expires_at=db_now() - 1)
        )


async def test_a_slot_is_read_back_as_it_was_made(slots: UploadStore) -> None:
    made = await create(slots, new_upload(), 10)

    assert await slots.get("upl_1") == made
    assert (made.size_bytes, made.blob_key, made.used_at, made.expired) == (3 * GB, None, None, False)
    assert made.expires_at - made.created_at == pytest.approx(1800, abs=1)
    assert await slots.get("upl_2") is None


async def test_slots_that_would_exceed_the_room_are_refused(slots: UploadStore, database: Database) -> None:
    await create(slots, new_upload(), 5)
    with pytest.raises(QueueBusy):
        await create(slots, new_upload("upl_2"), 5)
    assert await slots.get("upl_2") is None

    await expire(database, "upl_1")
    await create(slots, new_upload("upl_2"), 5)


async def test_an_account_can_not_take_the_room_of_the_others(slots: UploadStore) -> None:
    await create(slots, new_upload(), 10, 5)
    with pytest.raises(QueueBusy) as refused:
        await create(slots, new_upload("upl_2"), 10, 5)
    assert refused.value.details == {"max_account_bytes": 5 * GB}
    await create(slots, new_upload("upl_3", account_id="acct_2"), 10, 5)


async def test_reserved_room_is_free_again_when_nothing_arrives(
    slots: UploadStore, database: Database
) -> None:
    idle = await create(slots, new_upload(), 5)
    async with database.write() as connection:
        await connection.execute(update(uploads).values(reserved_until=db_now() - 1))

    other = await create(slots, new_upload("upl_2"), 5)
    with pytest.raises(QueueBusy):
        await slots.reserve(idle, total_bytes=5 * GB, account_bytes=5 * GB, seconds=120.0)
    await slots.reserve(other, total_bytes=5 * GB, account_bytes=5 * GB, seconds=120.0)
    await expire(database, "upl_2")
    await slots.reserve(idle, total_bytes=5 * GB, account_bytes=5 * GB, seconds=120.0)

    await slots.accept(idle.id, "k1")
    async with database.write() as connection:
        await connection.execute(update(uploads).values(reserved_until=0.0))
    with pytest.raises(QueueBusy):
        await create(slots, new_upload("upl_3"), 5)


async def test_the_last_accepted_bytes_win_and_the_replaced_ones_are_named(slots: UploadStore) -> None:
    await create(slots, new_upload(), 10)

    assert await slots.accept("upl_1", "k1") == (True, None)
    assert await slots.accept("upl_1", "k2") == (True, "k1")
    assert await slots.accept("upl_none", "k3") == (False, None)

    slot = await slots.get("upl_1")
    assert slot is not None
    assert slot.blob_key == "k2"


async def test_two_at_once_leave_one_key_and_name_the_other(slots: UploadStore) -> None:
    await create(slots, new_upload(), 10)

    answers = await asyncio.gather(*(slots.accept("upl_1", key) for key in ("k1", "k2")))

    slot = await slots.get("upl_1")
    assert slot is not None
    replaced = {key for _, key in answers}
    assert replaced == {None, ({"k1", "k2"} - {slot.blob_key}).pop()}


async def test_used_bytes_do_not_change(slots: UploadStore) -> None:
    await create(slots, new_upload(), 10)
    await slots.accept("upl_1", "k1")

    used = await slots.use("upl_1")
    assert used is not None
    assert used.used_at is not None
    again = await slots.use("upl_1")

    assert again == used
    assert await slots.accept("upl_1", "k2") == (False, None)


async def test_a_slot_without_bytes_or_past_its_time_can_not_be_used(
    slots: UploadStore, database: Database
) -> None:
    await create(slots, new_upload(), 10)
    empty = await slots.use("upl_1")
    assert empty is not None
    assert empty.used_at is None

    await expire(database, "upl_1")
    assert await slots.accept("upl_1", "k1") == (False, None)
    expired = await slots.get("upl_1")
    assert expired is not None
    assert expired.expired


async def test_bytes_are_removable_once_expired_and_no_job_needs_them(
    slots: UploadStore, database: Database
) -> None:
    store = JobStore(database)
    await create(slots, new_upload(), 10)
    await slots.accept("upl_1", "k1")
    assert await slots.removable(expired_seconds=0, limit=10) == []
    await store.create(new_job("job_1"), NewEvent("status", "{}"), max_queued=5)
    await expire(database, "upl_1")

    assert await slots.removable(expired_seconds=0, limit=10) == []
    await store.request_cancel("job_1", [NewEvent("done", "{}")])
    assert await slots.removable(expired_seconds=600, limit=10) == []
    removable = await slots.removable(expired_seconds=0, limit=10)
    assert [(slot.id, slot.blob_key) for slot in removable] == [("upl_1", "k1")]

    assert await slots.known_blobs(["k1", "k2"]) == {"k1"}
    await slots.forget_bytes("upl_1")
    assert await slots.removable(expired_seconds=0, limit=10) == []
    assert await slots.known_blobs(["k1", "k2"]) == set()
    assert await slots.purge(expired_seconds=600) == 0
    assert await slots.purge(expired_seconds=0) == 1
    assert await slots.get("upl_1") is None


async def test_a_job_can_be_created_ended(database: Database) -> None:
    store = JobStore(database)
    events = [NewEvent("status", "{}"), NewEvent("transcript", "{}", 0), NewEvent("done", "{}")]
    change = JobChange(status="completed", stage="transcribing", duration_seconds=9.0, billable_minutes=0)
    message = {"url": "https://example.com"}

    job = await store.create_ended(new_job("job_1", mode="test"), change, events, webhook=message)

    assert job == await store.get("job_1")
    assert (job.status, job.last_seq, job.next_chunk_index) == ("completed", 3, 1)
    assert job.completed_at is not None
    assert [row.seq for row in await store.events_after("job_1", 0)] == [1, 2, 3]
    assert await store.claim("worker", lanes=["preview", "full"]) is None
    async with database.read() as connection:
        assert [row.job_id for row in await connection.execute(outbox.select())] == ["job_1"]


async def test_pages_count_jobs_of_one_origin_newest_first(database: Database) -> None:
    store = JobStore(database)
    first = NewEvent("status", "{}")
    for number in range(5):
        await store.create(new_job(f"job_{number}"), first, max_queued=50)
    await store.create(new_job("job_other", origin="stenobird"), first, max_queued=50)
    await store.create(new_job("job_theirs", account_id="acct_2"), first, max_queued=50)
    await store.request_cancel("job_3", [NewEvent("done", "{}")])

    async def page(**choices: Any) -> tuple[list[str], int]:
        which = JobPage(origin="alefbot", **choices)
        jobs = await store.list_jobs("acct_1", which)
        return [job.id for job in jobs], await store.count_jobs("acct_1", which)

    everything, total = await page()
    assert (sorted(everything), total) == ([f"job_{number}" for number in range(5)], 5)
    assert await page(limit=2, offset=1) == (everything[1:3], 5)
    assert await page(offset=5) == ([], 5)
    assert await page(status="cancelled") == (["job_3"], 1)
    assert await page(mode="full") == (everything, 5)
    assert await page(mode="test") == ([], 0)
