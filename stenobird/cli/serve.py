"""`stenobird serve`, `worker`, `purge` and `openapi`: running a service, and its API document."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stenobird.children.confine import hide
from stenobird.cli.local import with_storage
from stenobird.cli.output import writable_file
from stenobird.config import Settings
from stenobird.logs import configure_logging
from stenobird.serving import run_loop, run_server, run_worker
from stenobird.web.app import api_document
from stenobird.web.openapi.document import as_text

if TYPE_CHECKING:
    from stenobird.bootstrap import Storage


@click.command()
@click.option("--host", help="Instead of STENOBIRD_HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="Instead of STENOBIRD_PORT.")
@click.option(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Instead of STENOBIRD_DATA_DIR."
)
@click.option("--no-worker", is_flag=True, help="Serve HTTP only; run workers separately (needs PostgreSQL).")
def serve(host: str | None, port: int | None, data_dir: Path | None, *, no_worker: bool) -> None:
    """Run the service: the API, the pages, and a worker in the same process.

    SIGTERM or Ctrl-C drains it: streams end (clients resume by id), running jobs go back to the queue.
    """
    changes = {"host": host, "port": port, "data_dir": data_dir}
    settings = Settings().model_copy(
        update={name: value for name, value in changes.items() if value is not None}
    )
    configure_logging(settings)
    hide()
    run_loop(run_server(settings, with_worker=not no_worker))


@click.command()
@click.option(
    "--probes",
    is_flag=True,
    help="Serve /healthz, /readyz and /metrics on STENOBIRD_HOST and STENOBIRD_PORT; default: no HTTP.",
)
def worker(*, probes: bool) -> None:
    """Run a worker alone, next to other workers and "serve --no-worker" processes on one PostgreSQL."""
    settings = Settings()
    configure_logging(settings)
    hide()
    run_loop(run_worker(settings, probes=probes))


@click.command()
@click.option("--older-than-days", type=click.FloatRange(min=0), help="Instead of STENOBIRD_RETENTION_DAYS.")
def purge(older_than_days: float | None) -> None:
    """Delete finished transcripts past their retention, and their audio.

    Usage rows stay, because bills need them.
    """
    settings = Settings()
    days = settings.retention_days if older_than_days is None else older_than_days

    async def run(storage: Storage) -> int:
        job_ids = await storage.stores.jobs.purge(older_than=time.time() - days * 86_400)
        for job_id in job_ids:
            await storage.spool.discard(job_id)
        return len(job_ids)

    click.echo(f"Removed {with_storage(run)} transcripts that ended more than {days:g} days ago.")


@click.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=writable_file,
    help="Write to this file, not to the screen.",
)
@click.option(
    "--check",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Only check that this file is up to date; exit status 1 if not.",
)
def openapi(output: Path | None, check: Path | None) -> None:
    """Print the OpenAPI 3.1 document of this version."""
    text = as_text(api_document())
    if check is not None:
        if check.read_text(encoding="utf-8") != text:
            click.echo(f"{check} is out of date. Run: stenobird openapi -o {check}", err=True)
            sys.exit(1)
    elif output is not None:
        output.write_text(text, encoding="utf-8")
    else:
        click.echo(text, nl=False)
