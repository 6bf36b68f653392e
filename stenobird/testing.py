"""Fakes of the ports, for tests of the service and of programs built on it.

The audio is made of numbers: each second of `spoken(…)` has one word's number in all its samples, and
`FakeRecognizer` returns the numbers as words. Its windows depend only on the audio and the checkpoint, as the
port promises, so a resumed run can be compared with an uninterrupted one.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from typing_extensions import override

from stenobird.errors import AudioTooLarge, InvalidRequest, TranslationFailed
from stenobird.ports import (
    SAMPLE_RATE,
    AudioFinder,
    AudioOpener,
    AudioRequest,
    AudioStream,
    Clock,
    FoundAudio,
    Gap,
    SpeechCheckpoint,
    SpeechRecognizer,
    Title,
    Translator,
    VoiceFinder,
    WindowResult,
)
from stenobird.sources import AudioSource, Verdict
from stenobird.speakers.voices import EMBEDDING_SIZE, Voice, pack
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


class FakeClock(Clock):
    """A clock that stands still until `advance` or a `sleep` moves it."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    @override
    def time(self) -> float:
        return self.now

    @override
    def monotonic(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the clock forward."""
        self.now += seconds

    @override
    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


def spoken(words: Iterable[int]) -> PCM:
    """Return audio with one number per second; 0 is a silent second. Shape `(seconds * 16000,)`, int16."""
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
class FakeFinder(AudioFinder):
    """Finds audio behind every URL, or raises `error`. `found` counts the searches."""

    source: AudioSource | None = None
    error: Exception | None = None
    before: Callable[[], Awaitable[None]] | None = None
    found: int = 0

    @override
    async def find(self, url: str, *, preview: bool, report: VerdictSink) -> FoundAudio:
        del preview
        self.found += 1
        if self.before is not None:
            await self.before()
        if self.error is not None:
            await report(Verdict("resolving_direct", "failed", "The URL is not audio."))
            raise self.error
        await report(Verdict("resolving_direct", "found", "The URL is audio."))
        return FoundAudio(self.source or a_source(url))


@dataclass
class FakeStream(AudioStream):
    """An audio stream over an array, in blocks of a second."""

    audio: PCM
    request: AudioRequest
    error: Exception | None = None
    warning: str | None = None
    live: bool = False
    at: float | None = None
    samples_read: int = 0

    @override
    async def __aiter__(self) -> AsyncIterator[PCM | Gap | Title]:
        limits = self.request.limits
        end = len(self.audio) if limits.stop_samples is None else min(limits.stop_samples, len(self.audio))
        if end > limits.max_samples:
            raise AudioTooLarge
        for start in range(self.request.start_sample, end, SAMPLE_RATE):
            block = self.audio[start : min(start + SAMPLE_RATE, end)]
            self.samples_read = start + len(block)
            yield block
        if self.error is not None:
            raise self.error

    @override
    def stop(self) -> None:
        pass

    @property
    @override
    def duration_seconds(self) -> float | None:
        return len(self.audio) / SAMPLE_RATE

    @property
    @override
    def fingerprint(self) -> dict[str, Any]:
        return {"samples": self.samples_read}


@dataclass
class FakeOpener(AudioOpener):
    """Opens the same audio for every source. `open_error` refuses it; `stream_error` is raised at the end."""

    audio: PCM
    open_error: Callable[[AudioRequest], Exception | None] | None = None
    stream_error: Exception | None = None
    warning: str | None = None
    requests: list[AudioRequest] = field(default_factory=list)
    open_jobs: set[str] = field(default_factory=set)
    discarded: list[str] = field(default_factory=list)
    spools: set[str] = field(default_factory=set)

    @asynccontextmanager
    @override
    async def open(self, request: AudioRequest) -> AsyncIterator[FakeStream]:
        self.requests.append(request)
        error = self.open_error(request) if self.open_error is not None else None
        if error is not None:
            raise error
        assert request.job_id not in self.open_jobs, "a job's spool has one writer"
        self.open_jobs.add(request.job_id)
        self.spools.add(request.job_id)
        try:
            yield FakeStream(self.audio, request, self.stream_error, self.warning)
        finally:
            self.open_jobs.discard(request.job_id)

    @property
    def open_now(self) -> int:
        """The number of open streams."""
        return len(self.open_jobs)

    @override
    async def discard(self, job_id: str) -> None:
        self.discarded.append(job_id)
        self.spools.discard(job_id)

    @override
    async def held(self) -> set[str]:
        return set(self.spools)


@dataclass
class FakeRecognizer(SpeechRecognizer):
    """Returns each second's number, in windows of a few seconds. `before_window` may wait or raise.

    With a `failure`, its engine could not be loaded. It supports all languages unless `languages` are given.
    """

    window_seconds: int = 5
    engine: str = "fake"
    model: str = "numbers"
    before_window: Callable[[int], Awaitable[None]] | None = None
    failure: str | None = None
    languages: Sequence[str] | None = None
    windows_decoded: int = 0
    """The number of windows decoded by all calls."""

    @override
    async def transcribe(
        self,
        audio: AsyncIterator[PCM],
        *,
        job_id: str,
        lane: Lane,
        checkpoint: SpeechCheckpoint,
        options: RecognitionOptions,
    ) -> AsyncGenerator[WindowResult]:
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
        self.windows_decoded += 1
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

    @override
    def check(self, options: RecognitionOptions) -> None:
        if self.languages is not None and options.language not in {None, *self.languages}:
            raise InvalidRequest(
                f"The fake recognizer does not know {options.language}.", details={"field": "language"}
            )

    @override
    async def ready(self) -> bool:
        return True

    @override
    def status(self) -> Mapping[str, Any]:
        state = "ready" if self.failure is None else "failed"
        return {"engine": self.engine, "model": self.model, "state": state, "message": self.failure}


@dataclass
class FakeVoices(VoiceFinder):
    """Hears a voice for each ten numbers: 1 to 9 are one, 10 to 19 another. Negative numbers are two at once.

    The voice of 20 to 29 is so much like that of 10 to 19 that they count as one person.

    `before` may wait or raise. With `refuses`, speakers can't be labelled. `windows` counts the calls.
    """

    before: Callable[[int], Awaitable[None]] | None = None
    refuses: str | None = None
    windows: int = 0

    @override
    async def find_voices(self, job_id: str, pcm: PCM) -> bytes:
        self.windows += 1
        if self.before is not None:
            await self.before(self.windows)
        runs: dict[int, list[tuple[int, int]]] = {}
        for start in range(0, len(pcm), SAMPLE_RATE):
            number = int(pcm[start])
            for voice in [] if number == 0 else [number // 10] if number > 0 else [0, 1]:
                runs.setdefault(voice, []).append((start, min(start + SAMPLE_RATE, len(pcm))))
        sounds = np.eye(EMBEDDING_SIZE, dtype=np.float32)
        sounds[2] = 0.8 * sounds[1] + 0.6 * sounds[2]
        return pack([Voice(tuple(found), len(found), sounds[voice]) for voice, found in runs.items()])

    @override
    def refusal(self) -> str | None:
        return self.refuses

    @override
    def host_status(self) -> Mapping[str, Any]:
        return {"state": "ready" if self.refuses is None else "failed", "message": self.refuses}


@dataclass
class FakeTranslator(Translator):
    """Translates every text with `translation`, which returns `None` where there is no usable translation.

    `calls` has the source language and the texts of each call. `before` may wait or raise. With `refuses`,
    translation is unavailable.
    """

    translation: Callable[[str], str | None] = str.upper
    languages: frozenset[str] = frozenset({"en", "fr", "he"})
    max_characters: int = 100_000
    refuses: str | None = None
    before: Callable[[], Awaitable[None]] | None = None
    calls: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    @property
    @override
    def model(self) -> str:
        return "fake"

    @override
    async def translate(
        self, texts: Sequence[str], *, source: str, target: str, job_id: str
    ) -> Sequence[str | None]:
        del job_id
        if sum(map(len, texts)) > self.max_characters or source not in (self.sources(target) or ()):
            raise TranslationFailed(f"{self.model} can't translate this from {source} to {target}.")
        self.calls.append((source, tuple(texts)))
        if self.before is not None:
            await self.before()
        return [self.translation(text.strip()) for text in texts]

    @override
    def sources(self, target: str) -> frozenset[str] | None:
        return self.languages - {target} if target in self.languages else frozenset()

    @override
    def refusal(self) -> str | None:
        return self.refuses

    @override
    async def ready(self) -> bool:
        return self.refuses is None

    @override
    def status(self) -> Mapping[str, Any]:
        return {"model": self.model, "state": "ready"}
