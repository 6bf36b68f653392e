from __future__ import annotations

import json
import math

import pytest

from stenobird.ports import SAMPLE_RATE
from stenobird.speech.language import (
    LanguageState,
    add_evidence,
    first_language,
    follow,
    likeliest,
    stretches,
)

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


def test_language_changes_at_once_when_the_old_one_is_out_of_the_question() -> None:
    german = {"de": 0.88, "nn": 0.11, "en": 0.01}

    assert follow(LanguageState("en"), german, 10.0) == ("de", LanguageState("de"))
    assert follow(LanguageState("en"), german, 5.0)[0] == "en"


def test_a_single_doubtful_window_changes_nothing() -> None:
    _, state = follow(LanguageState("en"), GERMAN, 10.0)
    _, state = follow(state, ENGLISH, 10.0)

    assert follow(state, GERMAN, 10.0)[0] == "en"


def test_a_long_window_that_is_certain_changes_the_language_at_once() -> None:
    assert follow(LanguageState("en"), GERMAN_FOR_CERTAIN, 20.0) == ("de", LanguageState("de"))
    assert follow(LanguageState("en"), GERMAN_FOR_CERTAIN, 3.0)[0] == "en"


def test_a_word_of_another_language_counts_for_nothing() -> None:
    assert follow(LanguageState("en", {}, "de"), GERMAN_FOR_CERTAIN, 1.0)[0] == "en"


def test_stretches_are_long_enough_and_end_in_pauses() -> None:
    runs = [(0, 3), (3.1, 4.5), (5, 6), (6.5, 9.5), (12, 14.5), (14.6, 15.5)]
    speech = [(round(a * SAMPLE_RATE), round(b * SAMPLE_RATE)) for a, b in runs]

    assert [(a / SAMPLE_RATE, b / SAMPLE_RATE) for a, b in stretches(speech)] == [
        (0.0, 4.5),
        (5.0, 9.5),
        (12.0, 15.5),
    ]


EN, DE, FR = ({"en": 0.02, "de": 0.02, "fr": 0.02} | {name: 0.96} for name in ("en", "de", "fr"))
LIKELY_EN, LIKELY_FR = {"en": 0.6, "fr": 0.4}, {"en": 0.4, "fr": 0.6}


@pytest.mark.parametrize(
    ("found", "before", "language", "change"),
    [
        ([EN, LIKELY_FR, EN], "en", "en", None),
        ([EN, LIKELY_EN, FR, FR], "en", "en", 2),
        ([EN, LIKELY_FR, FR], "en", "en", 1),  # a doubtful stretch is in the likelier language
        ([LIKELY_EN, FR], "en", "en", 1),
        ([LIKELY_FR, FR, DE], "en", "fr", 2),
        ([EN, FR, EN], None, "en", 1),
        ([LIKELY_FR, EN, DE], None, "en", 2),
        ([LIKELY_FR, LIKELY_FR], "en", "en", None),
        ([EN, {"fr": 0.92, "en": 0.01}, LIKELY_EN], "en", "en", None),  # the next one speaks against it
        ([EN, {"fr": 0.92, "en": 0.01}, LIKELY_FR], "en", "en", 1),
        ([LIKELY_FR], None, None, None),
    ],
)
def test_a_window_is_in_one_language_until_another_is_certain(
    found: list[dict[str, float]], before: str | None, language: str | None, change: int | None
) -> None:
    assert first_language(found, before) == (language, change)
