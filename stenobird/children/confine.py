"""How a child process confines itself before it touches anything hostile or heavy.

    start ──► confine ──► load libraries, models ──► limit, seccomp.allow_only ──► the first hostile byte

Standard library only, and little of it: a decoder's start-up is part of the time to the first word.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITIES_V3 = 0x20080522
_FILE_CAPABILITIES = 0xF
"""CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER: a model's folder may belong to another user than root."""

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on all architectures
_RULESET_VERSION = 1
_PATH_BENEATH = 1
_READ_FILE, _READ_FOLDER, _MAKE_BLOCK_DEVICE = 1 << 2, 1 << 3, 1 << 11
_ALL_FILE_ACCESS = (1 << 13) - 1
_SCOPES = 0x3
"""Signals, and abstract sockets, only to processes of the same domain."""


def confine(parent_pid: int, **limits: int) -> None:
    """Tie this process's life to its parent's, give up what it could do to others, and set `limits`.

    On Linux the kernel then kills the process when its parent ends, however it ends; more precisely, when the
    thread that started it ends, see `process`. No signal comes from a parent that ended before this call, so
    the process ends here if `parent_pid` is no longer its parent. SIGINT and SIGTERM are ignored: they ask
    the service to stop, which drains and then kills its children itself.

    It can't gain privileges, dump core, or read another process's memory and environment, and of other
    processes only root's can read its own. See `landlock` for what depends on the kernel.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        hide()
        if (capset := _SYS_CAPSET.get(os.uname().machine)) is not None:
            header = struct.pack("Ii", _CAPABILITIES_V3, 0)
            for kept in (_FILE_CAPABILITIES, 0):  # whoever lacks the former can still give up the rest
                if libc.syscall(capset, header, struct.pack("6I", kept, kept, 0, 0, 0, 0)) == 0:
                    break
        landlock()
    if os.getppid() != parent_pid:
        os._exit(0)
    limit(CORE=0, **limits)


def hide() -> None:
    """Let no other process read this one's memory and environment, or trace it; root's still can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def landlock(readable: tuple[str, ...] | None = None) -> bool:
    """Put this thread, and the threads and processes that it starts, into a Landlock domain of their own.

    They can't trace or read processes outside it, nor, from Linux 6.12, send them signals. With `readable`,
    they can't open any other file or folder, nor write those. Returns `False` before Linux 5.13, or where
    Landlock is off.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE_RULESET, None, 0, _RULESET_VERSION)
    if version < 1:
        return False
    # A ruleset must handle something. Without `readable`, that is what no child does anyway.
    handled = _MAKE_BLOCK_DEVICE if readable is None else _ALL_FILE_ACCESS
    attributes = struct.pack("3Q", handled, 0, _SCOPES)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, 24 if version >= 6 else 8, 0)  # scopes
    try:
        for path in readable or ():
            with contextlib.suppress(OSError):
                opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
                access = _READ_FILE | (_READ_FOLDER if os.path.isdir(path) else 0)  # noqa: PTH112  # pathlib is slow to load
                libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", access, opened), 0)
                os.close(opened)
        return bool(libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


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
