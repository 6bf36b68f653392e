"""Upload slots in SQL."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, case, delete, func, insert, or_, select, update

from stenobird.errors import QueueBusy
from stenobird.storage.engine import QUEUE_LOCK, Database, one, one_or_none
from stenobird.storage.rows import from_row
from stenobird.storage.schema import db_now, jobs, uploads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import RowMapping
    from sqlalchemy.ext.asyncio import AsyncConnection

    from stenobird.ports import Caller, UploadedFile

LIFETIME_SECONDS: Final = 30 * 60.0
"""How long a slot takes bytes and jobs."""
ROOM_RETRY_SECONDS: Final = 300
"""After this time a slot may have expired and been swept."""

_EXPIRED = (uploads.c.expires_at <= db_now()).label("expired")
_OPEN = and_(uploads.c.used_at.is_(None), uploads.c.expires_at > db_now())


@dataclass(frozen=True, slots=True)
class UploadRecord:
    """An upload slot's row. `blob_key` names its bytes once they are complete; times are epoch seconds.

    `expired` was true or false on the database's clock when the row was read. From `used_at` on, when the
    first job used the slot, its bytes do not change.
    """

    id: str
    account_id: str
    filename: str
    content_type: str
    size_bytes: int
    created_at: float
    expires_at: float
    expired: bool
    blob_key: str | None = None
    used_at: float | None = None


class UploadStore:
    """Upload slots. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def create(
        self,
        upload_id: str,
        caller: Caller,
        file: UploadedFile,
        *,
        total_bytes: int,
        account_bytes: int,
        reserve_seconds: float,
    ) -> UploadRecord:
        """Insert a slot of `LIFETIME_SECONDS`, and reserve room for its bytes for a while.

        Raises `QueueBusy` when the bytes of all slots would exceed `total_bytes`, or those of the account's
        slots `account_bytes`. Bytes count once they have arrived, and before that while they are reserved.
        """
        async with self._db.write() as connection:
            # Counting and inserting must not interleave, or the bounds would be exceeded.
            await self._db.lock(connection, QUEUE_LOCK)
            added = await one(
                connection,
                insert(uploads)
                .values(
                    id=upload_id,
                    account_id=caller.account_id,
                    api_key_id=caller.api_key_id,
                    **asdict(file),
                    created_at=db_now(),
                    expires_at=db_now() + LIFETIME_SECONDS,
                    reserved_until=db_now() + reserve_seconds,
                )
                .returning(uploads, _EXPIRED),
            )
            slot = _record(added)
            await _check_room(connection, slot, total_bytes, account_bytes)
            return slot

    async def get(self, upload_id: str) -> UploadRecord | None:
        """Return the slot, or `None`."""
        row = await self._db.row(select(uploads, _EXPIRED).where(uploads.c.id == upload_id))
        return _record(row) if row is not None else None

    async def reserve(
        self, slot: UploadRecord, *, total_bytes: int, account_bytes: int, seconds: float
    ) -> None:
        """Reserve the slot's room for so long from now on, because its bytes are arriving.

        Raises `QueueBusy` when an earlier reservation has ended and others have taken the room.
        """
        async with self._db.write() as connection:
            await self._db.lock(connection, QUEUE_LOCK)
            await _check_room(connection, slot, total_bytes, account_bytes)
            await connection.execute(
                update(uploads).where(uploads.c.id == slot.id).values(reserved_until=db_now() + seconds)
            )

    async def accept(self, upload_id: str, blob_key: str) -> tuple[bool, str | None]:
        """Make these the slot's bytes, unless the slot is used, expired or deleted.

        Return whether they are, and the key that they replace. The last caller wins.
        """
        async with self._db.write() as connection:
            before = select(uploads.c.blob_key).where(uploads.c.id == upload_id, _OPEN).with_for_update()
            row = await one_or_none(connection, before)
            if row is None:
                return False, None
            await connection.execute(
                update(uploads).where(uploads.c.id == upload_id).values(blob_key=blob_key)
            )
            return True, row["blob_key"]

    async def use(self, upload_id: str) -> UploadRecord | None:
        """Fix the bytes of a slot that has some and has not expired; return the slot."""
        async with self._db.write() as connection:
            await connection.execute(
                update(uploads)
                .where(uploads.c.id == upload_id, uploads.c.blob_key.is_not(None), _OPEN)
                .values(used_at=db_now())
            )
            row = await one_or_none(connection, select(uploads, _EXPIRED).where(uploads.c.id == upload_id))
        return _record(row) if row is not None else None

    async def removable(self, *, expired_seconds: float, limit: int) -> list[UploadRecord]:
        """Return slots with bytes that expired at least that long ago and that no unfinished job needs."""
        needed = select(jobs.c.id).where(jobs.c.upload_id == uploads.c.id, jobs.c.completed_at.is_(None))
        query = (
            select(uploads, _EXPIRED)
            .where(
                uploads.c.blob_key.is_not(None),
                uploads.c.expires_at <= db_now() - expired_seconds,
                ~needed.exists(),
            )
            .order_by(uploads.c.expires_at)
            .limit(limit)
        )
        return [_record(row) for row in await self._db.rows(query)]

    async def forget_bytes(self, upload_id: str) -> None:
        """Note that the slot's bytes are deleted. The slot stays, so that it differs from an unknown one."""
        await self._db.execute(update(uploads).where(uploads.c.id == upload_id).values(blob_key=None))

    async def known_blobs(self, keys: Sequence[str]) -> set[str]:
        """Return the keys that belong to a slot."""
        async with self._db.read() as connection:
            query = select(uploads.c.blob_key).where(uploads.c.blob_key.in_(keys))
            return {key for key in await connection.scalars(query) if key is not None}

    async def purge(self, *, expired_seconds: float) -> int:
        """Delete slots without bytes that expired at least that long ago; return how many."""
        return await self._db.execute(
            delete(uploads).where(
                uploads.c.blob_key.is_(None), uploads.c.expires_at <= db_now() - expired_seconds
            )
        )


async def _check_room(
    connection: AsyncConnection, slot: UploadRecord, total_bytes: int, account_bytes: int
) -> None:
    """Raise `QueueBusy` if the bytes of this slot don't fit beside those of the other slots."""
    size = func.coalesce(func.sum(uploads.c.size_bytes), 0)
    own = func.coalesce(
        func.sum(case((uploads.c.account_id == slot.account_id, uploads.c.size_bytes), else_=0)), 0
    )
    held = or_(
        uploads.c.blob_key.is_not(None),
        and_(uploads.c.reserved_until > db_now(), uploads.c.expires_at > db_now()),
    )
    found = await connection.execute(select(size, own).where(held, uploads.c.id != slot.id))
    all_bytes, own_bytes = found.one()
    if int(own_bytes) + slot.size_bytes > account_bytes:
        raise QueueBusy(
            f"The uploads of this account may hold {account_bytes} bytes together, and there is no room for "
            "this one. Wait until earlier ones have been transcribed or have expired.",
            details={"max_account_bytes": account_bytes},
            retry_after_seconds=ROOM_RETRY_SECONDS,
        )
    if int(all_bytes) + slot.size_bytes > total_bytes:
        raise QueueBusy(
            "There is no room for this upload now. Wait retry_after_seconds and send it again.",
            retry_after_seconds=ROOM_RETRY_SECONDS,
        )


def _record(row: RowMapping) -> UploadRecord:
    return from_row(UploadRecord, row, expired=bool(row["expired"]))
