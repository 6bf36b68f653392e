"""`stenobird health`: whether the process that listens here is alive.

Container health checks run it every few seconds, so it imports nothing that is slow to load.
"""

from __future__ import annotations

import http.client
import json
import sys

import click

from stenobird.config import Settings

EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # connected to, not bound
"""The loopback address to use for a server that listens on every address."""


@click.command()
@click.option("--host", help="Instead of STENOBIRD_HOST.")
@click.option("--port", type=click.IntRange(1, 65535), help="Instead of STENOBIRD_PORT.")
@click.option("--ready", is_flag=True, help="Check /readyz: database and speech engine, too.")
@click.option(
    "--timeout",
    "timeout_seconds",
    type=click.FloatRange(0.1),
    default=4.0,
    show_default=True,
    help="Seconds.",
)
def health(host: str | None, port: int | None, timeout_seconds: float, *, ready: bool) -> None:
    """Check whether the service or worker on this machine is alive; exit status 1 if not."""
    settings = Settings()
    host = host or settings.host
    connection = http.client.HTTPConnection(
        EVERY_ADDRESS.get(host, host), port or settings.port, timeout=timeout_seconds
    )
    try:
        connection.request("GET", "/readyz" if ready else "/healthz")
        with connection.getresponse() as answer:
            status, body = answer.status, answer.read(64 * 1024)
    except (OSError, http.client.HTTPException) as error:
        click.echo(f"Nothing answers on {host}:{port or settings.port} ({error}).", err=True)
        sys.exit(1)
    finally:
        connection.close()
    click.echo(_line(body))
    sys.exit(0 if status == 200 else 1)


def _line(body: bytes) -> str:
    try:
        return json.dumps(json.loads(body))
    except ValueError:
        return "The server that answers there is not Stenobird."
