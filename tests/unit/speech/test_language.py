from __future__ import annotations

import json
import math

import pytest

from stenobird.speech.language import LanguageState, add_evidence, follow, likeliest

ENGLISH = {"en": 0.9, "de": 0.1}
GERMAN = {"en": 0.1, "de": 0.9}
GERMAN_FOR_CERTAIN = {"en": 0.01, "de": 0.99}


def test_evidence_of_windows_adds_up() -> None:
    scores: dict[str, float] = {}
    for _ in range(3):
        scores = add_evidence(scores, {"en": 0.6, "de": 0.4})

    language, probability = likeliest(scores)

    assert language == "en"
    assert probability == pytest.approx(0.6**3 / (0.6**3 + 0.4**3), abs=1e-3)


def test_scores_survive_json_to_the_last_bit() -> None:
    scores = add_evidence({"en": -0.1}, {"en": 1 / 3, "de": 0.0})

    assert json.loads(json.dumps(scores)) == scores
    assert math.isfinite(scores["de"])


@pytest.mark.parametrize(
    ("probabilities", "seconds", "settled"),
    [
        ({"en": 0.81, "de": 0.19}, 8.0, True),
        ({"en": 0.79, "de": 0.21}, 8.0, False),
        ({"en": 0.95, "de": 0.05}, 1.0, False),  # a greeting, or noise
        ({"en": 0.51, "de": 0.49}, 12.0, True),
    ],
)
def test_language_is_settled_by_probability_or_by_much_speech(
    probabilities: dict[str, float], seconds: float, *, settled: bool
) -> None:
    language, state = follow(LanguageState(), probabilities, seconds)

    assert language == "en"
    assert state.language == ("en" if settled else None)
    assert bool(state.scores) is not settled


def test_speech_counts_for_more_than_opening_noise() -> None:
    _, state = follow(LanguageState(), GERMAN_FOR_CERTAIN, 0.5)
    language, state = follow(state, ENGLISH, 20.0)

    assert (language, state) == ("en", LanguageState("en"))


def test_language_changes_when_another_is_certain_twice_in_a_row() -> None:
    language, state = follow(LanguageState("en"), GERMAN, 10.0)
    assert (language, state) == ("en", LanguageState("en", {}, "de"))
    language, state = follow(state, GERMAN, 10.0)
    assert (language, state) == ("de", LanguageState("de"))


def test_a_single_doubtful_window_changes_nothing() -> None:
    _, state = follow(LanguageState("en"), GERMAN, 10.0)
    _, state = follow(state, ENGLISH, 10.0)

    assert follow(state, GERMAN, 10.0)[0] == "en"


def test_a_long_window_that_is_certain_changes_the_language_at_once() -> None:
    assert follow(LanguageState("en"), GERMAN_FOR_CERTAIN, 20.0) == ("de", LanguageState("de"))
    assert follow(LanguageState("en"), GERMAN_FOR_CERTAIN, 3.0)[0] == "en"


def test_a_word_of_another_language_counts_for_nothing() -> None:
    assert follow(LanguageState("en", {}, "de"), GERMAN_FOR_CERTAIN, 1.0)[0] == "en"
