"""Upload slots: swept when no job needs them any more, and read like the media of a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import update

from stenobird.discovery.tags import title_of
from stenobird.errors import (
    AudioUnreachable,
    QueueBusy,
    UploadNotAvailable,
    UploadNotFound,
    UploadSlotExpired,
)
from stenobird.jobs.spec import uploaded_source
from stenobird.ports import Caller, JobExtra, JobRecord, NewEvent, NewJob, RecognitionOptions, UploadedFile
from stenobird.storage.blobs import BlobStore, open_blobs
from stenobird.storage.job_store import JobStore
from stenobird.storage.schema import db_now, uploads
from stenobird.storage.upload_store import UploadStore
from stenobird.uploads import (
    END_BYTES,
    GRACE_SECONDS,
    ORPHAN_SECONDS,
    RESERVE_SECONDS,
    SLOT_MEMORY_SECONDS,
    CreateUpload,
    UploadOrigin,
    UploadService,
)
from tests.support.databases import sqlite_database
from tests.support.impatient_clock import ImpatientClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from stenobird.storage.engine import Database

pytestmark = pytest.mark.anyio

CALLER = Caller("acct_1", "key_1", "live", "full_access", "premium")
DATA = bytes(range(256)) * 40


@dataclass
class World:
    database: Database
    slots: UploadStore
    jobs: JobStore
    blobs: BlobStore
    service: UploadService
    clock: ImpatientClock

    async def filled(self, data: bytes = DATA) -> str:
        request = CreateUpload(filename="a.mp3", content_type="audio/mpeg", size_bytes=len(data))
        slot = await self.service.create(request, CALLER)
        await self.service.write(slot.id, CALLER, chunks(data))
        return slot.id

    async def expire(self, upload_id: str, *, ago_seconds: float) -> None:
        async with self.database.write() as connection:
            await connection.execute(
                update(uploads).where(uploads.c.id == upload_id).values(expires_at=db_now() - ago_seconds)
            )

    async def keys(self) -> list[str]:
        return [key async for key, _, _ in self.blobs.list("uploads")]


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(data), 1000):
        yield data[at : at + 1000]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with sqlite_database(tmp_path) as database:
        slots, blobs, clock = UploadStore(database), open_blobs(tmp_path / "blobs"), ImpatientClock()
        service = UploadService(slots, blobs, clock=clock)
        yield World(database, slots, JobStore(database), blobs, service, clock)


async def job_of(world: World, upload_id: str) -> JobRecord:
    new = NewJob(
        id="job_1",
        mode="full",
        audio_url=f"upload:{upload_id}",
        base_url="http://test",
        options=RecognitionOptions(),
        account_id="acct_1",
        upload_id=upload_id,
        extra=JobExtra(upload=UploadedFile("My talk.mp3", "audio/mpeg", 5)),
    )
    return await world.jobs.create(new, NewEvent("status", "{}"), max_queued=9)


async def test_bytes_go_once_the_slot_has_expired_and_no_job_needs_them(world: World) -> None:
    upload_id = await world.filled()
    await job_of(world, upload_id)
    assert await world.service.sweep() == 0

    await world.expire(upload_id, ago_seconds=GRACE_SECONDS + 1)
    assert await world.service.sweep() == 0
    await world.jobs.request_cancel("job_1", [NewEvent("done", "{}")])
    assert await world.service.sweep() == 1

    assert await world.keys() == []
    with pytest.raises(UploadSlotExpired):
        await world.service.take(upload_id, "acct_1")
    await world.expire(upload_id, ago_seconds=SLOT_MEMORY_SECONDS + 1)
    await world.service.sweep()
    with pytest.raises(UploadNotFound):
        await world.service.take(upload_id, "acct_1")


async def test_a_slot_that_has_only_just_expired_keeps_its_bytes(world: World) -> None:
    await world.expire(await world.filled(), ago_seconds=1)

    assert await world.service.sweep() == 0
    assert len(await world.keys()) == 1


async def test_bytes_of_no_slot_go_after_a_day(world: World) -> None:
    upload_id = await world.filled()
    await world.blobs.put("uploads/upl_dead/1", chunks(b"left by a process that died"))
    assert await world.service.sweep() == 0

    world.clock.ahead_seconds = ORPHAN_SECONDS + 1
    assert await world.service.sweep() == 1

    slot = await world.slots.get(upload_id)
    assert slot is not None
    assert await world.keys() == [slot.blob_key]


async def test_a_body_that_outlives_every_slot_is_given_up(world: World) -> None:
    request = CreateUpload(filename="a.mp3", content_type="audio/mpeg", size_bytes=3)
    slot = await world.service.create(request, CALLER)

    async def trickle() -> AsyncIterator[bytes]:
        yield b"1"
        world.clock.ahead_seconds += 30 * 60 + 1
        yield b"2"
        raise AssertionError("no more is read")

    with pytest.raises(UploadSlotExpired):
        await world.service.write(slot.id, CALLER, trickle())

    assert await world.keys() == []


async def test_room_is_kept_while_bytes_arrive_and_needed_again_after_a_pause(world: World) -> None:
    world.service = UploadService(world.slots, world.blobs, clock=world.clock, quota_bytes=len(DATA))
    request = CreateUpload(filename="a.mp3", content_type="audio/mpeg", size_bytes=len(DATA))
    slow = await world.service.create(request, CALLER)

    async def pass_reservation() -> None:
        async with world.database.write() as connection:
            await connection.execute(update(uploads).values(reserved_until=db_now() - 1))

    async def slowly() -> AsyncIterator[bytes]:
        async for chunk in chunks(DATA):
            yield chunk
            await pass_reservation()
            world.clock.ahead_seconds += RESERVE_SECONDS

    await world.service.write(slow.id, CALLER, slowly())
    with pytest.raises(QueueBusy):
        await world.service.create(request, CALLER)

    await world.expire(slow.id, ago_seconds=GRACE_SECONDS + 1)
    await world.service.sweep()
    idle = await world.service.create(request, CALLER)
    await pass_reservation()
    await world.service.create(request, CALLER)
    with pytest.raises(QueueBusy):
        await world.service.write(idle.id, CALLER, chunks(DATA))


async def test_a_slot_that_is_only_checked_can_be_filled_again(world: World) -> None:
    upload_id = await world.filled()

    await world.service.check(upload_id, CALLER.account_id)
    await world.service.write(upload_id, CALLER, chunks(DATA[::-1]))

    slot = await world.service.take(upload_id, CALLER.account_id)
    assert slot.blob_key is not None
    assert b"".join([piece async for piece in world.blobs.get(slot.blob_key)]) == DATA[::-1]
    with pytest.raises(UploadNotFound):
        await world.service.check(upload_id, "acct_2")


async def test_a_slot_created_again_under_its_id_is_the_same(world: World) -> None:
    request = CreateUpload(filename="a.mp3", content_type="audio/mpeg", size_bytes=5)
    upload_id = world.service.new_id()

    first = await world.service.create(request, CALLER, upload_id=upload_id)
    again = await world.service.create(request, CALLER, upload_id=upload_id)

    assert first.id == upload_id
    assert again == first
    with pytest.raises(UploadNotAvailable):
        await world.service.take(upload_id, "acct_1")


async def test_a_job_s_source_is_its_upload(world: World) -> None:
    source = uploaded_source(await job_of(world, await world.filled()))

    assert (source.technique, source.kind, source.title) == ("upload", "file", "My talk")
    assert source.media_url == source.final_url == source.submitted_url
    assert (source.content_type, source.size_bytes) == ("audio/mpeg", 5)


@pytest.mark.parametrize("filler", [0, 300_000])
async def test_both_ends_of_a_file_are_read_for_its_title(world: World, filler: int) -> None:
    title = "The birds"
    size = len(title) + 16
    atom = b"\xa9nam" + size.to_bytes(4) + b"data" + bytes(8) + title.encode()
    file = b"\0\0\0\x18ftypM4A " + bytes(filler) + atom
    slot = await world.service.take(await world.filled(file), CALLER.account_id)

    ends = await world.service.ends(slot)

    assert ends == (file if not filler else file[:END_BYTES] + file[-END_BYTES:])
    assert title_of(ends) == title
    assert slot.blob_key is not None
    await world.blobs.delete(slot.blob_key)
    assert await world.service.ends(slot) == b""


async def test_ranges_of_an_upload_are_opened_like_a_server_s(world: World) -> None:
    upload_id = await world.filled()
    source = uploaded_source(await job_of(world, upload_id))
    origin = UploadOrigin(world.slots, world.blobs)

    async def read(first: int, last: int | None) -> tuple[int, int, int | None, bytes]:
        opened = await origin.open(source.final_url, source, first=first, last=last, if_range=None)
        body = b"".join([chunk async for chunk in opened.body()])
        await opened.aclose()
        assert opened.total_bytes == len(DATA)
        return opened.status, opened.offset, opened.end, body

    size = len(DATA)
    assert await read(0, None) == (206, 0, size, DATA)
    assert await read(100, 199) == (206, 100, 200, DATA[100:200])
    assert await read(size - 1, size + 50) == (206, size - 1, size, DATA[-1:])
    assert await read(size, None) == (416, size, size, b"")


async def test_an_upload_whose_bytes_are_gone_is_unreachable(world: World) -> None:
    upload_id = await world.filled()
    source = uploaded_source(await job_of(world, upload_id))
    origin = UploadOrigin(world.slots, world.blobs)
    opened = await origin.open(source.final_url, source, first=0, last=None, if_range=None)
    for key in await world.keys():
        await world.blobs.delete(key)

    with pytest.raises(AudioUnreachable, match="no longer there"):
        [chunk async for chunk in opened.body()]
    await world.slots.forget_bytes(upload_id)
    with pytest.raises(AudioUnreachable, match="no longer there"):
        await origin.open(source.final_url, source, first=0, last=None, if_range=None)
