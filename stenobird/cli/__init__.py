"""The `stenobird` command: one group, each command in the module that its purpose names.

Commands are imported when they run, so that `stenobird --help` does not load the speech engine.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import Any, NamedTuple

import click

from stenobird import __version__


class Place(NamedTuple):
    """Where a command lives, and its line in `--help`."""

    module: str
    name: str
    help: str


COMMANDS = {
    "serve": Place("stenobird.cli.serve", "serve", "Run the service: API, pages and worker in one process."),
    "worker": Place("stenobird.cli.serve", "worker", "Run a worker alone, on a shared PostgreSQL."),
    "demo": Place("stenobird.cli.demo", "demo", "Transcribe a bundled clip through the real service."),
    "transcribe": Place("stenobird.cli.transcribe", "transcribe", "Turn a link or a file into text."),
    "resolve": Place("stenobird.cli.resolve", "resolve", "Say what would be transcribed for a URL, and why."),
    "keys": Place("stenobird.cli.keys", "keys", "Create, list, rotate and revoke API keys."),
    "account": Place("stenobird.cli.account", "account", "Create, change, audit and delete accounts."),
    "credits": Place("stenobird.cli.credits", "credits_", "Add to a wallet, and show it."),
    "billing": Place(
        "stenobird.cli.billing", "billing", "Set Stripe up, and compare its bills with the ledger."
    ),
    "openapi": Place("stenobird.cli.openapi", "openapi", "Print the OpenAPI document of this version."),
    "mcp": Place("stenobird.cli.mcp", "mcp", "Serve agents over the Model Context Protocol, on stdio."),
    "doctor": Place("stenobird.cli.doctor", "doctor", "Check settings, folders, database and engine."),
    "health": Place("stenobird.cli.health", "health", "Say whether the service here is alive, for probes."),
    "purge": Place("stenobird.cli.serve", "purge", "Delete transcripts past their retention."),
}
"""Every command, in the order in which a newcomer needs them."""


class LazyGroup(click.Group):
    """A group whose commands are imported on use, and whose errors are those of the service."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which a newcomer needs them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return the command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        place = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(place.module), place.name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is meant; a name with a slip of the pen is told the right one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if not close:
                raise
            raise click.UsageError(f"{error.message} Did you mean {close[0]!r}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.help) for name, place in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an expected error is one line on standard error and exit status 1."""
        from pydantic import ValidationError  # noqa: PLC0415  # keeps --help quick

        from stenobird.errors import StenobirdError  # noqa: PLC0415

        try:
            return super().invoke(ctx)
        except StenobirdError as error:
            click.echo(f"{error.code}: {error.message}", err=True)
            sys.exit(1)
        except ValidationError as error:
            if error.title != "Settings":
                raise
            for problem in error.errors():
                name = "_".join(str(part) for part in problem["loc"]).upper()
                click.echo(f"STENOBIRD_{name}: {problem['msg']} (got {problem['input']!r})", err=True)
            sys.exit(2)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="stenobird")
def main() -> None:
    """URL in, events out: finds the audio behind a link and streams its transcript.

    Settings are environment variables STENOBIRD_*, or lines of a .env file; "stenobird doctor" lists them.
    """
