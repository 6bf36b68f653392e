"""docs/reference/events.md: every event of a stream, its fields, and an example of each."""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any, Final

from stenobird.errors import AudioSourceNotFound
from stenobird.jobs import events
from stenobird.jobs.events import JobEvents, Progress, SpeakerLabel
from stenobird.ports import RESULT_READY, TERMINAL, EventRow, JobStatus
from stenobird.sources import AudioSource, Stage
from stenobird.transcript import Segment, Word
from stenobird.web.sse import RETRY_MILLISECONDS, encode_event
from tools.reference.markdown import fence, generated, table, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

    from stenobird.ports import NewEvent

FIELDS: Final[Mapping[str, str]] = {
    "id": "id of the transcript",
    "status": "its status, see below",
    "stage": "its stage within the status, see below",
    "terminal": "whether the status is final",
    "result_ready": "whether `result_url` answers with a transcript",
    "status_url": "URL of the status, for polling",
    "events_url": "URL of this stream",
    "result_url": "URL of the whole transcript, once it is ready",
    "retry_after_seconds": "how long to wait between requests if you poll",
    "StatusEvent.message": "what happened, as text for people",
    "message": "text for people",
    "source": "the audio that was found, how, and why; with stage `source_resolved`. Of live audio, `live` "
    "is true, and the first event with stage `transcribing` repeats it with `at`, the UTC time of its first "
    "sample; so do later ones, in the first minutes, if the stream turns out to have begun earlier",
    "progress": "`audio_seconds` transcribed, of `audio_seconds_total` if the length is known",
    "StatusEvent.start": "where live audio is missing, in seconds from `at`; with stage `stream_gap`",
    "seconds": "how much of it is missing",
    "reason": "why: " + ", ".join(f"`{code}` ({meaning})" for code, meaning in events.GAP_REASONS.items()),
    "title": "what the station says it is playing; with stage `now_playing`",
    "text": "text of one segment. The texts of all chunks, joined, are the transcript",
    "chunk_index": "number of the chunk, counted from 0 without gaps",
    "start": "start of the segment in the audio, in seconds; of live audio, counted from `at`",
    "end": "end of the segment, in seconds",
    "language": "language of the text, as ISO 639-1",
    "confidence": "share of the segment's words that are likely to be right, 0 to 1",
    "words": "each word with `start`, `end`, `text`, `probability` (the model's) and `confidence` "
    "(how likely it is right), if `word_timestamps` was requested",
    "labels": "the `speaker` of each `chunk_index`, with `overlap` where someone else speaks at the same "
    "time, and `words` with a speaker for each word of the chunk if they differ",
    "final": "true in the last of these events, which has every chunk",
    "upgrade_url": "URL where you can get a key",
    "ErrorEvent.error": "error code, see [errors](errors.md). The other fields of the error's body follow",
    "DoneEvent.error": "error code, if the status is `failed`",
    "billable_minutes": "whole minutes, rounded down, at least 1; if the status is `completed`, or if live "
    "audio was `cancelled` after some of it was transcribed",
    "warning": "a problem that did not fail the job, for example audio that was cut off",
}
"""Descriptions by field, or by event and field if a name has two meanings."""

STAGES: Final[Mapping[str, str]] = {
    "validating_url": "the URL is well-formed; no request was made yet. Always the first event",
    "resolving_direct": "the URL itself was opened",
    "resolving_feed": "a podcast feed was read",
    "resolving_page": "a page was searched for audio",
    "resolving_directory": "a podcast directory was searched",
    "resolving_extractor": "yt-dlp was run",
    "source_resolved": "the audio was found: see `source`",
}


_INTRODUCTION: Final = """
`GET /v1/transcripts/{id}/events` answers with Server-Sent Events: lines of text, with an empty line after
each event. A stream replays the events so far, and then continues with new ones. Every reader sees the same
events with the same bytes, whenever it connects.

* Each event has an `id`, counted from 1 per transcript. Send the last one as `Last-Event-ID` to resume after
  it.
* The last event is always `done`, which ends the stream. A reader that sends its id gets 204.
* Text that was sent is never revised.
* The first line is `retry: MILLISECONDS`: how long a browser waits before it reconnects. Lines that start
  with `:` are comments, sent after some seconds of silence; ignore them.
* Fields without a value are left out. New fields may be added, so ignore fields that you don't know.
"""

_ORDER: Final = """
## Order

```text
status (queued) … → status (transcribing) … → transcript … → [speakers] → [preview_locked | error] → done
```

`speakers` events come only if speakers were requested: some between `transcript` events, with what is known
so far, and the final one after them. `error` may come at any point. A cancelled transcript ends with `done`
alone.
"""

_AFTERWARDS: Final = """
While the status is `transcribing`: `submitted`, once, then `transcribing`. Live audio adds `stream_gap` where
seconds of it are missing, and `now_playing` when the station announces a title. A gap is part of the time, so
`start` and `end` stay right after it, and no segment lies in it. It is not billed.

## In the OpenAI dialect

With `stream=true`, `POST /v1/audio/transcriptions` sends `transcript.text.delta` with a `delta`, then
`transcript.text.done` with the whole `text`, then `[DONE]`. See [use an OpenAI SDK](../how-to/openai-sdk.md).
"""


def events_page() -> str:
    """Return the page."""
    job = JobEvents("tr_4ZrWmXkq0fVq3n8sT1bYcd", "https://stenobird.example.com")
    assert STAGES.keys() == set(typing.get_args(Stage)), "STAGES is not up to date"
    source = AudioSource(
        submitted_url="https://example.com/episodes/12",
        media_url="https://cdn.example.com/12.mp3",
        final_url="https://cdn.example.com/12.mp3",
        technique="page.json_ld",
        reason="the page names it as the audio of this episode",
        title="Episode 12",
    )
    words = (Word(0.52, 0.94, "hello", 0.98), Word(0.94, 1.1, " and", 0.99))
    spoken = Segment(start=0.52, end=3.0, text="hello and welcome back", words=words)
    examples: list[tuple[type[BaseModel], int, NewEvent]] = [
        (events.StatusEvent, 3, job.status("queued", "source_resolved", source=source)),
        (events.StatusEvent, 5, job.status("transcribing", "transcribing", progress=_progress())),
        (events.StatusEvent, 9, job.stream_gap(312.4, 6.25, "disconnected")),
        (events.TranscriptEvent, 6, job.transcript(spoken, 0, language="en")),
        (events.SpeakersEvent, 7, job.speakers([SpeakerLabel.of(0, 1), SpeakerLabel.of(1, 2, overlap=True)])),
        (events.PreviewLockedEvent, 9, job.preview_locked()),
        (events.ErrorEvent, 4, job.error(AudioSourceNotFound().body())),
        (events.DoneEvent, 42, job.done("completed", billable_minutes=61)),
    ]
    parts = [_INTRODUCTION.replace("MILLISECONDS", str(RETRY_MILLISECONDS))]
    described: type[BaseModel] | None = None
    for model, number, event in examples:
        if model is not described:
            parts.append(_described(model, event.event))
            described = model
        parts.append(fence("text", _wire(number, event)))
    parts += [
        _ORDER,
        "## Statuses",
        table(
            ("Status", "Terminal", "Result"),
            (
                [f"`{status}`", "yes" if status in TERMINAL else "", _result(status)]
                for status in typing.get_args(JobStatus)
            ),
        ),
        "## Stages\n\nWhile the status is `queued`:",
        table(("Stage", "What happened"), ([f"`{stage}`", meaning] for stage, meaning in STAGES.items())),
        _AFTERWARDS,
    ]
    return generated("Events", *parts)


def _progress() -> Progress:
    return Progress(audio_seconds=126.5, audio_seconds_total=3671.0)


def _described(model: type[BaseModel], name: str) -> str:
    said = (model.__doc__ or "").split("\n")[0].partition("`: ")[2]
    rows = (
        [f"`{field}`", _kind(info), FIELDS.get(f"{model.__name__}.{field}") or FIELDS[field]]
        for field, info in model.model_fields.items()
    )
    return f"## `{name}`\n\n{text(said[:1].upper() + said[1:])}\n\n" + table(
        ("Field", "Type", "What it is"), rows
    )


def _kind(info: FieldInfo) -> str:
    annotation: Any = info.annotation
    optional = type(None) in typing.get_args(annotation)
    kinds = (
        [kind for kind in typing.get_args(annotation) if kind is not type(None)] if optional else [annotation]
    )
    (kind,) = kinds
    if typing.get_origin(kind) is typing.Literal:
        name = "true or false" if typing.get_args(kind) == (True,) else "text"
    else:
        names = {str: "text", bool: "true or false", int: "whole number", float: "number"}
        name = names.get(kind, "list" if typing.get_origin(kind) is list else "object")
    return f"{name}, or left out" if optional else name


def _wire(number: int, event: NewEvent) -> str:
    return encode_event(EventRow(number, event.event, event.data)).decode()


def _result(status: str) -> str:
    if status in RESULT_READY:
        return "the transcript"
    return {"failed": "422, the error", "cancelled": "410 `transcript_cancelled`"}.get(
        status, "409 `transcript_not_ready`"
    )
