"""A child of any kind in which hostile code runs instead of the parser: `hostile KIND TARGET PARENT_PID`.

Everything before that is the child's own `main`. The hostile code closes a descriptor and then tries what it
must not be able to do, with raw system calls, to the process and the port in TARGET. What it managed goes to
descriptor 0, as JSON. The kind `free` is not confined, and shows that the attempts work.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import platform
import socket
import struct
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from stenobird.inference.child import run_host
from stenobird.speech.protocol import EngineInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from stenobird.inference.frames import Channel, Header

X86 = platform.machine() == "x86_64"
NUMBERS = {
    "close": (3, 57), "openat": (257, 56), "socket": (41, 198), "connect": (42, 203), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "kill": (62, 129), "execve": (59, 221), "clone": (56, 220),
    "pidfd_open": (434, 434), "io_uring_setup": (425, 425), "read": (0, 63), "prctl": (157, 167),
    "mmap": (9, 222),
}  # fmt: skip
SYSCALL = ctypes.CDLL(None, use_errno=True).syscall
SYSCALL.restype = ctypes.c_long
AT_FDCWD, PTRACE_SEIZE, SIGCHLD, PR_SET_DUMPABLE = -100, 0x4206, 17, 4


def call(name: str, *arguments: Any) -> int:
    """Make a system call; return its result or the negative error number."""
    wide = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = int(SYSCALL(ctypes.c_long(NUMBERS[name][0 if X86 else 1]), *wide))
    return result if result >= 0 else -ctypes.get_errno()


def contents(path: bytes) -> int:
    """Return how many bytes of a file could be read, or the negative error number."""
    opened = call("openat", AT_FDCWD, path, 0, 0)
    if opened < 0:
        return opened
    count = call("read", opened, ctypes.create_string_buffer(64), 64)
    call("close", opened)
    return count


def forked() -> int:
    """Start a process like `fork`, which ends at once."""
    result = call("clone", SIGCHLD, 0, 0, 0, 0)
    if result == 0:
        os._exit(0)
    return result


def connected(port: int) -> int:
    """Connect to the port of this machine."""
    made = call("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
    if made < 0:
        return made
    address = struct.pack("=H", socket.AF_INET) + struct.pack(">H4s8x", port, b"\x7f\0\0\1")
    return call("connect", made, address, len(address))


def attack(spare: int, target: dict[str, Any]) -> Any:
    """Close a descriptor, try everything, report it, and end."""
    pid = target["pid"]
    memory = ctypes.create_string_buffer(8)
    local = struct.pack("PN", ctypes.addressof(memory), 8)
    remote = struct.pack("PN", target["address"], 8)
    call("close", spare)
    results = {
        "open a file": contents(b"/etc/passwd"),
        "create a file": call("openat", AT_FDCWD, target["file"].encode(), os.O_WRONLY | os.O_CREAT, 0o600),
        "read an environment": contents(b"/proc/%d/environ" % pid),
        "read a memory map": contents(b"/proc/%d/maps" % pid),
        "read memory": call("process_vm_readv", pid, local, 1, remote, 1, 0),
        "connect": connected(target["port"]),
        "make a local socket": call("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0),
        "start a process": forked(),
        "open a process": call("pidfd_open", pid, 0),
        "signal": call("kill", pid, 0),
        "become traceable": call("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0),
        "trace": call("ptrace", PTRACE_SEIZE, pid, 0, 0),
        "set up io_uring": call("io_uring_setup", 1, bytes(120)),
        # Last, because where it works nothing comes back from it; here it fails with EFAULT or EPERM.
        "start a program": call("execve", 1, 0, 0),
    }
    names = {
        name: "done" if value >= 0 else errno.errorcode.get(-value, str(value))
        for name, value in results.items()
    }
    os.write(0, json.dumps(names).encode() + b"\n")
    os._exit(0)


def decoder(target: dict[str, Any]) -> None:
    from stenobird.media import decoder_child  # noqa: PLC0415

    class Hostile:
        def __init__(self, *_arguments: object) -> None:
            pass

        def run(self) -> None:
            attack(2, target)

    decoder_child.Job = Hostile  # type: ignore[assignment,misc]
    sys.argv[1] = json.dumps({"memory_bytes": 2**28, "cpu_seconds": 60, "most": 1})
    sys.argv[2:] = sys.argv[-1:]
    decoder_child.main()


def parser(target: dict[str, Any]) -> None:
    from stenobird.discovery.parsing import child  # noqa: PLC0415

    child.rehearse = lambda: None  # the first document is a stranger's
    child.answer = lambda _header, _body: attack(2, target)  # type: ignore[assignment]
    sys.argv[1:] = sys.argv[-1:]
    child.main()


def extractor(target: dict[str, Any]) -> None:
    from stenobird.discovery.extractor import child  # noqa: PLC0415

    child._answer = lambda _request: attack(2, target)  # type: ignore[assignment]
    child.main()


def speech_host(target: dict[str, Any]) -> None:
    from stenobird.speech.host_child import serve  # noqa: PLC0415

    def unused(_pcm: object, _state: bytes) -> Any:
        raise NotImplementedError

    info = EngineInfo("whisper", "hostile", target["device"], "int8", 1, 1, ("en",))

    def load(_load: Header, channel: Channel) -> tuple[Callable[[], None], str]:
        return partial(serve, channel, lambda _: attack(2, target), info, unused), info.device

    run_host(sys.argv[-1:], load, model="", settings="")


def translation_host(target: dict[str, Any]) -> None:
    from stenobird.translation.host_child import serve  # noqa: PLC0415

    def load(_load: Header, channel: Channel) -> tuple[Callable[[], None], str]:
        return partial(serve, channel, lambda *_: attack(2, target), {}), "cpu"

    run_host(sys.argv[-1:], load, model="", settings="")


def free(target: dict[str, Any]) -> None:
    sys.stdin.buffer.readline()
    attack(2, target)


if __name__ == "__main__":
    globals()[sys.argv[1]](json.loads(sys.argv[2]))
