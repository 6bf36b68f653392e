"""docs/reference/cli.md: every command with its arguments and options, from click."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import click

from stenobird.cli import main
from tools.reference.markdown import fence, generated, table, text

if TYPE_CHECKING:
    from collections.abc import Iterator


_INTRODUCTION = """
`stenobird` reads its [settings](settings.md) from the environment and from `.env`. Results go to standard
output, everything else to standard error. Exit status: 0 success; 1 an expected error, reported as one line
`code: what happened and what to do`; 2 wrong usage or a wrong setting; 130 Ctrl-C.

Commands that need only the database (`keys`, `account`, `credits`, `billing`, `purge`) work while the service
runs.
"""


def commands_page() -> str:
    """Return the page."""
    with click.Context(main, info_name="stenobird") as context:
        names = main.list_commands(context)
        parts = [part for name in names for part in _command(main.get_command(context, name), name, context)]
    return generated("Command line", _INTRODUCTION, *parts)


def _command(command: click.Command | None, path: str, parent: click.Context) -> Iterator[str]:
    assert command is not None
    with click.Context(command, info_name=path.rpartition(" ")[2], parent=parent) as context:
        level = "##" if parent.parent is None else "###"
        said = inspect.cleandoc(command.help or "").replace("\f", "")
        pieces = [f"{level} stenobird {path}", *(text(piece) for piece in said.split("\n\n"))]
        if isinstance(command, click.Group):
            yield "\n\n".join(pieces)
            for name in command.list_commands(context):
                yield from _command(command.get_command(context, name), f"{path} {name}", context)
            return
        pieces.append(fence("text", " ".join(context.get_usage().removeprefix("Usage: ").split())))
        rows = [
            [_names(option, context), _meaning(option, context)]
            for option in command.get_params(context)
            if isinstance(option, click.Option) and not option.hidden and "--help" not in option.opts
        ]
        if rows:
            pieces.append(table(("Option", "What it does"), rows))
        yield "\n\n".join(pieces)


def _names(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag or option.count else f" `{option.make_metavar(context)}`"
    return names + value


def _meaning(option: click.Option, context: click.Context) -> str:
    said = [text(option.help)] if option.help else []
    extra = option.get_help_extra(context)
    if "default" in extra:
        said.append(f"Default: `{extra['default']}`.")
    if isinstance(option.envvar, str):
        said.append(f"Also from `{option.envvar}`.")
    if option.required:
        said.append("Required.")
    return " ".join(said)
