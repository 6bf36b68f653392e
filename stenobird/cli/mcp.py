"""`stenobird mcp`: the MCP server on standard input and output."""

from __future__ import annotations

import asyncio

import click

from stenobird.client import AsyncStenobirdClient
from stenobird.errors import ConfigurationError


@click.command()
@click.option(
    "--api",
    envvar="STENOBIRD_API_URL",
    default="https://stenobird.com",
    show_default=True,
    help="The service that does the work.",
)
@click.option(
    "--key", envvar="STENOBIRD_API_KEY", help="API key for it; without one: previews. Better not typed."
)
def mcp(api: str, key: str | None) -> None:
    """Serve agents over the Model Context Protocol: the tools transcribe, status and result.

    An agent starts this itself, with STENOBIRD_API_KEY in its environment.
    """
    try:
        from stenobird.mcp import create_server  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            'The MCP server needs the package "mcp". Install it with: pip install "stenobird[mcp]"'
        ) from exc

    async def run() -> None:
        async with AsyncStenobirdClient(api, api_key=key or None) as client:
            await create_server(client).run_stdio_async()

    asyncio.run(run())
