# ruff: noqa: RUF001  # the punctuation of other scripts is the point
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stenobird.translation.text import pieces, sentences


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("One. Two! Three?", ["One.", "Two!", "Three?"]),
        ("Hi George. Roy, got to talk to you.", ["Hi George.", "Roy, got to talk to you."]),
        ("Dr. Smith met Mr. J. Brown. They spoke.", ["Dr. Smith met Mr. J. Brown.", "They spoke."]),
        ("It costs 3.50 at shop.example today.", ["It costs 3.50 at shop.example today."]),
        ("Well... yes. No.", ["Well... yes.", "No."]),
        ('"Go!" he said. "Now."', ['"Go!" he said.', '"Now."']),
        ("你好。今天好吗？好！", ["你好。", "今天好吗？", "好！"]),
        ("यह है। वह था।", ["यह है।", "वह था।"]),
        ("كيف حالك؟ بخير.", ["كيف حالك؟", "بخير."]),
        ("no end", ["no end"]),
        ("  \n ", []),
        ("", []),
    ],
)
def test_sentences_end_where_they_end(text: str, parts: list[str]) -> None:
    assert list(sentences(text)) == parts


@pytest.mark.parametrize(
    ("text", "limit", "parts"),
    [
        ("one two, three four", 10, ["one two,", "three four"]),
        ("one two three four", 10, ["one two", "three four"]),
        ("onetwothreefour", 8, ["onetwot", "hreefour"]),
        ("short. and this one is longer", 12, ["short.", "and this", "one is", "longer"]),
    ],
)
def test_long_sentences_are_cut_at_clauses_then_at_words(text: str, limit: int, parts: list[str]) -> None:
    assert pieces(text, len, limit) == parts


@given(st.text(alphabet=st.sampled_from("ab Z.,!?。、\n'”é"), max_size=200), st.integers(1, 40))
def test_no_word_is_lost_and_no_piece_is_too_long(text: str, limit: int) -> None:
    parts = pieces(text, len, limit)

    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(part and part == part.strip() for part in parts)
    assert all(len(part) <= limit for part in parts)
