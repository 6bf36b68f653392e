"""Jobs, their event log and share links in SQL.

Every write of a worker has its lease token in the WHERE; if no row matches, the job belongs to another
worker. Each such write also stores a `commit_id` in the job's row. After a COMMIT without an answer, the row
is read under its lock, and the `commit_id` in it shows whether the write happened.
"""

from __future__ import annotations

import secrets
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
from sqlalchemy import (
    BigInteger,
    Integer,
    and_,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.exc import IntegrityError

from stenobird.errors import (
    LeaseLost,
    QueueBusy,
    RateLimited,
    StorageUnavailable,
    TranscriptNotFound,
    TranscriptNotLive,
)
from stenobird.ports import Claim, EventRow, JobChange, Lease, NewJob, ResumePoint
from stenobird.storage import queue, rows, wallet
from stenobird.storage.engine import QUEUE_LOCK, CommitUnknown, ConnectionLost, Steps, one, one_or_none
from stenobird.storage.schema import (
    attempts,
    db_now,
    ended_jobs,
    events,
    jobs,
    open_jobs,
    outbox,
    shares,
    voices,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

    from stenobird.ports import JobPage, JobRecord, Lane, NewEvent, StopRequest, UsageRow
    from stenobird.storage.engine import Database

LEASE_SECONDS: Final = 60
QUEUE_RETRY_SECONDS: Final = 5
OPEN_JOBS_RETRY_SECONDS: Final = 10
DRAINING_RETRY_SECONDS: Final = 60
WRITE_ATTEMPTS: Final = 3
"""Attempts of one write when connections break; then the database counts as down."""
EVENT_PAGE: Final = 1000
"""Events read at a time when all of a job's are read."""
PURGE_BATCH: Final = 200
"""Jobs deleted in one transaction, so that a purge never locks the writer for long."""

# The statements of each request and each chunk, built once.
_JOB: Final = select(jobs).where(jobs.c.id == bindparam("job"))
_UNFINISHED: Final = select(jobs.c.id).where(jobs.c.completed_at.is_(None)).limit(1)
_INSERT_JOB: Final = (
    insert(jobs)
    .values(created_at=db_now(), updated_at=db_now())
    .returning(jobs.c.created_at, jobs.c.updated_at)
)
_EVENTS_AFTER: Final = (
    select(events.c.seq, events.c.event, events.c.data)
    .where(events.c.job_id == bindparam("job"), events.c.seq > bindparam("after"))
    .order_by(events.c.seq)
    .limit(bindparam("most", type_=Integer))
)
_FORGET_VOICES: Final = delete(voices).where(voices.c.job_id == bindparam("job"))
_OPEN: Final = select(open_jobs.c.jobs).scalar_subquery()
# While few jobs are open there is room for one more, and they need not be counted.
_COUNT_JOBS: Final = select(
    select(jobs.c.id).where(jobs.c.id == bindparam("job")).exists(),
    queue.switched("draining"),
    case(
        (bindparam("max_queued", type_=BigInteger) > _OPEN, 0),
        else_=select(func.count())
        .where(jobs.c.completed_at.is_(None), jobs.c.status == "queued", jobs.c.lease_token.is_(None))
        .scalar_subquery(),
    ),
    case(
        (bindparam("max_open", type_=BigInteger) > _OPEN, 0),
        else_=select(func.count())
        .where(jobs.c.account_id == bindparam("account"), jobs.c.completed_at.is_(None))
        .scalar_subquery(),
    ),
)

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


class _Exists(Exception):  # no error: the job of this id was made before
    pass


class JobStore:
    """Jobs and their event log. Every method is one transaction; every write is all or nothing."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # --- clients ----------------------------------------------------------------------------------------

    async def create(
        self, job: NewJob, first: NewEvent, *, max_queued: int, max_open: int | None = None
    ) -> JobRecord:
        """Insert the job and its first event, or return the job that already has this id.

        Raises `QueueBusy` when `max_queued` jobs are queued, `RateLimited` when the account has `max_open`
        unfinished jobs.
        """
        values = rows.new_job_values(job)
        event = queue.event_values(job.id, [first], last_seq=1)[0]
        bounds = {"max_queued": max_queued, "max_open": max_queued if max_open is None else max_open}

        def check(counted: Sequence[Any]) -> None:
            exists, draining, queued, under_way = counted[0]
            if exists:
                raise _Exists
            if draining:
                raise QueueBusy(
                    "The service finishes its queue before maintenance and accepts no new transcripts. Wait "
                    "retry_after_seconds and send the same request again.",
                    retry_after_seconds=DRAINING_RETRY_SECONDS,
                )
            if queued >= max_queued:
                raise QueueBusy(retry_after_seconds=QUEUE_RETRY_SECONDS)
            if max_open is not None and under_way >= max_open:
                raise RateLimited(
                    f"{max_open} transcripts of this account are under way, the most that it may have. "
                    "Wait until one ends, or cancel one.",
                    details={"max_open_transcripts": max_open},
                    retry_after_seconds=OPEN_JOBS_RETRY_SECONDS,
                )

        async def write(commit_id: str) -> JobRecord:
            steps = Steps(
                # Counting and inserting must not interleave, or the bound would be exceeded.
                lock=QUEUE_LOCK,
                reads=[(_COUNT_JOBS, {"job": job.id, "account": job.account_id, **bounds})],
                check=check,
                writes=[
                    (_INSERT_JOB, values | {"commit_id": commit_id}),
                    (queue.INSERT_EVENT, event),
                    (queue.ONE_MORE, {}),
                ],
            )
            [times, *_] = await self.database.write_steps(steps)
            assert times is not None
            return rows.created_job(job, *times)

        try:
            record = await self._settled(job.id, write)
        except (_Exists, IntegrityError):
            # The request is a repetition; the job may be claimed already.
            record = None
        record = record or await self.get(job.id)
        if record is None:
            raise StorageUnavailable  # it was deleted at this moment
        return record

    async def create_ended(
        self,
        job: NewJob,
        change: JobChange,
        events: Sequence[NewEvent],
        *,
        webhook: Mapping[str, Any] | None = None,
    ) -> JobRecord:
        """Insert a job that has ended already (a test key's), with all its events, in one transaction."""
        chunks = sum(event.chunk_index is not None for event in events)
        values = (
            rows.new_job_values(job)
            | rows.change_values(change)
            | _ended()
            | {"created_at": db_now(), "last_seq": len(events), "next_chunk_index": chunks}
        )

        async def work(connection: AsyncConnection, commit_id: str) -> JobRecord:
            added = insert(jobs).values(**values, commit_id=commit_id).returning(jobs)
            record = rows.job_from_row(await one(connection, added))
            await queue.insert_events(connection, job.id, events, last_seq=len(events))
            await _insert_webhook(connection, job.id, webhook)
            await queue.count_ended(self.database, connection, {record.status: 1})
            return record

        return await self._write(job.id, work, sends=webhook is not None)

    async def get(self, job_id: str) -> JobRecord | None:
        """Return the job, or `None`."""
        row = await self.database.row(_JOB, {"job": job_id})
        return rows.job_from_row(row) if row is not None else None

    async def resume_point(self, job_id: str) -> ResumePoint | None:
        """Return the job with its full source and checkpoint, or `None`."""
        row = await self.database.row(_JOB, {"job": job_id})
        return ResumePoint(**rows.resume_point_from_row(row)) if row is not None else None

    async def list_jobs(self, account_id: str, page: JobPage) -> list[JobRecord]:
        """Return the jobs of a page, newest first."""
        query = select(jobs).where(_listed(account_id, page))
        if page.before is not None:
            query = query.where(tuple_(jobs.c.created_at, jobs.c.id) < tuple_(*page.before))
        query = query.order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
        listed = await self.database.rows(query.limit(page.limit).offset(page.offset))
        return [rows.job_from_row(row) for row in listed]

    async def count_jobs(self, account_id: str, page: JobPage) -> int:
        """Return how many jobs there are on all pages."""
        return await self.database.number(
            select(func.count()).select_from(jobs).where(_listed(account_id, page))
        )

    async def events_after(self, job_id: str, seq: int, *, limit: int = 500) -> list[EventRow]:
        """Return committed events with a higher `seq`, in order, at most `limit`."""
        page = {"job": job_id, "after": seq, "most": limit}
        async with self.database.read(once=True) as connection:
            return [EventRow(*row) for row in await connection.execute(_EVENTS_AFTER, page)]

    async def all_events(self, job_id: str) -> list[EventRow]:
        """Return all committed events, in order."""
        found: list[EventRow] = []
        while page := await self.events_after(job_id, found[-1].seq if found else 0, limit=EVENT_PAGE):
            found += page
        return found

    async def voices(self, job_id: str) -> list[bytes]:
        """Return what the commits of a running job have kept of its voices, by number."""
        query = select(voices.c.data).where(voices.c.job_id == job_id).order_by(voices.c.number)
        return [row["data"] for row in await self.database.rows(query)]

    async def request_cancel(
        self, job_id: str, terminal_events: Sequence[NewEvent], *, webhook: Mapping[str, Any] | None = None
    ) -> JobRecord:
        """End a job without a lease at once, with these events; ask the worker of any other job to end it.

        Live audio is always ended by a worker, which bills it. A finished job stays as it is. Raises
        `TranscriptNotFound` when there is no such job.
        """

        async def work(connection: AsyncConnection, _commit_id: str) -> JobRecord:
            # No commit_id: this is idempotent, and the one of the worker's last write must stay.
            job = await _locked(connection, job_id)
            if job.terminal:
                return job
            values: dict[str, Any] = {"cancel_requested": True, "updated_at": db_now()}
            idle = select(jobs.c.id).where(jobs.c.id == job_id, queue.unleased())
            if job.live or await connection.scalar(idle) is None:
                return await _changed(connection, job_id, values)
            last_seq = job.last_seq + len(terminal_events)
            values |= _ended() | {"status": "cancelled", "last_seq": last_seq, "lease_worker": None}
            job = await _changed(connection, job_id, values)
            await queue.insert_events(connection, job_id, terminal_events, last_seq=last_seq)
            await self._clear_up(connection, job_id, "cancelled", webhook)
            return job

        return await self._write(job_id, work, sends=webhook is not None)

    async def name_speakers(self, job_id: str, names: Mapping[str, str]) -> JobRecord:
        """Store the names of a finished job's speakers. Raises `TranscriptNotFound`."""

        async def work(connection: AsyncConnection, _commit_id: str) -> JobRecord:
            job = await _locked(connection, job_id)
            extra = replace(job.extra, speaker_names=dict(names) or None)
            return await _changed(connection, job_id, {"extra": rows.extra_to_json(extra)})

        return await self._write(job_id, work)

    async def request_stop(self, job_id: str) -> JobRecord:
        """Ask the worker of a live job to complete it with the text so far. A finished job stays as it is.

        Raises `TranscriptNotFound`, and `TranscriptNotLive` for a recording.
        """

        async def work(connection: AsyncConnection, _commit_id: str) -> JobRecord:
            job = await _locked(connection, job_id)
            if job.terminal or job.stop_requested_at is not None:
                return job
            if not job.live:
                raise TranscriptNotLive
            values = {"stop_requested_at": db_now(), "updated_at": db_now()}
            return await _changed(connection, job_id, values)

        return await self._write(job_id, work)

    async def delete(self, job_id: str) -> None:
        """Delete a finished job with its events; its usage row stays."""

        async def work(connection: AsyncConnection, _commit_id: str) -> None:
            await self._delete(connection, jobs.c.id == job_id)

        await self._write(job_id, work)

    # --- workers ----------------------------------------------------------------------------------------

    async def claim(self, worker_id: str, *, lanes: Sequence[Lane]) -> Claim | None:
        """Lease the oldest claimable job of these lanes (queued, or its lease has expired), if any.

        An expired lease means that its worker has died or was cut off. That does not count as an attempt
        until it has happened `MAX_INTERRUPTIONS` times without progress. While the queue is paused, no job
        is claimable.
        """
        if not lanes:
            return None
        # Most polls find nothing, and should neither wait for the writer nor keep an idle service busy.
        if await self.database.find(_UNFINISHED, {}) is None:
            return None
        await self.database.end_stuck()
        token = secrets.token_hex(16)
        oldest = (
            select(jobs.c.id, jobs.c.lease_token, jobs.c.interruptions)
            .where(
                jobs.c.completed_at.is_(None),
                # What only has to be ended needs no place.
                or_(jobs.c.lane.in_(lanes), jobs.c.stop_requested_at.is_not(None), jobs.c.cancel_requested),
                queue.claimable(),
                ~queue.switched("paused"),
            )
            .order_by(jobs.c.created_at, jobs.c.id)
            .limit(1)
            # Workers never wait for each other: each claims the oldest job that no other is claiming.
            .with_for_update(skip_locked=True)
        )
        values = {
            "lease_token": token,
            "lease_worker": worker_id,
            "lease_expires_at": db_now() + LEASE_SECONDS,
            "claimed_at": db_now(),
        }
        try:
            async with self.database.write() as connection:
                found = (await connection.execute(oldest)).one_or_none()
                if found is None:
                    return None
                if found.lease_token is not None:
                    await queue.end_attempts(connection, jobs.c.id == found.id, "died")
                    values["interruptions"] = jobs.c.interruptions + 1
                counts = found.lease_token is None or found.interruptions >= queue.MAX_INTERRUPTIONS
                least = case((jobs.c.attempts < 1, 1), else_=jobs.c.attempts)
                values["attempts"] = jobs.c.attempts + 1 if counts else least
                claimed = update(jobs).where(jobs.c.id == found.id).values(**values).returning(jobs)
                row = await one_or_none(connection, claimed)
        except CommitUnknown:
            row = await self.database.row(select(jobs).where(jobs.c.lease_token == token))
        if row is None:
            return None
        return Claim(
            lease=Lease(row["id"], token), attempts=row["attempts"], **rows.resume_point_from_row(row)
        )

    async def renew(self, lease: Lease) -> StopRequest | None:
        """Extend the lease by 60 s of the database's clock; return how a client has asked to end the job.

        Raises `LeaseLost` when the token no longer matches.
        """

        async def work(connection: AsyncConnection, _commit_id: str) -> StopRequest | None:
            renewed = update(jobs).where(queue.held(lease)).values(lease_expires_at=db_now() + LEASE_SECONDS)
            row = await one_or_none(connection, renewed.returning(jobs))
            if row is None:
                raise LeaseLost
            return rows.job_from_row(row).stop_request

        return await self._write(lease.job_id, work)

    async def append(self, lease: Lease, change: JobChange, events: Sequence[NewEvent]) -> int:
        """Commit a state change with its events and extend the lease; return the last `seq`.

        After an ambiguous COMMIT the rows are re-read, so the events exist once. Raises `LeaseLost`, and
        `InsufficientCredits` where a prepaid account can't reserve the units.
        """
        values = rows.change_values(change) | {"lease_expires_at": db_now() + LEASE_SECONDS}

        async def work(connection: AsyncConnection, commit_id: str) -> int:
            last_seq = await _advance(connection, lease, values | {"commit_id": commit_id}, events)
            if change.voices:
                found = [{"job_id": lease.job_id, "number": n, "data": data} for n, data in change.voices]
                await connection.execute(insert(voices), found)
            if change.reserve_units is not None:
                await wallet.reserve(self.database, connection, lease.job_id, change.reserve_units)
            return last_seq

        return await self._write(lease.job_id, work)

    async def finish(
        self,
        lease: Lease,
        change: JobChange,
        events: Sequence[NewEvent],
        *,
        usage: UsageRow | None = None,
        webhook: Mapping[str, Any] | None = None,
    ) -> None:
        """Commit the end of a job, its usage row and its webhook together, and end the lease."""
        values = rows.change_values(change) | _ended()

        async def work(connection: AsyncConnection, commit_id: str) -> None:
            await _advance(connection, lease, values | {"commit_id": commit_id}, events)
            if usage is not None:
                await wallet.settle(self.database, connection, usage)
            await self._clear_up(connection, lease.job_id, str(change.status), webhook)

        await self._write(lease.job_id, work, sends=webhook is not None)

    async def release(self, lease: Lease, *, trouble: str | None = None) -> None:
        """Give the job back to the queue without ending it. The attempt is not counted.

        Without `trouble` the worker is draining, and the job can be claimed at once. With it, the worker
        can't work: the job waits a moment, longer each time.
        """

        async def work(connection: AsyncConnection, commit_id: str) -> None:
            delay = 0.0
            if trouble is not None:
                earlier = select(func.count()).where(
                    attempts.c.job_id == lease.job_id, attempts.c.outcome == "trouble"
                )
                times = await connection.scalar(earlier) or 0
                delay = min(
                    queue.LONGEST_BACKOFF_SECONDS, queue.TROUBLE_BACKOFF_SECONDS * 2 ** min(times, 10)
                )
            outcome = "drained" if trouble is None else "trouble"
            await queue.end_attempts(connection, queue.held(lease), outcome, reason=trouble)
            released = await connection.execute(
                update(jobs)
                .where(queue.held(lease))
                .values(
                    **queue.NO_LEASE,
                    claimable_at=db_now() + delay,
                    # Progress has reset the attempts to 0 already.
                    attempts=case((jobs.c.attempts > 0, jobs.c.attempts - 1), else_=0),
                    commit_id=commit_id,
                )
            )
            if released.rowcount == 0:
                raise LeaseLost

        await self._write(lease.job_id, work)

    # --- operators --------------------------------------------------------------------------------------

    async def expire_leases(self) -> int:
        """End every lease now, and return how many. Only for the holder of the data folder's lock."""
        forgiven = and_(jobs.c.interruptions < queue.MAX_INTERRUPTIONS, jobs.c.attempts > 0)
        leased = jobs.c.lease_token.is_not(None)
        async with self.database.write() as connection:
            await queue.end_attempts(connection, leased, "died")
            result = await connection.execute(
                update(jobs)
                .where(leased)
                .values(
                    **queue.NO_LEASE,
                    attempts=case((forgiven, jobs.c.attempts - 1), else_=jobs.c.attempts),
                    interruptions=jobs.c.interruptions + 1,
                    claimable_at=db_now() + queue.death_backoff(),
                )
            )
            return result.rowcount

    async def purge(self, *, older_than: float) -> list[str]:
        """Delete finished jobs that ended before this time; return their ids."""
        purged: list[str] = []
        while batch := await self._delete_batch(jobs.c.completed_at < older_than):
            purged += batch
        return purged

    async def delete_of_account(self, account_id: str) -> list[str]:
        """Delete some ended jobs of the account, at most `PURGE_BATCH`; return their ids."""
        return await self._delete_batch(
            and_(jobs.c.account_id == account_id, jobs.c.completed_at.is_not(None))
        )

    async def open_job_ids(self, account_id: str | None = None) -> list[str]:
        """Return the ids of unfinished jobs, whose spools must stay: all, or those of one account."""
        query = select(jobs.c.id).where(jobs.c.completed_at.is_(None))
        if account_id is not None:
            query = query.where(jobs.c.account_id == account_id)
        return [row["id"] for row in await self.database.rows(query)]

    async def counts(self) -> Mapping[str, int]:
        """Return the number of jobs by status: open ones are counted, ended ones are a maintained sum."""
        under_way = (
            select(jobs.c.status, func.count()).where(jobs.c.completed_at.is_(None)).group_by(jobs.c.status)
        )
        ended = select(ended_jobs.c.status, ended_jobs.c.jobs).where(ended_jobs.c.jobs > 0)
        async with self.database.read() as connection:
            found = await connection.execute(under_way.union_all(ended))
            return {row[0]: row[1] for row in found}

    # --- inside -----------------------------------------------------------------------------------------

    async def _delete_batch(self, which: ColumnElement[bool]) -> list[str]:
        some = select(jobs.c.id).where(which).limit(PURGE_BATCH).scalar_subquery()
        async with self.database.write(patient=True) as connection:
            return await self._delete(connection, jobs.c.id.in_(some))

    async def _delete(self, connection: AsyncConnection, which: ColumnElement[bool]) -> list[str]:
        """Delete ended jobs, with their events by ON DELETE CASCADE; return their ids."""
        gone = await connection.execute(
            delete(jobs).where(which, jobs.c.completed_at.is_not(None)).returning(jobs.c.id, jobs.c.status)
        )
        deleted = gone.all()
        await queue.count_ended(self.database, connection, Counter(row.status for row in deleted), sign=-1)
        return [row.id for row in deleted]

    async def _clear_up(
        self, connection: AsyncConnection, job_id: str, status: str, webhook: Mapping[str, Any] | None
    ) -> None:
        """Write what belongs to the end of a job besides its own row. Last in a transaction."""
        await wallet.release(connection, job_id)
        await connection.execute(_FORGET_VOICES, {"job": job_id})
        await _insert_webhook(connection, job_id, webhook)
        await queue.count_ended(self.database, connection, {status: 1})
        await connection.execute(queue.ONE_LESS)

    async def _write(
        self, job_id: str, work: Callable[[AsyncConnection, str], Awaitable[_T]], *, sends: bool = False
    ) -> _T:
        """Run `work` in a transaction, again if necessary, until it has provably happened exactly once.

        `work` stores the `commit_id` it is given in the job's row. Raises what `work` raises, and
        `StorageUnavailable` while the database is down.
        """
        results: list[_T] = []

        async def write(commit_id: str) -> None:
            async def run(connection: AsyncConnection) -> None:
                results[:] = [await work(connection, commit_id)]

            await self.database.write_together(run)

        await self._settled(job_id, write)
        if sends:
            self.database.outbox_filled.set()
        return results[0]

    async def _settled(self, job_id: str, write: Callable[[str], Awaitable[_T]]) -> _T | None:
        """Return what `write` returns, `None` where its answer was lost although it has happened."""
        commit_id = secrets.token_hex(8)
        attempt = 1
        while True:
            try:
                return await write(commit_id)
            except (CommitUnknown, ConnectionLost) as exc:
                if isinstance(exc, CommitUnknown) and await self._happened(job_id, commit_id):
                    _log.warning("commit_settled_by_reading", job_id=job_id)
                    return None
                if attempt == WRITE_ATTEMPTS:
                    raise
                attempt += 1

    async def _happened(self, job_id: str, commit_id: str) -> bool:
        # The row lock waits for a COMMIT that the server is still processing.
        last = select(jobs.c.commit_id).where(jobs.c.id == job_id).with_for_update()
        async with self.database.write() as connection:
            return await connection.scalar(last) == commit_id


def _listed(account_id: str, page: JobPage) -> ColumnElement[bool]:
    alefbot = jobs.c.origin == "alefbot"
    conditions = [jobs.c.account_id == account_id, alefbot if page.origin == "alefbot" else ~alefbot]
    if page.status is not None:
        conditions.append(jobs.c.status == page.status)
    if page.mode is not None:
        conditions.append(jobs.c.mode == page.mode)
    return and_(*conditions)


def _ended() -> dict[str, Any]:
    # The name of the worker stays: it is part of the history.
    return {"completed_at": db_now(), "updated_at": db_now(), "lease_token": None, "lease_expires_at": None}


async def _locked(connection: AsyncConnection, job_id: str) -> JobRecord:
    """Lock the job's row and return the job. Raises `TranscriptNotFound`."""
    row = await one_or_none(connection, select(jobs).where(jobs.c.id == job_id).with_for_update())
    if row is None:
        raise TranscriptNotFound
    return rows.job_from_row(row)


async def _changed(connection: AsyncConnection, job_id: str, values: Mapping[str, Any]) -> JobRecord:
    """Change a locked job and return it."""
    change = update(jobs).where(jobs.c.id == job_id).values(**values).returning(jobs)
    return rows.job_from_row(await one(connection, change))


async def _advance(
    connection: AsyncConnection, lease: Lease, values: Mapping[str, Any], new_events: Sequence[NewEvent]
) -> int:
    """Change the leased job and append its events; return the last `seq`. Raises `LeaseLost`."""
    chunks = [event.chunk_index for event in new_events if event.chunk_index is not None]
    where = queue.held(lease)
    if chunks:
        # A writer that expects fewer chunks than the log has is stale, as if it had lost its lease.
        where = and_(where, jobs.c.next_chunk_index == chunks[0])
    last_seq: int | None = await connection.scalar(
        update(jobs)
        .where(where)
        .values(
            {
                "updated_at": db_now(),
                **values,
                "last_seq": jobs.c.last_seq + len(new_events),
                "next_chunk_index": jobs.c.next_chunk_index + len(chunks),
            }
        )
        .returning(jobs.c.last_seq)
    )
    if last_seq is None:
        raise LeaseLost
    await queue.insert_events(connection, lease.job_id, new_events, last_seq=last_seq)
    return last_seq


async def _insert_webhook(
    connection: AsyncConnection, job_id: str, payload: Mapping[str, Any] | None
) -> None:
    if payload is None:
        return
    await connection.execute(
        insert(outbox).values(
            id=f"out_{secrets.token_hex(12)}",
            kind="webhook",
            job_id=job_id,
            account_id=select(jobs.c.account_id).where(jobs.c.id == job_id).scalar_subquery(),
            payload=dict(payload),
            created_at=db_now(),
            next_attempt_at=db_now(),
            attempts=0,
        )
    )


class ShareStore:
    """Share tokens of jobs, by their SHA-256 (hex). Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    async def add(self, job_id: str, token_hash: str, *, max_links: int) -> bool:
        """Store a token; `False` when the job is gone or has `max_links` tokens already."""
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

    async def opens(self, token_hash: str) -> str | None:
        """Return the id of the job that the token gives access to."""
        row = await self._db.row(select(shares.c.job_id).where(shares.c.token_hash == token_hash))
        return row["job_id"] if row is not None else None

    async def count(self, job_id: str) -> int:
        """Return how many tokens the job has."""
        return await self._db.number(select(func.count()).where(shares.c.job_id == job_id))

    async def revoke(self, job_id: str) -> int:
        """Delete every token of the job; return how many."""
        return await self._db.execute(delete(shares).where(shares.c.job_id == job_id))
