"""Upload slots in SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import and_, delete, func, insert, or_, select, update

from stenobird.errors import QueueBusy
from stenobird.ports import UploadRecord
from stenobird.storage.engine import QUEUE_LOCK
from stenobird.storage.rows import from_row
from stenobird.storage.schema import db_now, jobs, uploads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import RowMapping

    from stenobird.ports import NewUpload
    from stenobird.storage.engine import Database

ROOM_RETRY_SECONDS: Final = 300
"""After this time a slot may have expired and been swept."""

_EXPIRED = (uploads.c.expires_at <= db_now()).label("expired")
_OPEN = and_(uploads.c.used_at.is_(None), uploads.c.expires_at > db_now())


class UploadStore:
    """Upload slots. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def create(self, upload: NewUpload, *, max_bytes: int) -> UploadRecord:
        """Insert the slot. Raises `QueueBusy` when all slots that hold bytes would exceed `max_bytes`."""
        async with self._db.write() as connection:
            # Counting and inserting must not interleave, or the bound would be exceeded.
            await self._db.lock(connection, QUEUE_LOCK)
            held = await connection.scalar(
                select(func.coalesce(func.sum(uploads.c.size_bytes), 0)).where(
                    or_(uploads.c.blob_key.is_not(None), uploads.c.expires_at > db_now())
                )
            )
            if int(held or 0) + upload.size_bytes > max_bytes:
                raise QueueBusy(
                    "There is no room for this upload now. Wait retry_after_seconds and send it again.",
                    retry_after_seconds=ROOM_RETRY_SECONDS,
                )
            added = await connection.execute(
                insert(uploads)
                .values(
                    id=upload.id,
                    account_id=upload.account_id,
                    api_key_id=upload.api_key_id,
                    filename=upload.filename,
                    content_type=upload.content_type,
                    size_bytes=upload.size_bytes,
                    created_at=db_now(),
                    expires_at=db_now() + upload.lifetime_seconds,
                )
                .returning(uploads, _EXPIRED)
            )
            return _record(added.mappings().one())

    async def get(self, upload_id: str) -> UploadRecord | None:
        """Return the slot, or `None`."""
        async with self._db.read() as connection:
            found = await connection.execute(select(uploads, _EXPIRED).where(uploads.c.id == upload_id))
            row = found.mappings().one_or_none()
        return _record(row) if row is not None else None

    async def accept(self, upload_id: str, blob_key: str) -> tuple[bool, str | None]:
        """Make these the slot's bytes, unless the slot is used, expired or deleted.

        Return whether they are, and the key that they replace. The last caller wins.
        """
        async with self._db.write() as connection:
            before = await connection.execute(
                select(uploads.c.blob_key).where(uploads.c.id == upload_id, _OPEN).with_for_update()
            )
            row = before.one_or_none()
            if row is None:
                return False, None
            await connection.execute(
                update(uploads).where(uploads.c.id == upload_id).values(blob_key=blob_key)
            )
            return True, row.blob_key

    async def use(self, upload_id: str) -> UploadRecord | None:
        """Fix the bytes of a slot that has some and has not expired; return the slot."""
        async with self._db.write() as connection:
            await connection.execute(
                update(uploads)
                .where(uploads.c.id == upload_id, uploads.c.blob_key.is_not(None), _OPEN)
                .values(used_at=db_now())
            )
            found = await connection.execute(select(uploads, _EXPIRED).where(uploads.c.id == upload_id))
            row = found.mappings().one_or_none()
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
        async with self._db.read() as connection:
            return [_record(row) for row in (await connection.execute(query)).mappings()]

    async def forget_bytes(self, upload_id: str) -> None:
        """Note that the slot's bytes are deleted. The slot stays, so that it differs from an unknown one."""
        async with self._db.write() as connection:
            await connection.execute(update(uploads).where(uploads.c.id == upload_id).values(blob_key=None))

    async def known_blobs(self, keys: Sequence[str]) -> set[str]:
        """Return the keys that belong to a slot."""
        async with self._db.read() as connection:
            query = select(uploads.c.blob_key).where(uploads.c.blob_key.in_(keys))
            return {key for key in await connection.scalars(query) if key is not None}

    async def purge(self, *, expired_seconds: float) -> int:
        """Delete slots without bytes that expired at least that long ago; return how many."""
        async with self._db.write() as connection:
            result = await connection.execute(
                delete(uploads).where(
                    uploads.c.blob_key.is_(None), uploads.c.expires_at <= db_now() - expired_seconds
                )
            )
            return result.rowcount


def _record(row: RowMapping) -> UploadRecord:
    return from_row(UploadRecord, row, expired=bool(row["expired"]))
