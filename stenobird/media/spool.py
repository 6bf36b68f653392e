"""Media on disk while a job needs it: sparse files with a record of which bytes are there, within a quota.

Each job has a folder with `media`, the bytes at their own offsets, and `state.json`, what is known about
them. The sidecar claims bytes only after they were synced, and is replaced atomically: after `kill -9` or a
power cut it claims less than there is, never more.

All file access runs in threads: a page-cache write is quick until the disk falls behind, and then it may
block for seconds, which the event loop must not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import threading
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from stenobird.errors import AudioTooLarge, WorkerTrouble

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_STATE_VERSION = 1
MIN_FLUSH_BYTES = 256 * 1024
MAX_FLUSH_BYTES = 8 * 1024 * 1024
"""Between two syncs, a quarter of what is on disk is written, within these bounds: that much of a download is
lost by a kill at most, and a large file costs one fsync per 8 MiB."""


class Intervals:
    """Disjoint half-open ranges of byte offsets, merged as they touch."""

    def __init__(self) -> None:
        self._ranges: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self._ranges)

    def add(self, start: int, end: int) -> int:
        """Add `[start, end)` and return how many of its offsets are new."""
        if end <= start:
            return 0
        touching = [(a, b) for a, b in self._ranges if a <= end and start <= b]
        joined = [(start, end), *touching]
        whole = min(a for a, _ in joined), max(b for _, b in joined)
        self._ranges = sorted([whole, *(one for one in self._ranges if one not in touching)])
        return end - start - sum(max(0, min(end, b) - max(start, a)) for a, b in touching)

    def end_from(self, offset: int) -> int:
        """Return the end of the unbroken run that holds `offset`, or `offset` itself if it isn't there."""
        return next((end for start, end in self._ranges if start <= offset < end), offset)

    def next_start(self, offset: int) -> int | None:
        """Return where the first range after `offset` starts."""
        return next((start for start, _ in self._ranges if start > offset), None)


@dataclass(slots=True)
class MediaFacts:
    """What the server stated about the file, to recognise it again."""

    url: str | None = None
    etag: str | None = None
    last_modified: str | None = None
    content_type: str | None = None
    total_bytes: int | None = None
    complete: bool = False
    part_ends: list[int] = field(default_factory=list)
    """Where each appended part of a playlist ends."""


class SpoolFolder:
    """All spools of one machine, under one folder and one quota. One process owns the folder.

    `quota_bytes` bounds the bytes of all spools together; past it a write raises
    `WorkerTrouble`. What earlier processes left counts from `sweep` on.
    """

    def __init__(self, folder: Path, *, quota_bytes: int) -> None:
        self._folder = folder
        self._quota_bytes = quota_bytes
        self._used: dict[str, int] = {}

    @property
    def used_bytes(self) -> int:
        """Bytes that all known spools hold together."""
        return sum(self._used.values())

    async def open(self, job_id: str, *, durable: bool = True) -> Spool:
        """Open the job's spool, with what an earlier process claimed. One opener a job at a time.

        Without `durable` nothing is synced and nothing survives the process.
        """
        path = self._path(job_id)
        with _translated():
            spool = await asyncio.to_thread(Spool.load, self, job_id, path, durable=durable)
        self._used[job_id] = spool.stored_bytes
        return spool

    async def discard(self, job_id: str) -> None:
        """Delete the job's spool; fine if there is none."""
        self._used.pop(job_id, None)
        await asyncio.to_thread(shutil.rmtree, self._path(job_id), ignore_errors=True)

    async def held(self) -> set[str]:
        """Return the jobs that have a spool."""

        def names() -> set[str]:
            with contextlib.suppress(FileNotFoundError):
                return {path.name for path in self._folder.iterdir() if _JOB_ID.fullmatch(path.name)}
            return set()

        return await asyncio.to_thread(names)

    async def sweep(self, known_job_ids: Collection[str]) -> int:
        """Delete the spools of unknown jobs, count the bytes of the others; return how many were deleted."""
        known = set(known_job_ids)

        def work() -> tuple[int, dict[str, int]]:
            gone, used = 0, {}
            for path in self._folder.iterdir() if self._folder.is_dir() else ():
                if path.name in known:
                    with contextlib.suppress(OSError):
                        used[path.name] = (path / "media").stat().st_blocks * 512
                elif _JOB_ID.fullmatch(path.name):
                    shutil.rmtree(path, ignore_errors=True)
                    gone += 1
            return gone, used

        gone, used = await asyncio.to_thread(work)
        self._used = used | self._used
        return gone

    def require_room(self, size: int) -> None:
        """Raise `WorkerTrouble` if so many more bytes don't fit now, `AudioTooLarge` if they never do."""
        if size > self._quota_bytes:
            raise AudioTooLarge("The file is larger than the disk space for audio. Send a smaller one.")
        if self.used_bytes + size > self._quota_bytes:
            raise WorkerTrouble(
                "The server has no disk space for this audio right now. Try again later.",
                retry_after_seconds=60,
            )

    def charge(self, job_id: str, size: int) -> None:
        """Count bytes for a spool. Raises `WorkerTrouble` when they don't fit."""
        self.require_room(size)
        self._used[job_id] = self._used.get(job_id, 0) + size

    def refund(self, job_id: str) -> None:
        """Count a spool as empty."""
        self._used[job_id] = 0

    def _path(self, job_id: str) -> Path:
        if not _JOB_ID.fullmatch(job_id):
            raise ValueError(f"not a job id: {job_id!r}")
        return self._folder / job_id


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise WorkerTrouble(
            f"The server can't store audio right now ({exc.strerror}). Try again later.",
            retry_after_seconds=60,
        ) from exc


class Spool:
    """One job's media on disk. Offsets are those of the file on the server.

    Its methods are called on the event loop; a reader waits for a writer with `changed`.
    """

    def __init__(self, folder: SpoolFolder, job_id: str, path: Path, fd: int, *, durable: bool) -> None:
        self.facts = MediaFacts()
        self.present = Intervals()
        self.media_path = path / "media"
        self._state_path = path / "state.json"
        self._folder = folder
        self._job_id = job_id
        self._durable = durable
        # The threads of a cancelled caller run on: the lock keeps them off a descriptor that was closed and
        # reused.
        self._lock = threading.Lock()
        self._fd: int | None = fd
        self._unsynced_bytes = 0
        self._event = asyncio.Event()
        self.stored_bytes = 0

    @classmethod
    def load(cls, folder: SpoolFolder, job_id: str, path: Path, *, durable: bool) -> Spool:
        """Open or create the spool at `path`. Blocking; called in a thread. Raises `OSError`."""
        path.mkdir(parents=True, exist_ok=True)
        fd = os.open(path / "media", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        spool = cls(folder, job_id, path, fd, durable=durable)
        facts, present = _read_state(path / "state.json", size=os.fstat(fd).st_size)
        if not present:
            os.ftruncate(fd, 0)
        spool.facts = facts
        for start, end in present:
            spool.stored_bytes += spool.present.add(start, end)
        return spool

    @property
    def front(self) -> int:
        """The length of the unbroken run from the start of the file."""
        return self.present.end_from(0)

    @property
    def complete(self) -> bool:
        """Whether every byte of the file is there."""
        return self.facts.complete

    def require_room(self, total_bytes: int) -> None:
        """Raise `WorkerTrouble` if a file of this size won't fit beside what is there."""
        self._folder.require_room(total_bytes - self.stored_bytes)

    async def write(self, offset: int, data: bytes) -> None:
        """Store bytes, over those that are there already. Raises `WorkerTrouble` at the quota."""
        if not data:
            return
        end = offset + len(data)
        self._folder.require_room(len(data))
        with _translated():
            await asyncio.to_thread(self._write, offset, data)
        new = self.present.add(offset, end)
        self.stored_bytes += new
        self._folder.charge(self._job_id, new)
        self._unsynced_bytes += len(data)
        self.notify()
        if self._unsynced_bytes >= min(max(MIN_FLUSH_BYTES, self.stored_bytes // 4), MAX_FLUSH_BYTES):
            await self.flush()

    async def read(self, offset: int, size: int) -> bytes:
        """Return what is there at `offset`, at most `size` bytes; nothing if that offset is missing."""
        size = min(size, self.present.end_from(offset) - offset)
        if size <= 0:
            return b""
        return await asyncio.to_thread(self._read, offset, size)

    async def mark_complete(self) -> None:
        """Record that the file ends where the unbroken run ends."""
        self.facts.total_bytes = self.front
        self.facts.complete = True
        await self.flush()
        self.notify()

    async def reset(self) -> None:
        """Start from nothing, because the file on the server is another one now."""
        self.facts = MediaFacts()
        self.present = Intervals()
        self.stored_bytes = 0
        self._folder.refund(self._job_id)
        await asyncio.to_thread(self._truncate)
        await self.flush()

    async def flush(self) -> None:
        """Sync the bytes, then claim them."""
        self._unsynced_bytes = 0
        if not self._durable:
            return
        state = {"version": _STATE_VERSION, "facts": asdict(self.facts), "present": list(self.present)}
        with _translated():
            await asyncio.to_thread(self._sync, json.dumps(state).encode())

    def changed(self) -> asyncio.Event:
        """Return an event that is set at the next write, or at the next `notify`."""
        return self._event

    def notify(self) -> None:
        """Set the event of `changed`, as every write does."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def aclose(self) -> None:
        """Claim what was written and close the file. Where that fails, less is claimed than there is."""
        try:
            with contextlib.suppress(WorkerTrouble):
                await self.flush()
        finally:
            self.close()

    def close(self) -> None:
        """Close the file at once; what was not flushed is not claimed."""
        with self._lock:
            fd, self._fd = self._fd, None
            if fd is not None:
                os.close(fd)

    def _write(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        with self._lock:
            while view and self._fd is not None:
                written = os.pwrite(self._fd, view, offset)
                view = view[written:]
                offset += written

    def _read(self, offset: int, size: int) -> bytes:
        with self._lock:
            return os.pread(self._fd, size, offset) if self._fd is not None else b""

    def _truncate(self) -> None:
        with self._lock:
            if self._fd is not None:
                os.ftruncate(self._fd, 0)

    def _sync(self, state: bytes) -> None:
        with self._lock:
            if self._fd is None:
                return
            # A duplicate, so that a slow sync holds up neither readers nor the writer.
            duplicate = os.dup(self._fd)
        try:
            os.fsync(duplicate)
        finally:
            os.close(duplicate)
        draft = self._state_path.with_suffix(".new")
        with contextlib.suppress(FileNotFoundError):  # discarded meanwhile: there is nothing to claim
            with draft.open("wb") as file:
                file.write(state)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._state_path)


def _read_state(path: Path, *, size: int) -> tuple[MediaFacts, list[tuple[int, int]]]:
    """Read the sidecar; whatever is wrong with it, or with the file it describes, means an empty spool."""
    try:
        state: dict[str, Any] = json.loads(path.read_bytes())
        if state["version"] != _STATE_VERSION:
            return MediaFacts(), []
        facts = MediaFacts(**state["facts"])
        present = [(int(start), int(end)) for start, end in state["present"]]
    except (OSError, ValueError, KeyError, TypeError):
        return MediaFacts(), []
    if any(not 0 <= start < end <= size for start, end in present):
        return MediaFacts(), []
    return facts, present
