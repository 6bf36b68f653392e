"""Share links in SQL: `ports.ShareStore` for SQLite and PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, func, insert, select
from typing_extensions import override

from stenobird.ports import ShareStore
from stenobird.storage.schema import db_now, jobs, shares

if TYPE_CHECKING:
    from stenobird.storage.engine import Database


class SqlShareStore(ShareStore):
    """Share tokens on a `Database`. Needs no closing of its own."""

    def __init__(self, database: Database) -> None:
        self._db = database

    @override
    async def add(self, job_id: str, token_hash: str, *, max_links: int) -> bool:
        async with self._db.write() as connection:
            # Locking the job's row keeps two concurrent requests from both taking the last place.
            found = await connection.scalar(select(jobs.c.id).where(jobs.c.id == job_id).with_for_update())
            made = await connection.scalar(select(func.count()).where(shares.c.job_id == job_id))
            if found is None or (made or 0) >= max_links:
                return False
            await connection.execute(
                insert(shares).values(token_hash=token_hash, job_id=job_id, created_at=db_now())
            )
            return True

    @override
    async def opens(self, token_hash: str) -> str | None:
        async with self._db.read() as connection:
            job_id: str | None = await connection.scalar(
                select(shares.c.job_id).where(shares.c.token_hash == token_hash)
            )
            return job_id

    @override
    async def count(self, job_id: str) -> int:
        async with self._db.read() as connection:
            return await connection.scalar(select(func.count()).where(shares.c.job_id == job_id)) or 0

    @override
    async def revoke(self, job_id: str) -> int:
        async with self._db.write() as connection:
            gone = await connection.execute(
                delete(shares).where(shares.c.job_id == job_id).returning(shares.c.token_hash)
            )
            return len(gone.all())
