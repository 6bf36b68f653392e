from __future__ import annotations

import pytest

from stenobird.speech.confidence import segment_confidence, word_confidence


def test_confidence_grows_with_the_evidence() -> None:
    words = [word_confidence(p, -0.3, "en") for p in (0.0, 0.01, 0.3, 0.9, 1.0)]
    windows = [word_confidence(0.5, logprob, "en") for logprob in (-1.5, -0.8, -0.2, 0.0)]
    segments = [segment_confidence(logprob, "de") for logprob in (-1.5, -0.8, -0.2, 0.0)]

    for values in (words, windows, segments):
        assert values == sorted(set(values))
        assert values[0] >= 0
        assert values[-1] <= 1


@pytest.mark.parametrize(("avg_logprob", "right"), [(-0.1, 0.97), (-0.3, 0.91), (-0.6, 0.70), (-1.0, 0.24)])
def test_segments_keep_their_calibration(avg_logprob: float, right: float) -> None:
    assert segment_confidence(avg_logprob, "en") == pytest.approx(right, abs=0.02)
