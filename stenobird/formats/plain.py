"""The transcript as plain text in paragraphs, and as JSON."""

from __future__ import annotations

import json as json_codec
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from stenobird.formats.cues import clean, columns, ends_sentence, introduction, turns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stenobird.transcript import Segment, Transcript

PARAGRAPH_PAUSE_SECONDS = 2.0
"""A pause of at least this length starts a paragraph."""

PARAGRAPH_COLUMNS = 600
"""A paragraph of at least this width ends at the end of its sentence."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Consecutive segments of one speaker; `start` and `end` are seconds, `text` is one line."""

    start: float
    end: float
    text: str
    speaker: str | None = None


def paragraphs(transcript: Transcript) -> Iterator[Paragraph]:
    """Yield paragraphs: a new one for another speaker, after a pause, or after a sentence once it is long.

    Text without punctuation, which some engines produce, is split at twice that length.
    """
    current: list[Segment] = []
    width = 0
    for segment in turns(transcript.segments):
        if not clean(segment.text):
            continue
        if current and (
            segment.speaker != current[-1].speaker
            or segment.start - current[-1].end >= PARAGRAPH_PAUSE_SECONDS
            or width >= PARAGRAPH_COLUMNS * 2
            or (width >= PARAGRAPH_COLUMNS and ends_sentence(current[-1].text))
        ):
            yield _paragraph(current)
            current, width = [], 0
        current.append(segment)
        width += columns(segment.text)
    if current:
        yield _paragraph(current)


def _paragraph(segments: list[Segment]) -> Paragraph:
    text = clean("".join(segment.text for segment in segments))
    return Paragraph(segments[0].start, segments[-1].end, text, segments[0].speaker)


def txt(transcript: Transcript) -> str:
    """Return paragraphs separated by empty lines; a new speaker is named. Empty if there was no speech."""
    lines, last = [], None
    for paragraph in paragraphs(transcript):
        lines.append(introduction(paragraph.speaker, last) + paragraph.text)
        last = paragraph.speaker
    return "\n\n".join(lines) + "\n" if lines else ""


def json(transcript: Transcript) -> str:
    """Return the transcript as a JSON object: `text`, `language`, `duration_seconds`, `segments`."""
    document: dict[str, Any] = {
        "text": transcript.text,
        "language": transcript.language,
        "duration_seconds": transcript.duration_seconds,
        "segments": [_segment(number, segment) for number, segment in enumerate(transcript.segments)],
    }
    if transcript.title is not None:
        document["title"] = transcript.title
    if transcript.speaker_names:
        document["speaker_names"] = dict(transcript.speaker_names)
    return json_codec.dumps(document, ensure_ascii=False, indent=2) + "\n"


def _segment(number: int, segment: Segment) -> dict[str, Any]:
    row: dict[str, Any] = {
        "id": number,
        "start": segment.start,
        "end": segment.end,
        "text": segment.text,
    }
    if segment.language is not None:
        row["language"] = segment.language
    if segment.confidence is not None:
        row["confidence"] = segment.confidence
    if segment.speaker is not None:
        row["speaker"] = segment.speaker
    if segment.overlap:
        row["overlap"] = True
    if segment.words:
        row["words"] = [
            {name: value for name, value in asdict(word).items() if value is not None}
            for word in segment.words
        ]
    return row
