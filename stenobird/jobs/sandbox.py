"""Test keys: a canned transcript, told at once, without network, engine or cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from stenobird.ports import JobChange
from stenobird.transcript import Segment, Word

if TYPE_CHECKING:
    from stenobird.jobs.events import JobEvents
    from stenobird.jobs.leased import LeasedJob
    from stenobird.ports import NewEvent

ENGINE: Final = "test"
MODEL: Final = "canned"
DURATION_SECONDS: Final = 9.0
_SENTENCES: Final = (
    "This is a test transcript.",
    " It was made with a test key, so no audio was opened.",
    " Use a live key to hear what your link says.",
)


async def tell(leased: LeasedJob) -> None:
    """Commit the whole job: the events of a real one, in their order, and `done`."""
    await leased.complete(*story(leased.events, words=leased.job.options.word_timestamps))


def story(job_events: JobEvents, *, words: bool) -> tuple[JobChange, list[NewEvent]]:
    """Return how a test job ends: everything after its first event."""
    events = [
        job_events.status("transcribing", "submitted"),
        job_events.status("transcribing", "transcribing"),
    ]
    seconds = DURATION_SECONDS / len(_SENTENCES)
    for index, text in enumerate(_SENTENCES):
        segment = _segment(text, index * seconds, (index + 1) * seconds, words=words)
        events.append(job_events.transcript(segment, index, language="en" if index == 0 else None))
    events.append(job_events.done("completed", billable_minutes=0))
    change = JobChange(
        status="completed",
        stage="transcribing",
        duration_seconds=DURATION_SECONDS,
        language="en",
        engine=ENGINE,
        model=MODEL,
        billable_minutes=0,
    )
    return change, events


def _segment(text: str, start: float, end: float, *, words: bool) -> Segment:
    if not words:
        return Segment(start, end, text)
    parts = text.split()
    seconds = (end - start) / len(parts)
    timed = tuple(
        Word(
            round(start + index * seconds, 3),
            round(start + (index + 1) * seconds, 3),
            part if index == 0 and start == 0 else f" {part}",
            1.0,
        )
        for index, part in enumerate(parts)
    )
    return Segment(start, end, text, timed)
