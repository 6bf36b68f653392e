"""A program that has imported Stenobird, and forks for each command: see `tests.support.forked`.

It reads a JSON object a line: `{"argv", "env", "cwd", "stdout", "stderr"}` starts a process and answers with
its id, `{"poll": id}` answers with its exit status (negative for a signal) or null. At the end of its input
it kills what still runs, and ends.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import signal
import sys
import threading
import traceback
from typing import Any, NoReturn

from stenobird import cli

MODULES = (
    *(f"stenobird.cli.{name}" for name in ("account", "billing", "doctor", "keys", "resolve", "serve")),
    *("stenobird.cli.transcribe", "alembic.command", "alembic.context"),
    *("anyio._backends._asyncio", "uvicorn.lifespan.on"),
)


def serve() -> list[str] | None:
    """Answer requests; return the arguments of the command in each child, and `None` at the end."""
    running: set[int] = set()
    ended: dict[int, int] = {}
    for line in sys.stdin.buffer:
        request: dict[str, Any] = json.loads(line)
        if "poll" in request:
            pid = request["poll"]
            if pid not in ended:
                found, status = os.waitpid(pid, os.WNOHANG)
                if found:
                    running.remove(pid)
                    ended[pid] = os.waitstatus_to_exitcode(status)
            answer = ended.get(pid)
        else:
            answer = os.fork()
            if answer == 0:
                become(request)
                arguments: list[str] = request["argv"]
                return arguments
            running.add(answer)
        print(json.dumps(answer), flush=True)  # noqa: T201  # the protocol
    for pid in running:
        os.kill(pid, signal.SIGKILL)
    return None


def become(request: dict[str, Any]) -> None:
    """Take over what a new process would have been given."""
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for number, (path, flags) in enumerate(
        ((os.devnull, os.O_RDONLY), *((request[n], os.O_WRONLY | os.O_APPEND) for n in ("stdout", "stderr")))
    ):
        file = os.open(path, flags)
        os.dup2(file, number)
        os.close(file)


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
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 0 if status is None else 1)


if __name__ == "__main__":
    for module in MODULES:
        importlib.import_module(module)
    # The collector would write to each object, and so copy its page into each child.
    gc.collect()
    gc.freeze()
    command = serve()
    if command is not None:
        run(command)
