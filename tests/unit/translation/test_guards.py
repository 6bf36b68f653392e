from __future__ import annotations

import pytest

from stenobird.translation.text import has_letters, is_usable, loops


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ("a a a a", True),
        ("a a a", False),
        ("a b a b a b a b", True),
        ("a b a b a b a", False),
        ("x i am sorry but i am sorry but i am sorry but i am sorry but", True),
        ("a b c d e f g h i j", False),
        ("", False),
    ],
)
def test_a_loop_is_four_times_the_same_in_a_row(tokens: str, *, expected: bool) -> None:
    assert loops(tokens.split()) is expected


def test_a_loop_that_is_in_the_source_is_a_translation() -> None:
    loop = ["לא"] * 5

    assert is_usable("לא לא לא לא לא", loop, ["no"] * 5, ended=True)
    assert not is_usable("לא לא לא לא לא", loop, ["no", "way"], ended=True)


@pytest.mark.parametrize("text", ["", "...", "42", "♪ ♪"])
def test_text_without_letters_is_not_a_translation(text: str) -> None:
    assert not has_letters(text)
    assert not is_usable(text, [text], ["words"], ended=True)


def test_text_that_never_ended_is_not_a_translation() -> None:
    assert is_usable("שלום", ["שלום"], ["hello"], ended=True)
    assert not is_usable("שלום", ["שלום"], ["hello"], ended=False)


def test_a_long_source_in_two_words_has_been_left_out() -> None:
    source = [f"word{index}" for index in range(16)]

    assert not is_usable("כן.", ["כן", "."], source, ended=True)
    assert is_usable("כן.", ["כן", "."], source[:8], ended=True)
    assert is_usable("א ב ג ד", ["א", "ב", "ג", "ד"], source, ended=True)
