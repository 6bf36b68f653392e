"""The lock on the data folder: one service at a time owns the embedded database's leases and spools."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stenobird.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def locked_data_folder(data_dir: Path) -> Iterator[None]:
    """Hold `data_dir/lock` until the context ends or the process dies, however it dies.

    Creates the folder (mode 0700) if necessary. The holder of the lock may call `JobStore.expire_leases`,
    because no other process works on this folder's jobs. Raises `ConfigurationError` with the holder's pid.
    """
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ConfigurationError(
            f"The data folder {data_dir} can't be written ({exc.strerror}). "
            "Set STENOBIRD_DATA_DIR to one that can."
        ) from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise ConfigurationError(
                f"The data folder {data_dir} is in use by process {holder}. Stop it, or set "
                "STENOBIRD_DATA_DIR to another folder."
            ) from exc
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        # Closing releases the lock. The file stays: if it were removed, two processes could hold a lock.
        os.close(descriptor)
