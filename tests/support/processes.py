"""Processes that tests start: they end with the test run, can be frozen, and have descendants. Linux only."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDING_WITH_PARENT: Final = ("setpriv", "--pdeathsig", "INT", "--")
"""What begins the command of a server that would otherwise outlive a test run that was killed."""


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """Yield `(pid, command line)` of every process below `pid`, parents first."""
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                with contextlib.suppress(OSError):
                    line = Path(f"/proc/{child}/cmdline").read_bytes()
                    yield child, line.replace(b"\0", b" ").decode(errors="replace").strip()
                yield from descendants(child)


def start_time(pid: int) -> str | None:
    """Return when a process started, in ticks since the boot; `None` if it has ended. Ids are used again."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return None


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process and all its descendants, and let them go on at the end."""
    pids: list[int] = []
    running = [pid]
    try:
        while running:  # one that was just being stopped may have started another
            pids += running
            signal_all(running, signal.SIGSTOP)
            running = [child for child, _ in descendants(pid) if child not in pids]
        yield
    finally:
        signal_all(pids, signal.SIGCONT)


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to those that still run."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
