"""The recognizer: PCM in, windows of text out, in order, several of a job in flight at once.

A job's session is two loops. The planning loop pulls audio, has the host find speech in it, cuts windows and
sends them to be decoded. The committing loop takes the decoded windows in order and moves the checkpoint.
Planning waits for a decode in two cases only: while the language is open, and after a cut in running speech,
when the decoder decides where the next window begins.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from stenobird.errors import EngineUnavailable, InvalidRequest, StenobirdError
from stenobird.ports import SpeechCheckpoint, WindowResult
from stenobird.speech.pool import HOST_COMMAND, SpeechPool
from stenobird.speech.protocol import DecodedWindow, EngineInfo, SpeechSettings, WindowRequest
from stenobird.speech.segments import is_settled, likeliest
from stenobird.speech.windows import FRAME_SAMPLES, Cut, CutRules, WindowCutter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from stenobird.ports import PCM, Clock, Lane, RecognitionOptions

_CALL_SAMPLES = 8 * FRAME_SAMPLES
"""Voice activity is requested in multiples of this, counted from the cut, so that it does not depend on how
the audio arrived."""
_EAGER_SAMPLES = 4 * _CALL_SAMPLES
"""The audio of one voice-activity request while windows are short: a second."""
_PATIENT_SAMPLES = 16 * _CALL_SAMPLES
"""The same while windows are long: four seconds."""
_EAGER_TARGET_SECONDS = 12.0


class _Buffer:
    """Audio that is not accounted for yet, from sample `start` of the source on.

    Holds at most a window and its lookahead, about a minute.
    """

    def __init__(self, audio: AsyncIterator[PCM], start: int) -> None:
        self._audio = audio
        self._pcm: PCM = np.empty(0, np.int16)
        self.start = start
        self.ended = False

    def __len__(self) -> int:
        return len(self._pcm)

    def __getitem__(self, span: slice) -> PCM:
        return self._pcm[span]

    async def fill(self, samples: int) -> None:
        """Pull audio until `samples` are here or it has ended."""
        blocks = [self._pcm]
        held = len(self._pcm)
        try:
            while held < samples and not self.ended:
                try:
                    block = await anext(self._audio)
                except StopAsyncIteration:
                    self.ended = True
                else:
                    blocks.append(block)
                    held += len(block)
        finally:
            self._pcm = np.concatenate(blocks)

    def drop_before(self, sample: int) -> None:
        """Forget what lies before a sample of the source."""
        self._pcm = self._pcm[sample - self.start :].copy()
        self.start = sample


@dataclass(slots=True)
class _Pending:
    """A window on its way: its plan, its text and the checkpoint after it.

    `decoded` is `None` where there was nothing to decode.
    """

    start: int
    cut: Cut
    decoded: asyncio.Future[DecodedWindow | None]
    settled: asyncio.Future[SpeechCheckpoint]


_Result: TypeAlias = WindowResult | BaseException | None
"""A window, the error that ends the session, or `None` at the end of the audio."""


@dataclass(slots=True)
class _Session:
    """One call of `transcribe`, carried out by a task that the recognizer owns."""

    pool: SpeechPool
    rules: CutRules
    job_id: str
    lane: Lane
    options: RecognitionOptions
    checkpoint: SpeechCheckpoint
    buffer: _Buffer
    slots: asyncio.Semaphore
    """Windows that may be planned and not yet taken by the consumer."""
    results: asyncio.Queue[_Result] = field(default_factory=asyncio.Queue)
    pending: asyncio.Queue[_Pending | None] = field(default_factory=asyncio.Queue)
    planned: int = 0

    async def run(self) -> None:
        """Work until the audio ends, an error, or cancellation; the last result is an error or `None`."""
        end: BaseException | None = EngineUnavailable("The service is shutting down. Try again in a moment.")
        try:
            error: Exception | None = None
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._commit())
                try:
                    await self._plan(tasks)
                except Exception as exc:  # noqa: BLE001  # raised by the consumer, after the windows so far
                    error = exc
                self.pending.put_nowait(None)
            end = error
        except BaseExceptionGroup as group:
            end = _first_leaf(group)
        finally:
            self.results.put_nowait(end)

    # --- planning ---------------------------------------------------------------------------------------

    async def _plan(self, tasks: asyncio.TaskGroup) -> None:
        speech_seconds = self.checkpoint.speech_seconds
        settled_language = self.checkpoint.language
        while (cut := await self._next_cut(speech_seconds)) is not None:
            await self.slots.acquire()
            loop = asyncio.get_running_loop()
            window = _Pending(self.buffer.start, cut, loop.create_future(), loop.create_future())
            request = self._request(cut, settled_language)
            if request is None:
                window.decoded.set_result(None)
            else:
                urgent = self.lane == "preview" or self.planned == 0
                self.planned += 1
                tasks.create_task(self._decode(window, request, urgent=urgent))
            self.pending.put_nowait(window)
            speech_seconds = _rounded(speech_seconds + cut.speech_seconds)
            end = window.start + cut.samples
            if request is not None and (cut.reason == "level" or settled_language is None):
                after = await window.settled
                end, speech_seconds, settled_language = (
                    after.next_sample,
                    after.speech_seconds,
                    after.language,
                )
            self.buffer.drop_before(end)

    async def _next_cut(self, speech_seconds: float) -> Cut | None:
        """Return where the window ends that begins at the buffer's start; `None` when there is no audio."""
        target = self.rules.target_seconds(speech_seconds)
        wanted = _EAGER_SAMPLES if target <= _EAGER_TARGET_SECONDS else _PATIENT_SAMPLES
        cutter = WindowCutter(target_seconds=target, rules=self.rules)
        scanned, state = 0, b""
        while True:
            await self.buffer.fill(scanned + wanted)
            ready = min(len(self.buffer) - scanned, _PATIENT_SAMPLES)
            ready -= ready % _CALL_SAMPLES
            if ready == 0:  # the audio has ended
                tail = self.buffer[scanned:]
                if len(tail):
                    probabilities, state = await self.pool.find_speech(self.job_id, tail, state)
                    closed = any(cutter.push(float(p)) for p in probabilities)
                    if closed:
                        break
                return cutter.finish(len(self.buffer)) if len(self.buffer) else None
            block = self.buffer[scanned : scanned + ready]
            probabilities, state = await self.pool.find_speech(self.job_id, block, state)
            if any(cutter.push(float(p)) for p in probabilities):
                break
            scanned += ready
        return cutter.cut(self.buffer[:])

    def _request(self, cut: Cut, language: str | None) -> WindowRequest | None:
        if cut.region is None:
            return None
        start, end = cut.region
        return WindowRequest(
            pcm=self.buffer[start:end],
            start_sample=self.buffer.start + start,
            speech=tuple((a - start, b - start) for a, b in cut.speech),
            language=language,
            language_scores={} if language else self.checkpoint.language_scores,
            prompt=self.options.prompt,
            task=self.options.task,
            word_timestamps=self.options.word_timestamps,
            unfinished_tail=cut.reason == "level",
        )

    async def _decode(self, window: _Pending, request: WindowRequest, *, urgent: bool) -> None:
        # Errors travel through the future, so that the windows before this one are still delivered.
        try:
            window.decoded.set_result(await self.pool.decode(self.job_id, request, urgent=urgent))
        except StenobirdError as exc:
            window.decoded.set_exception(exc)
            window.decoded.exception()  # marks it as retrieved: an earlier window may end the session

    # --- committing -------------------------------------------------------------------------------------

    async def _commit(self) -> None:
        while (window := await self.pending.get()) is not None:
            decoded = await window.decoded
            self.checkpoint = _advance(self.checkpoint, window.start, window.cut, decoded)
            window.settled.set_result(self.checkpoint)
            info = self.pool.info
            assert info is not None
            self.results.put_nowait(
                WindowResult(
                    segments=decoded.segments if decoded is not None else (),
                    checkpoint=self.checkpoint,
                    language=self.checkpoint.language or _guess(self.checkpoint),
                    engine=info.engine,
                    model=info.model,
                )
            )


def _advance(
    checkpoint: SpeechCheckpoint, start: int, cut: Cut, decoded: DecodedWindow | None
) -> SpeechCheckpoint:
    """Return the checkpoint after a window, from the one before it, the cut and the decoded text alone."""
    end = start + cut.samples
    if decoded is not None and decoded.resume_sample is not None:
        end = decoded.resume_sample
    speech_seconds = _rounded(checkpoint.speech_seconds + cut.speech_seconds_before(end - start))
    language, scores = checkpoint.language, dict(checkpoint.language_scores)
    if language is None and decoded is not None:
        scores = dict(decoded.language_scores)
        if is_settled(scores, speech_seconds):
            language, scores = likeliest(scores)[0], {}
    return SpeechCheckpoint(
        window_index=checkpoint.window_index + 1,
        next_sample=end,
        language=language,
        language_scores=scores,
        speech_seconds=speech_seconds,
    )


def _rounded(seconds: float) -> float:
    # Targets depend on this sum, so plan and checkpoint must agree to the last bit.
    return round(seconds, 3)


def _guess(checkpoint: SpeechCheckpoint) -> str | None:
    return likeliest(checkpoint.language_scores)[0] if checkpoint.language_scores else None


def _first_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class WhisperRecognizer:
    """`ports.SpeechRecognizer` on a speech host. Make one with `open_recognizer`.

    `engine` and `model` are those of the settings until the host has loaded, then what it has loaded.
    """

    def __init__(self, pool: SpeechPool, settings: SpeechSettings, tasks: asyncio.TaskGroup) -> None:
        self._pool = pool
        self._tasks = tasks
        self._sessions: set[asyncio.Task[None]] = set()
        self._rules = CutRules()
        self.engine: str = settings.engine
        self.model: str = settings.model
        pool.on_loaded = self._adopt

    def _adopt(self, info: EngineInfo) -> None:
        self.engine, self.model = info.engine, info.model

    @property
    def supported_languages(self) -> tuple[str, ...] | None:
        """ISO 639-1 codes that the engine knows; `None` until it has loaded."""
        return self._pool.info.languages if self._pool.info is not None else None

    async def transcribe(
        self,
        audio: AsyncIterator[PCM],
        *,
        job_id: str,
        lane: Lane,
        checkpoint: SpeechCheckpoint,
        options: RecognitionOptions,
    ) -> AsyncGenerator[WindowResult]:
        """Yield one result a window, in order, as `ports.SpeechRecognizer` promises.

        Waits for the engine first. Raises `InvalidRequest` before any work when the engine does not know the
        language. The audio is pulled by a task of the recognizer, at most a window ahead of what is planned;
        twice as many windows as replicas may be planned and not yet taken from here. An error of the audio is
        raised after the windows before it.
        """
        info = await self.loaded()
        self.check(options)
        if options.language is not None or len(info.languages) == 1:
            pinned = options.language or info.languages[0]
            checkpoint = SpeechCheckpoint(
                checkpoint.window_index, checkpoint.next_sample, pinned, {}, checkpoint.speech_seconds
            )
        session = _Session(
            pool=self._pool,
            rules=self._rules,
            job_id=job_id,
            lane=lane,
            options=options,
            checkpoint=checkpoint,
            buffer=_Buffer(aiter(audio), checkpoint.next_sample),
            slots=asyncio.Semaphore(2 * info.parallel),
        )
        task = self._tasks.create_task(session.run())
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)
        try:
            while isinstance(result := await session.results.get(), WindowResult):
                session.slots.release()
                yield result
            if result is not None:
                raise result
        finally:
            task.cancel()
            await asyncio.wait([task])

    def check(self, options: RecognitionOptions) -> None:
        """Raise `InvalidRequest` when the loaded engine does not support this; before that, accept all."""
        known = self.supported_languages
        if options.language is not None and known is not None and options.language not in known:
            raise InvalidRequest(
                f'The speech model {self.model} does not know the language "{options.language}". '
                f"Leave language out, or use one of: {', '.join(known)}."
            )
        info = self._pool.info
        if (
            info is not None
            and not info.translates
            and options.task == "translate"
            and options.language != "en"
        ):
            raise InvalidRequest(
                f"The speech model {self.model} writes every language as it is spoken and can't translate. "
                "Leave task out; the operator can choose a model that translates, such as large-v3."
            )

    async def loaded(self) -> EngineInfo:
        """Wait for the engine. Raises `EngineUnavailable` when it can't be loaded."""
        return await self._pool.wait_loaded()

    async def ready(self) -> bool:
        """Whether a window sent now would be decoded without loading or downloading anything first."""
        return self._pool.loaded

    def end_sessions(self) -> None:
        """Cancel every transcription; its consumer gets `EngineUnavailable`."""
        for task in self._sessions:
            task.cancel()

    def status(self) -> Mapping[str, Any]:
        """Describe engine, model, device, replicas and any degradation, for `/healthz` and `doctor`.

        `state` is `starting`, `downloading` (then `progress` is 0 to 1), `ready`, `degraded` (another engine
        than the one asked for, `message` says why) or `failed`. `fixture` marks the bundled test model.
        """
        return self._pool.status()


@asynccontextmanager
async def open_recognizer(
    settings: SpeechSettings, *, clock: Clock, host_command: Sequence[str] = HOST_COMMAND
) -> AsyncIterator[WhisperRecognizer]:
    """Start the speech host and yield the recognizer at once, while the model loads.

    The host and every task have ended when this ends.
    """
    pool = SpeechPool(settings, clock=clock, host_command=host_command)
    async with pool.running() as tasks:
        recognizer = WhisperRecognizer(pool, settings, tasks)
        try:
            yield recognizer
        finally:
            recognizer.end_sessions()
