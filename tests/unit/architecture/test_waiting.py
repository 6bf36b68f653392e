"""Tests wait for what happens, never for time to pass, and none passes or fails by a clock."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parents[2]
SLEEPS = {"time.sleep", "asyncio.sleep", "anyio.sleep", "trio.sleep"}
CLOCKS = {f"time.{name}" for name in ("monotonic", "perf_counter", "process_time", "thread_time")}
CLOCKS |= {f"{clock}_ns" for clock in CLOCKS}

UNTIL = {"support/until.py:until", "support/until.py:async_until"}
PEERS = {
    # A clock under which a client's pauses are short.
    "support/impatient_clock.py:ImpatientClock.sleep",
    # A server that sends slowly, by a byte or at a rate.
    "unit/egress/test_limits.py:test_bytes_that_never_become_a_block_are_bounded.dribble",
    "support/media_server.py:MediaServer._send_body",
    "support/radio.py:Radio._stream",
    # A clock under which the day of a station passes quickly.
    "support/radio.py:ScaledClock.sleep",
    # Samples of a process's memory.
    "support/live_day.py:_watch",
    # Power cuts.
    "acceptance/models/test_real_speakers.py:test_ten_kills_change_no_word_and_no_label",
    "acceptance/spine/test_kills.py:kill_at_a_random_moment",
}


def calls(tree: ast.AST, names: set[str], within: tuple[str, ...] = ()) -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls of these functions with the names of the classes and functions around each."""
    for node in ast.iter_child_nodes(tree):
        scope = within
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            scope = (*within, node.name)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in names:
            yield ".".join(within), node
        yield from calls(node, names, scope)


def found(source: str, path: str, names: set[str]) -> set[str]:
    if not any(name.partition(".")[2] in source for name in names):  # far faster than to parse it
        return set()
    return {
        f"{path}:{place}"
        for place, call in calls(ast.parse(source), names)
        if not (call.args and ast.unparse(call.args[0]) == "0")
    }


def found_in_tests(names: set[str]) -> set[str]:
    files = {file.relative_to(TESTS) for file in TESTS.rglob("*.py")}
    return {
        place
        for file in files
        if file.parts[0] != "bench"
        for place in found((TESTS / file).read_text("utf-8"), file.as_posix(), names)
    }


def test_only_until_and_simulated_peers_sleep() -> None:
    assert found_in_tests(SLEEPS) - UNTIL - PEERS == set()


def test_only_until_reads_a_clock_that_measures() -> None:
    assert found_in_tests(CLOCKS) == UNTIL


@pytest.mark.parametrize(
    ("line", "caught"),
    [
        ("time.sleep(0.1)", True),
        ("await asyncio.sleep(PAUSE_SECONDS)", True),
        ("await asyncio.sleep(0)", False),
        ("await clock.sleep(1.0)", False),
    ],
)
def test_a_sleep_is_found_where_it_is(line: str, *, caught: bool) -> None:
    source = f"class Peer:\n    async def run(self):\n        {line}\n"
    assert found(source, "a.py", SLEEPS) == ({"a.py:Peer.run"} if caught else set())
