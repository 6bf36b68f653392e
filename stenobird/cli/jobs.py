"""`stenobird jobs`: look at jobs, retry failed ones, and pause or drain the queue."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, get_args

import click

from stenobird.bodies import utc_text
from stenobird.cli.local import with_storage
from stenobird.cli.output import print_table
from stenobird.errors import TranscriptNotFound
from stenobird.jobs.service import retry_job
from stenobird.ports import JobStatus

if TYPE_CHECKING:
    from stenobird.bootstrap import Storage
    from stenobird.ports import Attempt, JobRecord


def _time(at: float | None) -> str:
    return utc_text(at, "seconds") if at is not None else ""


@click.group()
def jobs() -> None:
    """Look at jobs, retry failed ones, and pause or drain the queue."""


@jobs.command("list")
@click.option("--status", type=click.Choice(get_args(JobStatus)), help="Only jobs with this status.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True)
def list_jobs(status: Any, limit: int) -> None:
    """List the newest jobs of all accounts, and say whether the queue is paused or draining."""

    async def read(storage: Storage) -> tuple[list[JobRecord], dict[str, float]]:
        queue = storage.stores.queue
        return await queue.recent(status, limit=limit), await queue.switches()

    found, switches = with_storage(read)
    print_table(
        ("id", "created", "status", "mode", "account", "error"),
        (
            [
                job.id,
                _time(job.created_at),
                job.status,
                job.mode,
                job.account_id or "",
                str((job.error or {}).get("error", "")),
            ]
            for job in found
        ),
    )
    for name, since in sorted(switches.items()):
        click.echo(f'The queue is {name} since {_time(since)}; "stenobird jobs resume" ends that.')


@jobs.command()
@click.argument("job_id")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(job_id: str, *, as_json: bool) -> None:
    """Show a job and its attempts: which worker had it, when, and how that ended."""

    async def read(storage: Storage) -> tuple[JobRecord | None, list[Attempt]]:
        return await storage.stores.jobs.get(job_id), await storage.stores.queue.attempts(job_id)

    job, attempts = with_storage(read)
    if job is None:
        raise TranscriptNotFound(f'There is no job {job_id}. Run "stenobird jobs list" to see the newest.')
    shown = {
        "id": job.id,
        "status": job.status,
        "stage": job.stage,
        "mode": job.mode,
        "account": job.account_id,
        "audio_url": job.audio_url,
        "created_at": _time(job.created_at),
        "completed_at": _time(job.completed_at) or None,
        "audio_seconds": round(job.audio_seconds, 3),
        "error": job.error and dict(job.error),
    }
    history = [
        (one.worker, _time(one.started_at), _time(one.ended_at), one.outcome, one.reason or "")
        for one in attempts
    ]
    names = ("worker", "started_at", "ended_at", "outcome", "reason")
    if as_json:
        rows = [dict(zip(names, row, strict=True)) for row in history]
        click.echo(json.dumps(shown | {"attempts": rows}, ensure_ascii=False))
        return
    for name, value in shown.items():
        if value is not None:
            click.echo(f"{name}: {value}")
    if history:
        click.echo()
        print_table(names, (list(row) for row in history))


@jobs.command()
@click.argument("job_ids", nargs=-1, required=True)
def retry(job_ids: tuple[str, ...]) -> None:
    """Queue failed jobs again, each as a new job with the same options, and print the new ids.

    What a client has read of a failed job stays as it is.
    """

    async def again(storage: Storage) -> None:
        for job_id in job_ids:
            click.echo(f"{job_id} {await retry_job(storage.stores.jobs, storage.stores.queue, job_id)}")

    with_storage(again)


@jobs.command()
def pause() -> None:
    """Let all workers finish the jobs they have, and claim no more. New jobs are still accepted."""
    with_storage(lambda storage: storage.stores.queue.switch("paused", on=True))
    click.echo('No job is claimed until "stenobird jobs resume".')


@jobs.command()
def drain() -> None:
    """Accept no new jobs, and work off those that are queued."""
    with_storage(lambda storage: storage.stores.queue.switch("draining", on=True))
    click.echo('New jobs are refused with queue_busy until "stenobird jobs resume".')


@jobs.command()
def resume() -> None:
    """Accept and claim jobs again, after a pause or a drain."""

    async def both(storage: Storage) -> None:
        await storage.stores.queue.switch("paused", on=False)
        await storage.stores.queue.switch("draining", on=False)

    with_storage(both)
    click.echo("Jobs are accepted and claimed again.")
