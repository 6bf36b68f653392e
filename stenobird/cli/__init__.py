"""The `stenobird` command: one group, each command in the module that its purpose names.

Commands are imported when they run, so that `stenobird --help` does not load the speech engine.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from stenobird import __version__

COMMANDS = {
    "serve": ("stenobird.cli.serve", "serve"),
    "worker": ("stenobird.cli.serve", "worker"),
    "demo": ("stenobird.cli.demo", "demo"),
    "transcribe": ("stenobird.cli.transcribe", "transcribe"),
    "resolve": ("stenobird.cli.resolve", "resolve"),
    "keys": ("stenobird.cli.keys", "keys"),
    "doctor": ("stenobird.cli.doctor", "doctor"),
    "purge": ("stenobird.cli.purge", "purge"),
}
"""Where each command lives, in the order of `--help`."""


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
        module, name = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

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
