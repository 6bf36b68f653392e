"""CPU time and memory of a process and everything below it, from `/proc`. Linux only."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from stenobird.inference.host import usable_cpus
from tests.support.processes import descendants

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
    return sum(own_cpu_seconds(each) for each in tree(pid))


def own_cpu_seconds(pid: int) -> float:
    """Return user plus system seconds of one process, its reaped children included; 0 when it is gone."""
    with suppress(OSError):
        # The name may hold spaces; what follows its bracket does not. utime is field 14, counted from 1.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / _TICKS
    return 0.0


def rss_bytes(pid: int) -> dict[str, int]:
    """Return the resident memory of the tree by the module that each process runs.

    Its sum counts a page that several processes share once for each of them.
    """
    sizes: dict[str, int] = {}
    for each in tree(pid):
        with suppress(OSError):
            pages = int(Path(f"/proc/{each}/statm").read_text().split()[1])
            name = _module(Path(f"/proc/{each}/cmdline").read_bytes().decode().split("\0"))
            sizes[name] = sizes.get(name, 0) + pages * _PAGE_BYTES
    return sizes


def _module(command: list[str]) -> str:
    return command[command.index("-m") + 1] if "-m" in command else Path(command[0]).name


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

    def cpu_seconds(self) -> float:
        """Return the CPU seconds that the tree got since the start."""
        return cpu_seconds(self.pid) - self.cpu_began


def cpu_share(cpu: float, wall: float) -> float:
    """Return CPU seconds over wall seconds over cores."""
    return cpu / wall / usable_cpus()


class PeakMemory:
    """Samples the tree's memory ten times a second in a thread; a shorter peak may be missed."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.start: dict[str, int] = {}
        self.peak: dict[str, int] = {}
        """By module, at the moment when their sum was highest."""

    def __enter__(self) -> Self:
        self.start = self.peak = rss_bytes(self._pid)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            now = rss_bytes(self._pid)
            if sum(now.values()) > sum(self.peak.values()):
                self.peak = now
