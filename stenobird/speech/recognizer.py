"""The recognizer: PCM in, windows of text out, in order, several blocks of a job in flight at once.

A job's session is two loops and a task a block. The planning loop pulls audio, has the host find speech in
it and divides it into blocks. Each block's task decodes its windows one after the other. The committing loop
takes the windows in the order of the audio and moves the checkpoint. A job's first block is one window, and
the next one begins where its text ends. Later blocks are decoded in the language that was last spoken; in the
rare case that the block before ends in another one, a block is decoded again.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from stenobird.errors import EngineUnavailable, InvalidRequest, StenobirdError
from stenobird.ports import SAMPLE_RATE, SpeechCheckpoint, WindowResult
from stenobird.speech.language import LanguageState, likeliest
from stenobird.speech.pool import HOST_COMMAND, SpeechPool
from stenobird.speech.protocol import DecodedWindow, EngineInfo, WindowRequest
from stenobird.speech.segments import breaks_off
from stenobird.speech.windows import (
    FRAME_SAMPLES,
    LIVE_RULES,
    Block,
    BlockFinder,
    Window,
    WindowRules,
    next_window,
    speech_seconds,
)
from stenobird.transcript import Segment

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Sequence

    from stenobird.config import Settings
    from stenobird.ports import PCM, Clock, Lane, RecognitionOptions
    from stenobird.speech.windows import Span

_CALL_SAMPLES = 8 * FRAME_SAMPLES
"""Voice activity is requested in multiples of this, counted from the start of the block, so that it does not
depend on how the audio arrived."""
_EAGER_SAMPLES = 4 * _CALL_SAMPLES
"""The least audio of one voice-activity request: a second."""
_PATIENT_SAMPLES = 16 * _CALL_SAMPLES
"""The most: four seconds."""
_EARLY_SECONDS = 10.0
"""A job's first window is answered in two parts when it is longer."""
_SPARE_BLOCKS = 2
"""Blocks of a job beside one for each replica, at least: those that wait for a slower one before them to be
taken."""
_MOST_BATCHED_BLOCKS = 16
"""Where replicas decode batches, a job has as many blocks as can be decoded at once, at most this many."""
_LEAST_STEP_SAMPLES = SAMPLE_RATE // 10
"""Where a window would advance by less, the next one starts at its end."""


class _Buffer:
    """Audio that is not accounted for yet, from sample `start` of the source on.

    Holds at most a block and what was pulled past its end. Audio is pulled while what is here is worked on.
    """

    def __init__(self, audio: AsyncIterator[PCM], start: int) -> None:
        self._audio = audio
        self._pcm: PCM = np.empty(0, np.int16)
        self._wanted = 0
        self._pulling: asyncio.Task[None] | None = None
        self._arrived = asyncio.Event()
        self._error: Exception | None = None
        self.start = start
        self.ended = False

    def __len__(self) -> int:
        return len(self._pcm)

    def __getitem__(self, span: slice) -> PCM:
        return self._pcm[span]

    async def fill(self, samples: int, ahead: int = 0) -> None:
        """Wait until `samples` are here or the audio has ended; go on pulling until `ahead` more are."""
        self._wanted = samples + ahead
        if self._pulling is None or self._pulling.done():
            self._pulling = asyncio.create_task(self._pull())
        while len(self._pcm) < samples and not self.ended:
            if self._error is not None:
                raise self._error
            self._arrived.clear()
            await self._arrived.wait()

    async def _pull(self) -> None:
        while len(self._pcm) < self._wanted and not self.ended and self._error is None:
            try:
                block = await anext(self._audio)
            except StopAsyncIteration:
                self.ended = True
            except Exception as exc:  # noqa: BLE001  # raised by `fill`, once what came before is used
                self._error = exc
            else:
                self._pcm = np.concatenate([self._pcm, block])
            self._arrived.set()

    async def close(self) -> None:
        """Stop pulling."""
        if self._pulling is not None:
            self._pulling.cancel()
            await asyncio.wait([self._pulling])

    def drop_before(self, sample: int) -> None:
        """Forget what lies before a sample of the source."""
        self._pcm = self._pcm[sample - self.start :].copy()
        self.start = sample


@dataclass(slots=True, eq=False)
class _Planned:
    """A block from sample `start` of the source on, on its way.

    `outcomes` are its windows with their checkpoints as if it were the first block, then an error or `None`.
    """

    start: int
    entry: SpeechCheckpoint
    """The language to start in; in the first block also its text so far."""
    block: Block
    pcm: PCM
    first: bool
    """Whether only its first window is decoded; the next block begins where the text of that ends."""
    task: asyncio.Task[None] | None = None
    outcomes: asyncio.Queue[_Outcome | Exception | None] = field(default_factory=asyncio.Queue)
    committed: asyncio.Event = field(default_factory=asyncio.Event)


_Outcome: TypeAlias = tuple[tuple[Segment, ...], SpeechCheckpoint]
_Result: TypeAlias = WindowResult | BaseException | None
"""A window, the error that ends the session, or `None` at the end of the audio."""


@dataclass(slots=True)
class _Session:
    """One call of `transcribe`, carried out by a task that the recognizer owns."""

    pool: SpeechPool
    info: EngineInfo
    rules: WindowRules
    job_id: str
    lane: Lane
    options: RecognitionOptions
    checkpoint: SpeechCheckpoint
    buffer: _Buffer
    slots: asyncio.Semaphore
    """Blocks that may be planned and not yet taken by the consumer."""
    results: asyncio.Queue[tuple[_Result, bool]] = field(default_factory=asyncio.Queue)
    """Each with whether it is the last of its block."""
    pending: asyncio.Queue[_Planned | None] = field(default_factory=asyncio.Queue)

    async def run(self) -> None:
        """Work until the audio ends, an error, or cancellation; the last result is an error or `None`."""
        end: BaseException | None = EngineUnavailable("The service is shutting down. Try again in a moment.")
        try:
            error: Exception | None = None
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._commit(tasks))
                try:
                    await self._plan(tasks)
                except Exception as exc:  # noqa: BLE001  # raised by the consumer, after the windows so far
                    error = exc
                self.pending.put_nowait(None)
            end = error
        except BaseExceptionGroup as group:
            end = _first_leaf(group)
        finally:
            await self.buffer.close()
            self.results.put_nowait((end, False))

    # --- planning ---------------------------------------------------------------------------------------

    async def _plan(self, tasks: asyncio.TaskGroup) -> None:
        entry = self.checkpoint
        # The first words of live audio come soon as it is.
        first = entry.speech_seconds == 0 and self.lane != "live"
        while True:
            await self.slots.acquire()
            start = self.buffer.start
            if entry.block_samples:
                await self.buffer.fill(entry.block_samples)
                block = Block(min(entry.block_samples, len(self.buffer)), entry.speech)
            else:
                block = await self._find_block(BlockFinder(self.rules, first=first))
            if not block.samples:
                return
            pcm = self.buffer[: block.samples].copy()
            planned = _Planned(start, entry, block, pcm, first=first)
            self._start(tasks, planned)
            self.pending.put_nowait(planned)
            if first or self.checkpoint.language is None or not self.checkpoint.opening:
                # Later blocks need the language and the first text.
                await planned.committed.wait()
            self.buffer.drop_before(self.checkpoint.next_sample if first else start + block.samples)
            first = first and not block.speech
            entry = SpeechCheckpoint()

    async def _find_block(self, finder: BlockFinder) -> Block:
        """Return the block that begins at the buffer's start, without samples when there is no audio."""
        scanned, state, ended = 0, b"", False
        while not ended:
            await self.buffer.fill(scanned + _EAGER_SAMPLES, ahead=_PATIENT_SAMPLES)
            ready = min(len(self.buffer) - scanned, _PATIENT_SAMPLES)
            whole = ready - ready % _CALL_SAMPLES
            ready = whole or ready  # less than one call at the end of the audio
            if not ready:
                return finder.finish(len(self.buffer))
            pcm = self.buffer[scanned : scanned + ready]
            urgent = self.lane != "full"
            probabilities, state = await self.pool.find_speech(self.job_id, pcm, state, urgent=urgent)
            scanned += ready
            ended = any(finder.push(float(probability)) for probability in probabilities)
        return finder.block(self.buffer[:])

    def _start(self, tasks: asyncio.TaskGroup, planned: _Planned) -> None:
        """Start to decode a block, in the language and the style that are known by now."""
        planned.entry = replace(
            planned.entry,
            language=self.checkpoint.language,
            language_scores=self.checkpoint.language_scores,
            language_rival=planned.entry.language_rival,
            opening=self.checkpoint.opening,
        )
        planned.outcomes = asyncio.Queue()
        planned.task = tasks.create_task(self._transcribe(planned, planned.outcomes))

    async def _transcribe(
        self, planned: _Planned, outcomes: asyncio.Queue[_Outcome | Exception | None]
    ) -> None:
        # Errors travel through the queue, so that the windows before this one are still delivered.
        try:
            await self._decode_windows(planned, outcomes)
        except StenobirdError as exc:
            outcomes.put_nowait(exc)
        else:
            outcomes.put_nowait(None)

    async def _decode_windows(
        self, planned: _Planned, outcomes: asyncio.Queue[_Outcome | Exception | None]
    ) -> None:
        block, position = planned.block, 0
        before = replace(planned.entry, window_index=0, speech_seconds=0.0, language_seconds={})
        if not before.block_samples:
            before = replace(before, context=before.opening)
        while position < block.samples:
            window = next_window(block, self.rules, position)
            decoded, end = None, block.samples
            if window is not None:
                request = self._request(planned, window, before)
                words_first = planned.first and not before.prefix
                if words_first and (early := await self._first_words(request)).segments:
                    # The window itself is still to come, so everything else stays as it was.
                    seconds = {early.language: 0.0}
                    before = replace(before, window_index=1, language_seconds=seconds, prefix=early.context)
                    outcomes.put_nowait((early.segments, before))
                    request = replace(request, prefix=early.context)
                urgent, live = planned.first or self.lane == "preview", self.lane == "live"
                decoded = await self.pool.decode(self.job_id, request, urgent=urgent, live=live)
                end = _window_end(window, decoded, block, planned.start, position)
            if planned.first:
                block = replace(block, samples=end)
            before = _advance(before, block, planned.start, (position, end), decoded)
            position = end
            outcomes.put_nowait((decoded.segments if decoded is not None else (), before))

    async def _first_words(self, request: WindowRequest) -> DecodedWindow:
        """Return the first sentences of a job's first window, none where they can't be had early."""
        if self.info.engine == "whisper" and len(request.pcm) > _EARLY_SECONDS * SAMPLE_RATE:
            with suppress(StenobirdError):  # the whole window may work
                return await self.pool.decode(self.job_id, replace(request, early=True), urgent=True)
        return DecodedWindow((), "")

    def _request(self, planned: _Planned, window: Window, before: SpeechCheckpoint) -> WindowRequest:
        return WindowRequest(
            pcm=planned.pcm[window.start : window.end],
            start_sample=planned.start + window.start,
            speech=window.speech,
            language=self.options.language,
            language_state=LanguageState(before.language, before.language_scores, before.language_rival),
            prompt=self.options.prompt,
            keywords=self.options.keywords or (),
            names=self.options.names if self.options.keywords is None else (),
            task=self.options.task,
            word_timestamps=self.options.word_timestamps,
            # The bundled test model has never seen text before its window.
            context="" if self.info.fixture else before.context,
            prefix=before.prefix,
            unfinished_tail=not window.final,
        )

    # --- committing -------------------------------------------------------------------------------------

    async def _commit(self, tasks: asyncio.TaskGroup) -> None:
        while (planned := await self.pending.get()) is not None:
            base = self.checkpoint
            known = (planned.entry.language, planned.entry.opening)
            if planned.task is not None and known != (base.language, base.opening):
                planned.task.cancel()
                self._start(tasks, planned)
            while (outcome := await planned.outcomes.get()) is not None:
                if isinstance(outcome, Exception):
                    raise outcome
                segments, relative = outcome
                self.checkpoint = _joined(base, relative)
                result = WindowResult(
                    segments=segments,
                    checkpoint=self.checkpoint,
                    language=_spoken_most(self.checkpoint),
                    engine=self.info.engine,
                    model=self.info.model,
                )
                self.results.put_nowait((result, not relative.block_samples and not relative.prefix))
            planned.committed.set()


def _window_end(window: Window, decoded: DecodedWindow, block: Block, origin: int, position: int) -> int:
    """Return the sample of the block at which the next window begins."""
    end = block.samples if window.final else window.end
    if decoded.resume_sample is not None:
        resume = decoded.resume_sample - origin
        if resume > position + _LEAST_STEP_SAMPLES:
            end = min(resume, end)
    return end


def _advance(
    before: SpeechCheckpoint, block: Block, origin: int, span: Span, decoded: DecodedWindow | None
) -> SpeechCheckpoint:
    """Return the checkpoint after a window of a block: from the one before it and the text alone."""
    start, end = span
    rest = block.after(end)
    seconds = speech_seconds(block.after(start).speech, end - start)
    text = before.context if decoded is None else decoded.context
    changed = decoded is not None and decoded.language_state.language not in (None, before.language)
    opening = "" if changed else before.opening  # none of another language
    goes_on = not opening or breaks_off(text, opening)
    after = replace(
        before,
        window_index=before.window_index + 1,
        next_sample=origin + end,
        speech_seconds=round(before.speech_seconds + seconds, 3),
        block_samples=rest.samples,
        speech=rest.speech if rest.samples else (),
        context=(text if goes_on else opening) if rest.samples else "",
        prefix="",
        opening=opening if rest.samples else opening or text,
    )
    if decoded is None:
        return after
    language, scores, rival = decoded.language_state
    totals = dict(before.language_seconds)
    totals[decoded.language] = round(totals.get(decoded.language, 0.0) + seconds, 3)
    return replace(
        after,
        language=language or before.language,
        language_scores=scores,
        language_rival=rival if rest.samples else None,
        language_seconds=totals,
    )


def _joined(base: SpeechCheckpoint, relative: SpeechCheckpoint) -> SpeechCheckpoint:
    """Return a checkpoint of a block that counts from the start of the audio."""
    totals = dict(base.language_seconds)
    for language, seconds in relative.language_seconds.items():
        totals[language] = round(totals.get(language, 0.0) + seconds, 3)
    return replace(
        relative,
        window_index=base.window_index + relative.window_index,
        speech_seconds=round(base.speech_seconds + relative.speech_seconds, 3),
        language_seconds=totals,
    )


def _spoken_most(checkpoint: SpeechCheckpoint) -> str | None:
    if totals := checkpoint.language_seconds:
        return max(totals, key=lambda name: (totals[name], name))
    scores = checkpoint.language_scores
    return checkpoint.language or (likeliest(scores)[0] if scores else None)


def _first_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class WhisperRecognizer(SpeechPool):
    """`ports.SpeechRecognizer` on a speech host. Make one with `open_recognizer`.

    `engine` and `model` are those of the settings until the host has loaded, then what it has loaded.
    """

    def __init__(self, settings: Settings, **options: Any) -> None:
        super().__init__(settings, **options)
        self.tasks: asyncio.TaskGroup | None = None
        self.sessions: set[asyncio.Task[None]] = set()

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
        language. The audio is pulled by a task of the recognizer, a block at most ahead of what is planned.
        Blocks are planned ahead of what is taken from here, up to 16 or two more than replicas. An error of
        the audio is raised after the windows before it.
        """
        info = await self.loaded()
        self.check(options)
        if len(info.languages) == 1:
            options = replace(options, language=info.languages[0])
        if options.language is not None:
            language = options.language
            checkpoint = replace(checkpoint, language=language, language_scores={}, language_rival=None)
        blocks = max(info.replicas + _SPARE_BLOCKS, min(info.parallel, _MOST_BATCHED_BLOCKS))
        session = _Session(
            pool=self,
            info=info,
            rules=LIVE_RULES if lane == "live" else WindowRules(),
            job_id=job_id,
            lane=lane,
            options=options,
            checkpoint=checkpoint,
            buffer=_Buffer(aiter(audio), checkpoint.next_sample),
            slots=asyncio.Semaphore(blocks),
        )
        assert self.tasks is not None
        task = self.tasks.create_task(session.run())
        self.sessions.add(task)
        task.add_done_callback(self.sessions.discard)
        with self.urgent_job() if lane == "preview" else nullcontext():
            try:
                result, last_of_block = await session.results.get()
                while isinstance(result, WindowResult):
                    if last_of_block:
                        session.slots.release()
                    yield result
                    result, last_of_block = await session.results.get()
                if result is not None:
                    raise result
            finally:
                task.cancel()
                await asyncio.wait([task])

    def check(self, options: RecognitionOptions) -> None:
        """Raise `InvalidRequest` when the loaded engine does not support this; before that, accept all."""
        info = self.info
        if info is None:
            return
        if options.language is not None and options.language not in info.languages:
            raise InvalidRequest(
                f'The speech model {self.model} does not know the language "{options.language}". '
                f"Leave language out, or use one of: {', '.join(info.languages)}.",
                details={"field": "language"},
            )
        if not info.translates and options.task == "translate" and options.language != "en":
            raise InvalidRequest(
                f"The speech model {self.model} writes every language as it is spoken and can't translate. "
                "Leave task out; the operator can choose a model that translates, such as large-v3.",
                details={"field": "task"},
            )


@asynccontextmanager
async def open_recognizer(
    settings: Settings,
    *,
    clock: Clock,
    host_command: Sequence[str] = HOST_COMMAND,
    cache_dir: str | None = None,
) -> AsyncIterator[WhisperRecognizer]:
    """Start the speech host and yield the recognizer at once, while the model loads.

    It is downloaded to `cache_dir`, or else to the cache of Hugging Face, where other tools find it. The host
    and every task have ended when this ends; whoever still transcribes gets `EngineUnavailable`.
    """
    recognizer = WhisperRecognizer(settings, clock=clock, host_command=host_command, cache_dir=cache_dir)
    async with recognizer.running() as recognizer.tasks:
        try:
            yield recognizer
        finally:
            for task in recognizer.sessions:
                task.cancel()
