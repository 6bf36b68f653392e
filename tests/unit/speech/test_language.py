from __future__ import annotations

import json
import math

import pytest

from stenobird.speech.segments import add_evidence, is_settled, likeliest


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
    ("scores", "speech_seconds", "settled"),
    [
        ({"en": math.log(0.81), "de": math.log(0.19)}, 1.0, True),
        ({"en": math.log(0.79), "de": math.log(0.21)}, 1.0, False),
        ({"en": math.log(0.51), "de": math.log(0.49)}, 12.0, True),
    ],
)
def test_language_is_pinned_by_probability_or_by_time(
    scores: dict[str, float], speech_seconds: float, *, settled: bool
) -> None:
    assert is_settled(scores, speech_seconds) is settled
