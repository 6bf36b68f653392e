"""The transcript in paragraphs, as plain text and as a Word document, and as JSON."""

from __future__ import annotations

import io
import json as json_codec
import unicodedata
import zipfile
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stenobird.formats.cues import (
    RIGHT_TO_LEFT_TAGS,
    clean,
    columns,
    ends_sentence,
    introduction,
    is_right_to_left,
    turns,
)
from stenobird.transcript import Segment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docx.text.paragraph import Paragraph

    from stenobird.transcript import Transcript

PARAGRAPH_PAUSE_SECONDS = 2.0
"""A pause of at least this length starts a paragraph."""

PARAGRAPH_COLUMNS = 600
"""A paragraph of at least this width ends at the end of its sentence."""


def paragraphs(transcript: Transcript) -> Iterator[Segment]:
    """Yield paragraphs of one speaker: a new one after a pause, or after a sentence once it is long.

    Each is a segment with the times, the speaker, and the text on one line. Text without punctuation, which
    some engines produce, is split at twice that length.
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


def _paragraph(segments: list[Segment]) -> Segment:
    text = clean("".join(segment.text for segment in segments))
    return Segment(segments[0].start, segments[-1].end, text, speaker=segments[0].speaker)


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
    row: dict[str, Any] = {"id": number, "start": segment.start, "end": segment.end, "text": segment.text}
    for name in ("language", "confidence", "speaker"):
        if (value := getattr(segment, name)) is not None:
            row[name] = value
    if segment.overlap:
        row["overlap"] = True
    if segment.words:
        row["words"] = [
            {name: value for name, value in asdict(word).items() if value is not None}
            for word in segment.words
        ]
    return row


_FIXED_TIME = datetime(2000, 1, 1, tzinfo=UTC)


def docx(transcript: Transcript) -> bytes:
    """Return the document; paragraphs in right-to-left scripts are marked as such.

    Dates in the file are fixed, so the same transcript gives the same bytes.
    """
    # python-docx and lxml take 0.2 s to load, and few processes ever write a document.
    from docx import Document  # noqa: PLC0415
    from docx.shared import Pt, RGBColor  # noqa: PLC0415

    document = Document()
    title = _printable(transcript.title or "Transcript")
    document.core_properties.title = title[:255]
    document.core_properties.author = "Stenobird"
    document.core_properties.created = document.core_properties.modified = _FIXED_TIME
    if transcript.language:
        document.core_properties.language = transcript.language
    _write(document.add_heading(level=0), title, transcript.language)
    facts = [clock(transcript.duration_seconds), transcript.language]
    subtitle = document.add_paragraph(style="Subtitle")
    subtitle.add_run(" · ".join(fact for fact in facts if fact))
    if is_right_to_left(title, transcript.language):
        _turn(subtitle)  # on the side where the title is
    last = None
    for paragraph in paragraphs(transcript):
        line = document.add_paragraph()
        stamp = line.add_run(f"{clock(paragraph.start)}  ")
        stamp.font.size = Pt(9)
        stamp.font.color.rgb = RGBColor(0x70, 0x70, 0x70)
        if name := introduction(paragraph.speaker, last):
            line.add_run(_printable(name)).bold = True
        last = paragraph.speaker
        _write(line, paragraph.text, transcript.language)
    buffer = io.BytesIO()
    document.save(buffer)
    return _undated(buffer)


def _undated(archive: io.BytesIO) -> bytes:
    """Return the archive with fixed dates, because python-docx stores the time of writing."""
    undated = io.BytesIO()
    with zipfile.ZipFile(archive) as dated, zipfile.ZipFile(undated, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in dated.infolist():
            fixed = zipfile.ZipInfo(entry.filename, _FIXED_TIME.timetuple()[:6])
            fixed.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(fixed, dated.read(entry))
    return undated.getvalue()


def _write(paragraph: Paragraph, text: str, language: str | None) -> None:
    """Add text to a paragraph. Right-to-left text is marked with its language, for spelling and fonts."""
    from docx.oxml import OxmlElement  # noqa: PLC0415  # see docx()
    from docx.oxml.ns import qn  # noqa: PLC0415

    run = paragraph.add_run(_printable(text))
    if not is_right_to_left(text, language):
        return
    _turn(paragraph)
    run.font.rtl = True
    if (tag := RIGHT_TO_LEFT_TAGS.get(language or "")) is not None:
        element = OxmlElement("w:lang")
        element.set(qn("w:bidi"), tag)
        run._r.get_or_add_rPr().insert_element_before(  # noqa: SLF001  # python-docx has no language of a run
            element, "w:eastAsianLayout", "w:specVanish", "w:oMath"
        )


def _turn(paragraph: Paragraph) -> None:
    """Set the paragraph from right to left, aligned to the right margin."""
    from docx.oxml import OxmlElement  # noqa: PLC0415  # see docx()

    paragraph._p.get_or_add_pPr().insert_element_before(  # noqa: SLF001  # python-docx has no bidi property
        OxmlElement("w:bidi"),
        *("w:adjustRightInd", "w:snapToGrid", "w:spacing", "w:ind", "w:contextualSpacing", "w:jc", "w:rPr"),
    )


def _printable(text: str) -> str:
    """Remove characters that XML 1.0 cannot carry."""
    return "".join(
        c
        for c in text
        if c in "\t\n" or (unicodedata.category(c) not in {"Cc", "Cs"} and c not in "\ufffe\uffff")
    )


def clock(seconds: float) -> str:
    """Return a position in audio for people: `0:07`, `12:30`, `1:02:03`."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}" if hours else f"{minute}:{second:02d}"
