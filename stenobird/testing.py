"""Fakes of the ports that a job hears with: audio that is made of numbers, and a recogniser that reads them.

Each second of `spoken(…)` holds one word's number in all its samples; `FakeRecognizer` says the numbers. Its
windows depend on the audio and the checkpoint alone, as the port promises, so a resumed run can be compared
with an undisturbed one.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from stenobird.errors import AudioTooLarge, InvalidRequest
from stenobird.ports import SAMPLE_RATE, AudioRequest, FoundAudio, SpeechCheckpoint, WindowResult
from stenobird.sources import AudioSource, Verdict
from stenobird.transcript import Segment, Word

if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Awaitable,
        Callable,
        Iterable,
        Mapping,
        Sequence,
    )

    from stenobird.ports import PCM, Lane, RecognitionOptions, VerdictSink


class FakeClock:
    """A clock that stands still until `advance` or a `sleep` moves it."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def time(self) -> float:
        """Return seconds since the epoch, UTC."""
        return self.now

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    async def sleep(self, seconds: float) -> None:
        """Let the time pass at once, and others run."""
        self.now += seconds
        await asyncio.sleep(0)


def spoken(words: Iterable[int]) -> PCM:
    """Return audio that says one number a second; 0 is a silent second. Shape `(seconds * 16000,)`, int16."""
    return np.repeat(np.array(list(words), dtype=np.int16), SAMPLE_RATE)


def a_source(url: str = "https://example.com/a.mp3", **changes: Any) -> AudioSource:
    """Return a source as the direct rung would describe it."""
    values: dict[str, Any] = {
        "submitted_url": url,
        "media_url": url,
        "final_url": url,
        "technique": "direct",
        "reason": "The URL is audio.",
        "content_type": "audio/mpeg",
    }
    return AudioSource(**{**values, **changes})


@dataclass
class FakeFinder:
    """Finds every URL to be audio, or raises `error`. `found` counts its searches."""

    source: AudioSource | None = None
    error: Exception | None = None
    before: Callable[[], Awaitable[None]] | None = None
    found: int = 0

    async def find(self, url: str, *, preview: bool, report: VerdictSink) -> FoundAudio:
        """Report one verdict, then return the source or raise."""
        del preview
        self.found += 1
        if self.before is not None:
            await self.before()
        if self.error is not None:
            await report(Verdict("resolving_direct", "failed", "The URL is no audio."))
            raise self.error
        await report(Verdict("resolving_direct", "found", "The URL is audio."))
        return FoundAudio(self.source or a_source(url))


@dataclass
class FakeStream:
    """`ports.AudioStream` over an array, a second a block."""

    audio: PCM
    request: AudioRequest
    error: Exception | None = None
    warning: str | None = None
    heard_samples: int = 0

    async def __aiter__(self) -> AsyncIterator[PCM]:
        """Yield the audio from `start_sample` to its end or `stop_samples`."""
        limits = self.request.limits
        end = len(self.audio) if limits.stop_samples is None else min(limits.stop_samples, len(self.audio))
        if end > limits.max_samples:
            raise AudioTooLarge
        for start in range(self.request.start_sample, end, SAMPLE_RATE):
            block = self.audio[start : min(start + SAMPLE_RATE, end)]
            self.heard_samples = start + len(block)
            yield block
        if self.error is not None:
            raise self.error

    @property
    def duration_seconds(self) -> float | None:
        """The whole length, known from the start."""
        return len(self.audio) / SAMPLE_RATE

    @property
    def fingerprint(self) -> dict[str, Any]:
        """How much was read so far."""
        return {"samples": self.heard_samples}


@dataclass
class FakeOpener:
    """Opens the same audio for every source. `open_error` refuses; `stream_error` breaks off at the end."""

    audio: PCM
    open_error: Callable[[AudioRequest], Exception | None] | None = None
    stream_error: Exception | None = None
    warning: str | None = None
    requests: list[AudioRequest] = field(default_factory=list)
    open_jobs: set[str] = field(default_factory=set)
    discarded: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def open(self, request: AudioRequest) -> AsyncIterator[FakeStream]:
        """Return the stream."""
        self.requests.append(request)
        error = self.open_error(request) if self.open_error is not None else None
        if error is not None:
            raise error
        assert request.job_id not in self.open_jobs, "a job's spool has one writer"
        self.open_jobs.add(request.job_id)
        try:
            yield FakeStream(self.audio, request, self.stream_error, self.warning)
        finally:
            self.open_jobs.discard(request.job_id)

    @property
    def open_now(self) -> int:
        """How many streams are open."""
        return len(self.open_jobs)

    async def discard(self, job_id: str) -> None:
        """Note the id."""
        self.discarded.append(job_id)


@dataclass
class FakeRecognizer:
    """Says each second's number, some seconds a window. `before_window` may wait or raise.

    With a `failure` its engine could not be loaded. It knows all languages unless `languages` are given.
    """

    window_seconds: int = 5
    engine: str = "fake"
    model: str = "numbers"
    before_window: Callable[[int], Awaitable[None]] | None = None
    failure: str | None = None
    languages: Sequence[str] | None = None
    said: int = 0
    """Windows decoded by all calls."""

    async def transcribe(
        self,
        audio: AsyncIterator[PCM],
        *,
        job_id: str,
        lane: Lane,
        checkpoint: SpeechCheckpoint,
        options: RecognitionOptions,
    ) -> AsyncGenerator[WindowResult]:
        """Yield a window every `window_seconds`; the last one may be shorter."""
        del job_id, lane
        pending: PCM = np.zeros(0, dtype=np.int16)
        size = self.window_seconds * SAMPLE_RATE
        async for block in audio:
            pending = np.concatenate([pending, block])
            while len(pending) >= size:
                window = await self._window(pending[:size], checkpoint, options)
                checkpoint, pending = window.checkpoint, pending[size:]
                yield window
        if len(pending):
            yield await self._window(pending, checkpoint, options)

    async def _window(
        self, pcm: PCM, checkpoint: SpeechCheckpoint, options: RecognitionOptions
    ) -> WindowResult:
        if self.before_window is not None:
            await self.before_window(checkpoint.window_index)
        self.said += 1
        start = checkpoint.next_sample / SAMPLE_RATE
        segments: list[Segment] = []
        for second in range(0, len(pcm), SAMPLE_RATE):
            number = int(pcm[second])
            if number:
                begin = start + second / SAMPLE_RATE
                word = Word(begin, begin + 1, f" {number}", 0.9)
                segments.append(
                    Segment(begin, begin + 1, f" {number}", (word,) if options.word_timestamps else ())
                )
        language = options.language or "en"
        after = SpeechCheckpoint(
            window_index=checkpoint.window_index + 1,
            next_sample=checkpoint.next_sample + len(pcm),
            language=language,
        )
        return WindowResult(tuple(segments), after, language, self.engine, self.model)

    def check(self, options: RecognitionOptions) -> None:
        """Refuse a language that it does not know."""
        if self.languages is not None and options.language not in {None, *self.languages}:
            raise InvalidRequest(f"The fake recognizer does not know {options.language}.")

    async def ready(self) -> bool:
        """Say yes: nothing has to be loaded."""
        return True

    def status(self) -> Mapping[str, Any]:
        """Describe the fake."""
        state = "ready" if self.failure is None else "failed"
        return {"engine": self.engine, "model": self.model, "state": state, "message": self.failure}
