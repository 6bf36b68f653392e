"""CPU time and memory of a process and everything below it, from `/proc`. Linux only."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from stenobird.speech.cpus import usable_cpus
from stenobird.testing.server_process import descendants

if TYPE_CHECKING:
    from types import TracebackType

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
SAMPLE_SECONDS = 0.1


def tree(pid: int) -> list[int]:
    """Return the process and all its descendants."""
    return [pid, *(child for child, _ in descendants(pid))]


def cpu_seconds(pid: int) -> float:
    """Return user plus system seconds of the tree, children that have ended and been reaped included."""
    total = 0
    for each in tree(pid):
        with suppress(OSError):
            # The name may hold spaces; what follows its bracket does not. utime is field 14, counted from 1.
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / _TICKS


def rss_bytes(pid: int) -> int:
    """Return the resident memory of the tree: the plain sum, so shared pages count once a process."""
    total = 0
    for each in tree(pid):
        with suppress(OSError):
            total += int(Path(f"/proc/{each}/statm").read_text().split()[1])
    return total * _PAGE_BYTES


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Wall clock and CPU of a tree since a moment."""

    pid: int
    began: float
    cpu_began: float

    @classmethod
    def start(cls, pid: int) -> Self:
        """Begin now."""
        return cls(pid, time.monotonic(), cpu_seconds(pid))

    def wall_seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.began

    def cpu_share(self) -> float:
        """Return the part of all usable cores that the tree got since the start."""
        return cpu_share(cpu_seconds(self.pid) - self.cpu_began, self.wall_seconds())


def cpu_share(cpu: float, wall: float) -> float:
    """Return CPU seconds over wall seconds over cores."""
    return cpu / wall / usable_cpus()


class PeakMemory:
    """Samples the tree's memory ten times a second in a thread; a shorter peak may be missed."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.start_bytes = 0
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        self.start_bytes = self.peak_bytes = rss_bytes(self._pid)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, rss_bytes(self._pid))
