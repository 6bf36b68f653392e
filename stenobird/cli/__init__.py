"""The `stenobird` command, a group of commands.

Commands are imported when they run, so that `stenobird --help` does not load the speech engine.
"""

from __future__ import annotations

import difflib
import gc
import importlib
import sys
from typing import Any

import click

from stenobird import __version__

COMMANDS = {
    "serve": ("serve:serve", "Run the service: API, pages and worker in one process."),
    "worker": ("serve:worker", "Run a worker alone, on a shared PostgreSQL."),
    "demo": ("demo:demo", "Transcribe a bundled recording through the real service."),
    "transcribe": ("transcribe:transcribe", "Turn a link or a file into text."),
    "resolve": ("resolve:resolve", "Show what would be transcribed for a URL, and why."),
    "keys": ("account:keys", "Create, list, rotate and revoke API keys."),
    "account": ("account:account", "Create, change, audit and delete accounts."),
    "credits": ("account:credits_", "Add credits to an account's wallet, and show the wallet."),
    "jobs": ("jobs:jobs", "Look at jobs, retry failed ones, pause or drain the queue."),
    "billing": ("billing:billing", "Set up Stripe, and compare its bills with the ledger."),
    "openapi": ("serve:openapi", "Print the OpenAPI document of this version."),
    "models": ("models:models", "List, download and check speech models."),
    "mcp": ("mcp:mcp", "Serve agents over the Model Context Protocol, on stdio."),
    "doctor": ("doctor:doctor", "Check settings, folders, database and engine."),
    "health": ("health:health", "Check whether the service on this machine is alive."),
    "purge": ("serve:purge", "Delete transcripts past their retention."),
}
"""Every command with its `module:function` and its line in `--help`, in the order a newcomer needs them."""


class LazyGroup(click.Group):
    """A group that imports its commands on use and prints the service's errors in one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of `COMMANDS`."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return the command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name][0].partition(":")
        # Modules are never garbage. Looking for it among them, while they are imported and at the end, would
        # take a third of a short command's time.
        gc.disable()
        command: click.Command = getattr(importlib.import_module(f"{__name__}.{module}"), function)
        gc.freeze()
        gc.enable()
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command; for a misspelled name, suggest the closest one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = difflib.get_close_matches(args[0], COMMANDS, n=1)
            if not close:
                raise
            raise click.UsageError(f"{error.message} Did you mean {close[0]!r}?", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands without importing them."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. An expected error becomes one line on standard error and exit status 1."""
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
