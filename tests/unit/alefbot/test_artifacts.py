"""The Word document, and the names of the artifact formats."""

from __future__ import annotations

import io
import re
import zipfile
from typing import TYPE_CHECKING

import docx
import pytest
from docx.oxml.ns import qn

from stenobird.errors import UnsupportedArtifactFormat
from stenobird.formats import FORMATS
from stenobird.formats.cues import is_right_to_left
from stenobird.transcript import Segment, Transcript
from stenobird.web.alefbot.requests import wanted_format

if TYPE_CHECKING:
    from stenobird.formats import FormatName


def test_a_document_has_title_paragraphs_by_pause_and_timestamps() -> None:
    transcript = Transcript(
        segments=(
            Segment(0.0, 2.0, "Hello there."),
            Segment(2.1, 4.0, " It goes on."),
            Segment(75.0, 78.0, " After a pause."),
        ),
        language="en",
        duration_seconds=80.0,
        title="My talk",
    )

    document = docx.Document(io.BytesIO(FORMATS["docx"].encode(transcript)))

    texts = [paragraph.text for paragraph in document.paragraphs]
    assert texts[0] == "My talk"
    assert document.core_properties.title == "My talk"
    assert texts[2:] == ["0:00  Hello there. It goes on.", "1:15  After a pause."]


def test_right_to_left_paragraphs_are_marked_so_that_word_sets_them_that_way() -> None:
    transcript = Transcript(
        segments=(Segment(0.0, 2.0, "שלום לכולם."), Segment(9.0, 12.0, " And English.")),
        language="he",
        duration_seconds=12.0,
        title="הרצאה",
    )

    document = docx.Document(io.BytesIO(FORMATS["docx"].encode(transcript)))

    marked = {
        paragraph.text: paragraph._p.pPr is not None and paragraph._p.pPr.find(qn("w:bidi")) is not None
        for paragraph in document.paragraphs
    }
    assert marked["הרצאה"]
    assert marked["0:00  שלום לכולם."]
    assert not marked["0:09  And English."]
    runs = {run.text: run.font.rtl for paragraph in document.paragraphs for run in paragraph.runs}
    assert runs["שלום לכולם."] is True


def test_a_hebrew_document_that_starts_with_a_foreign_word_is_right_to_left() -> None:
    transcript = Transcript(
        segments=(
            Segment(0.0, 2.0, "Python היא שפה."),
            Segment(9.0, 12.0, " 1998."),
            Segment(20.0, 22.0, " English only."),
        ),
        language="he",
        duration_seconds=22.0,
        title="lecture",
    )

    document = docx.Document(io.BytesIO(FORMATS["docx"].encode(transcript)))

    turned = [
        paragraph._p.pPr is not None and "<w:bidi/>" in paragraph._p.xml for paragraph in document.paragraphs
    ]
    assert turned == [False, False, True, True, False]
    run = document.paragraphs[2].runs[-1]
    assert run.font.rtl is True
    properties = run._r.get_or_add_rPr()
    assert [element.tag for element in properties] == [qn("w:rtl"), qn("w:lang")]
    assert properties[1].get(qn("w:bidi")) == "he-IL"


def test_the_same_transcript_is_the_same_document_at_any_time() -> None:
    made = FORMATS["docx"].encode(Transcript((Segment(0.0, 2.0, "Hello."),), "en", 2.0))

    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(2000, 1, 1, 0, 0, 0)}
        assert archive.testzip() is None
        assert archive.namelist()[0] == "[Content_Types].xml"


def test_facts_are_aligned_with_a_hebrew_title() -> None:
    transcript = Transcript((Segment(0.0, 2.0, "שלום."),), "he", 2.0, title="הרצאה")

    document = docx.Document(io.BytesIO(FORMATS["docx"].encode(transcript)))

    assert all("<w:bidi/>" in paragraph._p.xml for paragraph in document.paragraphs)


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_right_to_left_subtitle_lines_are_marked_where_needed(name: FormatName) -> None:
    transcript = Transcript(
        segments=(
            Segment(0.0, 2.0, "Python היא שפה."),
            Segment(3.0, 5.0, " 1998."),
            Segment(6.0, 7.0, " שלום."),
            Segment(8.0, 9.0, " English only."),
        ),
        language="he",
        duration_seconds=22.0,
    )

    lines = FORMATS[name].encode(transcript).decode().splitlines()

    said = [line for line in lines if re.search(r"[^\d:.,>\s-]", line) and line != "WEBVTT"]
    assert said == ["\u200fPython היא שפה.", "\u200f1998.", "שלום.", "English only."]


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("שלום", None, True),
        ("شكرا", None, True),
        ("Hi שלום", None, False),
        ("Hi שלום", "he", True),
        ("12.", "he", True),
        ("12.", None, False),
        ("Hi", "he", False),
        ("שלום Hi", "en", True),
        ("", "en", False),
    ],
)
def test_the_direction_of_a_paragraph(text: str, language: str | None, expected: bool) -> None:  # noqa: FBT001  # a case's outcome
    assert is_right_to_left(text, language) is expected


@pytest.mark.parametrize("accept", ["", "*/*", "text/html", "text/vtt", "text/plain;q=0", "x" * 9000])
def test_the_default_format_is_srt(accept: str) -> None:
    assert wanted_format(None, None, accept).name == "srt"


def test_a_document_can_be_accepted() -> None:
    assert wanted_format(None, None, FORMATS["docx"].media_type).name == "docx"


@pytest.mark.parametrize("name", ["vtt", "json", "", "SRT2"])
def test_an_unknown_format_is_refused_in_the_query_and_in_the_path(name: str) -> None:
    with pytest.raises(UnsupportedArtifactFormat):
        wanted_format(name, "srt", "*/*")
    with pytest.raises(UnsupportedArtifactFormat):
        wanted_format(None, name, "*/*")
