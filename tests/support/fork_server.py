"""A program that has imported Stenobird, and forks for each command: see `tests.support.forked`.

It reads a JSON object a line: `{"argv", "env", "cwd", "stdout", "stderr"}` starts a process and answers with
its id, `{"poll": id}` answers with its exit status (negative for a signal) or null. At the end of its input
it kills what still runs, and ends.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from typing import Any

MODULES = ("stenobird.cli.serve", "stenobird.cli.keys", "alembic.command", "alembic.context")


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


if __name__ == "__main__":
    for module in MODULES:
        importlib.import_module(module)
    command = serve()
    if command is not None:
        from stenobird.cli import main

        main(command, prog_name="stenobird")
