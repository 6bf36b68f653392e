"""SQL of the queue: which jobs can be claimed, how attempts end, and the sums of ended jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import Text, and_, case, insert, literal, or_, select, update

from stenobird.storage.schema import attempts, db_now, ended_jobs, jobs, open_jobs, queue_switches

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import ColumnElement
    from sqlalchemy.ext.asyncio import AsyncConnection

    from stenobird.ports import Lease, QueueSwitch
    from stenobird.storage.engine import Database

MAX_INTERRUPTIONS: Final = 20
"""How often the worker of a job may die before that counts as an attempt of the job."""
DEATH_BACKOFF: Final = ((3, 0.0), (4, 10.0), (6, 60.0))
LONGEST_BACKOFF_SECONDS: Final = 300.0
"""After fewer deaths than the first number, the job waits so many seconds before it is claimed again."""
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
