"""How a child process confines itself before it touches anything hostile or heavy.

    start ──► confine ──► load libraries, models ──► limit, allow_only ──► the first hostile byte

On x86-64 and arm64, a seccomp filter then allows only the system calls that its kind of child needs. A
refused call fails with EPERM, which libraries can handle.

Standard library only, and little of it: a decoder's start-up is part of the time to the first word.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
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


_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_GET_ACTION_AVAILABLE = 2
_LOAD_WORD, _AND, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_X32_CALLS = 0x40000000
_KILL, _REFUSE, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000

_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
"""What the kernel calls each architecture, and its column in `_NUMBERS`."""

_NUMBERS = {
    "read": (0, 63), "write": (1, 64), "futex": (202, 98), "recvfrom": (45, 207), "sendto": (44, 206),
    "close": (3, 57), "fstat": (5, 80), "newfstatat": (262, 79), "statx": (332, 291), "lseek": (8, 62),
    "pread64": (17, 67), "readv": (19, 65), "writev": (20, 66), "fcntl": (72, 25), "ioctl": (16, 29),
    "mmap": (9, 222), "mprotect": (10, 226), "munmap": (11, 215), "mremap": (25, 216), "madvise": (28, 233),
    "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132), "sched_yield": (24, 124), "sched_getaffinity": (204, 123),
    "nanosleep": (35, 101), "clock_gettime": (228, 113), "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115), "gettimeofday": (96, 169), "time": (201, -1), "getpid": (39, 172),
    "gettid": (186, 178), "getppid": (110, 173), "getuid": (102, 174), "geteuid": (107, 175),
    "getgid": (104, 176), "getegid": (108, 177), "getrusage": (98, 165), "prlimit64": (302, 261),
    "getrandom": (318, 278), "membarrier": (324, 283), "rseq": (334, 293), "set_robust_list": (273, 99),
    "restart_syscall": (219, 128), "exit": (60, 93), "exit_group": (231, 94), "uname": (63, 160),
    "sysinfo": (99, 179), "getcwd": (79, 17), "clone": (56, 220), "clone3": (435, 435), "fork": (57, -1),
    "vfork": (58, -1), "execve": (59, 221), "execveat": (322, 281), "poll": (7, -1), "ppoll": (271, 73),
    "select": (23, -1), "pselect6": (270, 72), "recvmsg": (47, 212), "shutdown": (48, 210),
    "getsockname": (51, 204), "getpeername": (52, 205), "setsockopt": (54, 208), "getsockopt": (55, 209),
    "openat": (257, 56), "open": (2, -1), "access": (21, -1), "faccessat": (269, 48),
    "faccessat2": (439, 439), "readlink": (89, -1), "readlinkat": (267, 78), "stat": (4, -1),
    "lstat": (6, -1), "getdents64": (217, 61), "socket": (41, 198), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424), "kill": (62, 129), "tkill": (200, 130),
    "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "io_uring_setup": (425, 425), "bpf": (321, 280), "unshare": (272, 97), "setns": (308, 268),
    "mount": (165, 40), "perf_event_open": (298, 241), "userfaultfd": (323, 282), "keyctl": (250, 219),
    "add_key": (248, 217), "request_key": (249, 218), "prctl": (157, 167),
    "seccomp": (317, 277),
}  # fmt: skip
"""Each call's number on x86-64 and on arm64; -1 where there is none."""

# A rule is a call's name, or a name with an argument's index, a mask, and what the masked argument must be.
_ANY_BIT = 0xFFFFFFFF
_NOT_EXECUTABLE = 0x4
_WRITING = 0x3 | os.O_CREAT | os.O_TRUNC
_THREADS_ONLY = ("clone", 0, 0x00010000, 0x00010000)
_BASE = (
    "read", "write", "futex", "recvfrom", "sendto", "close", "fstat", "newfstatat", "statx", "lseek",
    "pread64", "readv", "writev", "munmap", "mremap", "madvise", "brk", "rt_sigaction", "rt_sigprocmask",
    "rt_sigreturn", "sigaltstack", "sched_yield", "sched_getaffinity", "nanosleep", "clock_gettime",
    "clock_getres", "clock_nanosleep", "gettimeofday", "time", "getpid", "gettid", "getppid", "getuid",
    "geteuid", "getgid", "getegid", "getrusage", "getrandom", "membarrier", "rseq", "set_robust_list",
    "restart_syscall", "exit", "exit_group", "uname", "sysinfo", "getcwd",
    ("prlimit64", 0, _ANY_BIT, 0),  # its own limits
    ("fcntl", 1, ~0x7 & _ANY_BIT, 0),  # flags and locks, but no owner that gets signals
    ("ioctl", 1, _ANY_BIT, 0x5421),  # FIONBIO
)  # fmt: skip
_DATA_ONLY = (("mmap", 2, _NOT_EXECUTABLE, 0), ("mprotect", 2, _NOT_EXECUTABLE, 0))
_CODE = ("mmap", "mprotect", _THREADS_ONLY)

_ALLOWED = {
    "decoder": (*_BASE, *_DATA_ONLY),
    "parser": (*_BASE, *_DATA_ONLY),
    "host": (*_BASE, *_CODE),
    "extractor": (
        *_BASE, *_CODE, "recvmsg", "poll", "ppoll", "select", "pselect6", "shutdown", "getsockname",
        "getpeername", "setsockopt", "getsockopt", ("openat", 2, _WRITING, 0), ("open", 1, _WRITING, 0),
        "access", "faccessat", "faccessat2", "readlink", "readlinkat", "stat", "lstat", "getdents64",
    ),
}  # fmt: skip
_REFUSED_WITH_CUDA = (
    "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd", "pidfd_send_signal",
    "kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "fork", "vfork", "execve", "execveat",
    "io_uring_setup", "bpf", "unshare", "setns", "mount", "perf_event_open", "userfaultfd", "keyctl",
    "add_key", "request_key",
    _THREADS_ONLY,
    ("socket", 0, _ANY_BIT, 1),  # AF_UNIX, for CUDA's multi-process service
    ("prctl", 0, _ANY_BIT, 15),  # PR_SET_NAME
)  # fmt: skip
"""The driver opens devices and files, and maps them, whenever it likes, and differs between versions."""


def seccomp_available() -> bool:
    """Return whether this kernel, architecture and container let a process install a filter."""
    action = ctypes.c_uint32(_REFUSE)
    return _seccomp(_GET_ACTION_AVAILABLE, 0, ctypes.byref(action))


def allow_only(kind: str) -> bool:
    """Refuse all threads of this process, for good, what its kind does not need.

    `kind` is one of `_ALLOWED`, or `cuda`. Returns `False`, with nothing changed, where that is not
    available. `PR_SET_NO_NEW_PRIVS` must be set.
    """
    if not seccomp_available():
        return False
    code = b"".join(_program(kind))
    buffer = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    return _seccomp(_SET_MODE_FILTER, _ALL_THREADS, program)


def _program(kind: str) -> list[bytes]:
    architecture, column = _MACHINES[os.uname().machine]
    listed, otherwise = (_REFUSE, _ALLOW) if kind == "cuda" else (_ALLOW, _REFUSE)
    lines = [
        _line(_LOAD_WORD, 4),
        _line(_JUMP_IF_EQUAL, architecture, 1, 0),
        _line(_RETURN, _KILL),
        _line(_LOAD_WORD, 0),
        _line(_JUMP_IF_AT_LEAST, _X32_CALLS, 0, 1),
        _line(_RETURN, _refusal(errno.EPERM)),
        # The C library then starts a thread with `clone`, whose flags can be read.
        _line(_JUMP_IF_EQUAL, _NUMBERS["clone3"][column], 0, 1),
        _line(_RETURN, _refusal(errno.ENOSYS)),
    ]
    for rule in _REFUSED_WITH_CUDA if kind == "cuda" else _ALLOWED[kind]:
        name, *check = (rule,) if isinstance(rule, str) else rule
        number = _NUMBERS[str(name)][column]
        if number >= 0 and not check:
            lines += [_line(_JUMP_IF_EQUAL, number, 0, 1), _line(_RETURN, _verdict(listed))]
        elif number >= 0:
            index, mask, value = (int(part) for part in check)
            lines += [
                _line(_JUMP_IF_EQUAL, number, 0, 5),
                _line(_LOAD_WORD, 16 + 8 * index),  # the lower half; all these arguments fit it
                _line(_AND, mask),
                _line(_JUMP_IF_EQUAL, value, 0, 1),
                _line(_RETURN, _ALLOW),
                _line(_RETURN, _verdict(_REFUSE)),
            ]
    return [*lines, _line(_RETURN, _verdict(otherwise))]


def _line(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, operand)


def _verdict(action: int) -> int:
    return _refusal(errno.EPERM) if action == _REFUSE else action


def _refusal(number: int) -> int:
    return _REFUSE | number


def _seccomp(operation: int, flags: int, argument: object) -> bool:
    if sys.platform != "linux" or (machine := _MACHINES.get(os.uname().machine)) is None:
        return False
    number = _NUMBERS["seccomp"][machine[1]]
    return bool(ctypes.CDLL(None, use_errno=True).syscall(number, operation, flags, argument) == 0)
