"""The queue as operators see it: attempts, failed jobs, and switches for the whole queue."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert, select

from stenobird.errors import InvalidRequest, TranscriptNotFound
from stenobird.ports import Attempt, NewJob
from stenobird.storage import queue, rows
from stenobird.storage.account_store import record_audit
from stenobird.storage.engine import one_or_none
from stenobird.storage.job_store import insert_events
from stenobird.storage.schema import attempts, db_now, jobs, queue_switches

if TYPE_CHECKING:
    from stenobird.ports import JobRecord, JobStatus, NewEvent, QueueSwitch
    from stenobird.storage.engine import Database


class QueueStore:
    """What operators read and change. Every method is one transaction; changes leave an audit row."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def attempts(self, job_id: str) -> list[Attempt]:
        """Return the attempts, oldest first, the current one and the one that ended the job included."""
        past = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.ended_at)
        last = select(jobs.c.lease_worker, jobs.c.claimed_at, jobs.c.completed_at, jobs.c.status).where(
            jobs.c.id == job_id, jobs.c.lease_worker.is_not(None)
        )
        async with self._db.read() as connection:
            found = [rows.from_row(Attempt, row) for row in (await connection.execute(past)).mappings()]
            row = (await connection.execute(last)).one_or_none()
        if row is not None:
            outcome = "running" if row.completed_at is None else row.status
            found.append(Attempt(row.lease_worker, row.claimed_at, row.completed_at, outcome, None))
        return found

    async def retry(self, job_id: str, new_id: str, first: NewEvent) -> None:
        """Queue a new job like a failed one, whose committed events can't change.

        Raises `TranscriptNotFound`, and `InvalidRequest` for a job that has not failed.
        """
        async with self._db.write() as connection:
            row = await one_or_none(connection, select(jobs).where(jobs.c.id == job_id))
            if row is None:
                raise TranscriptNotFound
            failed = rows.job_from_row(row)
            if failed.status != "failed":
                raise InvalidRequest(
                    f"The transcript {job_id} is {failed.status}; only a failed one is retried."
                )
            again = rows.from_row(
                NewJob,
                row,
                id=new_id,
                options=failed.options,
                extra=replace(
                    failed.extra,
                    carry=None,
                    spoken_language=None,
                    untranslated_segments=0,
                    gap_seconds=0.0,
                    now_playing=None,
                ),
            )
            values = rows.new_job_values(again)
            await connection.execute(insert(jobs).values(**values, created_at=db_now(), updated_at=db_now()))
            await insert_events(connection, new_id, [first], last_seq=1)
            await record_audit(
                connection, failed.account_id, "job.retried", job_id, by="operator", as_job=new_id
            )
            await connection.execute(queue.ONE_MORE)

    async def recent(self, status: JobStatus | None = None, *, limit: int = 20) -> list[JobRecord]:
        """Return the newest jobs of all accounts, or those with this status."""
        query = select(jobs).order_by(jobs.c.created_at.desc(), jobs.c.id.desc()).limit(limit)
        if status is not None:
            query = query.where(jobs.c.status == status)
        return [rows.job_from_row(row) for row in await self._db.rows(query)]

    async def switch(self, name: QueueSwitch, *, on: bool) -> None:
        """Set a switch of the queue: `paused` (nothing is claimed) or `draining` (nothing is accepted)."""
        change: Any = delete(queue_switches).where(queue_switches.c.name == name)
        if on:
            new = self._db.insert(queue_switches).values(name=name, set_at=db_now())
            change = new.on_conflict_do_nothing()
        async with self._db.write() as connection:
            await connection.execute(change)
            await record_audit(connection, None, f"queue.{name}", name, by="operator", on=on)

    async def switches(self) -> dict[str, float]:
        """Return the switches that are on, and since when."""
        return {row["name"]: row["set_at"] for row in await self._db.rows(select(queue_switches))}
