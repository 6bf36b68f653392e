"""Log lines are events: a snake_case name, the rest in fields."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import stenobird

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(stenobird.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
MODULES = {path.relative_to(PACKAGE).as_posix(): path.read_text() for path in sorted(PACKAGE.rglob("*.py"))}


def logged_events(module: str) -> Iterator[ast.expr]:
    """Yield the event of each log call; loggers are named `_log`."""
    for node in ast.walk(ast.parse(MODULES[module])):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        logger, method = node.func.value, node.func.attr
        if not isinstance(logger, ast.Name) or logger.id != "_log" or method not in LEVELS | {"log"}:
            continue
        # The level comes first in `log`. No other positional arguments: details are fields.
        *level, event = node.args
        assert len(level) == (method == "log"), f"{module}:{node.lineno}"
        yield event


@pytest.mark.parametrize("module", [name for name, text in MODULES.items() if "_log." in text])
def test_events_have_snake_case_names(module: str) -> None:
    events = list(logged_events(module))
    choices = [[event.body, event.orelse] if isinstance(event, ast.IfExp) else [event] for event in events]
    names = [ast.unparse(name) for choice in choices for name in choice]

    assert names
    assert [name for name in names if not re.fullmatch("'[a-z0-9]+(_[a-z0-9]+)*'", name)] == []


def test_every_logger_is_a_structlog_logger_named_log() -> None:
    own = r"logging\.getLogger\(__name__\)|^(?!_log\b)\w+ = structlog\.get_logger"

    assert [name for name, text in MODULES.items() if re.search(own, text, re.MULTILINE)] == []
