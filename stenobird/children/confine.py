"""How a child process confines itself before it touches anything hostile or heavy.

Standard library only, and little of it: a decoder's start-up is part of the time to the first word.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38


def confine(parent_pid: int, *, traceable: bool = True, **limits: int) -> None:
    """Tie this process's life to its parent's, give up new privileges and core dumps, and set `limits`.

    On Linux the kernel then kills the process when its parent ends, however it ends; more precisely, when the
    thread that started it ends, see `process`. No signal comes from a parent that ended before this call, so
    the process ends here if `parent_pid` is no longer its parent. SIGINT and SIGTERM are ignored: they ask
    the service to stop, which drains and then kills its children itself. Without `traceable`, no process of
    the same user can read this one's memory or environment.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        if not traceable:
            libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(0)
    limit(CORE=0, **limits)


def limit(**limits: int) -> None:
    """Set resource limits, soft and hard, by the names of `resource`: `limit(FSIZE=0, NOFILE=3)`.

    A lower hard limit that the parent has set stays. Limits that this system does not know are skipped.
    """
    for name, value in limits.items():
        with contextlib.suppress(AttributeError, OSError, ValueError):
            kind = getattr(resource, f"RLIMIT_{name}")
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)  # noqa: PLW2901
            resource.setrlimit(kind, (value, value))
