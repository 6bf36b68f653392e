"""`stenobird purge`: remove what is older than the retention says."""

from __future__ import annotations

import asyncio
import time

import click

from stenobird.bootstrap import open_storage
from stenobird.config import Settings


@click.command()
@click.option("--older-than-days", type=click.FloatRange(min=0), help="Instead of STENOBIRD_RETENTION_DAYS.")
def purge(older_than_days: float | None) -> None:
    """Delete finished transcripts past their retention, with what is left of their audio.

    Usage rows stay: bills must add up.
    """
    settings = Settings()
    days = settings.retention_days if older_than_days is None else older_than_days

    async def run() -> int:
        async with open_storage(settings) as storage:
            job_ids = await storage.stores.jobs.purge(older_than=time.time() - days * 86_400)
            for job_id in job_ids:
                await storage.spool.discard(job_id)
            return len(job_ids)

    click.echo(f"Removed {asyncio.run(run())} transcripts that ended more than {days:g} days ago.")
