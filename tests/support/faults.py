"""Databases and stores that break at a chosen moment, for tests of recovery."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.exc import OperationalError
from typing_extensions import override

from stenobird.storage.engine import CommitUnknown, Database
from stenobird.storage.job_store import JobStore

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from stenobird.ports import JobChange, Lease, NewEvent, UsageRow
    from tests.support.job_world import JobWorld

_T = TypeVar("_T")


class Killed(BaseException):
    """The process died here: like `kill -9`, no `except Exception` sees it."""


async def survives_a_death(world: JobWorld, job_id: str, *, dies_at: int, after_commit: bool) -> bool:
    """Run the next job with a worker that dies at this write, then with another one to its end.

    Return whether the job had ended before that write came.
    """
    try:
        await world.run_next(DyingStore(world.store, dies_at=dies_at, after_commit=after_commit))
    except BaseExceptionGroup as group:
        if group.subgroup(Killed) is None:
            raise
        await world.store.expire_leases()
        if not (await world.job(job_id)).terminal:
            await world.run_next()
        return False
    return True


class FaultyDatabase(Database):
    """A database that loses answers: `commits` says for each COMMIT to come how it ends.

    `"ok"`; `"lost before"` (the connection breaks, nothing was written); `"lost after"` (written, but the
    answer never came). When the list is used up, every COMMIT is well.
    """

    @classmethod
    def over(cls, database: Database, commits: Sequence[str]) -> FaultyDatabase:
        """Return a faulty view of an open database, which stays the caller's to close."""
        faulty = cls(database.writer, database.reader)
        faulty.commits = list(commits)
        return faulty

    commits: list[str]

    async def commit(self, connection: AsyncConnection) -> None:
        """Commit as the next entry of `commits` says."""
        fate = self.commits.pop(0) if self.commits else "ok"
        if fate == "lost before":
            await connection.rollback()
        else:
            await super().commit(connection)
        if fate != "ok":
            raise OperationalError("COMMIT", None, ConnectionError("the answer was lost"))

    @override
    async def transact(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        fate = self.commits.pop(0) if self.commits else "ok"
        if fate == "lost before":
            raise CommitUnknown
        result = await super().transact(work)
        if fate != "ok":
            raise CommitUnknown
        return result


class DyingStore(JobStore):
    """A `JobStore` whose worker dies at its n-th write, just before it or just after.

    Writes are numbered from 0 over `append`, `finish` and `release`; the rest passes through.
    """

    def __init__(self, store: JobStore, *, dies_at: int, after_commit: bool) -> None:
        super().__init__(store.database)
        self._store = store
        self._dies_at = dies_at
        self._after_commit = after_commit
        self.writes = 0

    @override
    async def append(self, lease: Lease, change: JobChange, events: Sequence[NewEvent]) -> int:
        last_seq: int = await self._or_die(lambda: self._store.append(lease, change, events))
        return last_seq

    @override
    async def finish(
        self,
        lease: Lease,
        change: JobChange,
        events: Sequence[NewEvent],
        *,
        usage: UsageRow | None = None,
        webhook: Mapping[str, Any] | None = None,
    ) -> None:
        await self._or_die(lambda: self._store.finish(lease, change, events, usage=usage, webhook=webhook))

    @override
    async def release(self, lease: Lease, *, trouble: str | None = None) -> None:
        await self._or_die(lambda: self._store.release(lease, trouble=trouble))

    async def _or_die(self, write: Callable[[], Awaitable[Any]]) -> Any:
        dies = self.writes == self._dies_at
        self.writes += 1
        if dies and not self._after_commit:
            raise Killed
        result = await write()
        if dies:
            raise Killed
        return result
