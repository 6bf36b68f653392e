"""Labels the speakers of one job while its words are recognized, and never changes a word.

Audio is divided into windows of ten seconds that overlap. The speaker host finds the voices of a window;
voices are then grouped over all windows so far. What was found is committed with the words, so that a resumed
run continues after the last window of the earlier one. A commit contains labels for what the commit before it
had reached, a function of the audio alone, so every run writes the same events.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import numpy as np
import structlog

from stenobird.errors import TranscriptionFailed, WorkerTrouble
from stenobird.jobs.events import JobEvents, SpeakerLabel, read_labels, read_segment
from stenobird.ports import PCM, SAMPLE_RATE, JobRecord, NewEvent, VoiceFinder
from stenobird.speakers.labels import Label, Span, label
from stenobird.speakers.voices import WINDOW_SAMPLES, Voice, pack, unpack, window_start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from stenobird.storage.job_store import JobStore
    from stenobird.transcript import Segment

MOST_WAITING_SAMPLES: Final = 600 * SAMPLE_RATE
"""Audio that may wait for the speaker host (19 MB); then recognition waits too."""
UNLABELLED: Final = "Speakers are not labelled: the worker has no models for it (STENOBIRD_SPEAKER_MODEL)."
"""The warning of a job whose worker can't label it: the words are worth more than another try elsewhere."""
_SAMPLE_BYTES: Final = 2

_log = structlog.get_logger(__name__)


class JobLabelling:
    """The labels of one run. `next_sample` is where its audio must begin."""

    def __init__(self, job: JobRecord, pool: VoiceFinder) -> None:
        self._job = job
        self._pool = pool
        self._windows: list[list[Voice]] = []
        self._packed: deque[bytes] = deque()
        """The windows that no commit has yet, as they are stored."""
        self._committed = 0
        """Windows that the store has."""
        self._spans: list[Span] = []
        """The segments that were committed, with their chunk indexes as places."""
        self._labels: dict[int, SpeakerLabel] = {}
        """What the committed events say."""
        self._reached = 0
        """Where the audio of the last commit ended."""
        self._audio = bytearray()
        self._begun = self._ended = False
        self._failure: Exception | None = None
        self._changed = asyncio.Condition()

    @property
    def next_sample(self) -> int:
        """The first sample that no committed window has accounted for."""
        return window_start(self._committed)

    def check(self) -> None:
        """Raise `WorkerTrouble` if this worker can't label speakers now."""
        if (refusal := self._pool.refusal()) is not None:
            raise WorkerTrouble(refusal)

    async def restore(self, store: JobStore, reached: int) -> None:
        """Continue after what earlier runs have committed: their windows, segments and labels."""
        self._reached = reached
        self._windows = [unpack(window) for window in await store.voices(self._job.id)]
        self._committed = len(self._windows)
        for row in await store.all_events(self._job.id):
            if row.event == "transcript":
                self._spans.append(_span(read_segment(row.data)))
            elif row.event == "speakers":
                self._labels |= read_labels(row.data)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Find voices in the background during the block, whose errors are raised as they are.

        It begins after the last committed window, also a second time.
        """
        del self._windows[self._committed :]
        self._packed.clear()
        self._audio.clear()
        self._begun, self._ended, self._failure = False, False, None
        failure: BaseException | None = None
        async with asyncio.TaskGroup() as tasks:
            finder = tasks.create_task(self._find())
            try:
                yield
            except BaseException as exc:  # noqa: BLE001  # raised below, outside the group, which would wrap it
                failure = exc
            finally:
                finder.cancel()
        if failure is not None:
            raise failure

    # --- audio ------------------------------------------------------------------------------------------

    async def feed(self, pcm: PCM) -> None:
        """Take the next audio; waits while `MOST_WAITING_SAMPLES` are not done. Raises as `commit` does."""
        await self._until(lambda: self._waiting() < MOST_WAITING_SAMPLES)
        async with self._changed:
            self._audio += pcm.tobytes()
            self._changed.notify_all()

    async def _find(self) -> None:
        try:
            while (pcm := await self._next_window()) is not None:
                packed = await self._voices(pcm)
                async with self._changed:
                    self._packed.append(packed)
                    self._windows.append(unpack(packed))
                    del self._audio[: (self._start(0) - self._start(-1)) * _SAMPLE_BYTES]
                    self._changed.notify_all()
        except Exception as exc:  # noqa: BLE001  # raised by whoever waits for the windows
            async with self._changed:
                self._failure = exc
                self._changed.notify_all()

    async def _next_window(self) -> PCM | None:
        """Return the next window, `None` at the end. The last one has what the one before it had not.

        The first one waits until the first words are committed, which need all of the CPU.
        """
        await self._until(lambda: self._ended or self._waiting() >= self._wanted())
        if self._waiting() <= self._known():
            return None
        return np.frombuffer(bytes(self._audio[: WINDOW_SAMPLES * _SAMPLE_BYTES]), np.int16)

    async def _voices(self, pcm: PCM) -> bytes:
        try:
            return await self._pool.find_voices(self._job.id, pcm)
        except TranscriptionFailed:
            _log.warning("window_not_labelled", start_seconds=self._start(0) / SAMPLE_RATE)
            return pack([])

    def _wanted(self) -> int:
        """Return how much audio has to be at hand before voices are found in the next window."""
        return WINDOW_SAMPLES if self._begun else MOST_WAITING_SAMPLES // 2

    def _waiting(self) -> int:
        return len(self._audio) // _SAMPLE_BYTES

    def _known(self) -> int:
        """Return how many samples of the audio at hand the last window had already."""
        return self._start(-1) + WINDOW_SAMPLES - self._start(0) if self._windows else 0

    def _start(self, later: int) -> int:
        """Return where the next window begins, or one that is some `later`."""
        return window_start(len(self._windows) + later)

    async def _until(self, true: Callable[[], bool]) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._failure is not None or true())
        if self._failure is not None:
            raise self._failure

    # --- commits ----------------------------------------------------------------------------------------

    async def commit(
        self, segments: Sequence[Segment], reached: int, events: JobEvents
    ) -> tuple[list[tuple[int, bytes]], list[NewEvent]]:
        """Return the windows, with their numbers, and the events to commit with these segments.

        `reached` is where their audio ends. Raises `EngineUnavailable` if no speaker host can be started.
        """
        async with self._changed:
            self._begun = True
            self._changed.notify_all()
        done = self._committed
        while window_start(done) + WINDOW_SAMPLES <= self._reached:
            done += 1
        await self._until(lambda: len(self._windows) >= done)
        new = [(number, self._packed.popleft()) for number in range(self._committed, done)]
        found = await self._label(self._windows[:done]) if new else {}
        changed = [one for index, one in found.items() if self._labels.get(index) != one]
        self._labels |= found
        self._spans += map(_span, segments)
        self._committed, self._reached = done, reached
        return new, [events.speakers(changed)] if changed else []

    async def finish(self, events: JobEvents) -> list[NewEvent]:
        """Return the final event, once the audio has ended; none if nobody spoke. Raises as `commit` does."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()
        await self._until(lambda: self._waiting() <= self._known())
        found = await self._label(self._windows)
        return [events.speakers(list(found.values()), final=True)] if found else []

    async def _label(self, windows: Sequence[list[Voice]]) -> dict[int, SpeakerLabel]:
        options = self._job.options
        windows, spans = tuple(windows), tuple(self._spans)

        def work() -> list[Label]:
            return label(windows, spans, least=options.min_speakers, most=options.max_speakers)

        found = enumerate(await asyncio.to_thread(work))
        return {
            index: SpeakerLabel.of(index, one.speaker, overlap=one.overlap, words=one.words)
            for index, one in found
        }


def _span(segment: Segment) -> Span:
    # Times of events are whole milliseconds, and a resumed run knows no others.
    return Span(
        round(segment.start, 3),
        round(segment.end, 3),
        tuple((round(word.start, 3), round(word.end, 3)) for word in segment.words),
    )
