"""The queue: which jobs can be claimed, how attempts end, the sums of ended jobs, and what operators do."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, Text, and_, case, delete, insert, literal, or_, select, update

from stenobird.errors import InvalidRequest, TranscriptNotFound
from stenobird.ports import Attempt, JobRecord, JobStatus, Lease, NewEvent, NewJob, QueueSwitch
from stenobird.storage import rows
from stenobird.storage.account_store import record_audit
from stenobird.storage.engine import Database, one_or_none
from stenobird.storage.schema import attempts, db_now, ended_jobs, events, jobs, open_jobs, queue_switches

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection


MAX_INTERRUPTIONS: Final = 20
"""How often the worker of a job may die before that counts as an attempt of the job."""
DEATH_BACKOFF: Final = ((3, 0.0), (4, 10.0), (6, 60.0))
"""After fewer deaths than the first number, the job waits so many seconds before it is claimed again."""
LONGEST_BACKOFF_SECONDS: Final = 300.0
TROUBLE_BACKOFF_SECONDS: Final = 5.0
"""How long a job waits after its first release by a worker in trouble; each further one doubles it."""


def held(lease: Lease) -> ColumnElement[bool]:
    """Return the condition that the job is still held under this lease."""
    return and_(jobs.c.id == lease.job_id, jobs.c.lease_token == lease.token)


def unleased() -> ColumnElement[bool]:
    """Return the condition that no worker holds the job."""
    return or_(jobs.c.lease_token.is_(None), jobs.c.lease_expires_at <= db_now())


def claimable() -> ColumnElement[bool]:
    """Return the condition that no worker holds the job and that it need not wait any longer."""
    return or_(
        and_(jobs.c.lease_token.is_(None), jobs.c.claimable_at <= db_now()),
        jobs.c.lease_expires_at + death_backoff() <= db_now(),
    )


def death_backoff() -> ColumnElement[float]:
    """Return how long a job waits after one more death of its worker than it has seen."""
    deaths = jobs.c.interruptions + 1
    return case(*((deaths < number, delay) for number, delay in DEATH_BACKOFF), else_=LONGEST_BACKOFF_SECONDS)


def switched(name: QueueSwitch) -> ColumnElement[bool]:
    """Return the condition that an operator has turned the switch on."""
    return select(queue_switches.c.name).where(queue_switches.c.name == name).exists()


INSERT_EVENT: Final = insert(events).values(created_at=db_now())
ONE_MORE: Final = update(open_jobs).values(jobs=open_jobs.c.jobs + 1)
ONE_LESS: Final = update(open_jobs).values(jobs=open_jobs.c.jobs - 1)
"""Last in a transaction, so that no other one waits long for the row."""

NO_LEASE: Final[Mapping[str, None]] = {"lease_token": None, "lease_worker": None, "lease_expires_at": None}


async def end_attempts(
    connection: AsyncConnection, which: ColumnElement[bool], outcome: str, *, reason: str | None = None
) -> None:
    """Record how the current attempts of leased jobs have ended."""
    ended = select(
        jobs.c.lease_token,
        jobs.c.id,
        jobs.c.lease_worker,
        jobs.c.claimed_at,
        db_now(),
        literal(outcome),
        literal(reason, Text),
    )
    names = ["lease_token", "job_id", "worker", "started_at", "ended_at", "outcome", "reason"]
    await connection.execute(insert(attempts).from_select(names, ended.where(which)))


async def count_ended(
    database: Database, connection: AsyncConnection, numbers: Mapping[str, int], *, sign: int = 1
) -> None:
    """Add to the sums of ended jobs. Called last in a transaction, in order, so that none waits long."""
    for status, number in sorted(numbers.items()):
        await database.add_up(connection, ended_jobs, {"status": status}, {"jobs": sign * number})


async def insert_events(
    connection: AsyncConnection, job_id: str, new_events: Sequence[NewEvent], *, last_seq: int
) -> None:
    """Append events to the job's log, the last one with `last_seq`."""
    if not new_events:
        return
    await connection.execute(INSERT_EVENT, event_values(job_id, new_events, last_seq=last_seq))


def event_values(job_id: str, new_events: Sequence[NewEvent], *, last_seq: int) -> list[dict[str, Any]]:
    """Return the rows of events, the last one with `last_seq`."""
    first_seq = last_seq - len(new_events) + 1
    return [
        {
            "job_id": job_id,
            "seq": first_seq + offset,
            "event": event.event,
            "data": event.data,
            "chunk_index": event.chunk_index,
        }
        for offset, event in enumerate(new_events)
    ]


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
            await connection.execute(ONE_MORE)

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
