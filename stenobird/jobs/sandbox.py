"""The jobs of test keys: a canned transcript, complete at once, without network, engine or cost."""

from __future__ import annotations

from typing import Final

from stenobird.jobs.events import JobEvents, SpeakerLabel
from stenobird.ports import JobChange, JobExtra, NewEvent, RecognitionOptions
from stenobird.transcript import Segment, Word

ENGINE: Final = "test"
MODEL: Final = "canned"
DURATION_SECONDS: Final = 9.0
_SENTENCES: Final = (
    "This is a test transcript.",
    " It was made with a test key, so no audio was opened.",
    " Use a live key to hear what your link says.",
)
_TRANSLATED: Final = {
    "he": (
        "זהו תמלול לבדיקה.",
        " הוא נוצר עם מפתח בדיקה, ולכן לא נפתח שום קובץ שמע.",
        " השתמשו במפתח פעיל כדי לשמוע מה נאמר בקישור שלכם.",
    ),
}
"""The same sentences, by language: a test job uses no translator."""


def canned_transcript(
    job_events: JobEvents, options: RecognitionOptions, extra: JobExtra
) -> tuple[JobChange, list[NewEvent]]:
    """Return how a test job ends: everything after its first event.

    As in a real job, a translation has no words with times.
    """
    target = extra.translate_to
    sentences = _TRANSLATED.get(str(target), _SENTENCES)
    language = "en" if sentences is _SENTENCES else str(target)
    events = [
        job_events.status("transcribing", "submitted"),
        job_events.status("transcribing", "transcribing"),
    ]
    seconds = DURATION_SECONDS / len(sentences)
    for index, text in enumerate(sentences):
        timed = options.word_timestamps and target is None
        segment = _segment(text, index * seconds, (index + 1) * seconds, words=timed)
        events.append(job_events.transcript(segment, index, language=language if index == 0 else None))
    if options.speakers:
        labels = [SpeakerLabel.of(index, 1) for index in range(len(sentences))]
        events.append(job_events.speakers(labels, final=True))
    events.append(job_events.done("completed", billable_minutes=0))
    change = JobChange(
        status="completed",
        stage="transcribing",
        duration_seconds=DURATION_SECONDS,
        language=language,
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
