"""`stenobird mcp`: the MCP server on standard input and output."""

from __future__ import annotations

import asyncio
import signal
import sys

import click

from stenobird.client import AsyncStenobirdClient
from stenobird.errors import ConfigurationError


@click.command()
@click.option(
    "--api",
    envvar="STENOBIRD_API_URL",
    default="https://stenobird.com",
    show_default=True,
    help="URL of the service to use.",
)
@click.option("--key", envvar="STENOBIRD_API_KEY", help="API key; without one, previews only.")
def mcp(api: str, key: str | None) -> None:
    """Serve the tools transcribe, status, result and stop over the Model Context Protocol.

    Agents start this command themselves, with STENOBIRD_API_KEY in the environment: docs/how-to/agents.md.
    """
    try:
        from stenobird.mcp import create_server  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            'The MCP server needs the package "mcp". Install it with: pip install "stenobird[mcp]"'
        ) from exc

    if sys.stdin.isatty():
        click.echo("Waiting for an agent on standard input. Ctrl-D ends it.", err=True)

    # The SDK reads standard input in a thread that can't be interrupted: a Ctrl-C handled by Python would
    # wait for the next line. With the default action the process ends at once, and needs no cleanup.
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    async def run() -> None:
        async with AsyncStenobirdClient(api, api_key=key or None) as client:
            await create_server(client).run_stdio_async()

    asyncio.run(run())
