from __future__ import annotations

import io
import json
import re
import unicodedata
from dataclasses import replace
from itertools import pairwise

import pytest
from docx import Document
from hypothesis import given, settings
from hypothesis import strategies as st

from stenobird.formats import FORMATS, docx, srt, txt, vtt
from stenobird.formats import json as json_document
from stenobird.formats.cues import LINE_COLUMNS, clean, columns, cues
from stenobird.formats.documents import clock
from stenobird.transcript import Segment, Transcript, Word
from tests.support.calls import count_calls

SCRIPTS = st.text(
    alphabet=st.one_of(
        st.sampled_from("abc de, f. -->&<>"),
        st.sampled_from("שלום עולם, "),
        st.sampled_from("こんにちは。世界、"),
        st.characters(codec="utf-8"),
    ),
    max_size=300,
)
SECONDS = st.floats(min_value=0, max_value=400_000, allow_nan=False)


@st.composite
def segments(draw: st.DrawFn) -> Segment:
    start, end = draw(SECONDS), draw(SECONDS)
    text = draw(SCRIPTS)
    words: tuple[Word, ...] = ()
    if draw(st.booleans()):
        parts = re.findall(r"\s*\S+", text)
        words = tuple(Word(draw(SECONDS), draw(SECONDS), part, 0.5) for part in parts)
    return Segment(start, end, text, words)


TRANSCRIPTS = st.builds(
    Transcript, st.lists(segments(), max_size=6).map(tuple), st.sampled_from(["en", None]), SECONDS
)


def spoken(*segments: tuple[float, float, str]) -> Transcript:
    return Transcript(tuple(Segment(*segment) for segment in segments), "en", segments[-1][1])


def letters(text: str) -> str:
    return "".join(c for c in text if not c.isspace() and unicodedata.category(c) != "Cc")


@settings(max_examples=150, deadline=None)
@given(TRANSCRIPTS)
def test_cue_times_never_overlap_or_run_backwards(transcript: Transcript) -> None:
    made = list(cues(transcript))
    assert all(cue.start_ms < cue.end_ms for cue in made)
    assert all(before.end_ms <= after.start_ms for before, after in pairwise(made))


@settings(max_examples=150, deadline=None)
@given(TRANSCRIPTS)
def test_no_text_is_lost_and_none_is_invented(transcript: Transcript) -> None:
    expected = letters(transcript.text)
    assert letters("".join("".join(cue.lines) for cue in cues(transcript))) == expected
    assert letters(txt(transcript)) == expected
    assert json.loads(json_document(transcript))["text"] == transcript.text


@settings(max_examples=150, deadline=None)
@given(TRANSCRIPTS)
def test_cues_have_at_most_two_lines_of_42_columns(transcript: Transcript) -> None:
    for cue in cues(transcript):
        assert 1 <= len(cue.lines) <= 2
        assert all(line and line == clean(line) for line in cue.lines)
        assert all(columns(line) <= LINE_COLUMNS for line in cue.lines)


@settings(max_examples=100, deadline=None)
@given(TRANSCRIPTS)
def test_vtt_follows_the_grammar(transcript: Transcript) -> None:
    header, *blocks = vtt(transcript).split("\n\n")
    assert header == "WEBVTT"
    assert blocks.pop() == ""
    for number, block in enumerate(blocks, 1):
        count, times, *lines = block.split("\n")
        assert count == str(number)
        assert re.fullmatch(r"\d{2,}:\d\d:\d\d\.\d{3} --> \d{2,}:\d\d:\d\d\.\d{3}", times)
        assert lines
        for line in lines:
            assert "-->" not in line
            assert not re.search(r"[<>]|&(?!amp;|lt;|gt;)", line)


@settings(max_examples=100, deadline=None)
@given(TRANSCRIPTS)
def test_srt_has_one_timing_line_a_cue(transcript: Transcript) -> None:
    document = srt(transcript)
    blocks = document.split("\n\n")
    assert blocks.pop() == ""
    assert document.count("-->") == len(blocks)
    for number, block in enumerate(blocks, 1):
        count, times, *lines = block.split("\n")
        assert count == str(number)
        assert re.fullmatch(r"\d{2,}:\d\d:\d\d,\d{3} --> \d{2,}:\d\d:\d\d,\d{3}", times)
        assert 1 <= len(lines) <= 2


def test_srt_of_a_short_talk() -> None:
    transcript = spoken((0.0, 2.5, "Hello and welcome."), (2.5, 5.0, " Today we talk about birds."))
    assert srt(transcript) == (
        "1\n00:00:00,000 --> 00:00:02,500\nHello and welcome.\n\n"
        "2\n00:00:02,500 --> 00:00:05,000\nToday we talk about birds.\n\n"
    )


def test_vtt_escapes_what_would_be_markup() -> None:
    assert vtt(spoken((3661.5, 3662.25, "a < b && c --> d"))) == (
        "WEBVTT\n\n1\n01:01:01.500 --> 01:01:02.250\na &lt; b &amp;&amp; c --&gt; d\n\n"
    )


def test_srt_hides_an_arrow_that_players_take_for_a_timing_line() -> None:
    assert srt(spoken((0.0, 1.0, "go --> there"))).split("\n")[2] == "go → there"


def test_a_long_segment_is_cut_where_its_sentences_end() -> None:
    text = (
        "The heron stands in the reeds and waits for the fish to come near it. "
        "Nothing moves for a long time, and then it strikes. The fish is gone."
    )
    made = list(cues(spoken((0.0, 12.0, text))))
    assert [" ".join(cue.lines) for cue in made] == [
        "The heron stands in the reeds and waits for the fish to come near it.",
        "Nothing moves for a long time, and then it strikes. The fish is gone.",
    ]
    assert (made[0].start_ms, made[-1].end_ms) == (0, 12_000)
    assert 5_500 <= made[0].end_ms <= 6_500


def test_words_give_a_cut_segment_its_times() -> None:
    names = [f"word{number:02d}" for number in range(30)]
    words = tuple(Word(10 + n, 10.5 + n, f" {name}", 0.9) for n, name in enumerate(names))
    made = list(cues(Transcript((Segment(10.0, 40.0, " " + " ".join(names), words),), "en", 40.0)))
    first_words = [cue.lines[0].split()[0] for cue in made]
    assert [cue.start_ms for cue in made] == [(10 + names.index(word)) * 1000 for word in first_words]
    assert all(cue.end_ms - cue.start_ms <= 7_000 for cue in made)


def test_text_without_spaces_is_cut_after_its_punctuation() -> None:
    sentence = "今日は鳥について話します。"
    made = list(cues(spoken((0.0, 20.0, sentence * 6))))
    assert all(line.endswith("。") for cue in made for line in cue.lines)
    assert "".join("".join(cue.lines) for cue in made) == sentence * 6


def test_right_to_left_text_keeps_its_order() -> None:
    text = "שלום לכולם, ברוכים הבאים לתוכנית."
    assert text in srt(spoken((0.0, 3.0, text)))
    assert text in vtt(spoken((0.0, 3.0, text)))
    assert txt(spoken((0.0, 3.0, text))) == f"{text}\n"


def test_a_line_break_inside_a_segment_does_not_end_its_cue() -> None:
    assert srt(spoken((0.0, 1.0, "one\r\n\r\ntwo\u2028three\x00"))).split("\n")[2] == "one two three"


def test_txt_starts_a_paragraph_after_a_pause() -> None:
    transcript = spoken((0.0, 2.0, "One."), (2.5, 4.0, " Two."), (6.5, 8.0, " Three."))
    assert txt(transcript) == "One. Two.\n\nThree.\n"


def test_txt_parts_long_speech_at_the_end_of_a_sentence() -> None:
    rows = [(float(n), n + 1.0, f" Sentence number {n} of a speech without any pause.") for n in range(40)]
    parts = txt(spoken(*rows)).strip().split("\n\n")
    assert len(parts) > 2
    assert all(part.endswith(".") and len(part) < 700 for part in parts)


@pytest.mark.parametrize(("name", "document"), [("txt", b""), ("srt", b""), ("vtt", b"WEBVTT\n\n")], ids=str)
def test_an_empty_transcript_is_a_valid_document(name: str, document: bytes) -> None:
    assert FORMATS[name].encode(Transcript((), None, 0.0)) == document


def test_json_keeps_words_and_probabilities() -> None:
    segment = Segment(0.0, 1.0, "Hi.", (Word(0.1, 0.4, "Hi.", 0.75),))
    document = json.loads(json_document(Transcript((segment,), "en", 1.0, title="A talk")))
    assert document == {
        "text": "Hi.",
        "language": "en",
        "duration_seconds": 1.0,
        "segments": [
            {
                "id": 0,
                "start": 0.0,
                "end": 1.0,
                "text": "Hi.",
                "words": [{"start": 0.1, "end": 0.4, "text": "Hi.", "probability": 0.75}],
            }
        ],
        "title": "A talk",
    }


def test_docx_has_title_paragraphs_and_times() -> None:
    transcript = Transcript(
        (Segment(0.0, 2.0, "One."), Segment(65.0, 66.0, " Two.\x07")), "en", 66.0, title="Birds & <reeds>"
    )
    document = Document(io.BytesIO(docx(transcript)))
    assert [p.text for p in document.paragraphs] == [
        "Birds & <reeds>",
        "1:06 · en",
        "0:00  One.",
        "1:05  Two.",
    ]
    assert document.core_properties.title == "Birds & <reeds>"


def test_docx_marks_right_to_left_paragraphs() -> None:
    document = Document(io.BytesIO(docx(spoken((0.0, 2.0, "שלום לכולם.")))))
    assert "<w:bidi/>" in document.paragraphs[-1]._p.xml
    assert document.paragraphs[-1].runs[-1].font.rtl


def test_twice_the_speech_is_twice_the_work() -> None:
    text = " and then the heron flew over the long river to the other side of the valley, where it stayed" * 3
    short, long = (spoken(*((20.0 * n, 20.0 * n + 20, text) for n in range(count))) for count in (40, 80))
    assert srt(long).count("-->") > 200
    assert count_calls(lambda: srt(long)) < 2.1 * count_calls(lambda: srt(short))


TALK = Transcript(
    (
        Segment(0.0, 2.0, "Shall we begin?", speaker="Ann <a>"),
        Segment(2.0, 4.0, " Yes. It is late.", speaker="Ann <a>"),
        Segment(4.0, 5.0, " Fine.", speaker="Ben", overlap=True),
        Segment(
            5.0,
            7.0,
            " One. Two.",
            (Word(5.0, 6.0, " One.", 0.9, speaker="Ben"), Word(6.0, 7.0, " Two.", 0.9, speaker="Ann <a>")),
            speaker="Ben",
        ),
    ),
    "en",
    7.0,
)


def test_vtt_says_in_each_cue_whose_voice_it_is() -> None:
    assert re.findall(r"<v (.*?)>(.*)", vtt(TALK)) == [
        ("Ann &lt;a&gt;", "Shall we begin?"),
        ("Ann &lt;a&gt;", "Yes. It is late."),
        ("Ben", "Fine."),
        ("Ben", "One."),
        ("Ann &lt;a&gt;", "Two."),
    ]


def test_srt_names_a_speaker_where_it_changes() -> None:
    lines = [block.split("\n", 2)[2] for block in srt(TALK).strip().split("\n\n")]
    assert lines == ["Ann <a>: Shall we begin?", "Yes. It is late.", "Ben: Fine.", "One.", "Ann <a>: Two."]


def test_txt_and_docx_have_a_paragraph_a_turn() -> None:
    expected = ["Ann <a>: Shall we begin? Yes. It is late.", "Ben: Fine. One.", "Ann <a>: Two."]
    assert txt(TALK) == "\n\n".join(expected) + "\n"
    paragraphs = [paragraph.text for paragraph in Document(io.BytesIO(docx(TALK))).paragraphs[2:]]
    assert [text.split("  ", 1)[1] for text in paragraphs] == expected


def test_json_has_the_speaker_of_segments_and_words() -> None:
    rows = json.loads(json_document(TALK))["segments"]
    assert [(row["speaker"], row.get("overlap")) for row in rows] == [
        ("Ann <a>", None),
        ("Ann <a>", None),
        ("Ben", True),
        ("Ben", None),
    ]
    assert [word["speaker"] for word in rows[3]["words"]] == ["Ben", "Ann <a>"]


def test_documents_have_the_names_of_speakers_and_json_has_them_beside_the_labels() -> None:
    named = replace(TALK, speaker_names={"Ann <a>": "A. <v Ben> & Co", "Ben": "-->"})
    vtt_text = FORMATS["vtt"].encode(named).decode()
    assert re.findall(r"<v (.*?)>(.*)", vtt_text)[::2] == [
        ("A. &lt;v Ben&gt; &amp; Co", "Shall we begin?"),
        ("--&gt;", "Fine."),
        ("A. &lt;v Ben&gt; &amp; Co", "Two."),
    ]
    assert "A. <v Ben> & Co: Shall we begin?" in FORMATS["srt"].encode(named).decode()
    assert "→: Fine." in FORMATS["srt"].encode(named).decode()
    assert FORMATS["txt"].encode(named).decode().startswith("A. <v Ben> & Co: Shall we begin?")
    paragraphs = Document(io.BytesIO(FORMATS["docx"].encode(named))).paragraphs
    assert paragraphs[2].text.endswith("A. <v Ben> & Co: Shall we begin? Yes. It is late.")
    document = json.loads(FORMATS["json"].encode(named))
    assert document["speaker_names"] == {"Ann <a>": "A. <v Ben> & Co", "Ben": "-->"}
    assert document["segments"] == json.loads(json_document(TALK))["segments"]
    assert "speaker_names" not in json.loads(json_document(TALK))


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0:00"), (7.99, "0:07"), (750, "12:30"), (3599.9, "59:59"), (3723, "1:02:03")]
)
def test_positions_are_formatted_for_people(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown
