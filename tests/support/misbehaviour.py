"""Ways in which a test can make a model host misbehave: see `obey`."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path


def obey(words: list[str]) -> None:
    """Carry out the commands among these words; other words mean nothing.

    hang               never return
    crash              end the process with SIGSEGV
    raise              fail as CTranslate2 fails
    once PATH WHAT     do WHAT if PATH exists, and remove it first
    gate PATH          wait until a test writes into the named pipe
    """
    match words:
        case ["hang"]:
            threading.Event().wait()
        case ["crash"]:
            os.kill(os.getpid(), signal.SIGSEGV)
            threading.Event().wait()  # the signal may take another thread
        case ["raise"]:
            raise RuntimeError("as commanded")
        case ["gate", pipe]:
            Path(pipe).read_bytes()
        case ["once", path, *what]:
            flag = Path(path)
            if flag.exists():
                flag.unlink()
                obey(what)
