"""A program that has imported Stenobird, and forks for each command: see `tests.support.forked`.

Its argument is a listening socket. Who connects sends `{"argv", "env", "cwd"}` as JSON with three standard
files, and receives the process id of the command as JSON. Each later message is a list of signals, a byte
each. The last answer is the exit status, negative for a signal. A command whose client goes away is killed.
The program ends at the end of its input.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from typing import Any, NoReturn

from stenobird import cli

MODULES = (
    *(f"stenobird.cli.{name}" for name in ("account", "billing", "demo", "doctor", "mcp", "models")),
    *(f"stenobird.cli.{name}" for name in ("resolve", "serve", "transcribe")),
    *("stenobird.client", "stenobird.mcp", "stenobird.speech.models"),
    *("alembic.command", "alembic.context", "anyio._backends._asyncio", "uvicorn.lifespan.on"),
)
PR_SET_PDEATHSIG = 1


def next_command(listener: socket.socket) -> list[str] | None:
    """Answer connections; return the arguments of the command in each child, and `None` at the end."""
    keepers: set[int] = set()
    while sys.stdin not in select.select([sys.stdin, listener], [], [])[0]:
        connection = listener.accept()[0]
        keepers -= {keeper for keeper in keepers if os.waitpid(keeper, os.WNOHANG)[0]}
        keeper = os.fork()
        if keeper == 0:
            listener.close()
            return keep(connection)
        connection.close()
        keepers.add(keeper)
    return None


def keep(connection: socket.socket) -> list[str]:
    """Run what a client asks for in a child until its end; return the arguments in the child."""
    message, files, _, _ = socket.recv_fds(connection, 1 << 20, 3)
    request: dict[str, Any] = json.loads(message)
    command = os.fork()
    if command == 0:
        connection.close()
        # The keeper may be killed together with the tests.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        os.setsid()
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        # The objects remember whether their files could seek, and whether they were terminals.
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        arguments: list[str] = request["argv"]
        return arguments
    for file in files:
        os.close(file)
    connection.sendall(json.dumps(command).encode())
    handle = os.pidfd_open(command)
    while handle not in select.select([handle, connection.fileno()], [], [])[0]:
        for number in connection.recv(64) or [signal.SIGKILL]:
            signal.pidfd_send_signal(handle, number)
    status = os.waitstatus_to_exitcode(os.waitpid(command, 0)[1])
    with contextlib.suppress(OSError):  # the client may have gone away
        connection.sendall(json.dumps(status).encode())
    os._exit(0)


def run(command: list[str]) -> NoReturn:
    """Run a command, and end as the interpreter would, but for freeing each object that was imported."""
    status: object = 1
    try:
        cli.main(command, prog_name="stenobird")
    except SystemExit as exit_:
        status = exit_.code
    except BaseException:  # noqa: BLE001  # as the interpreter reports it
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined]  # it waits for threads that are no daemons
    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        if not file.closed:
            file.flush()
    os._exit(status if isinstance(status, int) else 0 if status is None else 1)


if __name__ == "__main__":
    for module in MODULES:
        importlib.import_module(module)
    # The collector would write to each object, and so copy its page into each child.
    gc.collect()
    gc.freeze()
    wanted = next_command(socket.socket(fileno=int(sys.argv[1])))
    if wanted is not None:
        run(wanted)
