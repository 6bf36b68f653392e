"""From a URL to PCM: finding audio, opening it, decoding it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
    from contextlib import AbstractAsyncContextManager

    from stenobird.sources import AudioSource, Verdict

SAMPLE_RATE = 16_000
"""Samples a second of every PCM array in the service: mono, what Whisper, Silero and pocketsphinx expect."""

PCM: TypeAlias = npt.NDArray[np.int16]
"""Mono audio at `SAMPLE_RATE`, shape `(n,)`, int16."""


GapReason: TypeAlias = Literal["disconnected", "expired", "fell_behind", "restarted", "undecodable"]
"""Why seconds of live audio are missing.

The connection broke; the playlist no longer lists the segments; the job was slower than the stream; its
worker was restarted; the bytes were no audio.
"""

VerdictSink: TypeAlias = "Callable[[Verdict], Awaitable[None]]"
"""Receives each rung's verdict as soon as it is known. May raise `LeaseLost`, which stops the search."""


@dataclass(frozen=True, slots=True)
class FoundAudio:
    """The chosen source, and the open response that holds its first bytes, if there is one.

    The caller owns `opened` and closes it. It is `None` when the source was recorded earlier, so that the
    download must start over.
    """

    source: AudioSource
    opened: OpenedMedia | None = None


class OpenedMedia(Protocol):
    """A response whose body is the media from byte `offset` to `end`, including bytes that were sniffed."""

    offset: int
    end: int | None
    status: int
    headers: Mapping[str, str]
    final_url: str
    total_bytes: int | None

    def body(self) -> AsyncIterator[bytes]:
        """Yield the body, the sniffed bytes first. Raises `EgressError` when the connection breaks."""

    async def aclose(self) -> None:
        """Close the connection. Idempotent."""


class MediaOrigin(Protocol):
    """Opens byte ranges of a source: the guarded HTTP client, or the store of uploads."""

    async def open(
        self, url: str, source: AudioSource, *, first: int, last: int | None, if_range: str | None
    ) -> OpenedMedia:
        """Request bytes `first` to `last` (inclusive; `None`: to the end). Raises `EgressError`."""


class AudioFinder(Protocol):
    """Turns a URL into the audio behind it."""

    async def find(self, url: str, *, preview: bool, report: VerdictSink) -> FoundAudio:
        """Return the one right audio. Raises a `JobError` that says what was tried.

        With `preview`, the first request is bounded to 64 KiB, since only 15 seconds will be decoded.
        """


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """Limits of one job's media. `max_samples` counts decoded samples from the start of the audio."""

    max_bytes: int
    max_samples: int
    stop_samples: int | None = None
    """Stop cleanly here (a preview); `max_samples` raises `AudioTooLarge` instead."""
    live_samples: int = 3600 * SAMPLE_RATE
    """Live audio stops cleanly here, gaps included; neither `max_bytes` nor `max_samples` bounds it."""


@dataclass(frozen=True, slots=True)
class AudioRequest:
    """The audio that a job needs. `start_sample` skips what an earlier worker has committed.

    `fingerprint` is the `AudioStream.fingerprint` of the earlier worker, whose file has to be the same.
    """

    job_id: str
    source: AudioSource
    limits: AudioLimits
    start_sample: int = 0
    fingerprint: Mapping[str, Any] | None = None
    opened: OpenedMedia | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Live audio that is missing: the next block of PCM comes so many samples later."""

    samples: int
    reason: GapReason


@dataclass(frozen=True, slots=True)
class Title:
    """What a live stream says it is playing from here on."""

    text: str


class AudioStream(Protocol):
    """Decoded audio, in order, pulled by its reader: an async iterator of PCM blocks of at most a second.

    At most 60 s are decoded ahead of the reader. Ends cleanly at the end of the audio or at
    `limits.stop_samples`. Raises a `JobError` (`AudioUnreachable`, `AudioTooLarge`,
    `AudioContentTypeNotSupported`) when nothing could be decoded.

    Live audio goes on whether it is read or not: a reader that falls behind loses some. It also has gaps and
    titles, and ends at `limits.live_samples`, when the source has been away for long, or after `stop`.
    """

    def __aiter__(self) -> AsyncIterator[PCM | Gap | Title]:
        """Yield PCM blocks from `start_sample` on; only live audio has gaps and titles."""

    @property
    def live(self) -> bool:
        """Whether the audio has no end of its own."""

    @property
    def at(self) -> float | None:
        """When sample 0 of live audio was on air (epoch seconds); `None` before the first block."""

    def stop(self) -> None:
        """End live audio here, after what has arrived. Without effect on a recording."""

    @property
    def duration_seconds(self) -> float | None:
        """Length of the whole audio: the container's value, exact after the end; `None` if unknown."""

    @property
    def warning(self) -> str | None:
        """Why only part of the audio could be decoded; `None` when all of it was."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Facts that identify the bytes decoded so far (size, type, ETag, SHA-256 of a prefix), JSON-safe."""


class AudioOpener(Protocol):
    """Opens a source for decoding."""

    def open(self, request: AudioRequest) -> AbstractAsyncContextManager[AudioStream]:
        """Return the stream; leaving the context ends the download, the decoder child and open files.

        The spool of the job stays on disk until `discard`.
        """

    async def discard(self, job_id: str) -> None:
        """Delete the spool of the job, if there is one."""

    async def held(self) -> Collection[str]:
        """Return the jobs that have a spool on this machine."""
