"""What a decoder is fed from, and what it means for a job when the feeding ends early."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from stenobird.egress.client import RequestOptions
from stenobird.errors import (
    AudioTooLarge,
    AudioUnreachable,
    DestinationForbidden,
    EgressError,
    JobError,
    ResponseBroken,
    ResponseTooLarge,
    UnsupportedURL,
)

if TYPE_CHECKING:
    from pathlib import Path

    from stenobird.egress.client import EgressClient
    from stenobird.media.spool import Spool
    from stenobird.ports import AudioLimits, Clock, OpenedMedia
    from stenobird.sources import AudioSource

RETRY_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0)
"""Delays before each try after a break without progress; when they are used up, the download has failed."""

WITH_AUDIO = frozenset({200, 203, 206})
"""Statuses of answers whose body is the file; 203 is 200 from behind a proxy that touched the headers."""

LIVE = "This is a live stream without an end. Stenobird transcribes recordings: send the recorded show."


class Deadline:
    """The wall-clock bound of one download, retries included."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._end = clock.monotonic() + seconds

    def check(self) -> None:
        """Raise `AudioUnreachable` when the time is up: what was downloaded by then may still be heard."""
        if self._clock.monotonic() > self._end:
            raise AudioUnreachable(
                f"The download took longer than {self._seconds / 3600:.3g} hours. "
                "Send a link to a faster server."
            )


class Intake(Protocol):
    """Where a decoder's bytes come from; offsets are those of one file."""

    @property
    def total_bytes(self) -> int | None:
        """Length of the file, as soon as it is known."""

    @property
    def stated_seconds(self) -> float | None:
        """How long the audio is by what led to it, for where the container does not say."""

    @property
    def failure(self) -> JobError | None:
        """Why there are no more bytes, if the file did not end where it should."""

    @property
    def front(self) -> int:
        """How many bytes from the start are on disk without a gap."""

    def complete_path(self) -> Path | None:
        """Return the file on disk once every byte is in it."""

    async def run(self) -> None:
        """Fetch ahead for as long as that makes sense. Never raises: see `failure`."""

    async def read(self, offset: int, size: int) -> bytes:
        """Return at least one byte, waiting for it; nothing at the end, or where the download failed.

        Raises a `JobError` if the audio must not be used any further (too large, changed, no disk space).
        """

    async def aclose(self) -> None:
        """Drop every connection. Safe to call twice."""

    def identity(self) -> dict[str, Any]:
        """Return the JSON-safe facts that tell this file from another: size, type, ETag."""


class Origin(Protocol):
    """Opens byte ranges of a source: the guarded HTTP client, or the store of uploads."""

    async def open(
        self, url: str, source: AudioSource, *, first: int, last: int | None, if_range: str | None
    ) -> OpenedMedia:
        """Ask for bytes `first` to `last` (inclusive; `None`: to the end). Raises `EgressError`."""


class HTTPOrigin:
    """The `Origin` of everything that has a URL."""

    def __init__(self, client: EgressClient) -> None:
        self._client = client

    async def open(
        self, url: str, source: AudioSource, *, first: int, last: int | None, if_range: str | None
    ) -> OpenedMedia:
        """Send a GET as the source's server wants it."""
        return await self._client.open(
            url,
            RequestOptions(
                headers=source.request_headers,
                byte_range=(first, last),
                if_range=if_range,
                referer=source.page_url,
            ),
        )


class SourceChanged(AudioUnreachable):
    """The file behind the link changed while it was being transcribed, so the text could not be continued.

    Nothing was billed. Send the link again.
    """

    def __init__(self) -> None:
        super().__init__(
            "The file behind the link changed while it was being transcribed, so the text could not be "
            "continued. Nothing was billed. Send the link again."
        )


class Refused(Exception):
    """The server answered with a status that holds no audio."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status

    @property
    def final(self) -> bool:
        """Whether another try would get the same answer."""
        return self.status < 500 and self.status not in {408, 425, 429}

    def as_job_error(self) -> AudioUnreachable:
        """Return what it means for a job."""
        if self.status in {401, 403, 451}:
            return AudioUnreachable(
                f"The server refuses to send the audio (status {self.status}). "
                "Check that it opens without login, then try again."
            )
        if self.status in {404, 410}:
            return AudioUnreachable(
                f"The audio is no longer there (status {self.status}). Check the link, then try again."
            )
        return AudioUnreachable(f"The audio's server answered with status {self.status}. Try again later.")


def refused(status: int) -> JobError | EgressError:
    """Return what to raise for a status that holds no audio: an `EgressError` where another try may help."""
    refusal = Refused(status)
    return refusal.as_job_error() if refusal.final else ResponseBroken(refusal.as_job_error().message)


def as_job_error(error: EgressError) -> JobError:
    """Return what a failed request means for a job."""
    if isinstance(error, DestinationForbidden):
        return UnsupportedURL(f"The audio is at an address that is not opened. {error.message}")
    if isinstance(error, ResponseTooLarge):
        return AudioTooLarge(error.message)
    return AudioUnreachable(f"The audio could not be downloaded. {error.message}")


def partly_usable(failure: JobError) -> bool:
    """Whether what is on disk may be heard: yes if the download broke off, no for every other reason."""
    return isinstance(failure, AudioUnreachable) and not isinstance(failure, SourceChanged)


@dataclass(frozen=True, slots=True)
class IntakeTerms:
    """What holds for a job's bytes, wherever they come from; with `on_demand` only those asked for come."""

    limits: AudioLimits
    clock: Clock
    deadline: Deadline
    on_demand: bool


class SpooledIntake(ABC):
    """The reading half of an `Intake` whose bytes go to a spool first; how they get there is the subclass's.

    `run` and `read` may go on at the same time. With `on_demand` (a preview) nothing is fetched that was not
    asked for.
    """

    def __init__(self, spool: Spool, terms: IntakeTerms) -> None:
        self._spool = spool
        self._limits = terms.limits
        self._clock = terms.clock
        self._deadline = terms.deadline
        self._on_demand = terms.on_demand
        self._failure: JobError | None = None

    @property
    def total_bytes(self) -> int | None:
        """The length of the file, as soon as it is known."""
        return self._spool.facts.total_bytes

    @property
    def failure(self) -> JobError | None:
        """Why fetching was given up."""
        return self._failure

    @property
    def front(self) -> int:
        """The length of what is on disk from the start on."""
        return self._spool.front

    def complete_path(self) -> Path | None:
        """Return the spooled file once it is whole."""
        return self._spool.media_path if self._spool.complete else None

    def identity(self) -> dict[str, Any]:
        """Return what the server says about the file."""
        facts = self._spool.facts
        return {"size": facts.total_bytes, "type": facts.content_type, "etag": facts.etag}

    async def read(self, offset: int, size: int) -> bytes:
        """Return bytes from the spool, fetching or awaiting them; see `Intake.read`."""
        while True:
            changed = self._spool.changed()
            if self._failure is not None and not partly_usable(self._failure):
                raise self._failure
            if data := await self._spool.read(offset, size):
                return data
            end = self._limits.max_bytes if self.total_bytes is None else self.total_bytes
            if self._spool.complete or self._failure is not None or offset >= end:
                return b""
            try:
                if not await self._demand(offset):
                    await changed.wait()
            except JobError as exc:
                self._fail(exc)

    @abstractmethod
    async def _demand(self, offset: int) -> bool:
        """Bring `offset` nearer; return `False` if `run` is on its way there and waiting is enough.

        Raises `JobError`, which is noted as the failure.
        """

    def _fail(self, error: JobError) -> None:
        self._failure = error
        self._spool.notify()
