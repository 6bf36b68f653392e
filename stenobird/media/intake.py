"""Where a decoder's bytes come from, and what it means for a job when they end early.

Also how a job proves that a file is still the one that it has transcribed in part: `MediaFingerprint`.
"""

from __future__ import annotations

import asyncio
import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from stenobird.egress.client import BUSY, RequestOptions, open_ranged
from stenobird.errors import (
    AudioTooLarge,
    AudioUnreachable,
    DestinationForbidden,
    EgressError,
    JobError,
    ResponseTooLarge,
    UnsupportedURL,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stenobird.egress.client import EgressClient
    from stenobird.media.spool import Spool
    from stenobird.ports import AudioRequest, Clock, OpenedMedia
    from stenobird.sources import AudioSource

RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Delays before each try after a break without progress; when they are used up, the download has failed."""

WITH_AUDIO = frozenset({200, 203, 206})
"""Statuses of answers whose body is the file; 203 is 200 from behind a proxy that touched the headers."""

MAX_RETRY_AFTER_SECONDS = 120.0
PREVIEW_RETRY_AFTER_SECONDS = 10.0
"""A longer `Retry-After` is cut to this."""

HASH_BLOCK_BYTES = 256 * 1024


class HTTPOrigin:
    """The `MediaOrigin` of everything that has a URL."""

    def __init__(self, client: EgressClient) -> None:
        self._client = client

    async def open(
        self, url: str, source: AudioSource, *, first: int, last: int | None, if_range: str | None
    ) -> OpenedMedia:
        """Send a GET with the headers that the source's server expects; see `open_ranged`."""
        options = RequestOptions(
            headers=source.request_headers,
            byte_range=(first, last),
            if_range=if_range,
            referer=source.page_url,
        )
        return await open_ranged(self._client.open, url, options)


class SourceChanged(AudioUnreachable):
    """The file that was transcribed in part is another one now."""

    def __init__(self) -> None:
        super().__init__(
            "The file behind the link changed while it was being transcribed, so the text could not be "
            "continued. Nothing was billed. Send the link again."
        )


class UnusableStatus(Exception):
    """The server answered with a status whose body is not the file."""

    def __init__(self, status: int, retry_after_seconds: float | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.retry_after_seconds = retry_after_seconds

    @property
    def final(self) -> bool:
        """Whether another try would get the same answer."""
        return self.status == 501 or (self.status < 500 and self.status not in BUSY)


def as_job_error(error: EgressError | UnusableStatus) -> JobError:
    """Return what a failed request means for a job."""
    if isinstance(error, UnusableStatus):
        if error.status in {401, 403, 451}:
            return AudioUnreachable(
                f"The server refuses to send the audio (status {error.status}). "
                "Check that it opens without login, then try again."
            )
        if error.status in {404, 410}:
            return AudioUnreachable(
                f"The audio is no longer there (status {error.status}). Check the link, then try again."
            )
        return AudioUnreachable(f"The audio's server answered with status {error.status}. Try again later.")
    if isinstance(error, DestinationForbidden):
        return UnsupportedURL(f"The audio is at an address that is not opened. {error.message}")
    if isinstance(error, ResponseTooLarge):
        return AudioTooLarge(error.message)
    return AudioUnreachable(f"The audio could not be downloaded. {error.message}")


class Intake(ABC):
    """The bytes of one file for a decoder, by way of a spool. How they get there is the subclass's.

    `run` and `read` may go on at the same time. Offsets are those of the file. For a preview, nothing is
    fetched that was not asked for. All of the download, retries included, has to end within `seconds`.
    """

    stitched = False
    """Whether the file was joined from parts, whose timestamps may jump from one to the next."""

    def __init__(self, spool: Spool, request: AudioRequest, clock: Clock, seconds: float) -> None:
        self._spool = spool
        self._limits = request.limits
        self._clock = clock
        self._on_demand = request.limits.stop_samples is not None
        self._seconds = seconds
        self._end = clock.monotonic() + seconds
        self.stated_seconds: float | None = request.source.duration_seconds
        """The length of the audio by what led to it, for where the container does not say."""
        self.failure: JobError | None = None
        """Why there are no more bytes, if the file did not end where it should."""

    def _check_deadline(self) -> None:
        """Raise `AudioUnreachable` when the time is up: what is on disk by then is still transcribed."""
        if self._clock.monotonic() > self._end:
            raise AudioUnreachable(
                f"The download took longer than {self._seconds / 3600:.3g} hours. "
                "Send a link to a faster server."
            )

    @property
    def total_bytes(self) -> int | None:
        """The length of the file, as soon as it is known."""
        return self._spool.facts.total_bytes

    @property
    def front(self) -> int:
        """How many bytes from the start are on disk without a gap."""
        return self._spool.front

    def complete_path(self) -> Path | None:
        """Return the file on disk once every byte is in it."""
        return self._spool.media_path if self._spool.complete else None

    def identity(self) -> dict[str, Any]:
        """Return the JSON-safe facts that tell this file from another: size, type, ETag."""
        facts = self._spool.facts
        return {"size": facts.total_bytes, "type": facts.content_type, "etag": facts.etag}

    async def read(self, offset: int, size: int) -> bytes:
        """Return at least one byte, waiting for it; nothing at the end, or where the download failed.

        Raises a `JobError` if the audio must not be used any further (too large, changed, no disk space).
        """
        while True:
            changed = self._spool.changed()
            # Where a download broke off, what is on disk is usable; after any other failure it is not.
            if self.failure is not None and (
                not isinstance(self.failure, AudioUnreachable) or isinstance(self.failure, SourceChanged)
            ):
                raise self.failure
            if data := await self._spool.read(offset, size):
                return data
            end = self._limits.max_bytes if self.total_bytes is None else self.total_bytes
            if self._spool.complete or self.failure is not None or offset >= end:
                return b""
            try:
                if not await self._demand(offset):
                    await changed.wait()
            except JobError as exc:
                self._fail(exc)

    @abstractmethod
    async def run(self) -> None:
        """Fetch ahead for as long as that makes sense. Never raises: see `failure`."""

    @abstractmethod
    async def aclose(self) -> None:
        """Drop every connection. Safe to call twice."""

    @abstractmethod
    async def _demand(self, offset: int) -> bool:
        """Bring `offset` nearer; return `False` if `run` will get there and waiting is enough.

        Raises `JobError`, which becomes the failure.
        """

    async def _wait(self, seconds: float, problem: Exception) -> None:
        """Wait before another try, longer if the server asks for that."""
        most = PREVIEW_RETRY_AFTER_SECONDS if self._on_demand else MAX_RETRY_AFTER_SECONDS
        wanted = problem.retry_after_seconds if isinstance(problem, UnusableStatus) else None
        await self._clock.sleep(max(seconds, min(wanted or 0.0, most)))

    def _fail(self, error: JobError) -> None:
        self.failure = error
        self._spool.notify()


class MediaFingerprint:
    """The SHA-256 of the file's start, as far as it was decoded; computed in a thread behind the decoder.

    A later download has to have the same start, see `verify_fingerprint`.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._hash = hashlib.sha256()
        self._bytes = 0
        self._decoded_bytes = 0
        self._moved = asyncio.Event()

    def advance(self, position: int) -> None:
        """Note that the decoder has used bytes up to `position`."""
        if position > self._decoded_bytes:
            self._decoded_bytes = position
            self._moved.set()

    def facts(self) -> dict[str, Any]:
        """Return how many bytes were hashed, and to what."""
        return {"prefix_bytes": self._bytes, "prefix_sha256": self._hash.hexdigest()}

    async def follow(self) -> None:
        """Hash what is decoded, until cancelled."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            while self._bytes < self._decoded_bytes:
                size = min(HASH_BLOCK_BYTES, self._decoded_bytes - self._bytes)
                data = await self._spool.read(self._bytes, size)
                if not data:
                    break
                # `facts` may be called while the thread works, so the thread gets a copy.
                digest = self._hash.copy()
                await asyncio.to_thread(digest.update, data)
                self._hash, self._bytes = digest, self._bytes + len(data)


async def verify_fingerprint(intake: Intake, facts: Mapping[str, Any]) -> None:
    """Read the start of the file again, and raise `SourceChanged` if it is not what an earlier run decoded.

    `facts` are those of that run's `MediaFingerprint`. Nothing is checked where nothing was recorded.
    """
    prefix_bytes, expected = facts.get("prefix_bytes"), facts.get("prefix_sha256")
    if not isinstance(prefix_bytes, int) or not isinstance(expected, str) or prefix_bytes <= 0:
        return
    digest, position = hashlib.sha256(), 0
    while position < prefix_bytes:
        data = await intake.read(position, min(HASH_BLOCK_BYTES, prefix_bytes - position))
        if not data:
            if intake.failure is not None:
                raise intake.failure
            raise SourceChanged
        await asyncio.to_thread(digest.update, data)
        position += len(data)
    if digest.hexdigest() != expected:
        raise SourceChanged
