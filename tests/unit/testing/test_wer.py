"""The word error rate counts what a person would count."""

from __future__ import annotations

import random

import pytest

from stenobird.demo import word_error_rate, word_errors, words


@pytest.mark.parametrize(
    ("heard", "rate"),
    [
        ("one two three four", 0.0),
        ("One, two; THREE four.", 0.0),
        ("one two four", 0.25),
        ("one two three three four", 0.25),
        ("one too three four", 0.25),
        ("two three four one", 0.5),
        ("", 1.0),
        ("a b c d e f g h", 2.0),
    ],
)
def test_rate_of_four_words(heard: str, rate: float) -> None:
    assert word_error_rate("one two three four", heard) == rate


def test_apostrophes_belong_to_words() -> None:
    assert words("Don't — stop!") == ["don't", "stop"]


def test_errors_are_a_metric() -> None:
    rng = random.Random(5)
    texts = [[rng.choice("abc") for _ in range(rng.randint(0, 8))] for _ in range(12)]
    for one in texts:
        assert word_errors(one, one) == 0
        for other in texts:
            assert word_errors(one, other) == word_errors(other, one)
            assert all(
                word_errors(one, other) <= word_errors(one, via) + word_errors(via, other) for via in texts
            )


def test_reference_without_words_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        word_error_rate(" … ", "one")
